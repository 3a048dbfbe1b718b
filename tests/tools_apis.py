"""For tests of declared tools and OpenAPI tools: a client that keeps what it was given, and tools run as the engine does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.operation import Sender
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


def plain(response: Response) -> Output:
    """A rendering that hides nothing."""
    error = FailedPrecondition(f"HTTP {response.status}") if response.status >= 400 else None
    try:
        structured = json.loads(response.body)
    except ValueError:
        structured = ABSENT
    return Output(text=response.body.decode("utf-8", "replace"), structured=structured, error=error)


def sender(client: FakeClient, most: int = 1_000_000) -> Sender:
    return Sender(client, plain, most)


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
