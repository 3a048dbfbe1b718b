"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: `step` takes a run one step further. This one asks the LLM once and is done; think, check, and be
called again as often as it takes: all that the next step has to know stands in Run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# A prompt and its temperature (None: the LLM's own), and what the LLM writes for it.
Ask = Callable[[str, float | None], Awaitable[str]]


@dataclass
class Run:
    """A run between two steps. Values that JSON has: it travels to the host and back."""

    question: str
    background: str = ""
    max_iterations: int = 10
    temperature: float | None = None
    iteration: int = 0  # steps taken
    thought: str = ""  # of the last step, for people to see
    answer: str = ""
    done: bool = False
    stop_reason: str = ""  # the contract's word for why it is done: ANSWERED, MAX_ITERATIONS


class Engine:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def step(self, run: Run) -> None:
        """One step, written into `run`. Where it raises, the host can take the step again."""
        run.answer = await self._ask("\n\n".join(filter(None, [run.background, run.question])), run.temperature)
        run.thought = "One question, one answer."
        run.done = True

    async def finish(self, run: Run) -> str:
        """The result: the answer, or the best that can be said of a run that was not done."""
        return run.answer or await self._ask(run.question or run.background, run.temperature)
