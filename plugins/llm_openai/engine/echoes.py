"""What an endpoint says twice: known by its length and checksum, since text that went out is not kept."""

from __future__ import annotations

import zlib

_SHORTEST = 32  # characters: "ha" after "ha" is no repetition of the reply
_FEWEST = 3  # pieces
_MOST_HELD = 2**14  # characters that may turn out to be repetitions, or not


class Said:
    """The text so far.

    >>> said = Said()
    >>> for piece in ("Hel", "lo"):
    ...     said.add(piece)
    >>> said.rest_of("Hello there"), said.rest_of("Hello"), said.rest_of("Goodbye")
    (' there', '', None)
    """

    __slots__ = ("_new", "_pieces", "_sum", "length")

    def __init__(self) -> None:
        self.length = self._sum = self._pieces = 0
        self._new: list[str] = []  # what is not in the checksum yet: it is cheaper for many together

    def add(self, text: str) -> None:
        self.length += len(text)
        self._pieces += 1
        self._new.append(text)
        if len(self._new) > 50:
            self.checksum()

    def checksum(self) -> int:
        """Of all of the text."""
        self._sum = zlib.crc32("".join(self._new).encode("utf-8", "surrogatepass"), self._sum)
        self._new.clear()
        return self._sum

    def rest_of(self, whole: str) -> str | None:
        """What `whole` says beyond the text so far; None where it is another text."""
        if len(whole) < self.length:
            return None
        start = zlib.crc32(whole[: self.length].encode("utf-8", "surrogatepass"))
        return whole[self.length :] if start == self.checksum() else None

    def is_all(self, piece: str) -> bool:
        """Whether `piece` says again, in one, all that was said in many."""
        return (
            len(piece) == self.length
            and self.length >= _SHORTEST
            and self._pieces >= _FEWEST
            and self.rest_of(piece) == ""
        )


class Growing:
    """Whether each piece of a text says again all that was said before it, as some servers send it.

    It is told from a text that repeats itself ("ha", "haha") by three such pieces in a row, the last of which repeats
    32 characters or more that are no repetition of fewer. Until then what may be one is held back.

    >>> growing = Growing()
    >>> [growing.feed(piece) for piece in ("ha", "haha", "ho")], growing.is_sure
    (['ha', '', 'hahaho'], False)
    """

    __slots__ = ("_first", "_held", "_size", "is_sure")

    def __init__(self) -> None:
        self._first: str | None = None
        self._held: list[str] = []
        self._size = 0
        self.is_sure: bool | None = None  # None: it may be; then feed it no more

    def feed(self, piece: str) -> str:
        """What goes out now."""
        if self._first is None:
            self._first = piece
            return piece
        last = self._held[-1] if self._held else self._first
        self._held.append(piece)
        self._size += len(piece)
        if len(piece) <= len(last) or not piece.startswith(last) or self._size > _MOST_HELD:
            self.is_sure = False
            return self.close()
        if len(self._held) >= _FEWEST and len(last) >= _SHORTEST and not _repeats_itself(last):
            self.is_sure = True
            self._held.clear()
            return piece[len(self._first) :]
        return ""

    def settle(self, whole: str) -> str:
        """What was held and goes out, where all of the text, told otherwise, is `whole`, or begins with it."""
        if self._held and not whole.startswith((self._held[-1], f"{self._first}{''.join(self._held)}")):
            return self.close()
        self._held.clear()
        return ""

    def close(self) -> str:
        """What was held, since it repeats nothing."""
        text = "".join(self._held)
        self._held.clear()
        return text


def _repeats_itself(text: str) -> bool:
    """
    >>> _repeats_itself("hahah"), _repeats_itself("Roses are red")
    (True, False)
    """
    text = text[:1000]
    start = text[: len(text) // 2]
    place = text.find(start, 1)
    while 0 < place <= len(text) - len(start):
        if text.startswith(text[place:]):
            return True
        place = text.find(start, place + 1)
    return False


class Thoughts:
    """Reasoning, which some servers send in a field of its own and in the text as well. What comes from the second
    place is held until the end, and left out where it is the same but for blanks.

    >>> thoughts = Thoughts()
    >>> thoughts.add("Hm. ", inline=False), thoughts.add("Hm.", inline=True), thoughts.close()
    ('Hm. ', '', '')
    """

    def __init__(self) -> None:
        self._first: bool | None = None  # the place that was first: inline or not
        self._said, self._again = Said(), Said()
        self._held: list[str] = []

    def __bool__(self) -> bool:
        return self._first is not None

    def add(self, text: str, *, inline: bool) -> str:
        """What of it goes out now."""
        if self._first is None:
            self._first = inline
        bare = "".join(text.split())
        if inline == self._first:
            self._said.add(bare)
            return text
        self._again.add(bare)
        self._held.append(text)
        return ""

    def close(self) -> str:
        """What was held and is no repetition."""
        same = self._said.length == self._again.length and self._said.checksum() == self._again.checksum()
        return "" if same else "".join(self._held)
