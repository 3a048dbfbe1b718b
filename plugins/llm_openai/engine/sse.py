"""Bytes of a stream, cut anywhere, to its lines: server-sent events as real servers write them.

Only \\n, \\r\\n and \\r end a line. `str.splitlines` and what is built on it would also end one at U+2028, which JSON
may hold as it is. What the lines mean is `reading.py`'s.
"""

from __future__ import annotations

LONGEST = 8 * 2**20  # bytes of one event; a server that never ends a line would fill the memory


class TooLong(Exception):
    """A line, or an event, is longer than LONGEST."""


class LineReader:
    """Push bytes in with `feed`, get the lines that are complete; `close` gives what the end left over.

    >>> reader = LineReader()
    >>> reader.feed(b"data: 1\\r\\n\\r\\ndata: [DO"), reader.feed(b"NE]"), reader.close()
    ([b'data: 1', b''], [], b'data: [DONE]')
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises TooLong."""
        unfinished = self._rest.endswith(b"\r")
        self._rest += data
        if len(self._rest) > LONGEST:
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
        return lines

    @property
    def rest(self) -> bytes:
        """Of a line that has not ended, what is there."""
        return bytes(self._rest)

    @property
    def held(self) -> int:
        """Bytes of a line that has not ended."""
        return len(self._rest)

    def close(self) -> bytes:
        """The last line, which nothing has ended; mostly empty."""
        rest = bytes(self._rest).removesuffix(b"\r")
        self._rest.clear()
        return rest if self._started else rest.removeprefix(b"\xef\xbb\xbf")
