"""An OpenAI-compatible endpoint that answers at once, so that what is measured is what stands before it.

python -m benchmarks.llm_endpoint    prints its base URL

Model `chunks-N` streams N chunks, `hang` never answers, any other says a sentence. GET /v1/gone tells when the last
client that hung went away, on the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time

from benchmarks.arguments import parser

WORD = "word "


@functools.cache
def reply(model: str, stream: bool) -> bytes:
    """The whole HTTP response."""
    if model == "hang":
        return b""
    if not stream:
        message = {"role": "assistant", "content": "A sentence of some seven words."}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }
        return _response("application/json", json.dumps(body))
    count = int(model.removeprefix("chunks-")) if model.startswith("chunks-") else 7
    chunks = [_chunk(model, {"role": "assistant", "content": ""}), *[_chunk(model, {"content": WORD})] * count]
    return _response("text/event-stream", "".join([*chunks, _chunk(model, {}, "stop"), "data: [DONE]\n\n"]))


def _chunk(model: str, delta: dict[str, str], finish: str | None = None) -> str:
    chunk = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(chunk)}\n\n"


def _response(kind: str, body: str) -> bytes:
    raw = body.encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


class _Connection(asyncio.Protocol):
    gone = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._held, self._hangs = transport, b"", False

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, rest = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        if len(rest) < length:
            return
        self._held = rest[length:]
        if lines[0].startswith("get"):
            self._transport.write(_response("application/json", json.dumps({"at": _Connection.gone})))
            return
        asked = json.loads(rest[:length])
        answer = reply(asked["model"], bool(asked.get("stream")))
        self._hangs = not answer
        self._transport.write(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._hangs:
            _Connection.gone = time.monotonic()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser(__doc__).parse_args()
    asyncio.run(main())
