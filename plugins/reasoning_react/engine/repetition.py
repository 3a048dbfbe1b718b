"""Output that repeats itself: the same token, phrase, line or paragraph over and over."""

from __future__ import annotations

_WINDOW = 8_192  # characters that are kept
_EVERY = 256  # new characters between two looks
_PROBE = 48  # characters that are looked for further back
_MOST_TRIES = 16  # places where it is found
_SHORT = 200  # characters of a cycle that counts as a phrase or line


class Repetition:
    """Watches a text while it is being written, in bounded memory and in time with its length."""

    def __init__(self) -> None:
        self._tail = ""
        self._new = 0
        self.found = False

    def feed(self, delta: str) -> bool:
        """Whether the text now ends in a cycle; once true, it stays so."""
        for start in range(0, len(delta), _EVERY):
            if self.found:
                break
            piece = delta[start : start + _EVERY]
            self._tail = (self._tail + piece)[-_WINDOW:]
            self._new += len(piece)
            if self._new >= _EVERY:
                self._new = 0
                self.found = cycle(self._tail) is not None
        return self.found


def repeats(text: str) -> bool:
    """Whether a text ends in a cycle."""
    return cycle(text[-_WINDOW:]) is not None


def cycle(tail: str) -> str | None:
    """What a text ends in over and over, often enough that nobody would write so; else None."""
    length = len(tail)
    probe = tail[-_PROBE:]
    if length < 8 * _PROBE:
        return None
    earlier = length - _PROBE
    for _ in range(_MOST_TRIES):  # the end may stand more than once within one round of the cycle
        earlier = tail.rfind(probe, 0, earlier + _PROBE - 1)
        if earlier < 0:
            return None
        period = length - _PROBE - earlier
        if _same_end(tail, period) + period >= _wanted(tail[-period:]):
            return tail[-period:]
    return None


def _same_end(tail: str, period: int) -> int:
    """How many characters at the end are equal to those one period before, by halving."""
    low, high = _PROBE, len(tail) - period
    if tail[-high:] == tail[-high - period : -period]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if tail[-middle:] == tail[-middle - period : -period]:
            low = middle
        else:
            high = middle - 1
    return low


def _wanted(unit: str) -> int:
    """How many characters of a cycle are too many. Rules, blanks and numbers are repeated in tables and lists too."""
    letters = sum(map(str.isalpha, unit))
    if not letters:
        return 6_000
    if len(unit) < _SHORT:
        return max(1_200, 6 * len(unit))
    return max(2_000, 3 * len(unit))
