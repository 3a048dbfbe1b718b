"""Bytes of a reply, cut anywhere, to the JSON texts in it: server-sent events as real servers write them.

Taken besides the standard: a last event without its blank line, JSON on a line without `data:`, several events with
no blank line between them (each line is then a JSON text of its own). Dropped: comments, empty data, `id:`, `retry:`.
Only \\n, \\r\\n and \\r end a line. `str.splitlines` and what is built on it would also end one at U+2028, which JSON
may hold as it is.
"""

from __future__ import annotations

DONE = "[DONE]"
LONGEST = 8 * 2**20  # bytes of one event; a server that never ends a line would fill the memory


class TooLong(Exception):
    """An event is longer than LONGEST."""


class EventReader:
    """Push bytes in with `feed`, get the events that are complete; `close` gives what the end left over.

    >>> reader = EventReader()
    >>> reader.feed(b'data: {"a":1}\\n\\n: ping\\n\\ndata: [DO'), reader.feed(b'NE]'), reader.close()
    ([('', '{"a":1}')], [], [('', '[DONE]')])

    An event is (its name, mostly empty; its data, never empty).
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._started = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Raises TooLong."""
        unfinished = self._rest.endswith(b"\r")
        self._rest += data
        if len(self._rest) + self._size > LONGEST:
            raise TooLong
        if not (unfinished or b"\n" in data or b"\r" in data):
            return []
        text = bytes(self._rest)
        if not self._started:
            self._started, text = True, text.removeprefix(b"\xef\xbb\xbf")  # a mark that some editors put at the start
        # A \r at the very end may be the first half of \r\n.
        held = b"\r" if text.endswith(b"\r") else b""
        if b"\r" in text:
            text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = bytearray(rest + held)
        events: list[tuple[str, str]] = []
        for line in lines:
            self._line(line, events)
        return events

    @property
    def held(self) -> int:
        """Bytes of an event that has not ended."""
        return len(self._rest) + self._size

    def close(self) -> list[tuple[str, str]]:
        """What the end of the bytes left over, as if a line end and a blank line had come."""
        self._size = -2  # room for these two
        return self.feed(b"\n\n")

    def _line(self, line: bytes, events: list[tuple[str, str]]) -> None:
        if not line:
            if self._data and (data := "\n".join(self._data)):
                events.append((self._name, data))
            self._name, self._data, self._size = "", [], 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            text = value.decode("utf-8", "replace")
            self._data.append(text[1:] if text.startswith(" ") else text)
            self._size += len(value) + 1  # an empty one takes room as well
        elif field == b"event":
            self._name = value.decode("utf-8", "replace").strip()
        elif line[:1] == b"{":
            events.append((self._name, line.decode("utf-8", "replace")))
