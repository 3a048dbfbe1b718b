"""The forward pass as a CUDA graph for each shape that comes again: one launch in place of a hundred. The pass itself,
in place of `Graphs.run`, does the same, slower: a lone short text of MiniLM took 5.2 ms on an H100, and 0.5 as a graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from shared import logs

from .card import Card

Shape = tuple[int, int]  # texts, tokens of each

# Each takes 3.4 MB of the host (MiniLM, H100: 256 of them took 0.8 GB), up to one of the card, and its recording 0.1 s.
# Half of them are kept for small batches, which gain the most.
_MOST, _LARGE_TOKENS = 96, 8_192


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
        elif self._off or shape not in self._before or self._is_full(shape):
            # The first time as always: libraries set themselves up in it, which cannot be recorded.
            self._forward(*shape)
            self._before.add(shape)
        else:
            self._record(shape)

    def _is_full(self, shape: Shape) -> bool:
        large = sum(texts * tokens > _LARGE_TOKENS for texts, tokens in self._replays)
        return len(self._replays) >= _MOST or (shape[0] * shape[1] > _LARGE_TOKENS and large >= _MOST // 2)

    def _record(self, shape: Shape) -> None:
        try:
            self._replays[shape] = self._card.capture(lambda: self._forward(*shape))
        except Exception as error:
            # A model that asks the card for a value in midst of its pass, or a card without memory for a second set of
            # what a pass needs. What was recorded before goes on; one failure is enough to know.
            self._off = True
            cause = next(iter(str(error).splitlines()), "")[:200]
            logs.event("graphs_off", level=logging.WARNING, error=f"{type(error).__name__}: {cause}")
            self._forward(*shape)
        else:
            self._replays[shape]()
