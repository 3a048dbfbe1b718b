"""For tests of declared tools and of OpenAPI: a client that keeps what it was given, and tools run as by the engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugins.tools_http.engine.credentials import CredentialSource
from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.openapi import Imported, import_document
from plugins.tools_http.engine.openapi.settings import read_settings
from plugins.tools_http.engine.operation import Sender
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.tool import ABSENT, Audit, Call, Output, Tool
from shared.errors import FailedPrecondition
from shared.json_schema import complaint

Answerer = Callable[[Request], Response]


def response(body: bytes | str | Any = b"", status: int = 200, content_type: str = "application/json") -> Response:
    if not isinstance(body, bytes):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Response(
        status=status,
        url="https://api.test/",
        headers=[("content-type", content_type)],
        body=body,
        wire_bytes=len(body),
    )


@dataclass
class FakeClient:
    """Answers what `answer` says, and keeps every request."""

    answer: Answerer = field(default=lambda request: response({}))
    requests: list[Request] = field(default_factory=list)

    async def send(self, request: Request, *, deadline: float, audit: Audit | None = None) -> Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        return self.answer(request)


async def plain(response: Response) -> Output:
    """A rendering that hides nothing."""
    error = FailedPrecondition(f"HTTP {response.status}") if response.status >= 400 else None
    try:
        structured = json.loads(response.body)
    except ValueError:
        structured = ABSENT
    return Output(text=response.body.decode("utf-8", "replace"), structured=structured, error=error)


def sender(client: FakeClient, most: int = 1_000_000, redactor: Redactor | None = None) -> Sender:
    return Sender(client, plain, redactor or Redactor(), most)


def call(tool: Tool, arguments: Mapping[str, Any], call_id: str = "") -> Output:
    """One call, the arguments checked as the engine checks them."""
    assert not (problem := complaint(dict(arguments), tool.parameters)), problem
    assert tool.run is not None

    async def run() -> Output:
        assert tool.run is not None
        return await tool.run(dict(arguments), Call(time.monotonic() + 10, call_id))

    return asyncio.run(run())


def named(tools: Sequence[Tool], name: str) -> Tool:
    return next(tool for tool in tools if tool.name == name)


def document(paths: Mapping[str, Any], version: str = "3.0.3", **more: Any) -> dict[str, Any]:
    """An OpenAPI document with one server, https://api.test/v1."""
    about = {"openapi": version, "info": {"title": "Test", "version": "1"}, "servers": [{"url": "https://api.test/v1"}]}
    return {**about, "paths": dict(paths), **more}


def operation(*parameters: Mapping[str, Any], body: Any = None, **more: Any) -> dict[str, Any]:
    """An operation `op`, its body of JSON where it is a schema."""
    about: dict[str, Any] = {"operationId": "op", "parameters": list(parameters), "responses": {}}
    if body is not None:
        about["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return {**about, **more}


def imported(
    document: Mapping[str, Any] | bytes | str,
    client: FakeClient | None = None,
    *,
    most: int = 60,
    base: str = "",
    by_origin: Mapping[str, CredentialSource] | None = None,
    redactor: Redactor | None = None,
    allowed: Callable[[str, str], str] = lambda url, method: "",
    **settings: Any,
) -> Imported:
    """`base` is the URL where the document is from."""
    data = document if isinstance(document, bytes) else document.encode() if isinstance(document, str) else b""
    about = read_settings({"api": {"document": base or "api.json", **settings}})[0]
    return import_document(
        data or json.dumps(document).encode(),
        base,
        about,
        sender(client or FakeClient(), redactor=redactor),
        by_origin or {},
        most,
        allowed,
    )


def sent(operation: Mapping[str, Any], arguments: Mapping[str, Any], path: str = "/x", method: str = "get") -> Request:
    """The one request of a call of a document's only operation."""
    client = FakeClient()
    [tool] = imported(document({path: {method: operation}}), client).tools
    call(tool, arguments)
    [request] = client.requests
    return request


_REFUSED = ("$ref", "$defs", "const", "oneOf", "examples", "contentEncoding", "contentMediaType", "exclusiveMinimum",
            "exclusiveMaximum")  # fmt: skip


def not_for_every_model(schema: Any, path: str = "$") -> list[str]:
    """What some model's API refuses in a schema, at every depth of it."""
    return list(_refused(schema, path))


def _refused(schema: Any, path: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{path}: no schema"
        return
    kind = schema.get("type")
    if not isinstance(kind, str if "anyOf" not in schema else str | None):
        yield f"{path}: type {kind}"
    if kind == "array":
        yield from _refused(schema.get("items"), f"{path}[]")
    if kind == "object" and not isinstance(schema.get("properties"), dict):
        yield f"{path}: no properties"
    yield from (f"{path}: {keyword}" for keyword in _REFUSED if keyword in schema)
    for name, inner in schema.get("properties", {}).items():
        yield from _refused(inner, f"{path}.{name}")
    if isinstance(more := schema.get("additionalProperties", True), dict):
        yield from _refused(more, f"{path}.*")
    for place, choice in enumerate(schema.get("anyOf", [])):
        yield from _refused(choice, f"{path}|{place}")
