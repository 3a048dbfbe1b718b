"""The bytes of a reply to chunks of it: a stream, or a JSON body where a stream was asked for, or what is neither.

Taken besides the standard of server-sent events: a last event without its blank line; JSON on lines without `data:`;
events without a blank line between them; several JSON texts in one event, or one over several lines. Each JSON text
goes out as soon as it is whole. Dropped: comments, empty data, pings, `id:`, `retry:`. What cannot be read and is not
the last line, which the end of the bytes may have cut, is an error: a chunk that is passed over is text that is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .error_signs import error_of, is_failed
from .failures import Failure, Kind, in_reply
from .json_text import GrowingText, TooManyValues, loads, loads_first
from .limits import too_large
from .sse import LONGEST, LineReader, TooLong

Chunk = Mapping[str, Any]
DONE = "[DONE]"
_NAME = re.compile(rb"[\w.-]*")  # of a field
_PREFIXES = re.compile(r"(data:|\[DONE\]|\s)*")
_FIELDS = (b"data", b"event", b"id", b"retry", b"")
_PINGS = ("ping", "keepalive", "keep-alive", "heartbeat")


class ChunkReader:
    """Push bytes in with `feed`, get chunks; `close` gives what is left. Both raise Failure.

    It decides by the first byte, not by Content-Type, which servers get wrong: `{` is JSON, `<` a page, else a stream.
    """

    def __init__(self, largest: int) -> None:
        """`largest` is how many bytes a reply may have that is not a stream."""
        self.done = False  # `[DONE]` came, or a whole body
        self.cut = False  # the end came in the middle of a line or an event
        self._largest = largest
        self._lines: LineReader | None = None
        self._body = bytearray()
        self._head = b""  # the first bytes that are no blanks
        self._looked = False  # at the first line of a body
        self._seen = False  # an event
        self._name = ""  # of the event under way
        self._open: GrowingText | None = None  # JSON of it that goes on
        self._words: list[str] = []  # data of it that is no JSON
        self._size = 0  # of them

    def feed(self, data: bytes) -> Iterator[Chunk]:
        if self._lines is None:
            self._body += data
            if len(self._body) > self._largest:
                raise too_large(self._largest)
            self._head = self._head or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:200]
            if not self._head or self._head[:1] == b"<":
                return
            if self._head[:1] in b"{[" and not self._is_lines(data):
                return
            self._lines, data = LineReader(), bytes(self._body)
            self._body.clear()
        try:
            for line in self._lines.feed(data):
                if line.startswith(b"data: {") and self._open is None and not self._words:
                    # Nearly every line is one of these.
                    try:
                        parsed = loads(line[6:].decode("utf-8", "replace"))
                    except (ValueError, RecursionError):
                        yield from self._line(line)
                    else:
                        self._seen = True
                        if "choices" in parsed:
                            yield _checked(self._name, parsed)
                        elif self._name not in _PINGS:
                            yield from self._parsed(parsed)
                else:
                    yield from self._line(line)
        except TooLong:
            raise Failure(Kind.MALFORMED, "one event of the stream is too long to be a chunk") from None

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of what they belong to."""
        return len(self._body) if self._lines is None else self._lines.held + self._size

    @property
    def is_body(self) -> bool:
        """What came so far is of a JSON body."""
        return self._lines is None and self._head[:1] in (b"{", b"[")

    @property
    def is_in_line(self) -> bool:
        """A line of a stream came that has not ended."""
        return self._lines is not None and self._lines.held > 0

    def is_line_whole(self) -> bool:
        """It needs no more than its end: with what came before it is an event."""
        assert self._lines is not None
        text = self._lines.rest.decode("utf-8", "replace").strip()
        if text[:5].lower() == "data:":
            text = text[5:].strip()
        if self._open is not None:
            text = f"{self._open}{text}"
        if text == DONE:
            return True
        try:
            return text[-1:] in ("}", "]") and isinstance(loads(text), dict | list)
        except (ValueError, RecursionError):
            return False

    def is_whole(self) -> bool:
        """What came so far is a whole JSON body."""
        if not self._body.rstrip().endswith((b"}", b"]")):
            return False
        try:
            loads(self._body.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return False
        return True

    def close(self) -> Iterator[Chunk]:
        if self._lines is None:
            yield from self._whole()
            return
        try:
            yield from self._line(self._lines.close())
            yield from self._end()
        except TooLong:
            self.cut = True
        except Failure as failure:
            if failure.kind is not Kind.MALFORMED:
                raise
            self.cut = True
        if not self._seen and self._head.partition(b":")[0] not in _FIELDS:
            words = self._head.decode("utf-8", "replace")
            raise Failure(Kind.MALFORMED, f"the reply is neither a stream nor JSON: {words!r}")

    def _is_lines(self, data: bytes) -> bool:
        """Whether a body that begins like JSON is a chunk a line. Its first line is looked at once."""
        if self._looked or b"\n" not in data:
            return False
        self._looked = True
        line = bytes(self._body).lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
        try:
            first = loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return False
        choices = first.get("choices") if isinstance(first, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        return isinstance(choice, Mapping) and not choice.get("message")

    def _whole(self) -> Iterator[Chunk]:
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
            # Several JSON texts, perhaps; a body that was cut off ends in one that cannot be read.
            self._lines = LineReader()
            try:
                yield from self.feed(bytes(self._body))
            except Failure as failure:
                raise Failure(Kind.TRUNCATED, "the reply was cut off before its end") from failure
            yield from self.close()
            return
        chunks = [_checked("", one) for one in (whole if isinstance(whole, list) else [whole])]
        if not any(isinstance(chunk.get("choices"), list) and chunk["choices"] for chunk in chunks):
            raise Failure(Kind.MALFORMED, "the reply has no choices; is this a chat completions endpoint?")
        self.done = True
        yield from chunks

    def _line(self, line: bytes) -> Iterator[Chunk]:
        if not line:
            yield from self._end()
            self._name = ""
            return
        line = line.lstrip()
        field, _, value = line.partition(b":")
        field = field.lower()
        if field == b"data":
            text = value.decode("utf-8", "replace")
            yield from self._data(text[1:] if text.startswith(" ") else text)
        elif line[:1] in b"{[" or (self._open is not None and field not in _FIELDS):
            yield from self._data(line.decode("utf-8", "replace"))
        elif field == b"event":
            yield from self._end()
            self._name = value.decode("utf-8", "replace").strip()
        elif not _NAME.fullmatch(field):
            # The standard passes over a field that it does not know; this is no field, and may be text of the reply.
            raise _no_json(line[:1000].decode("utf-8", "replace"))

    def _data(self, text: str) -> Iterator[Chunk]:
        if self._open is not None:
            yield from self._more(text)
            return
        bare = text.strip()
        if bare.startswith("data:"):  # put before an event that had it
            bare = _PREFIXES.sub("", bare, count=1)
        if not bare or (self._name in _PINGS and '"choices"' not in bare):
            return
        self._seen = True
        if bare.startswith(DONE):
            yield from self._end()
            self.done = True
            if rest := _PREFIXES.sub("", bare, count=1):
                yield from self._data(rest)
            return
        try:
            parsed = loads(bare)
        except TooManyValues as error:
            raise _unreadable(error) from None
        except json.JSONDecodeError as error:
            if error.msg == "Extra data":
                yield from self._several(bare)
            elif bare[0] in "{[":
                yield from self._end()
                self._open = GrowingText()
                yield from self._more(text)
            else:
                self._held(text)
                self._words.append(text)
        except (ValueError, RecursionError):
            raise _no_json(bare) from None
        else:
            yield from self._parsed(parsed)

    def _several(self, text: str) -> Iterator[Chunk]:
        """`text` begins with a whole JSON text, and more follows."""
        while text:
            try:
                first, end = loads_first(text)
            except (ValueError, RecursionError):
                yield from self._data(text)
                return
            yield from self._parsed(first)
            # `}data: {` is a line whose end got lost.
            text = text[end:].lstrip().removeprefix("data:").lstrip()

    def _more(self, text: str) -> Iterator[Chunk]:
        """`text` is a line of JSON that began before, or begins with it."""
        assert self._open is not None
        self._held(text)
        self._open.add(text)
        if self._open.in_string or self._open.ended:
            # No text in JSON goes over the end of a line; and one that ends is whole, or never will be.
            whole, self._open, self._size = str(self._open), None, 0
            try:
                loads_first(whole)
            except (ValueError, RecursionError):
                raise self._wrong(whole) from None
            yield from self._several(whole)
            return
        self._open.add("\n")

    def _held(self, text: str) -> None:
        self._size += len(text) + 1  # an empty one takes room as well
        if self._size > LONGEST:
            raise TooLong

    def _end(self) -> Iterator[Chunk]:
        """A blank line came, or what is as good as one: what has not become JSON by now is none."""
        if self._open is None and not self._words:
            return
        words = "\n".join([*self._words, *([str(self._open)] if self._open is not None else [])]).strip()
        self._open, self._words, self._size = None, [], 0
        raise self._wrong(words)
        yield  # a generator, as its callers expect

    def _wrong(self, words: str) -> Failure:
        return in_reply(words) if self._name == "error" else _no_json(words)

    def _parsed(self, parsed: Any) -> Iterator[Chunk]:
        if parsed == DONE:
            self.done = True
        elif parsed is not None and not (isinstance(parsed, Mapping) and parsed.get("type") == "ping"):
            yield _checked(self._name, parsed)


def _no_json(words: str) -> Failure:
    return Failure(Kind.MALFORMED, f"the stream has an event that is no JSON: {words[:1000]!r}")


def _unreadable(error: ValueError) -> Failure:
    return Failure(Kind.MALFORMED, f"one event of the stream cannot be read: {error}")


def _checked(name: str, parsed: Any) -> Chunk:
    if not isinstance(parsed, dict):
        raise Failure(Kind.MALFORMED, "the reply is JSON of another kind than a chat completion")
    choices = parsed.get("choices")
    # Of nearly all it is seen at once that they are none.
    if name == "error" or ((not choices or "error" in parsed or parsed.get("object") == "error") and is_failed(parsed)):
        raise in_reply(parsed)
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (error := error_of(choice)):
            raise in_reply({"error": error})
    return parsed
