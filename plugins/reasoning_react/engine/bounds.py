"""What bounds a run and a call: iterations, tokens, tool calls, seconds."""

from __future__ import annotations

import asyncio
import math
from typing import TypeVar

from .run import Budget, Run, StopReason

_Number = TypeVar("_Number", int, float)
_SEALING = 0.5  # seconds, or a tenth of the caller's: to make the reply in, once all else is ended


class Clock:
    """The time that a call has."""

    def __init__(self, seconds: float | None) -> None:
        """`seconds` that the caller waits; None: for ever."""
        self._now = asyncio.get_running_loop().time
        self.reserve = 0.0 if seconds is None else min(_SEALING, seconds / 10)
        self._end = math.inf if seconds is None else self._now() + seconds - self.reserve

    def left(self) -> float:
        """Seconds for models and tools: without those in which the reply is made; perhaps infinite, or negative."""
        return self._end - self._now()


def reached(run: Run, now: float) -> StopReason | None:
    """The bound that keeps the model from being asked again with its tools, if one does."""
    if run.iteration >= run.max_iterations:
        return StopReason.MAX_ITERATIONS
    return spent(run, now)


def spent(run: Run, now: float) -> StopReason | None:
    """As `reached`, within an iteration."""
    budget = run.budget
    if budget.max_tokens and tokens(run) >= budget.max_tokens:
        return StopReason.MAX_TOKENS
    if seconds_left(run, now) <= 0:
        return StopReason.MAX_SECONDS
    return None


def tokens(run: Run) -> int:
    """Tokens of the run so far: as the LLM provider counted them, and estimated where it did not."""
    return (run.usage.total if run.usage else 0) + run.estimated_tokens


def seconds_left(run: Run, now: float) -> float:
    """Of the run's own bound; infinite where it has none."""
    if not run.budget.max_seconds:
        return math.inf
    return run.budget.max_seconds - max(0.0, now - run.began)


def calls_left(run: Run) -> float:
    """Tool calls that the run may still make; infinite where nothing bounds them."""
    return run.budget.max_tool_calls - run.tool_calls if run.budget.max_tool_calls else math.inf


def lower(asked: Budget, allowed: Budget) -> Budget:
    """What holds of two budgets; 0 sets no limit."""
    return Budget(
        max_tokens=_lower(asked.max_tokens, allowed.max_tokens),
        max_tool_calls=_lower(asked.max_tool_calls, allowed.max_tool_calls),
        max_seconds=_lower(asked.max_seconds, allowed.max_seconds),
    )


def _lower(asked: _Number, allowed: _Number) -> _Number:
    return min(asked, allowed) if asked and allowed else asked or allowed
