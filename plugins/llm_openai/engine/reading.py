"""The bytes of a reply to chunks of it: a stream, or a JSON body where a stream was asked for, or what is neither."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from plugins.llm_openai.engine.failures import Failure, Kind, in_reply
from plugins.llm_openai.engine.json_text import TooManyValues, loads
from plugins.llm_openai.engine.limits import too_large
from plugins.llm_openai.engine.sse import DONE, EventReader, TooLong

Chunk = Mapping[str, Any]
_FIELD = re.compile(rb"(data|event|id|retry)?:")


class ChunkReader:
    """Push bytes in with `feed`, get chunks; `close` gives what is left. Both raise Failure.

    It decides by the first byte, not by Content-Type, which servers get wrong: `{` is JSON, `<` a page, else a stream.
    """

    def __init__(self, largest: int) -> None:
        """`largest` is how many bytes a reply may have that is not a stream."""
        self.done = False  # `[DONE]` came
        self._largest = largest
        self._events: EventReader | None = None
        self._body = bytearray()
        self._head = b""  # the first bytes that are no blanks
        self._seen = False  # an event

    def feed(self, data: bytes) -> Iterator[Chunk]:
        if self._events is None:
            self._body += data
            if len(self._body) > self._largest:
                raise too_large(self._largest)
            self._head = self._head or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:200]
            if not self._head or self._head[:1] in b"{[<":
                return
            self._events, data = EventReader(), bytes(self._body)
        try:
            events = self._events.feed(data)
        except TooLong:
            raise Failure(Kind.MALFORMED, "one event of the stream is too long to be a chunk") from None
        yield from self._chunks(events)

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of what they belong to."""
        return len(self._body) if self._events is None else self._events.held

    def close(self) -> Iterator[Chunk]:
        if self._events is not None:
            yield from self._chunks(self._events.close(), cut=True)
            if not self._seen and not _FIELD.match(self._head):
                words = self._head.decode("utf-8", "replace")
                raise Failure(Kind.MALFORMED, f"the reply is neither a stream nor JSON: {words!r}")
            return
        text = self._body.decode("utf-8-sig", "replace").strip()
        if not text:
            raise Failure(Kind.TRUNCATED, "the reply is empty")
        if text.startswith("<"):
            raise Failure(Kind.MALFORMED, "a page came instead of a reply; does endpoint lack its /v1?")
        try:
            whole = loads(text)
        except TooManyValues as error:
            raise Failure(Kind.MALFORMED, f"the reply cannot be read: {error}") from None
        except (ValueError, RecursionError):
            # Lines of JSON, perhaps; a body that was cut off ends in one that cannot be read.
            for line in text.splitlines():
                yield from self._chunk("", line, cut=True)
            return
        chunk = _checked("", whole)
        if not isinstance(chunk.get("choices"), list) or not chunk["choices"]:
            raise Failure(Kind.MALFORMED, "the reply has no choices; is this a chat completions endpoint?")
        self.done = True
        yield chunk

    def _chunks(self, events: list[tuple[str, str]], cut: bool = False) -> Iterator[Chunk]:
        for name, data in events:
            self._seen = True
            yield from self._chunk(name, data, cut)

    def _chunk(self, name: str, data: str, cut: bool = False) -> Iterator[Chunk]:
        """`cut`: the end of the bytes came in the middle, so what cannot be read is no fault of the sender."""
        if data.strip() == DONE:
            self.done = True
            return
        try:
            parsed = loads(data)
        except TooManyValues as error:
            raise Failure(Kind.MALFORMED, f"one event of the stream cannot be read: {error}") from None
        except (ValueError, RecursionError):
            if "\n" in data:
                for line in data.split("\n"):
                    yield from self._chunk(name, line, cut)
                return
            if name == "error":
                raise in_reply(data) from None
            if cut or not data.strip() or name in ("ping", "keepalive"):
                return
            raise Failure(Kind.MALFORMED, f"the stream has an event that is no JSON: {data[:1000]!r}") from None
        if name in ("ping", "keepalive") or parsed is None:
            return
        if isinstance(parsed, Mapping) and parsed.get("type") == "ping":
            return
        yield _checked(name, parsed)


def _checked(name: str, parsed: Any) -> Chunk:
    if not isinstance(parsed, Mapping):
        raise Failure(Kind.MALFORMED, "the reply is JSON of another kind than a chat completion")
    choices = parsed.get("choices")
    wrong = parsed.get("error") or (name == "error" and parsed) or (parsed.get("object") == "error" and parsed)
    if not wrong and not choices:
        wrong = parsed.get("detail") or (parsed.get("type") == "error" and parsed)
    if wrong:
        raise in_reply(parsed if isinstance(parsed.get("error"), Mapping) or wrong is parsed else {"error": wrong})
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping) and choice.get("error"):
            raise in_reply({"error": choice["error"]})
    return parsed
