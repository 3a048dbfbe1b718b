"""Runs that go round in circles: the same calls with the same results, again and again, also two that alternate.

Results that differ are progress, or waiting for some: they do not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from host.agents.events import ActionAsked, Observed

TOLD_AT, ENDED_AT = 2, 3  # times
_LONGEST_PERIOD = 3  # rounds


@dataclass(frozen=True)
class Round:
    """The calls of one step and what each brought, in the same order."""

    asked: tuple[ActionAsked, ...]
    brought: tuple[Observed, ...]

    def key(self) -> tuple[tuple[str, str, str], ...]:
        """Equal for the same."""
        pairs = zip(self.asked, self.brought, strict=True)
        return tuple((action.tool, _canonical(action.arguments), observed.content) for action, observed in pairs)


def times(rounds: Sequence[Round]) -> int:
    """How often the last round has been made in a row, by itself or in turn with others; 1: it is new."""
    keys = [each.key() for each in rounds[-_LONGEST_PERIOD * ENDED_AT :]]
    return max((_times(keys, period) for period in range(1, _LONGEST_PERIOD + 1)), default=1)


def _times(keys: Sequence[object], period: int) -> int:
    alike = 0
    for place in range(len(keys) - 1, period - 1, -1):
        if keys[place] != keys[place - period]:
            break
        alike += 1
    return 1 + (alike + period - 1) // period


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
