"""Runs ReAct loops, one think–act–observe step a call; all of a run is in its `state`.

state → opened, the caller's question or observations in → the model asked, its turn read → its calls checked, run side
by side → looked back upon → sealed → reply
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence

from shared.errors import CallerError, FailedPrecondition, LimitReached, PluginError, Unavailable
from shared.off_loop import LARGE, in_thread
from shared.repeats import Repeats

from . import incoming, repeated_calls, results
from .asker import Asker
from .audience import Audience, Audiences
from .beginning import begun
from .bounds import Clock
from .chat import Tool, Usage
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
from .left_out import cut_down
from .names import Names
from .observations import kept
from .ports import LLM, Tools
from .prompts import Prompts
from .run import Observation, Run, StopReason
from .state import Keys, digest_of, open_state, seal
from .stepper import Stepper
from .thinker import too_late
from .turns import Turns

__all__ = ["ActionAsked", "AnswerDelta", "Engine", "Event", "NewRun", "Observed", "Result", "Settings", "Show",
           "StepResult", "ThoughtDelta"]  # fmt: skip

_ASKED_FOR = 3.0  # seconds, in which tool providers say what they have where it is not needed
_MOST_DIGESTS = 1_000  # of tools that are not offered any more


class Engine:
    def __init__(self, llms: Mapping[str, LLM], tools: Tools, keys: Keys, prompts: Prompts, settings: Settings) -> None:
        """`llms`: by the names that runs may choose from, the first is the one of runs that choose none."""
        self._llms, self._tools, self._keys, self._prompts, self._settings = llms, tools, keys, prompts, settings
        self._steps: Repeats[StepResult | CallerError] = repeated_calls.memory(settings)
        self._results: Repeats[Result | CallerError] = repeated_calls.memory(settings)
        self._turns = Turns(settings.kept_replies, settings.kept_bytes // 3, settings.kept_for)
        self._audiences = Audiences()
        self._digests = _Digests()

    async def initialize(self, new: NewRun) -> bytes:
        """The state of a new run. Raises InvalidArgument; LimitReached where it is too large; Unavailable where a tool
        provider cannot be asked for its tools."""
        own = bool(new.tools) and new.host_executes  # so that nobody else's are needed
        offered = {} if own else await self._tools.tools()
        run = await begun(new, self._settings, self._llms, offered, time.time())
        frozen = {tool.name: offered.get(tool.name, tool) for tool in new.tools} or offered
        run.tool_digests = digest_of(new.tools) if own else self._digests.of(frozen)
        return self._sealed(run)

    async def step(
        self,
        state: bytes,
        input: str = "",
        observations: Sequence[Observation] = (),
        seconds: float | None = None,
        show: Show | None = None,
    ) -> StepResult:
        """Takes the run's next step, within `seconds` (None: no bound). `show` is called with what happens meanwhile;
        with nothing for a step that was taken before.

        Whatever it raises, `state` stays usable: InvalidArgument (state, question, observations), LLMFailed,
        Unavailable, DeadlineExceeded. Cancelled, it ends the LLM's and the tools' calls under way, unless somebody else
        waits for the same step."""
        key = await repeated_calls.key(state, input, observations)
        with self._audiences.joined(key, show) as audience:
            work = functools.partial(self._step, key, state, input, observations, seconds, audience)
            reply, _ = await self._steps.answer(key.hex(), key, repeated_calls.as_run(work, results.size_of_step))
        return repeated_calls.unless_failed(reply)

    async def finalize(self, state: bytes, seconds: float | None = None) -> Result:
        """The run's result; a run that is not done gets a last answer without tools. Raises InvalidArgument."""
        run = await self._opened(state)
        if run.done:
            return results.of_run(run)
        key = await repeated_calls.key(state, "", ()) + b" finalize"
        work = functools.partial(self._finalize, key, run, len(state), seconds)
        reply, _ = await self._results.answer(key.hex(), key, repeated_calls.as_run(work, results.size_of_result))
        return repeated_calls.unless_failed(reply)

    async def close(self) -> None:
        """Ends what is under way."""
        self._steps.close()
        self._results.close()

    # ------------------------------------------------------------ a step

    async def _step(
        self,
        key: bytes,
        state: bytes,
        input: str,
        observations: Sequence[Observation],
        seconds: float | None,
        audience: Audience,
    ) -> StepResult:
        clock = Clock(seconds)
        audience.begin()
        run = await self._opened(state)
        if run.done:
            return results.of_step(run, state, run.steps[-1], run.answer, Usage())
        is_after_host = run.pending
        self._add(run, incoming.take(run, input, observations))
        if len(input) > self._settings.max_state_bytes // 8:
            await self._sealed_off_loop(run, len(input))  # a question that is too long fails before it costs anything
        if clock.left() <= 0:
            raise too_late("nothing was done")
        asker, stepper = await self._stepper(run, clock, key, len(state), audience.show)
        try:
            step = await stepper.take(after_host=is_after_host)
        except Exception as error:
            if not isinstance(error, PluginError):  # a bug, which would come again with the same turn
                self._turns.forget(key)
            raise
        answer = run.answer  # the state may have it cut
        sealed = await self._sealed_off_loop(run, len(state) + results.size_of(step) + len(answer))
        result = results.of_step(run, sealed, step, answer, asker.usage)
        self._turns.forget(key)
        return result

    async def _finalize(self, key: bytes, run: Run, size: int, seconds: float | None) -> Result:
        clock = Clock(seconds)
        incoming.ask(run, "")
        run.pending = False
        _, stepper = await self._stepper(run, clock, key, size, lambda event: None, for_answer=True)
        is_answered = await stepper.end(run.stop_reason or StopReason.FINALIZED_EARLY)
        self._turns.forget(key)
        if not is_answered and run.stop_reason is StopReason.FINALIZED_EARLY:
            run.stop_reason = StopReason.LLM_FAILED
        return results.of_run(run)

    def _add(self, run: Run, observations: Sequence[Observation]) -> None:
        """The host's, to those that the last step has already."""
        if not run.pending:
            return
        step = run.steps[-1]
        by_id = {one.action_id: one for one in (*step.observations, *observations)}
        in_order = [by_id[action.id] for action in step.actions]
        step.observations = kept(in_order, self._settings.kept_chars, self._prompts)
        run.pending = False

    async def _stepper(
        self, run: Run, clock: Clock, key: bytes, size: int, show: Show, *, for_answer: bool = False
    ) -> tuple[Asker, Stepper]:
        """`size`: of the state. `for_answer`: alone, so that no tool is needed."""
        name = run.llm or next(iter(self._llms))
        llm = self._llms.get(name)
        if llm is None:
            raise FailedPrecondition(
                f"the run's llm {name} is not among those of this server; set it again, or begin anew with Initialize",
                reason="UNKNOWN_LLM",
            )
        offered = await (self._known(run, clock.left() / 4) if for_answer else self._offered(run))
        names = Names(offered)
        length = self._settings.context_length
        asker = Asker(run, llm, names, self._prompts, length, self._turns, key, show, is_large=size > LARGE)
        stepper = Stepper(run, asker, self._tools, offered, names, self._prompts, self._settings, clock, show)
        return asker, stepper

    async def _offered(self, run: Run) -> dict[str, Tool]:
        """The tools that the run began with, less those that are not as they were."""
        given = {tool.name: tool for tool in run.given_tools}
        if given and run.host_executes:
            return given
        current = await self._tools.tools() if run.tool_digests else {}
        digests = self._digests.of({name: current[name] for name in run.tool_digests if name in current})
        return {
            name: given.get(name, current[name])
            for name, digest in run.tool_digests.items()
            if digests.get(name) == digest
        }

    async def _known(self, run: Run, seconds: float) -> dict[str, Tool]:
        """As `_offered`; of providers that cannot be asked the names alone, which tell calls from text."""
        try:
            async with asyncio.timeout(min(seconds, _ASKED_FOR)):
                return await self._offered(run)
        except (TimeoutError, Unavailable):
            return {name: Tool(name, "", {"type": "object"}) for name in run.tool_digests}

    async def _opened(self, state: bytes) -> Run:
        opened = functools.partial(
            open_state, state, self._keys, now=time.time(), most_bytes=self._settings.max_state_bytes
        )
        return await in_thread(opened) if len(state) > LARGE else opened()

    async def _sealed_off_loop(self, run: Run, size: int) -> bytes:
        """`size`: about what there is to be sealed."""
        return await in_thread(self._sealed, run) if size > LARGE else self._sealed(run)

    def _sealed(self, run: Run) -> bytes:
        most_bytes = self._settings.max_state_bytes
        try:
            return seal(run, self._keys, most_bytes=most_bytes)
        except LimitReached:
            if not run.steps:
                raise
        cut_down(run, most_bytes // 16, self._prompts)
        return seal(run, self._keys, most_bytes=most_bytes)


class _Digests:
    """Of tools, each computed once."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Tool, str]] = {}

    def of(self, tools: Mapping[str, Tool]) -> dict[str, str]:
        """By name. Raises InvalidArgument."""
        if len(self._by_id) > len(tools) + _MOST_DIGESTS:
            self._by_id.clear()
        for tool in tools.values():
            if id(tool) not in self._by_id:
                self._by_id[id(tool)] = tool, digest_of([tool])[tool.name]
        return {name: self._by_id[id(tool)][1] for name, tool in tools.items()}
