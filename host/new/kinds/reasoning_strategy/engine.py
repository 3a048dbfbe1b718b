"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: `step` takes a run one step further. This one asks the LLM once and is done; think, check, and be
called again as often as it takes: all that the next step has to know stands in Run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# A prompt, the run that it is for, and what that run's LLM writes.
Ask = Callable[[str, "Run"], Awaitable[str]]


@dataclass
class Run:
    """A run between two steps. Values that JSON has: it travels to the host and back."""

    question: str
    background: str = ""
    history: str = ""  # the conversation before the question
    llm: str = ""  # its name; empty: the first
    model: str = ""  # empty: the LLM's own
    temperature: float | None = None  # None: the LLM's own
    max_iterations: int = 10
    max_tokens: int = 0  # 0: no limit
    ends: float = 0.0  # Unix time; 0: no limit
    iteration: int = 0  # steps taken
    tokens: int = 0  # of the LLM so far, read and written
    thought: str = ""  # of the last step, for people to see
    answer: str = ""
    done: bool = False
    stop_reason: str = ""  # the contract's word for why it is done: ANSWERED, MAX_ITERATIONS


class Engine:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def step(self, run: Run) -> None:
        """One step, written into `run`. Where it raises, the host can take the step again."""
        prompt = "\n\n".join(filter(None, [run.history, run.background, run.question]))
        run.answer = await self._ask(prompt, run)
        run.thought = "One question, one answer."
        run.done = True

    async def finish(self, run: Run) -> str:
        """The result: the answer, or the best that can be said of a run that was not done."""
        return run.answer or await self._ask(run.question or run.background, run)
