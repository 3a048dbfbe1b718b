"""One operation of an API as a tool: arguments in, a request out, and of its response what the model gets to see."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import InvalidArgument
from shared.off_loop import in_thread

from .answers import Answer
from .bodies import Body, encoded
from .credentials import CredentialSource, merged
from .exchange import Client, Credential, Request, Response
from .parameters import Parameter, check_path, cookie_parts, header_text, leads_elsewhere, path_text, query_parts
from .redaction import Redactor
from .results import as_json_size
from .retry import IDEMPOTENT
from .tool import ABSENT, JSON, Call, Output, Tool

_LARGE = 2**14  # characters of arguments as JSON: more take milliseconds to be written
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_DESTRUCTIVE = frozenset(("DELETE", "PUT", "PATCH"))


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`url` is absolute, with `{name}` in its path where a parameter of a path goes."""

    method: str
    url: str
    origin: str  # of `url`
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    headers: Sequence[tuple[str, str]] = ()
    credentials: CredentialSource | None = None
    idempotency_header: str = ""
    answer: Answer | None = None  # what is taken from a response; None: all of it
    max_response_bytes: int | None = None


@dataclass(frozen=True)
class Sender:
    """What operations are carried out with."""

    client: Client
    render: Callable[[Response], Awaitable[Output]]  # a response as a result, whatever its status
    redactor: Redactor  # is told every secret that is read
    max_body_bytes: int

    async def run(self, operation: Operation, name: str, arguments: Mapping[str, JSON], call: Call) -> Output:
        """Raises a CallerError where an argument cannot be sent, the policy refuses, or nothing comes."""
        request = await self._request(operation, name, arguments, call.id)
        response, credential = await self._sent(operation, request, call)
        if response.status == 401 and credential and operation.credentials and operation.credentials.renew(credential):
            # What was refused for its token was not carried out, so it can be sent again with a new one.
            response, _ = await self._sent(operation, request, call)
        if operation.answer is not None and response.status < 400:
            return await operation.answer.of(response, self.render, call)
        return await self.render(response)

    async def _request(self, operation: Operation, name: str, arguments: Mapping[str, JSON], call_id: str) -> Request:
        if as_json_size(arguments, _LARGE) <= _LARGE:
            return build(operation, name, arguments, call_id, self.max_body_bytes)
        return await in_thread(build, operation, name, arguments, call_id, self.max_body_bytes)

    async def _sent(self, operation: Operation, request: Request, call: Call) -> tuple[Response, Credential | None]:
        credential = None
        if operation.credentials is not None:
            credential = await operation.credentials.get(deadline=call.deadline, audit=call.audit)
            cookie = next((value for name, value in request.headers if name == "Cookie"), "")
            if cookie and any(name.lower() == "cookie" for name in credential.headers):
                # There is one Cookie header: the arguments' goes along with ours.
                headers = [(name, value) for name, value in request.headers if name != "Cookie"]
                both = merged([credential, Credential(operation.origin, {"Cookie": cookie})])
                return await self._send(replace(request, headers=headers, credential=both), call), credential
        return await self._send(replace(request, credential=credential), call), credential

    async def _send(self, request: Request, call: Call) -> Response:
        return await self.client.send(request, deadline=call.deadline, audit=call.audit)


def build(operation: Operation, name: str, arguments: Mapping[str, JSON], call_id: str, max_body_bytes: int) -> Request:
    """The request without its credential. Raises InvalidArgument or LimitReached."""
    try:
        return _built(operation, name, arguments, call_id, max_body_bytes)
    except RecursionError:
        raise InvalidArgument("the arguments are nested too deep; send flatter ones", reason="TOO_DEEP") from None


def _built(operation: Operation, name: str, arguments: Mapping[str, JSON], call_id: str, most: int) -> Request:
    path_texts: dict[str, str] = {}
    query: list[str] = []
    headers = list(operation.headers)
    cookies: list[str] = []
    for parameter in operation.parameters:
        value = arguments.get(parameter.argument, parameter.default) if parameter.fixed is ABSENT else parameter.fixed
        if parameter.place == "path":
            path_texts[parameter.name] = path_text(parameter, None if value is ABSENT else value)
        elif value is ABSENT:
            continue
        elif parameter.place == "query":
            query += query_parts(parameter, value)
        elif parameter.place == "cookie":
            cookies += cookie_parts(parameter, value)
        elif (text := header_text(parameter, value)) is not None:
            headers.append((parameter.name, text))
    if cookies:
        headers.append(("Cookie", "; ".join(cookies)))
    body = encoded(operation.body, arguments, most) if operation.body else None
    if body is not None:
        headers.append(("Content-Type", body.content_type))
    if operation.idempotency_header:
        headers.append((operation.idempotency_header, _idempotency_key(name, arguments, call_id)))
    try:
        url = _url(operation.url, path_texts, query)
    except InvalidArgument as error:
        error.violations = tuple((argument, error.message) for argument in _leading(operation, path_texts))
        raise
    return Request(
        method=operation.method,
        url=url,
        headers=headers,
        body=body.data if body is not None else None,
        max_bytes=operation.max_response_bytes,
        repeatable=True if operation.idempotency_header else None,
    )


def _leading(operation: Operation, path_texts: Mapping[str, str]) -> list[str]:
    """The arguments of which a path has what may lead to another place."""
    given = [item for item in operation.parameters if item.place == "path" and item.fixed is ABSENT]
    odd = [item.argument for item in given if leads_elsewhere(path_texts[item.name])]
    return odd or [item.argument for item in given]


def placeholders(template: str) -> list[str]:
    """The names in `{…}` of a URL, in their order. Raises ValueError where a brace has no partner."""
    names = []
    rest = template
    while "{" in rest:
        name, closed, rest = rest[rest.index("{") + 1 :].partition("}")
        if not closed or "{" in name or not name:
            raise ValueError("a { without its name and }")
        names.append(name)
    return names


def _url(template: str, path_texts: Mapping[str, str], query: list[str]) -> str:
    url, mark, own_query = template.partition("?")
    if path_texts:
        filled, rest = "", url
        while "{" in rest:
            before, _, rest = rest.partition("{")
            name, _, rest = rest.partition("}")
            filled += before + path_texts[name]
        filled += rest
        check_path(filled.partition("://")[2], url.partition("://")[2])
        url = filled
    parts = [own_query, *query] if own_query else query
    return f"{url}?{'&'.join(parts)}" if parts else url + mark


def _idempotency_key(name: str, arguments: Mapping[str, JSON], call_id: str) -> str:
    """The same for a call that comes again, through another server too; without a call_id none does."""
    if not call_id:
        return str(uuid.uuid4())
    text = json.dumps([name, call_id, arguments], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tool(
    operation: Operation,
    sender: Sender,
    *,
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    read_only: bool | None = None,
    idempotent: bool | None = None,
    destructive: bool | None = None,
) -> Tool:
    """`operation` as a tool; what is not said of it, its method says."""

    async def run(arguments: dict[str, JSON], call: Call) -> Output:
        return await sender.run(operation, name, arguments, call)

    by_nature = operation.method in IDEMPOTENT or bool(operation.idempotency_header)
    safe = operation.method in _SAFE if read_only is None else read_only
    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        run=run,
        read_only=safe,
        idempotent=by_nature if idempotent is None else idempotent,
        destructive=not safe and operation.method in _DESTRUCTIVE if destructive is None else destructive,
    )
