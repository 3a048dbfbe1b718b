"""Asks the model for a run's next turn, in the way that it can take."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from shared.errors import Code
from shared.off_loop import in_thread

from . import tokens
from .chat import Abilities, TurnRequest, Usage
from .conversation import messages
from .hearing import Heard, Listener, OutOfTime, hear
from .interface import Show
from .names import Names
from .ports import LLM, LLMFailed
from .prompts import Prompts
from .run import Mode, Run, Step
from .turns import Turns

_ASKED_FOR = 10.0  # seconds in which a provider says what its model can
STOP = "\nObservation:"  # of TEXT mode: what would follow is made up


class Asker:
    """For one step."""

    def __init__(
        self,
        run: Run,
        llm: LLM,
        names: Names,
        prompts: Prompts,
        context_length: int,
        turns: Turns,
        step: bytes,
        show: Show,
        *,
        is_large: bool,
    ) -> None:
        """`context_length`: in place of what is known of the model; 0: none. `step`: what `turns` knows the step by.
        `is_large`: the run is, so that to write it down takes milliseconds."""
        self._run, self._llm, self._names, self._prompts, self._show = run, llm, names, prompts, show
        self._turns, self._step = turns, step
        self._window = context_length
        self._knows_window = bool(context_length)
        self._is_large = is_large
        self._asked = 0
        self.usage: Usage | None = Usage()  # of this step; None: a turn did not say
        self.unfinished: Heard | None = None  # what was heard of the last turn, where it failed

    async def ask(self, attempt: Step | None, seconds: float, *, last: bool = False) -> Heard:
        """The model's turn, within `seconds`. `attempt`: what it wrote before in this step, and what was wrong with
        that. `last`: it is asked for the answer, without tools.

        Where the endpoint takes no tools, the run goes on in TEXT, unless its mode is fixed; where the messages are too
        long for it, it is sent about half of them, once. Raises LLMFailed, OutOfTime.
        """
        self._asked += 1
        place = f"{'last' if last else 'turn'} {self._asked}"
        heard = self._turns.get(self._step, place)
        if heard is not None:
            self._run.mode = heard.mode
            await self._listener(heard.mode).hear_rest(heard.turn)
            self._count(heard)
            return heard
        heard = await self._ask(attempt, asyncio.get_running_loop().time() + seconds, last)
        self._turns.put(self._step, place, heard)
        self._count(heard)
        return heard

    async def _ask(self, attempt: Step | None, until: float, last: bool) -> Heard:
        """`until`: of the event loop's clock."""
        run, now = self._run, asyncio.get_running_loop().time
        await self._learn(until - now())
        is_shortened = False
        while True:
            assert run.mode is not None
            request, listener = await self._request_for(attempt, last), self._listener(run.mode)
            try:
                heard = await hear(self._llm, request, listener, until - now())
            except OutOfTime:
                self._give_up(listener, request)
                raise
            except LLMFailed as error:
                if error.too_long and not is_shortened:
                    is_shortened, self._window = True, _tokens(request) // 2
                elif not self._steps_down(error, request, last):
                    self._give_up(listener, request)
                    raise
                continue
            heard = _with_estimate(heard, request)
            if "tools" in heard.turn.dropped and request.tools and not run.mode_is_fixed:
                self._count(heard)
                run.mode = Mode.TEXT
                continue
            return heard

    def _listener(self, mode: Mode) -> Listener:
        return Listener(mode, self._names.schemas(), self._show)

    def _give_up(self, listener: Listener, request: TurnRequest) -> None:
        self.unfinished = _with_estimate(listener.heard(), request)
        if self.unfinished.turn.text or self.unfinished.turn.reasoning:
            self._count(self.unfinished)

    async def _learn(self, seconds: float) -> None:
        run = self._run
        if self._knows_window and run.mode is not None:
            return
        try:
            async with asyncio.timeout(min(_ASKED_FOR, seconds / 4)):
                abilities = await self._llm.abilities(run.model)
        except TimeoutError:
            abilities = Abilities()
        if not self._knows_window:
            self._window, self._knows_window = abilities.context_length, True
        if run.mode is None:
            run.mode = Mode.TEXT if abilities.tools is False and self._names.for_api() else Mode.NATIVE

    async def _request_for(self, attempt: Step | None, last: bool) -> TurnRequest:
        return await in_thread(self._request, attempt, last) if self._is_large else self._request(attempt, last)

    def _request(self, attempt: Step | None, last: bool) -> TurnRequest:
        run = self._run
        is_native = run.mode is Mode.NATIVE
        tools = self._names.for_api() if is_native else self._names.tools
        steps = self._names.steps_in_api(run.steps) if is_native else list(run.steps)
        shown = replace(run, steps=steps + ([attempt] if attempt else []))
        conversation = messages(shown, tools, self._prompts, window=self._window, final=last)
        # What is left out stays so.
        run.left_out, run.history_left_out, run.summary = shown.left_out, shown.history_left_out, shown.summary
        return TurnRequest(
            conversation,
            tools=tools if is_native and not last else (),
            model=run.model,
            temperature=run.temperature,
            stop=() if is_native else (STOP,),
        )

    def _steps_down(self, error: LLMFailed, request: TurnRequest, last: bool) -> bool:
        run = self._run
        if run.mode is not Mode.NATIVE:
            return False
        # Some endpoints take no earlier tool calls without the tools.
        refuses_calls = last and error.code is Code.INVALID_ARGUMENT and any(step.actions for step in run.steps)
        if refuses_calls or (error.tools_refused and request.tools and not run.mode_is_fixed):
            run.mode = Mode.TEXT
            return True
        return False

    def _count(self, heard: Heard) -> None:
        run, usage = self._run, heard.turn.usage
        if usage is None:
            run.usage_is_whole = False
            run.estimated_tokens += heard.estimate
            self.usage = None
            return
        run.usage = (run.usage or Usage()) + usage
        self.usage = None if self.usage is None else self.usage + usage


def _with_estimate(heard: Heard, request: TurnRequest) -> Heard:
    turn = heard.turn
    if turn.usage is not None:
        return heard
    written = tokens.of_text(turn.text) + tokens.of_text(turn.reasoning)
    written += sum(tokens.of_text(call.arguments) for call in turn.tool_calls)
    return replace(heard, estimate=_tokens(request) + written)


def _tokens(request: TurnRequest) -> int:
    return tokens.of_messages(request.messages) + tokens.of_tools(request.tools)
