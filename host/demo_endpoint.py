"""The scripted model (`host/demo_model.py`) behind an OpenAI-compatible endpoint, whole or streamed.

python -m host.demo_endpoint --port 9000   # then OPENAI_BASE_URL=http://127.0.0.1:9000/v1 python -m host serve
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from host.demo_model import NAME, TOOL, Move, move, text_of

_LARGEST = 2**24  # bytes of a request


@contextmanager
def running(port: int = 0) -> Iterator[str]:
    """Within, it answers on loopback; the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds of silence

    def do_GET(self) -> None:  # http.server's name
        if self.path.partition("?")[0].endswith("/models"):
            self._json(200, {"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "hector-plugins"}]})
        else:
            self._error(404, f"there is nothing at {self.path[:100]}")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST:
            self.close_connection = True
            self._error(413, f"a request has a Content-Length of {_LARGEST:,} bytes at most")
            return
        try:
            body = json.loads(self.rfile.read(int(length)))
            messages, offered = list(body["messages"]), list(body.get("tools") or [])
            tools = [str(tool["function"]["name"]) for tool in offered]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._error(400, "the body is no chat completion request")
            return
        if not self.path.partition("?")[0].endswith("/chat/completions"):
            self._error(404, f"there is nothing at {self.path[:100]}")
            return
        is_react = not tools and any(
            one.get("role") == "system" and "Action Input:" in text_of(one) and TOOL in text_of(one) for one in messages
        )
        reply = _Reply(move(messages, tools, is_react), is_react, sum(len(text_of(one).split()) for one in messages))
        if body.get("stream"):
            self._stream(reply)
        else:
            self._json(200, reply.whole())

    def _stream(self, reply: _Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in (*reply.chunks(), "[DONE]"):
            text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            self.wfile.write(f"data: {text}\n\n".encode())
            self.wfile.flush()

    def _json(self, status: int, value: Mapping[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what it is asked for is in the agent's own output."""


@dataclass(frozen=True)
class _Reply:
    """A move in the form of the API."""

    move: Move
    is_react: bool
    prompt_tokens: int

    @property
    def _arguments(self) -> str:
        return json.dumps({"query": self.move.query}, ensure_ascii=False)

    @property
    def _text(self) -> str:
        if not self.is_react:
            return self.move.text
        if self.move.query:
            return f"Thought: I look it up.\nAction: {TOOL}\nAction Input: {self._arguments}"
        return f"Thought: I can answer now.\nFinal Answer: {self.move.text}"

    @property
    def _calls(self) -> list[dict[str, Any]]:
        if self.is_react or not self.move.query:
            return []
        function = {"name": TOOL, "arguments": self._arguments}
        return [{"index": 0, "id": f"call_{time.time_ns()}", "type": "function", "function": function}]

    @property
    def _usage(self) -> dict[str, int]:
        written = len((self._text or self._arguments).split())
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }

    def whole(self) -> dict[str, Any]:
        calls = self._calls
        message = {"role": "assistant", "content": self._text or None} | ({"tool_calls": calls} if calls else {})
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        calls = self._calls
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in re.findall(r"\S+\s*|\s+", self._text)]
        deltas += [{"tool_calls": calls}] if calls else []
        head = self._head("chat.completion.chunk")
        for delta in deltas:
            yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        finish = "tool_calls" if calls else "stop"
        yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        yield head | {"choices": [], "usage": self._usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-scripted", "object": kind, "created": int(time.time()), "model": NAME}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one [9000]")
    with running(parser.parse_args().port) as url:
        print(f"listening on {url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
