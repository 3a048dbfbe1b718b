"""`custom_api_call`: one HTTP request as the model words it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.errors import CallerError, InvalidArgument
from shared.off_loop import in_thread

from . import headers, urls
from .credentials import CredentialSource
from .exchange import Client, Request, Response
from .failures import of_argument
from .outcome import output_of
from .policy import ALL_METHODS
from .redaction import Redactor
from .results import as_json_size
from .retry import IDEMPOTENT
from .tool import JSON, Audit, Call, Output, Tool

NAME = "custom_api_call"
_LARGE = 2**14  # characters of arguments as JSON: more take milliseconds to become a request

_DESCRIPTION = """\
Call an HTTP API and get its answer. Use it for JSON APIs and files whose URL you know; to read a web page use \
fetch_page instead, and where a tool of its own exists for an API use that.
An answer in JSON also comes as structured data; one that is no text comes as base64. From HTTP status 400 on the call \
fails, with the answer's body still in the result. Methods other than GET and HEAD, private addresses and unusual \
ports work only where the operator has allowed them; the error says so.
Example: {"url": "https://api.example.com/v1/items", "method": "GET", "query": {"limit": 10}}"""


def _parameters(longest: float) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "description": "Absolute URL with http or https, without user and password.",
                "minLength": 1,
                "maxLength": urls.LONGEST,
            },
            "method": {"type": "string", "description": "HTTP method.", "enum": list(ALL_METHODS), "default": "GET"},
            "headers": {
                "type": "object",
                "description": 'Headers to send, such as {"Accept": "text/csv"}. Host, Content-Length and others of '
                "the transport are set for you.",
                "additionalProperties": {"type": "string"},
            },
            "query": {
                "type": "object",
                "description": "Parameters to add to the URL's query, not encoded yet; a list repeats its name.",
            },
            "body": {"type": "string", "description": "Body as text. Say what it is in the header Content-Type."},
            "json": {
                "type": ["object", "array"],
                "description": "Body as JSON, an object or a list, in place of `body`; the header Content-Type is set "
                "for you. Other JSON goes into `body`, with the header Content-Type application/json.",
            },
            "timeout": {
                "type": "number",
                "description": "Longest wait for the answer, in seconds.",
                "exclusiveMinimum": 0,
                "maximum": longest,
                "default": longest,
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    }


def api_call(
    client: Client,
    *,
    credentials: Mapping[str, CredentialSource] | None = None,
    redactor: Redactor | None = None,
    longest: float = 30.0,
) -> Tool:
    """The tool. `credentials` are the operator's, by origin; `redactor` cleans what comes as base64; `longest` is the
    client's request_timeout, in seconds."""
    by_origin = credentials or {}

    async def run(arguments: dict[str, JSON], call: Call) -> Output:
        if as_json_size(arguments, _LARGE) > _LARGE:
            request = await in_thread(request_of, arguments)
        else:
            request = request_of(arguments)
        deadline = min(call.deadline, time.monotonic() + float(arguments.get("timeout", longest)))
        source = by_origin.get(urls.parse(request.url).origin)
        try:
            response = await _sent(client, request, source, deadline, call.audit)
        except CallerError as error:
            raise of_argument(error, "url", "method") from None
        return await output_of(response, redactor)

    return Tool(
        name=NAME, description=_DESCRIPTION, parameters=_parameters(longest), run=run, is_idempotent=_is_idempotent
    )


def _is_idempotent(arguments: dict[str, JSON]) -> bool:
    # An Idempotency-Key is a model's word, and no proof that the server knows such keys.
    return arguments.get("method", "GET") in IDEMPOTENT


async def _sent(
    client: Client, request: Request, source: CredentialSource | None, deadline: float, audit: Audit
) -> Response:
    if source is None:
        return await client.send(request, deadline=deadline, audit=audit)
    credential = await source.get(deadline=deadline, audit=audit)
    response = await client.send(replace(request, credential=credential), deadline=deadline, audit=audit)
    if response.status == 401 and source.renew(credential):
        # What was refused for its token was not carried out, so it can be sent again with a new one.
        credential = await source.get(deadline=deadline, audit=audit)
        response = await client.send(replace(request, credential=credential), deadline=deadline, audit=audit)
    return response


def request_of(arguments: Mapping[str, JSON]) -> Request:
    """The request that the arguments word. Raises InvalidArgument, naming the argument."""
    pairs = _pairs(arguments.get("query", {}))
    field = "url"
    try:
        url = urls.parse(arguments["url"])
        field = "query"
        url = urls.add_query(url, pairs)
    except CallerError as error:
        error.violations = ((field, error.message),)
        raise
    lines = headers.check(arguments.get("headers", {}).items(), "headers")
    body: bytes | None = None
    if "json" in arguments:
        if "body" in arguments:
            raise InvalidArgument("give either `body` or `json`, not both", field="json")
        body = _encoded(json.dumps(arguments["json"], ensure_ascii=False, separators=(",", ":")), "json")
        if not any(name.lower() == "content-type" for name, _ in lines):
            lines.append(("Content-Type", "application/json"))
    elif "body" in arguments:
        body = _encoded(arguments["body"], "body")
        if not any(name.lower() == "content-type" for name, _ in lines):
            lines.append(("Content-Type", "text/plain; charset=utf-8"))
    return Request(
        method=arguments.get("method", "GET"),
        url=str(url),
        headers=lines,
        body=body,
    )


def _pairs(query: Mapping[str, JSON]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict | list):
                raise InvalidArgument(
                    f"the query parameter {name[:60]!r} is no text, number, boolean or list of these; write it as text",
                    field=f"query.{name[:60]}",
                )
            if item is not None:
                pairs.append((_sound(name, "query"), _sound(_text(item), f"query.{name[:60]}")))
    return pairs


def _text(value: JSON) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _sound(text: str, field: str) -> str:
    _encoded(text, field)
    return text


def _encoded(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"`{field[:80]}` has half of a character pair in it; leave it out", field=field) from None
