"""One step of a run: the model is asked, and what it asks for is run. The run becomes what it is after the step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from . import actions, bounds, loops
from .actions import Asked
from .asker import Asker
from .bounds import Clock
from .chat import Tool
from .hearing import Heard, OutOfTime
from .interface import ActionAsked, Observed, Settings, Show
from .names import Names
from .observations import kept
from .ports import LLMFailed, Tools
from .prompts import Prompts
from .reading import Final
from .run import Action, Observation, Run, Step, StopReason
from .thinker import Acts, Thinker, too_late

_LAST_ANSWER = 60.0  # seconds for the last answer of a run whose own are spent
_SHARE = 4  # of a state, for the arguments of the actions that its host is to run
_DENIED_AT = 3  # steps in a row of which the host denied everything: it will go on to


class Stepper:
    def __init__(
        self,
        run: Run,
        asker: Asker,
        tools: Tools,
        offered: Mapping[str, Tool],
        names: Names,
        prompts: Prompts,
        settings: Settings,
        clock: Clock,
        show: Show,
    ) -> None:
        """`offered`: the run's tools, but for those that have changed or gone since it began."""
        self._run, self._asker, self._tools, self._offered = run, asker, tools, offered
        self._prompts, self._settings, self._clock, self._show = prompts, settings, clock, show
        self._thinker = Thinker(run, asker, names, prompts, settings.max_repairs, clock)

    async def take(self, *, after_host: bool) -> Step:
        """The step, with whole observations. `after_host`: those of the step before have just come. Raises LLMFailed,
        DeadlineExceeded."""
        run = self._run
        if after_host:
            self._look_back()
        if reason := run.stop_reason or bounds.reached(run, time.time()):
            await self.end(reason)
            return run.steps[-1]
        run.iteration += 1
        outcome = await self._thinker.think()
        if isinstance(outcome, StopReason):
            await self.end(outcome)
            return run.steps[-1]
        if isinstance(outcome, Final):
            await self._answered(outcome.thought, outcome.text, StopReason.ANSWERED)
            return run.steps[-1]
        step = await self._act(outcome)
        if not run.pending:
            self._look_back()
            step.note = run.steps[-1].note
            if reason := run.stop_reason or bounds.reached(run, time.time()):
                run.stop_reason = reason
                await self.end(reason, can_wait=True)
        return step

    async def end(self, reason: StopReason, *, can_wait: bool = False) -> bool:
        """Ends the run with the best answer there is: the model is asked once more, without tools. False: that failed,
        and the answer is what there was before. `can_wait`: then it is tried once more, in the next step."""
        run = self._run
        run.stop_reason = reason
        seconds = min(self._clock.left(), max(_LAST_ANSWER, bounds.seconds_left(run, time.time())))
        try:
            heard: Heard | None = await self._asker.ask(None, seconds, last=True)
        except (OutOfTime, LLMFailed):
            if can_wait:
                return False
            heard = self._asker.unfinished
        thought, text = await self._thinker.last_words(heard) if heard else ("", "")
        await self._answered(thought, text, reason)
        return bool(text)

    async def _answered(self, thought: str, text: str, reason: StopReason) -> None:
        run = self._run
        text = text.strip() or await self._best()
        run.steps.append(Step(thought=thought))
        run.done, run.answer, run.stop_reason = True, text, reason

    async def _best(self) -> str:
        """The best text there is in a run without an answer: the model's last thought."""
        for thought in (self._thinker.thought, *(step.thought for step in reversed(self._run.steps))):
            if bare := await self._thinker.without_calls(thought):
                return bare
        return "There is no answer: the run ended before the model gave one."

    # ------------------------------------------------------------ acting

    async def _act(self, acts: Acts) -> Step:
        """The step, with whole observations; those that the host is to make are missing. The run has it cut."""
        run = self._run
        asked = [actions.as_action(run, place, one) for place, one in enumerate(acts.asked)]
        for action in asked:
            self._show(ActionAsked(action))
        to_run, refused = await self._sorted(asked, acts.asked)
        for observation in refused.values():
            self._show(Observed(observation))
        brought: list[Observation] = []
        if to_run and not run.host_executes:
            brought = await self._run_all(to_run)
        run.tool_calls += len(to_run)
        run.pending = bool(to_run) and run.host_executes
        by_id = refused | {one.action_id: one for one in brought}
        step = Step(
            acts.thought,
            asked,
            [by_id[action.id] for action in asked if action.id in by_id],
            acts.text,
            acts.reasoning,
            acts.opaque,
        )
        run.steps.append(replace(step, observations=kept(step.observations, self._settings.kept_chars, self._prompts)))
        return step

    async def _sorted(
        self, asked: Sequence[Action], calls: Sequence[Asked]
    ) -> tuple[list[Action], dict[str, Observation]]:
        """Those to be run; and by their ids what the others get for an observation."""
        run, to_run, refused = self._run, list[Action](), dict[str, Observation]()
        room = self._settings.max_state_bytes // _SHARE  # what the host is to run is whole in the state
        for action, call in zip(asked, calls, strict=True):
            problem = await actions.problem_of(call, self._offered, run.tool_digests)
            if not problem and len(to_run) >= bounds.calls_left(run):
                problem = f"{action.tool} was not run: the run has made the {run.budget.max_tool_calls} calls it may"
                run.stop_reason = StopReason.MAX_TOOL_CALLS
            if not problem and bounds.seconds_left(run, time.time()) <= 0:
                problem = f"{action.tool} was not run: the {run.budget.max_seconds:g} s of the run are over"
            if not problem and run.host_executes:
                room -= len(action.arguments.encode("utf-8", "surrogatepass"))
                if room < 0:
                    problem = f"{action.tool} was not run: its arguments are too large here; call it with shorter ones"
            if problem:
                refused[action.id] = Observation(action.id, problem, is_error=True)
            else:
                to_run.append(action)
        return to_run, refused

    async def _run_all(self, to_run: Sequence[Action]) -> list[Observation]:
        seconds = min(self._settings.tool_timeout, bounds.seconds_left(self._run, time.time()), self._clock.left())
        if seconds <= 0:
            raise too_late("no tool was run")
        pairs = [(action, self._offered[action.tool]) for action in to_run]
        return await actions.run_all(self._tools, pairs, seconds, lambda one: self._show(Observed(one)))

    def _look_back(self) -> None:
        """Whether the run goes round in circles, or can go nowhere."""
        run = self._run
        denied = [bool(step.observations) and all(one.denied for one in step.observations) for step in run.steps]
        times = loops.times(run.steps)
        # A policy may well allow the next thing that the model tries.
        is_hopeless = run.host_executes and len(denied) >= _DENIED_AT and all(denied[-_DENIED_AT:])
        if is_hopeless or times >= loops.ENDED_AT:
            run.stop_reason = run.stop_reason or (StopReason.DENIED if denied[-1] else StopReason.REPEATED_ACTION)
        elif times >= loops.TOLD_AT:
            run.steps[-1].note = self._prompts.repeated("; ".join(map(_in_short, run.steps[-1].actions[:3])))


def _in_short(action: Action) -> str:
    arguments = action.arguments if len(action.arguments) <= 200 else action.arguments[:200] + "…"
    return f"{action.tool} {arguments}"
