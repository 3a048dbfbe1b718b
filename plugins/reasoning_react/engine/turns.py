"""The model's turns of steps that have no reply yet.

A step that failed or was cancelled is taken again with the same state: what the model had said is not paid for twice,
it counts, and the same actions follow from it, under the same ids.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from .hearing import Heard


@dataclass
class _Entry:
    made: float
    turns: dict[str, Heard] = field(default_factory=dict)
    size: int = 0


class Turns:
    """Of the steps that were taken last; used by the event loop's thread alone."""

    def __init__(self, most: int, most_bytes: int, seconds: float) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._most, self._most_bytes, self._seconds = most, most_bytes, seconds
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, step: bytes, place: str) -> Heard | None:
        """`place`: of the turn within the step."""
        self._forget_old()
        entry = self._entries.get(step)
        return entry.turns.get(place) if entry else None

    def put(self, step: bytes, place: str, heard: Heard) -> None:
        entry = self._entries.setdefault(step, _Entry(time.monotonic()))
        entry.turns[place] = heard
        turn = heard.turn
        size = 1_000 + 4 * (len(turn.text) + len(turn.reasoning)) + len(turn.opaque)
        size += sum(200 + 4 * len(call.arguments) + len(call.opaque) for call in turn.tool_calls)
        entry.size += size
        self._bytes += size
        while self._entries and (len(self._entries) > self._most or self._bytes > self._most_bytes):
            self.forget(next(iter(self._entries)))

    def forget(self, step: bytes) -> None:
        """To be called once the step has its reply."""
        if (entry := self._entries.pop(step, None)) is not None:
            self._bytes -= entry.size

    def _forget_old(self) -> None:
        latest = time.monotonic() - self._seconds
        while self._entries and next(iter(self._entries.values())).made <= latest:
            self.forget(next(iter(self._entries)))
