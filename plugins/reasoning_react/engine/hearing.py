"""One turn of the model, listened to while it is written: shown, and ended where more of it is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from shared.off_loop import in_thread

from .bounded import LONGEST, bounded
from .chat import Delta, Finish, Turn, TurnRequest
from .interface import AnswerDelta, Show, ThoughtDelta
from .ports import LLM, LLMFailed
from .reader import Piece, Watcher
from .repetition import Repetition
from .run import Mode

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LONG = 2**14  # characters of text: to take in one more piece may take milliseconds, and so is done in a thread
_FED_AT_ONCE = 512  # characters, of a long text
# An endpoint that takes the stop sequence ends the turn by itself, and then says what it took: one that goes on for so
# many characters after a whole action does not.
_GRACE = 200


@dataclass(frozen=True)
class Heard:
    """A turn as far as it was listened to. `mode`: that it was asked for in."""

    turn: Turn
    mode: Mode
    rambled: bool = False  # it repeated itself, without end
    estimate: int = 0  # tokens, read and written, where its usage is not known


class OutOfTime(Exception):
    """The model's turn did not end in time."""


async def hear(llm: LLM, request: TurnRequest, listener: Listener, seconds: float) -> Heard:
    """Raises LLMFailed, OutOfTime; `listener.heard()` then has what came before. However it ends, so does the call
    upstream."""
    if seconds <= 0:
        raise OutOfTime
    try:
        async with asyncio.timeout(seconds if seconds < 10**9 else None), aclosing(llm.turn(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Turn):
                    return await listener.hear_rest(piece)
                await listener.hear(piece)
                if listener.has_heard_enough:
                    await listener.close()
                    return listener.heard()
    except TimeoutError:
        raise OutOfTime from None
    raise LLMFailed("the LLM provider ended its reply without a finish; try again", reason="STREAM_TRUNCATED")


class Listener:
    """To one turn."""

    def __init__(self, mode: Mode, tools: Mapping[str, Mapping[str, Any]], show: Show) -> None:
        """`tools`: as for `Watcher`."""
        self._mode, self._show = mode, show
        self._watcher = Watcher(tools, labelled=mode is Mode.TEXT)
        self._repetition = Repetition()  # in the reasoning
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._text_length = self._reasoning_length = 0
        self._is_cut = False  # there was more than is taken
        self._waiting = ""  # text that the watcher has not seen yet
        self._made_up = 0  # characters after a whole action

    async def hear(self, delta: Delta) -> None:
        room = LONGEST - self._text_length - self._reasoning_length
        if len(delta.text) + len(delta.reasoning) > room:
            self._is_cut = True
            text = delta.text[:room]
            delta = Delta(text, delta.reasoning[: room - len(text)])
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
            self._reasoning_length += len(delta.reasoning)
            self._show(ThoughtDelta(delta.reasoning))
            await _off_loop_if(len(delta.reasoning) > _LONG, self._repetition.feed, delta.reasoning)
        if delta.text:
            self._text.append(delta.text)
            self._text_length += len(delta.text)
            if self._watcher.enough:
                self._made_up += len(delta.text)
            else:
                self._waiting += delta.text
                if self._text_length <= _LONG or len(self._waiting) >= _FED_AT_ONCE:
                    await self._feed()

    async def hear_rest(self, turn: Turn) -> Heard:
        """What of a whole turn did not come as deltas, and its end."""
        turn = bounded(turn)
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        await self.hear(
            Delta(
                turn.text[len(text) :] if turn.text.startswith(text) else "",
                turn.reasoning[len(reasoning) :] if turn.reasoning.startswith(reasoning) else "",
            )
        )
        await self.close()
        return Heard(turn, self._mode, rambled=self.rambles)

    async def close(self) -> None:
        await self._feed()
        if not self._watcher.enough:
            self._show_pieces(await _off_loop_if(self._text_length > _LONG, self._watcher.close))

    async def _feed(self) -> None:
        text, self._waiting = self._waiting, ""
        self._show_pieces(await _off_loop_if(self._text_length > _LONG, self._watcher.feed, text))

    def _show_pieces(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._show(ThoughtDelta(piece.text) if piece.kind == "thought" else AnswerDelta(piece.text))

    @property
    def rambles(self) -> bool:
        return self._watcher.rambling or self._repetition.found

    @property
    def has_heard_enough(self) -> bool:
        made_up = self._mode is Mode.TEXT and self._made_up > _GRACE
        return made_up or self.rambles or self._is_cut

    def heard(self) -> Heard:
        """The turn so far."""
        finish = Finish.STOP if self._watcher.enough else Finish.LENGTH
        turn = Turn(text="".join(self._text), reasoning="".join(self._reasoning), finish=finish)
        return Heard(turn, self._mode, rambled=self.rambles)


async def _off_loop_if(is_long: bool, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    return await in_thread(work, *args, **kwargs) if is_long else work(*args, **kwargs)
