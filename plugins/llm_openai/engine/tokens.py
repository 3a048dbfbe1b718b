"""Tokens as an endpoint counts them, made to mean what the contract says."""

from __future__ import annotations

from collections.abc import Mapping

from .messages import Usage

_NAMES = {
    "prompt": ("prompt_tokens", "input_tokens"),
    "completion": ("completion_tokens", "output_tokens"),
    "total": ("total_tokens",),
    "reasoning": ("reasoning_tokens",),
    "cached": ("prompt_cache_hit_tokens", "cached_tokens"),
}
_DETAILS = ("completion_tokens_details", "prompt_tokens_details", "output_tokens_details", "input_tokens_details")


class Counts:
    """Of one reply: each count the last that came, wherever and with whatever others it came.

    >>> counts = Counts()
    >>> counts.add({"prompt_tokens": 3, "completion_tokens": None})
    >>> counts.usage()
    >>> counts.add({"completion_tokens": 5, "total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 7}})
    >>> counts.usage()
    Usage(prompt=3, completion=12, total=15, reasoning=7, cached=0)
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, raw: object) -> None:
        if not isinstance(raw, Mapping):
            return
        details = [raw[name] for name in _DETAILS if isinstance(raw.get(name), Mapping)]
        found = {
            name: count
            for name, spellings in _NAMES.items()
            if (count := next((n for place in (raw, *details) for n in _counts(place, spellings)), None)) is not None
        }
        if any(found.values()):  # a reply that cost nothing is one that was not counted
            self._counts |= found

    def add_within(self, raw: object) -> None:
        """Of an object that has `usage` among other things."""
        if isinstance(raw, Mapping):
            self.add(raw.get("usage"))

    def usage(self) -> Usage | None:
        """None where what was read or what was written is neither said nor to be told from the total."""
        prompt, completion = self._counts.get("prompt"), self._counts.get("completion")
        total, reasoning = self._counts.get("total"), self._counts.get("reasoning", 0)
        if prompt is None and total is not None and completion is not None:
            prompt = max(0, total - completion)
        if completion is None and total is not None and prompt is not None:
            completion = max(0, total - prompt)
        if prompt is None or completion is None:
            return None
        # Some count reasoning beside what was written, not in it.
        if reasoning and (reasoning > completion or total == prompt + completion + reasoning):
            completion += reasoning
        total = max(total or 0, prompt + completion)
        return Usage(prompt, completion, total, reasoning=reasoning, cached=self._counts.get("cached", 0))


def _counts(raw: Mapping[str, object], spellings: tuple[str, ...]) -> list[int]:
    values = (raw.get(name) for name in spellings)
    return [
        int(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31
    ]
