"""Which of a reply's choices is read, where more than one came.

One choice is read whatever its number. Where the request asked for several, it is the first that comes. Where it did
not, all of them are one reply: some servers count the number up with the chunks, some put the text into one choice and
the tool calls into others. Of two texts side by side the first is read, and texts that take turns are nobody's reply.
"""

from __future__ import annotations

from .failures import Failure, Kind


class Turns:
    """Whose text it is. One for text, one for reasoning.

    >>> turns = Turns(first=0)
    >>> [turns.takes(index, chunk) for index, chunk in ((0, 1), (1, 1), (0, 2), (1, 2), (2, 3))]
    [True, False, True, False, True]
    """

    def __init__(self, first: object) -> None:
        """`first` is the choice that has said something already; None: none has."""
        self._now, self._chunk = first, 0
        self._past: set[object] = set()
        self._beside: set[object] = set()

    def is_beside(self, index: object) -> bool:
        """It is of another reply, which is not read."""
        return index in self._beside

    def takes(self, index: object, chunk: int) -> bool:
        """Whether to read what choice `index` says in this chunk, which is counted from 1. Raises Failure."""
        if index in self._beside:
            return False
        if self._now is None or index == self._now:
            self._now, self._chunk = index, chunk
            return True
        if self._chunk == chunk:
            self._beside.add(index)
            return False
        if index in self._past:
            raise Failure(Kind.MALFORMED, "the reply mixes several choices, and one was asked for")
        self._past.add(self._now)
        self._now, self._chunk = index, chunk
        return True
