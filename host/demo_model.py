"""A scripted model behind an OpenAI-compatible endpoint, so that an agent can be seen at work without a key.

    python -m host.demo_model --port 9000      # then OPENAI_BASE_URL=http://127.0.0.1:9000/v1 python -m host serve

It is no language model and says so in each answer. It plays one script: it has the question looked up with the
retrieval tool, through the API's tool calls or, where it is offered none, as ReAct text; then it quotes the sentences
of the passages that share most words with the question, and cites them. A token is a word here.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "scripted-demo"
TOOL = "search_documents"
ABOUT = (
    "I am the scripted model that ships with this host, no language model: I have looked the question up, and quoted "
    "what shares most words with it."
)
NOTHING = "I found no passage on that. " + ABOUT.replace(", and quoted what shares most words with it", "")
HELLO = (
    f"Hello. I am the scripted model that ships with this host, no language model. With a tool named {TOOL} I look "
    "questions up and quote what I find; all else needs a real model: set OPENAI_BASE_URL or OPENAI_API_KEY."
)
_LARGEST = 2**24  # bytes of a request
_MOST_QUOTES = 2
_LONGEST_QUOTE = 400  # characters
_PASSAGE = re.compile(r"^\[(\d{1,4})\] ([^\n]{1,500}?), [^\n]{1,500}$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=[-*#|])")
_NO_PROSE = re.compile(r"^(?:#|```|[ \t]*[|│┌└]).*$", re.MULTILINE)
_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = frozenset("the and for are was has have how what why who when where which with that this there does can not "
                    "after from into its you your they them still only".split())  # fmt: skip


@dataclass(frozen=True)
class Move:
    """What the model does next: it calls the tool with `query`, or writes `text`."""

    text: str = ""
    query: str = ""


def move(messages: Sequence[Mapping[str, Any]], tools: Sequence[str], is_react: bool) -> Move:
    """`tools`: the names of those that are offered through the API. `is_react`: in the text of the system message."""
    results = _results(messages, is_react)
    question = _question(messages, is_react)
    if not results:
        return Move(query=question) if TOOL in tools or is_react else Move(HELLO)
    quotes = _quotes(question, "\n\n".join(results))
    if not quotes:
        return Move(NOTHING)
    said = " ".join(f"{path} says: “{quote}” [{number}]." for number, path, quote in quotes)
    return Move(f"{said} {ABOUT}")


def _results(messages: Sequence[Mapping[str, Any]], is_react: bool) -> list[str]:
    """Of the tool, since the last question."""
    found: list[str] = []
    for message in reversed(messages):
        content = _content(message)
        if message.get("role") == "tool" or (is_react and content.startswith("Observation:")):
            found.append(content)
        elif (message.get("role") == "user" and found) or (
            message.get("role") == "user" and not content.startswith("No more ")
        ):
            break
    return found[::-1]


def _question(messages: Sequence[Mapping[str, Any]], is_react: bool) -> str:
    for message in reversed(messages):
        content = _content(message)
        if message.get("role") == "user" and not content.startswith(("Observation:", "No more ")):
            return content.removeprefix("Question:").strip() if is_react else content.strip()
    return ""


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _quotes(question: str, result: str) -> list[tuple[int, str, str]]:
    """(number, path, sentence) of the best, each of another passage, in the order of the passages' ranks."""
    words = _words(question)
    scored: list[tuple[int, int, int, str, str]] = []
    marks = list(_PASSAGE.finditer(result))
    for place, mark in enumerate(marks):
        end = marks[place + 1].start() if place + 1 < len(marks) else len(result)
        text = _NO_PROSE.sub("\n\n", result[mark.end() : end])
        for sentence in _SENTENCE_END.split(text):
            plain = " ".join(sentence.split()).strip("-*#| ")
            shared = len(words & _words(plain))
            if shared and _is_prose(plain):
                scored.append((-shared, place, int(mark[1]), mark[2], plain))
    best: dict[int, tuple[int, str, str]] = {}
    for _, place, number, path, sentence in sorted(scored):
        if len(best) < _MOST_QUOTES:
            best.setdefault(place, (number, path, sentence))
    return [best[place] for place in sorted(best)]


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return 30 <= len(text) <= _LONGEST_QUOTE and letters > 0.8 * len(text) and not {"“", "”", '"', "<"} & set(text)


def _words(text: str) -> set[str]:
    """In lower case, without their last letters, which differ by grammar."""
    return {word.lower()[:6] for word in _WORD.findall(text)} - _COMMON


# ---------------------------------------------------------------- HTTP


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
            one.get("role") == "system" and "Action Input:" in _content(one) and TOOL in _content(one)
            for one in messages
        )
        reply = _Reply(move(messages, tools, is_react), is_react, sum(len(_content(one).split()) for one in messages))
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
