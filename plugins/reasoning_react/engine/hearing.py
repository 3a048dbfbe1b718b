"""One turn of the model, listened to while it is written: shown, and ended where more of it is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from shared.off_loop import in_thread

from .chat import Delta, Finish, Turn, TurnRequest
from .interface import AnswerDelta, Show, ThoughtDelta
from .ports import LLM, LLMFailed
from .reader import Piece, Watcher
from .repetition import Repetition
from .run import Mode

_LONGEST = 1_000_000  # characters of a turn, reasoning included
_LONG = 2**14  # characters of text: to take in one more piece may take milliseconds
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
    """`heard`: the turn so far."""

    def __init__(self, heard: Heard) -> None:
        super().__init__("the model's turn did not end in time")
        self.heard = heard


async def hear(
    llm: LLM, request: TurnRequest, mode: Mode, tools: Mapping[str, Mapping[str, Any]], seconds: float, show: Show
) -> Heard:
    """Raises LLMFailed, OutOfTime. However it ends, so does the call upstream. `tools`: as for `Watcher`."""
    listener = _Listener(mode, tools, show)
    try:
        async with asyncio.timeout(seconds if seconds < 10**9 else None), aclosing(llm.turn(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Turn):
                    await listener.hear_rest(piece)
                    return Heard(piece, mode, rambled=listener.rambles)
                await listener.hear(piece)
                if listener.has_heard_enough:
                    await listener.close()
                    return listener.heard()
    except TimeoutError:
        raise OutOfTime(listener.heard()) from None
    raise LLMFailed("the LLM provider ended its reply without a finish; try again", reason="STREAM_TRUNCATED")


async def hear_again(heard: Heard, tools: Mapping[str, Mapping[str, Any]], show: Show) -> None:
    """Shows a turn that was heard before."""
    listener = _Listener(heard.mode, tools, show)
    await listener.hear_rest(heard.turn)


class _Listener:
    def __init__(self, mode: Mode, tools: Mapping[str, Mapping[str, Any]], show: Show) -> None:
        self._mode, self._show = mode, show
        self._watcher = Watcher(tools, labelled=mode is Mode.TEXT)
        self._repetition = Repetition()  # in the reasoning
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._text_length = self._reasoning_length = 0
        self._made_up = 0  # characters after a whole action

    async def hear(self, delta: Delta) -> None:
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
            self._reasoning_length += len(delta.reasoning)
            self._show(ThoughtDelta(delta.reasoning))
            self._repetition.feed(delta.reasoning)
        if delta.text:
            self._text.append(delta.text)
            self._text_length += len(delta.text)
            if self._watcher.enough:
                self._made_up += len(delta.text)
            else:
                self._show_pieces(await self._off_loop_if_long(self._watcher.feed, delta.text))

    async def hear_rest(self, turn: Turn) -> None:
        """What of a whole turn did not come as deltas, and its end."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        await self.hear(
            Delta(
                turn.text[len(text) :] if turn.text.startswith(text) else "",
                turn.reasoning[len(reasoning) :] if turn.reasoning.startswith(reasoning) else "",
            )
        )
        await self.close()

    async def close(self) -> None:
        if not self._watcher.enough:
            self._show_pieces(await self._off_loop_if_long(self._watcher.close))

    async def _off_loop_if_long(self, work: Callable[..., list[Piece]], *args: str) -> list[Piece]:
        return await in_thread(work, *args) if self._text_length > _LONG else work(*args)

    def _show_pieces(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._show(ThoughtDelta(piece.text) if piece.kind == "thought" else AnswerDelta(piece.text))

    @property
    def rambles(self) -> bool:
        return self._watcher.rambling or self._repetition.found

    @property
    def has_heard_enough(self) -> bool:
        made_up = self._mode is Mode.TEXT and self._made_up > _GRACE
        return made_up or self.rambles or self._text_length + self._reasoning_length > _LONGEST

    def heard(self) -> Heard:
        finish = Finish.STOP if self._watcher.enough else Finish.LENGTH
        turn = Turn(text="".join(self._text), reasoning="".join(self._reasoning), finish=finish)
        return Heard(turn, self._mode, rambled=self.rambles)
