"""An agent with `reasoning`: its ReasoningStrategy plugin takes the steps, the host runs the tools (`host_executes`).

The whole run is in the strategy's `state`: a step that fails because a plugin is away, as while it restarts, is taken
again with the same state and the same observations. A strategy that knows the guide's fields alone is looped until it
is `done`; it runs its tools itself. So does one that refuses the host's (UNIMPLEMENTED).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import hector_plugins_pb2 as pb

from host.agents.events import (
    ActionAsked,
    AnswerDelta,
    Done,
    Event,
    Observed,
    StepBegan,
    StepEnded,
    ThoughtDelta,
    Usage,
    Waiting,
)
from host.agents.failure import AgentFailed
from host.agents.limits import Limits
from host.agents.strategy_plugin import Strategy
from host.agents.tool_server import message_of
from host.agents.toolbox import Toolbox
from host.config import Llm
from shared import logs
from shared.errors import Code

_MORE_STEPS = 5  # than the limit, for a strategy that does not keep it
_LAST_SECONDS = 1.0  # for whatever is still asked when the time is over
_LARGEST_STEP = 2**25  # bytes of its events, a hundred more counted for each
_MOST_ACTIONS = 1_000  # of a step

T = TypeVar("T")


def run(
    question: str,
    prompt: str,
    of_tools: str,
    history: Sequence[pb.ChatMessage],
    strategy: Strategy,
    llm: Llm,
    llm_name: str,
    toolbox: Toolbox,
    limits: Limits,
) -> AsyncGenerator[Event, None]:
    """To the end of the run, which is Done without citations. Raises AgentFailed.

    `of_tools`: what the prompt says of tools, for a strategy that takes them. `llm_name`: what the strategy calls
    `llm`; empty: its own choice.
    """
    new = pb.InitializeRequest(
        query=question,
        history=[*_system(prompt, of_tools), *history],
        tools=[message_of(tool) for tool in toolbox.tools],
        host_executes=True,
        max_iterations=limits.iterations,
        temperature=llm.temperature or 0.0,
        model=llm.model,
        llm=llm_name,
        budget=pb.Budget(max_tokens=limits.tokens, max_tool_calls=limits.tool_calls, max_seconds=limits.seconds),
    )
    if llm.temperature is not None:
        new.sampling_temperature = llm.temperature
    alone = pb.InitializeRequest()
    alone.CopyFrom(new)
    for name in ("tools", "host_executes", "history"):
        alone.ClearField(name)
    alone.history.extend([*_system(prompt), *history])
    return _Loop(question, new, alone, strategy, toolbox, limits).run()


def _system(*prompts: str) -> list[pb.ChatMessage]:
    text = "\n\n".join(filter(None, prompts))
    return [pb.ChatMessage(role="system", content=text)] if text else []


class _Loop:
    def __init__(
        self,
        question: str,
        new: pb.InitializeRequest,
        alone: pb.InitializeRequest,
        strategy: Strategy,
        toolbox: Toolbox,
        limits: Limits,
    ) -> None:
        """`alone`: as `new`, for a strategy without tools of the host."""
        self._question, self._new, self._alone, self._strategy = question, new, alone, strategy
        self._toolbox, self._limits = toolbox, limits
        self._began = time.monotonic()
        self._calls = 0

    async def run(self) -> AsyncGenerator[Event, None]:
        state = await self._patiently(self._initialize)
        observations: list[pb.Observation] = []
        number = 0
        done = False
        while not done and number < self._limits.iterations + _MORE_STEPS and self._left() > _LAST_SECONDS:
            number += 1
            began = time.monotonic()
            yield StepBegan(number)
            step = _Step(self._strategy.who)
            request = pb.ProcessIterationRequest(state=state, observations=observations)
            if number == 1:
                request.input = self._question  # for a strategy that knows no `query`
            async with contextlib.aclosing(self._take(request, step)) as taken:
                async for event in taken:
                    yield event
            response = step.response
            state, done = bytes(response.state), response.done
            observations = []
            pending, most = step.pending(), max(0, self._limits.tool_calls - self._calls)
            self._calls += min(most, len(pending))
            async with contextlib.aclosing(self._toolbox.run(pending, self._left(), most)) as ended:
                async for observed in ended:
                    observations.append(_observation(observed))
                    yield observed
            shown = response.step
            usage = _usage(response)
            yield StepEnded(number, shown.thought, shown.note, usage, time.monotonic() - began)
        reply = await self._patiently(lambda: self._strategy.finalize(state, self._left()))
        stop = _stop_reason(reply.stop_reason, done)
        yield Done(reply.result, stop, _usage(reply), number, self._calls, time.monotonic() - self._began)

    async def _initialize(self) -> bytes:
        """A strategy that takes no tools from a host goes without: it has its own, or none."""
        try:
            return await self._strategy.initialize(self._new)
        except AgentFailed as error:
            if error.code is not Code.UNIMPLEMENTED:
                raise
        state = await self._strategy.initialize(self._alone)
        if self._new.tools:
            logs.line(f"note: {self._strategy.who} takes no tools from the host, and goes without those of the agent")
        return state

    async def _take(self, request: pb.ProcessIterationRequest, step: _Step) -> AsyncGenerator[Event, None]:
        """One step, again while a plugin is away; what comes again as it was is shown once."""
        patient_until = time.monotonic() + self._limits.patience
        while True:
            try:
                async with contextlib.aclosing(self._strategy.step(request, self._left())) as events:
                    async for event in events:
                        for shown in step.see(event):
                            yield shown
                if step.is_whole:
                    return
                raise AgentFailed(f"{self._strategy.who} ended the step without its result", Code.UNAVAILABLE)
            except AgentFailed as error:
                if not error.is_passing or time.monotonic() > patient_until:
                    raise
                yield Waiting(str(error))
                await asyncio.sleep(self._limits.pause)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What it brings; again while a plugin is away."""
        patient_until = time.monotonic() + self._limits.patience
        while True:
            try:
                return await call()
            except AgentFailed as error:
                if not error.is_passing or time.monotonic() > patient_until:
                    raise
                await asyncio.sleep(self._limits.pause)

    def _left(self) -> float:
        """Seconds; the strategy ends the run by its budget, and gets a minute more for the last answer."""
        return max(_LAST_SECONDS, self._limits.seconds + 60 - (time.monotonic() - self._began))


class _Step:
    """What has been seen of a step of `who`. Raises AgentFailed where that is past all measure."""

    def __init__(self, who: str) -> None:
        self._who, self._bytes = who, 0
        self.response: pb.ProcessIterationResponse = pb.ProcessIterationResponse()
        self.is_whole = False
        self._asked: dict[str, tuple[ActionAsked, float]] = {}  # by id, and when
        self._observed: set[str] = set()

    def see(self, event: pb.IterationEvent) -> Iterator[Event]:
        kind = event.WhichOneof("event")
        if kind != "response":
            self._bytes += 100 + event.ByteSize()
        if self._bytes > _LARGEST_STEP or len(self._asked) > _MOST_ACTIONS:
            raise AgentFailed(
                f"{self._who} has no end of events in one step", Code.RESOURCE_EXHAUSTED, "STEP_TOO_LARGE"
            )
        match kind:
            case "thought_delta":
                yield ThoughtDelta(event.thought_delta)
            case "answer_delta":
                yield AnswerDelta(event.answer_delta)
            case "action":
                yield from self._ask(event.action)
            case "observation":
                yield from self._observe(event.observation)
            case "response":
                self.response, self.is_whole = event.response, True
                for action in (*event.response.step.actions, *event.response.pending_actions):
                    yield from self._ask(action)
                for observation in event.response.step.observations:
                    yield from self._observe(observation)

    def pending(self) -> list[ActionAsked]:
        """For the host to run. Raises AgentFailed where it cannot tell which observation is to be whose."""
        actions = {action.id: self._asked[action.id][0] for action in self.response.pending_actions}
        if len(actions) < len(self.response.pending_actions):
            raise AgentFailed(f"{self._who} gave two actions of a step one id", Code.INTERNAL, "ACTION_ID_TWICE")
        return list(actions.values())

    def _ask(self, action: pb.Action) -> Iterator[Event]:
        asked = ActionAsked(action.id, action.tool, action.parameters_json or "{}")
        known, _ = self._asked.get(action.id, (None, 0.0))
        if asked != known:  # of a step that is taken again the model may have made another
            self._asked[action.id] = asked, time.monotonic()
            yield asked

    def _observe(self, observation: pb.Observation) -> Iterator[Event]:
        asked, at = self._asked.get(observation.action_id, (None, 0.0))
        if asked is None or asked.id in self._observed:
            return
        self._observed.add(asked.id)
        took = time.monotonic() - at
        yield Observed(asked.id, asked.tool, observation.content, observation.is_error, observation.denied, took)


def _observation(observed: Observed) -> pb.Observation:
    return pb.Observation(
        action_id=observed.id, content=observed.content, is_error=observed.is_error, denied=observed.denied
    )


def _usage(reply: Any) -> Usage | None:
    if not reply.HasField("usage"):
        return None
    usage = reply.usage
    return Usage(*(max(0, tokens) for tokens in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)))


def _stop_reason(value: pb.StopReason.ValueType, done: bool) -> str:
    if value and value in pb.StopReason.values():
        return pb.StopReason.Name(value).removeprefix("STOP_REASON_")
    return "ANSWERED" if done else "MAX_ITERATIONS"
