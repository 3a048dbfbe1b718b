"""Stop sequences cut on our side, for endpoints that refuse `stop`."""

from __future__ import annotations

from collections.abc import Sequence

MOST, LONGEST = 64, 256  # stop sequences of a request, and characters of each


class StopCutter:
    """Lets text through up to the first stop sequence, which may lie across any number of pieces.

    >>> cutter = StopCutter(["END"])
    >>> cutter.feed("one E"), cutter.feed("ND two"), cutter.hit
    ('one ', '', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            return self._held[: min(found)]
        kept = max(_overlap(self._held, stop) for stop in self._stops)
        out, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return out

    def close(self) -> str:
        """What was held back and turned out to be no stop sequence."""
        text, self._held = ("" if self.hit else self._held), ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How much of the end of `text` may be the start of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
