"""Endpoints in YAML as tools.

    tools:
      find_city:
        description: Finds cities by name. Use it before get_weather, which wants a city's id.
        method: GET                             # the default
        url: https://api.example.com/v1/{country}/cities
        parameters:
          country: {in: path, type: string, enum: [de, fr]}
          name: {in: query, type: string, required: true, description: The name or its beginning.}
          limit: {in: query, schema: {type: integer, maximum: 100}, default: 10}
          version: {in: header, name: X-Api-Version, value: "2024-06"}    # always sent, never shown
        headers: {X-API-Key: "${CITY_KEY}"}     # secrets, sent to this origin only
        answer: cities[].{id: id, name: name}   # JMESPath

Where `in` is left out it is `path` for a name in the URL, else `query` for GET, HEAD and DELETE, else `body`: a field
of the body; `whole_body` is all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from shared.errors import StartError
from shared.json_schema import schema_problem
from shared.units import name_for_message, read_bool, read_size

from ..answers import Answer, Worker, check
from ..bodies import Body, Kind, media_type_problem
from ..credentials import (
    CredentialSource,
    Fixed,
    Together,
    check_headers,
    checked_keys,
    origin_of,
    read_credential,
    secret_texts,
    text,
    texts,
)
from ..exchange import Credential
from ..operation import Operation, Sender, placeholders, tool
from ..policy import ALL_METHODS
from ..tool import ABSENT, NAME, Tool
from .parameter import ParameterReader

_KEYS = ("description", "method", "url", "parameters", "headers", "credential", "body", "idempotency_key", "answer",
         "read_only", "idempotent", "destructive", "max_response_bytes")  # fmt: skip
_BODIES: Mapping[str, tuple[Kind, str]] = {
    "json": ("json", "application/json"),
    "form": ("form", "application/x-www-form-urlencoded"),
    "multipart": ("multipart", "multipart/form-data"),
    "text": ("text", "text/plain"),
}
_SECRET_NAME = re.compile("key|token|secret|passw|auth|appid|app_id|signature", re.IGNORECASE)
# Headers whose values are shown, kept in results, and sent along with a redirect; all others are secrets.
PUBLIC_HEADERS = ("accept", "accept-language", "content-type", "user-agent", "prefer", "cache-control")


Noted = Callable[[str, str, str], None]


def read_tools(
    settings: Mapping[str, Any],
    sender: Sender,
    credentials: Mapping[str, CredentialSource],
    workers: Worker | None,
    work_timeout: float,
    noted: Noted = lambda place, url, method: None,
) -> list[Tool]:
    """The setting `tools`. `credentials` are those of the setting of that name, by origin; `noted` is told the place,
    host and method of each tool. Raises StartError."""
    tools: list[Tool] = []
    for name, about in settings.items():
        if not NAME.fullmatch(name) or about is None:
            raise StartError(
                f"setting tools: {name_for_message(name, about)} is no name for a tool, "
                "which is 1 to 64 letters, digits, _ and -"
            )
        place = f"setting tools: {name_for_message(name, about)}"
        about = checked_keys(place, about, _KEYS)
        reader = _Reader(place, name, about, credentials, workers, work_timeout)
        tools.append(reader.tool(sender, noted))
    return tools


@dataclass
class _Reader:
    place: str
    name: str
    about: Mapping[str, Any]
    credentials: Mapping[str, CredentialSource]
    workers: Worker | None
    work_timeout: float

    def tool(self, sender: Sender, noted: Noted) -> Tool:
        method = str(self.about.get("method", "GET")).upper()
        if method not in ALL_METHODS:
            raise StartError(f"{self.place}: method must be one of {', '.join(ALL_METHODS)}")
        url, origin, in_path = self._url()
        noted(self.place, origin + "/", method)
        readers = [
            ParameterReader(self.place, argument, about, in_path, method)
            for argument, about in self._parameters().items()
        ]
        parameters = [reader.parameter() for reader in readers if reader.into not in ("body", "whole_body")]
        missing = set(in_path) - {parameter.name for parameter in parameters if parameter.place == "path"}
        if missing:
            raise StartError(f"{self.place}: {{{min(missing)}}} of the url is no parameter; add it to `parameters`")
        headers = texts(f"{self.place}: headers", self.about.get("headers", {}))
        check_headers(f"{self.place}: headers", headers)
        operation = Operation(
            method=method,
            url=url,
            origin=origin,
            parameters=parameters,
            body=self._body(readers, method),
            headers=[(header, value) for header, value in headers.items() if header.lower() in PUBLIC_HEADERS],
            credentials=self._credentials(origin, headers, sender),
            idempotency_header=self._idempotency_header(),
            answer=self._answer(),
            max_response_bytes=self._size("max_response_bytes"),
        )
        return tool(
            operation,
            sender,
            name=self.name,
            description=text(f"{self.place}: description", self.about.get("description")),
            parameters=self._schema(readers),
            read_only=self._flag("read_only"),
            idempotent=self._flag("idempotent"),
            destructive=self._flag("destructive"),
        )

    def _url(self) -> tuple[str, str, list[str]]:
        url = text(f"{self.place}: url", self.about.get("url"))
        try:
            before, _, query = url.partition("?")
            if "{" in before.partition("://")[2].partition("/")[0] or "#" in url:
                raise ValueError("it takes {names} in its path only, and no #")
            if "{" in query:
                raise ValueError("it takes {names} in its path only; make it a parameter with `in: query`")
            for name, _ in parse_qsl(query, keep_blank_values=True):
                if _SECRET_NAME.search(name):
                    raise ValueError(f"{name_for_message(name)} looks like a secret; write `credential: {{query: …}}`")
            return url, origin_of(url), placeholders(before)
        except ValueError as error:
            raise StartError(f"{self.place}: url: {error}") from None

    def _parameters(self) -> Mapping[str, Any]:
        parameters = self.about.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise StartError(f"{self.place}: parameters must be a mapping of names to what they are")
        return parameters

    def _body(self, readers: Sequence[ParameterReader], method: str) -> Body | None:
        inside = [reader for reader in readers if reader.into == "body"]
        whole = [reader for reader in readers if reader.into == "whole_body"]
        if not inside and not whole:
            if "body" in self.about:
                raise StartError(f"{self.place}: body is set, and no parameter goes there; write `in: body` at one")
            return None
        if len(whole) > 1 or (whole and inside):
            raise StartError(f"{self.place}: a parameter `in: whole_body` is all of the body; move the others")
        if method in ("GET", "HEAD", "OPTIONS"):
            raise StartError(f"{self.place}: a {method} has no body; use another method, or `in: query`")
        form = self.about.get("body", "json")
        if not isinstance(form, str) or (form not in _BODIES and media_type_problem(form)):
            raise StartError(f"{self.place}: body must be one of {', '.join(_BODIES)}, or a media type")
        kind, content_type = _BODIES.get(form, (_kind_of(form), form))
        if kind in ("text", "binary") and not whole:
            raise StartError(f"{self.place}: such a body is one thing; write `in: whole_body` at its only parameter")
        if kind != "multipart" and (files := [reader.argument for reader in inside if reader.file]):
            raise StartError(f"{self.place}: {files[0]} is a file, and only `body: multipart` takes files")
        shown = [reader for reader in inside if reader.value is ABSENT]
        return Body(
            kind=kind,
            content_type=content_type,
            argument=whole[0].argument if whole else "",
            properties={reader.argument: reader.wire for reader in shown},
            parts={reader.wire: reader.part() for reader in inside},
            fixed={reader.wire: reader.value for reader in inside if reader.value is not ABSENT},
            required=any(reader.required for reader in [*inside, *whole]),
        )

    def _credentials(self, origin: str, headers: Mapping[str, str], sender: Sender) -> CredentialSource | None:
        secret = {name: value for name, value in headers.items() if name.lower() not in PUBLIC_HEADERS}
        sources: list[CredentialSource] = []
        for value in secret_texts({"headers": secret}):
            sender.redactor.add(value)
        if secret:
            sources.append(Fixed(Credential(origin, secret)))
        if "credential" in self.about:
            place = f"{self.place}: credential"
            sources.append(read_credential(place, self.about["credential"], origin, sender.client, sender.redactor))
        if origin in self.credentials:
            sources.append(self.credentials[origin])
        return Together(tuple(sources)) if len(sources) > 1 else sources[0] if sources else None

    def _idempotency_header(self) -> str:
        header = self.about.get("idempotency_key", "")
        if not isinstance(header, str):
            raise StartError(f"{self.place}: idempotency_key must be the name of a header, such as Idempotency-Key")
        if header:
            check_headers(f"{self.place}: idempotency_key", {header: "x"})
        return header

    def _answer(self) -> Answer | None:
        if "answer" not in self.about:
            return None
        expression = text(f"{self.place}: answer", self.about["answer"])
        if problem := check(expression):
            raise StartError(f"{self.place}: answer is no JMESPath: {problem}")
        return Answer(expression, self.workers, self.work_timeout)

    def _flag(self, key: str) -> bool | None:
        if key not in self.about:
            return None
        try:
            return read_bool(self.about[key])
        except ValueError as error:
            raise StartError(f"{self.place}: {key}: {error}") from None

    def _size(self, key: str) -> int | None:
        if key not in self.about:
            return None
        try:
            return read_size(self.about[key])
        except ValueError as error:
            raise StartError(f"{self.place}: {key}: {error}") from None

    def _schema(self, readers: Sequence[ParameterReader]) -> Mapping[str, Any]:
        shown = [reader for reader in readers if reader.value is ABSENT]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {reader.argument: reader.schema() for reader in shown},
            "additionalProperties": False,
        }
        if required := [reader.argument for reader in shown if reader.required]:
            schema["required"] = required
        if problem := schema_problem(schema):
            raise StartError(f"{self.place}: parameters: {problem}")
        return schema


def _kind_of(media_type: str) -> Kind:
    if media_type.endswith("json"):
        return "json"
    return "text" if media_type.startswith("text/") or media_type.endswith("xml") else "binary"
