"""Runs that go round in circles: the same actions with the same results, again and again.

Results that differ are progress, or waiting for some: they do not count. What counts is a row that ends with the last
step: A-A-A, A-B-A-B-A, A-B-C-A-B-C-A. An action that comes back after others that differ is no circle: whoever mends a
file and runs the tests does so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from .chat import JSON
from .run import Step

TOLD_AT, ENDED_AT = 2, 3  # times
_LONGEST_ROUND = 3  # steps
_LONGEST_COMPARED = 2**16  # characters of arguments that are compared by their meaning


def times(steps: Sequence[Step]) -> int:
    """How often the last step has been taken, in a row with others or by itself; 1: it is new.

    >>> from .run import Action, Observation
    >>> def step(tool, result): return Step(actions=[Action("", tool, "{}")], observations=[Observation("", result)])
    >>> times([step("a", "x"), step("b", "y"), step("a", "x")]), times([step("a", "1 of 3"), step("a", "2 of 3")])
    (2, 1)
    """
    return max((_times(steps, period) for period in range(1, _LONGEST_ROUND + 1)), default=1)


def _times(steps: Sequence[Step], period: int) -> int:
    most = period * (ENDED_AT - 1)
    like_before = 0
    for place in range(len(steps) - 1, period - 1, -1):
        if like_before >= most or not _same(steps[place], steps[place - period]):
            break
        like_before += 1
    return 1 + (like_before + period - 1) // period


def _same(one: Step, other: Step) -> bool:
    if not one.actions or len(one.actions) != len(other.actions) or len(one.observations) != len(other.observations):
        return False
    if any(a.tool != b.tool for a, b in zip(one.actions, other.actions, strict=True)):
        return False
    if any(a.content != b.content for a, b in zip(one.observations, other.observations, strict=True)):
        return False
    return all(
        _canonical(a.arguments) == _canonical(b.arguments) for a, b in zip(one.actions, other.actions, strict=True)
    )


def _canonical(arguments: str) -> str:
    """Equal for arguments that mean the same: however they are ordered and spaced, and 5.0 as 5."""
    if len(arguments) > _LONGEST_COMPARED:
        return arguments
    return json.dumps(_plain(json.loads(arguments)), sort_keys=True)


def _plain(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value
