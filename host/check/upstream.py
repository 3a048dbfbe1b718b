"""An OpenAI endpoint with scripted answers, so that the kit knows what an LLM plugin was given to pass on.

A request picks its script by the model it names: `check-echo` says back what was said, `check-cut` breaks off in the
middle. It stands on a free port of the loopback; `seen` has the body of every request.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = ("Fünf süße ", "Äpfel,\n", " 五个苹果 ", "🍏", ' and "more"', ".")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CALLS = (
    ("call_a", "weather", ('{"city": "Pa', 'ris", "days"', ": 3}")),
    ("call_b", "weather", ('{"city": "Köln",', ' "days": 1}')),
)
MODELS = ("check-echo", "check-text")


@dataclass(frozen=True)
class Script:
    """One answer: its text in pieces, its tool calls, how it ends; or a status other than 200."""

    pieces: tuple[str, ...] = ()
    calls: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    finish: str | None = "stop"
    usage: bool = True
    done: bool = True  # a stream's [DONE]
    cut: bool = False  # the connection ends in the middle
    pause: float = 0.0  # seconds before each piece
    gone: bool = False  # the connection ends before an answer
    auto: bool = False  # tool_choice `required` is refused
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def _fails(status: int, code: str = "", **headers: str) -> Script:
    error = {"message": f"the kit answers {status}", "type": "check", "code": code or None}
    return Script(
        status=status, error=error, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


SCRIPTS = {
    "check-text": Script(TEXT),
    "check-empty": Script(("",)),
    "check-length": Script(TEXT[:2], finish="length"),
    "check-filter": Script(TEXT[:1], finish="content_filter"),
    "check-odd": Script(TEXT[:1], finish="eos_token"),
    "check-no-usage": Script(TEXT, usage=False),
    "check-no-done": Script(TEXT, done=False),
    "check-cut": Script(TEXT[:3], finish=None, done=False, cut=True),
    "check-ends": Script(TEXT[:3], finish=None, done=False),
    "check-slow": Script(tuple(f"{number} " for number in range(20)), pause=0.1),
    "check-tools": Script((), CALLS, finish="tool_calls"),
    "check-tools-stop": Script((), CALLS, finish="stop"),
    "check-tools-cut": Script((), (("call_a", "weather", ('{"city": "Pa',)),), finish="length"),
    "check-tools-broken": Script((), (("call_a", "weather", ('{"city": Paris}',)),), finish="tool_calls"),
    "check-json": Script(('{"city": ', '"Paris"}')),
    "check-tools-wrong": Script((), (("call_a", "weather", ('{"days": 3}',)),), finish="tool_calls"),
    "check-400": _fails(400),
    "check-context": _fails(400, "context_length_exceeded"),
    "check-401": _fails(401, "invalid_api_key"),
    "check-403": _fails(403),
    "check-404": _fails(404, "model_not_found"),
    "check-408": _fails(408),
    "check-429": _fails(429, Retry_After="1"),
    "check-500": _fails(500),
    "check-502": _fails(502),
    "check-503": _fails(503),
    "check-504": _fails(504),
    "check-529": _fails(529),
    "check-leak": _fails(401, "invalid_api_key"),
    "check-gone": Script(gone=True),
    "check-auto": Script((), CALLS, finish="tool_calls", auto=True),
}


class Upstream:
    """The endpoint while it runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: deque[dict[str, Any]] = deque(maxlen=1000)
        self.keys: deque[str] = deque(maxlen=1000)  # what each request came with; empty: no key


@contextmanager
def serving(port: int = 0) -> Iterator[Upstream]:
    """At `http://127.0.0.1:PORT/v1`. Raises OSError where the port is taken."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.upstream = Upstream(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.upstream
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    upstream: Upstream


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "check"} for name in MODELS]
        self._send(200, {"object": "list", "data": models} if self.path.endswith("/models") else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.upstream.seen.append(body)
        self.server.upstream.keys.append(self.headers.get("Authorization", "").removeprefix("Bearer "))
        script = SCRIPTS.get(body.get("model", ""), Script(("You said: ", _last(body))))
        if script.gone:
            self.close_connection = True
        elif script.auto and body.get("tool_choice") == "required":
            self._send(400, {"error": {"message": "tool_choice: only auto is supported", "param": "tool_choice"}})
        elif body.get("model") == "check-leak":  # as some endpoints do
            message = f"Incorrect API key provided: {self.server.upstream.keys[-1]}"
            self._send(script.status, {"error": script.error | {"message": message}})
        elif script.status != 200:
            self._send(script.status, {"error": script.error}, script.headers)
        elif body.get("stream"):
            wanted = bool((body.get("stream_options") or {}).get("include_usage"))
            self._stream(script, wanted)
        elif script.cut or script.finish is None:
            self.close_connection = True  # an answer that breaks off before it is whole
        else:
            self._send(200, _whole(script))

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, script: Script, usage: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")  # its end is the end of the connection
        self.end_headers()
        self.close_connection = True

        def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}] if delta or finish else []
            chunk = {"id": "chatcmpl-check", "object": "chat.completion.chunk", "created": 1, "model": "check-model"}
            self.wfile.write(b"data: " + json.dumps(chunk | {"choices": choices} | more).encode() + b"\n\n")
            self.wfile.flush()

        try:
            event({"role": "assistant", "content": ""})
            for piece in script.pieces:
                time.sleep(script.pause)
                event({"content": piece})
            for index, (key, name, arguments) in enumerate(script.calls):
                event({"tool_calls": [_delta(index, arguments="", name=name, id=key)]})
                for piece in arguments:
                    event({"tool_calls": [_delta(index, arguments=piece)]})
            if script.cut:
                return
            if script.finish:
                event({}, script.finish)
            if script.usage and usage and script.finish:
                event({}, usage=USAGE)
            if script.done and script.finish:
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            return  # the client has gone


def _delta(index: int, *, arguments: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": id, "type": "function"} if id else {})


def _whole(script: Script) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(script.pieces) or None}
    if script.calls:
        message["tool_calls"] = [
            {"id": key, "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}
            for key, name, arguments in script.calls
        ]
    answer = {
        "id": "chatcmpl-check",
        "object": "chat.completion",
        "created": 1,
        "model": "check-model",
        "choices": [{"index": 0, "message": message, "finish_reason": script.finish}],
    }
    return answer | ({"usage": USAGE} if script.usage else {})


def _last(body: dict[str, Any]) -> str:
    """What the last message says."""
    messages = body.get("messages") or [{}]
    content = messages[-1].get("content") or ""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content)
