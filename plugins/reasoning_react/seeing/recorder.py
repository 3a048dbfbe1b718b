"""What a model was asked and what it wrote, turn by turn: an LLM that is another one and takes notes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from shared.errors import PluginError

from ..engine.chat import Abilities, Delta, Message, ToolCall, Turn, TurnRequest, Usage
from ..engine.ports import LLM
from . import trace


class Recorder:
    """Of one run at a time. `turns` are those of the step under way, or the last one."""

    def __init__(self) -> None:
        self.turns: list[trace.Turn] = []
        self._before: tuple[Message, ...] = ()

    def watched(self, llm: LLM) -> LLM:
        return _Watched(llm, self)

    def add(self, request: TurnRequest, turn: Turn, seconds: float, error: str) -> None:
        repeated = _same(self._before, request.messages)
        self._before = request.messages
        self.turns.append(
            trace.Turn(
                repeated=repeated,
                messages=[_said(message) for message in request.messages[repeated:]],
                tools=[tool.name for tool in request.tools],
                reasoning=turn.reasoning,
                text=turn.text or turn.refusal,
                calls=[_written(call) for call in turn.tool_calls],
                finish=turn.finish.name if not error else "",
                tokens=tokens_of(turn.usage),
                seconds=seconds,
                error=error,
            )
        )


class _Watched:
    def __init__(self, llm: LLM, recorder: Recorder) -> None:
        self._llm, self._recorder = llm, recorder

    async def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        began = time.monotonic()
        texts: list[str] = []
        reasoning: list[str] = []
        whole: Turn | None = None
        error = ""
        pieces = self._llm.turn(request)
        try:
            async for piece in pieces:
                if isinstance(piece, Turn):
                    whole = piece
                else:
                    texts.append(piece.text)
                    reasoning.append(piece.reasoning)
                yield piece
        except PluginError as raised:
            error = raised.message
            raise
        finally:
            # Closed by whoever had read enough, it has no last piece.
            turn = whole or Turn("".join(texts), "".join(reasoning))
            self._recorder.add(request, turn, time.monotonic() - began, error)
            await pieces.aclose()

    async def abilities(self, model: str) -> Abilities:
        return await self._llm.abilities(model)


def tokens_of(usage: Usage | None) -> trace.Tokens | None:
    return trace.Tokens(usage.prompt, usage.completion, usage.total) if usage else None


def _same(before: tuple[Message, ...], now: tuple[Message, ...]) -> int:
    """How many messages both begin with."""
    pairs = enumerate(zip(before, now, strict=False))
    return next((number for number, (old, new) in pairs if old != new), min(len(before), len(now)))


def _said(message: Message) -> trace.Said:
    return trace.Said(message.role, message.content, message.name, [_written(call) for call in message.tool_calls])


def _written(call: ToolCall) -> str:
    return f"{call.name}({call.arguments})"
