"""Runs ReAct loops, one think–act–observe step a call; all of a run is in its `state`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .interface import (
    ActionAsked,
    AnswerDelta,
    Event,
    NewRun,
    Observed,
    Result,
    Settings,
    Show,
    StepResult,
    ThoughtDelta,
)
from .ports import LLM, Tools
from .run import Observation

if TYPE_CHECKING:
    from .prompts import Prompts
    from .state import Keys

__all__ = ["ActionAsked", "AnswerDelta", "Engine", "Event", "NewRun", "Observed", "Result", "Settings", "Show",
           "StepResult", "ThoughtDelta"]  # fmt: skip


class Engine:
    def __init__(self, llms: Mapping[str, LLM], tools: Tools, keys: Keys, prompts: Prompts, settings: Settings) -> None:
        """`llms`: by the names that runs may choose from, the first is the one of runs that choose none."""
        raise NotImplementedError

    async def initialize(self, new: NewRun) -> bytes:
        """The state of a new run. Raises InvalidArgument; Unavailable where a tool provider cannot be asked for its
        tools."""
        raise NotImplementedError

    async def step(
        self,
        state: bytes,
        input: str = "",
        observations: Sequence[Observation] = (),
        seconds: float | None = None,
        show: Show | None = None,
    ) -> StepResult:
        """Takes the run's next step, within `seconds` (None: no bound). `show` is called with what happens meanwhile;
        for a call that another one was made for already, perhaps with nothing.

        Whatever it raises, `state` stays usable: InvalidArgument (state, question, observations), LLMFailed, Unavailable,
        DeadlineExceeded. Cancelled, it ends the LLM's and the tools' calls under way, unless another caller waits for
        the same step."""
        raise NotImplementedError

    async def finalize(self, state: bytes, seconds: float | None = None) -> Result:
        """The run's result; a run that is not done gets a last answer without tools. Raises InvalidArgument."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends what is under way."""
        raise NotImplementedError
