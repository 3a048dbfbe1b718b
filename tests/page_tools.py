"""What the tests of fetch_page share: a client that answers from a dictionary, and one call of the tool."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.page import convert, robots
from plugins.tools_http.engine.page.convert import Converted
from plugins.tools_http.engine.page.tool import fetch_page
from plugins.tools_http.engine.tool import Audit, Call, Output

URL = "http://127.0.0.1:8000/d/p"


def converted(body: bytes | str, content_type: str = "text/html", *, url: str = URL, **options: Any) -> Converted:
    """What the worker makes of a body, over the bytes that go to it and come back."""
    options = {"main_only": True, "markdown": True, "pages": (1, 0), "seconds": 10} | options
    body = body.encode() if isinstance(body, str) else body
    return convert.reply(convert.convert(convert.request(body, url=url, content_type=content_type, **options)))


def markdown(html: str, **options: Any) -> str:
    return converted(html, "text/html; charset=utf-8", **options).text


@dataclass
class FakeClient:
    """Implements exchange.Client: `pages` has status, headers and body by URL."""

    pages: dict[str, tuple[int, dict[str, str], bytes] | Exception]
    requests: list[Request] = field(default_factory=list)

    async def send(self, request: Request, *, deadline: float, audit: Audit | None = None) -> Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        page = self.pages[request.url]
        if isinstance(page, Exception):
            raise page
        status, headers, body = page
        return Response(status=status, url=request.url, headers=tuple(headers.items()), body=body, wire_bytes=len(body))


async def work(job: str, payload: bytes, *, seconds: float) -> bytes:
    assert seconds > 0
    return {convert.JOB: convert.convert, robots.JOB: robots.decide}[job](payload)


def fetched(client: FakeClient, arguments: dict[str, Any] | None = None, **options: Any) -> Output:
    """One call of the tool, without processes."""
    tool = fetch_page(client, work, **options)
    assert tool.run is not None
    return asyncio.run(_run(tool.run({"url": URL} | (arguments or {}), Call(deadline=time.monotonic() + 60))))


async def _run(call: Any) -> Output:
    output: Output = await call
    return output
