"""Which searches are long: learnt from how much of the CPU those took that were made.

A quick search is made in the event loop, since a hop to a thread costs more than it does; a long one goes to a thread,
where hnswlib lets go of the interpreter. What a search costs follows from how many vectors it looks at, but how much
each of them costs depends on the machine, the dimension, the links of the graph and what is in the CPU's caches.
"""

from __future__ import annotations

# Seconds of the CPU for one search; and for those that go together, whose saving is worth a longer turn of the loop.
QUICK, TURN = 0.001, 0.003
# Before the first search: so long takes each number of each vector.
_GUESS = 2.5e-9
# Which part of a mean each new search is, so that one that was unlucky changes little.
_WEIGHT = 1 / 16


class Pace:
    """Of one index. Any thread may say what a search took; where two do so at once, one of them may not count."""

    __slots__ = ("each",)

    def __init__(self, dimension: int) -> None:
        self.each = dimension * _GUESS  # seconds for each vector that is looked at

    def took(self, looked_at: int, seconds: float) -> None:
        """So much of the CPU took a search that looks at so many vectors."""
        self.each += _WEIGHT * (seconds / looked_at - self.each)

    def is_quick(self, looked_at: int) -> bool:
        return looked_at * self.each <= QUICK

    def most_at_once(self, looked_at: int) -> int:
        """How many such searches may be made in one turn of the event loop; one at least."""
        return max(1, int(TURN / max(looked_at * self.each, 1e-9)))
