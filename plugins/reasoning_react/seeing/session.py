"""Takes a run from step to step, shows it, and writes down what happened."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

from ..engine.engine import ActionAsked, AnswerDelta, Event, NewRun, Observed, Show, StepResult, ThoughtDelta
from ..engine.run import Action, Observation
from .recorder import Recorder, tokens_of
from .terminal import Timeline
from .trace import Call, Step, Trace


class Strategy(Protocol):
    """`Engine`, or one that is reached over gRPC. Raises PluginError."""

    async def initialize(self, new: NewRun) -> bytes: ...

    async def step(self, state: bytes, *, show: Show) -> StepResult: ...


class Session:
    """One run. `trace` is true at every moment, also when a step is cut short by an error or a cancel."""

    def __init__(
        self, strategy: Strategy, trace: Trace, timeline: Timeline, recorder: Recorder, keep: Callable[[Trace], None]
    ) -> None:
        """`keep` is called after each step, for the trace to be written somewhere."""
        self.trace = trace
        self._strategy, self._timeline, self._recorder, self._keep = strategy, timeline, recorder, keep

    async def begin(self, new: NewRun) -> None:
        self.trace.began = time.time()
        self.trace.state = await self._strategy.initialize(new)
        self._keep(self.trace)

    async def go_on(self) -> None:
        """To the end of the run. Raises PluginError, and then it can be called again."""
        # What was under way is done again from its beginning; the tools know the actions by their ids.
        self.trace.steps = [step for step in self.trace.steps if step.is_whole]
        while not self.trace.done:
            await self._step()
            self._keep(self.trace)

    async def _step(self) -> None:
        watch = _Watch(Step(len(self.trace.steps) + 1), self._timeline)
        step, trace = watch.step, self.trace
        trace.steps.append(step)
        self._recorder.turns = step.turns
        self._timeline.step(step.number)
        began = time.monotonic()
        try:
            result = await self._strategy.step(trace.state, show=watch.see)
        finally:
            step.seconds = time.monotonic() - began
        watch.settle(result)
        trace.state = result.state
        if result.stop_reason is not None:
            # Finalize would say no more than that.
            trace.done, trace.answer, trace.stop_reason = True, result.text, result.stop_reason.value
        self._timeline.step_ended(step)


class _Watch:
    """What happens in a step, while it does."""

    def __init__(self, step: Step, timeline: Timeline) -> None:
        self.step = step
        self._timeline = timeline
        self._asked: dict[str, float] = {}  # id of an action: when

    def see(self, event: Event) -> None:
        match event:
            case ThoughtDelta(text):
                self.step.thought += text
                self._timeline.thought(text)
            case AnswerDelta(text):
                self.step.thought += text
                self._timeline.text(text)
            case ActionAsked(action):
                self._ask(action)
            case Observed(observation):
                self._answer(observation)

    def settle(self, result: StepResult) -> None:
        """The result has the last word on what has been seen, which for a repeated call is perhaps nothing."""
        self.step.thought = result.step.thought
        self.step.note = result.step.note
        self.step.tokens = tokens_of(result.usage)
        for action in result.step.actions:
            if action.id not in self._asked:
                self._ask(action)
        calls = {call.id: call for call in self.step.calls}
        self.step.calls = [calls[action.id] for action in result.step.actions]  # in the model's order
        for observation in result.step.observations:
            call = calls.get(observation.action_id)
            if call and call.result is None:
                self._answer(observation)
        self.step.is_whole = True
        if not result.done:
            self._timeline.text_was_a_thought()

    def _ask(self, action: Action) -> None:
        self._asked[action.id] = time.monotonic()
        self.step.calls.append(Call(action.id, action.tool, action.arguments))
        self._timeline.action(action.tool, action.arguments)

    def _answer(self, observation: Observation) -> None:
        now = time.monotonic()
        call = next((call for call in self.step.calls if call.id == observation.action_id), None)
        if call is None:
            return  # another plugin's mistake
        call.result, call.is_error, call.denied = observation.content, observation.is_error, observation.denied
        call.seconds = now - self._asked[call.id]
        self.step.tool_seconds = now - min(self._asked.values())
        self._timeline.result(dataclasses.replace(call))
