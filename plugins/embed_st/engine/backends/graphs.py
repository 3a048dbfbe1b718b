"""The forward pass as a CUDA graph for each shape that comes again: one launch in place of a hundred. Leave it out and
all works, slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from shared import logs

from .card import Card

Shape = tuple[int, int]  # texts, tokens of each

# Each takes up to a megabyte of the card, and its recording as long as a few passes.
_MOST = 256


class Graphs:
    """`run(shape)` in place of `forward(*shape)`, which must read and write the same memory each time."""

    def __init__(self, card: Card, forward: Callable[[int, int], None]) -> None:
        self._card, self._forward = card, forward
        self._replays: dict[Shape, Callable[[], None]] = {}
        self._before: set[Shape] = set()
        self._off = False

    def run(self, shape: Shape) -> None:
        """Inside of `card.work()`."""
        if replay := self._replays.get(shape):
            replay()
        elif self._off or shape not in self._before or len(self._replays) >= _MOST:
            # The first time as always: libraries set themselves up in it, which cannot be recorded.
            self._forward(*shape)
            self._before.add(shape)
        else:
            self._record(shape)

    def _record(self, shape: Shape) -> None:
        try:
            self._replays[shape] = self._card.capture(lambda: self._forward(*shape))
        except self._card.memory_error:
            raise
        except Exception as error:  # a model that asks the card for a value in midst of its pass, such as for a shape
            self._off = True
            cause = next(iter(str(error).splitlines()), "")[:200]
            logs.event("graphs_off", level=logging.WARNING, error=f"{type(error).__name__}: {cause}")
            self._forward(*shape)
        else:
            self._replays[shape]()
