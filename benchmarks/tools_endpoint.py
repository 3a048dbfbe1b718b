"""An HTTP server that answers at once, for measurements: `python -m benchmarks.tools_endpoint` prints its URL.

`/json` is a small JSON object, `/page` a page of about 1 MB.
"""

from __future__ import annotations

import asyncio
import json

from benchmarks.arguments import parser

JSON = json.dumps({"id": 7, "name": "Trondheim", "country": "NO", "population": 212_660, "tags": ["city", "port"]})
_SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody who saw it has ever said why it did so. "


def page(size: int = 1_000_000) -> str:
    """An article with headings, paragraphs, links, lists and tables, of about `size` characters."""
    parts = ["<html><head><title>Foxes</title></head><body><nav><a href='/'>Home</a></nav><article><h1>Foxes</h1>"]
    length = 0
    for number in range(size):
        section = (
            f"<h2>Part {number}</h2><p>{_SENTENCE * 4}<a href='/part/{number}'>More of it</a>. {_SENTENCE * 3}</p>"
            f"<ul><li>{_SENTENCE}</li><li>{_SENTENCE}</li></ul>"
            f"<table><tr><th>Name</th><th>Legs</th></tr><tr><td>fox {number}</td><td>4</td></tr></table>"
        )
        parts.append(section)
        length += len(section)
        if length >= size:
            break
    return "".join([*parts, "</article></body></html>"])


def _response(content_type: str, body: str) -> bytes:
    raw = body.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


_ANSWERS = {b"/json": _response("application/json", JSON), b"/page": _response("text/html; charset=utf-8", page())}


class _Protocol(asyncio.Protocol):
    """Requests without a body, one after another on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._begun = (self._begun + data).split(b"\r\n\r\n")
        for request in requests:
            self._transport.write(_ANSWERS[request.split(b" ", 2)[1]])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser(__doc__).parse_args()
    asyncio.run(_serve())
