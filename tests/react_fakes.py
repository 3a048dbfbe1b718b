"""A model and tools that do as they are told, for tests of reasoning_react's engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from plugins.reasoning_react.engine.chat import Abilities, Delta, Finish, Tool, ToolCall, Turn, TurnRequest, Usage
from plugins.reasoning_react.engine.engine import Engine, NewRun, Settings, StepResult
from plugins.reasoning_react.engine.ports import Outcome
from plugins.reasoning_react.engine.prompts import load
from plugins.reasoning_react.engine.run import Run
from plugins.reasoning_react.engine.state import Keys, open_state

KEYS = Keys(b"a secret of a test, which is long enough")
PROMPTS = load()
USAGE = Usage(prompt=100, completion=10, total=110)
WITHIN = 120.0  # seconds that a test waits for what must happen

TAKES_TOOLS = Abilities(tools=True)
TEXT_ONLY = Abilities(tools=False)

Say = Turn | Exception | Callable[[TurnRequest], Turn]


def says(text: str, **fields: Any) -> Turn:
    fields.setdefault("usage", USAGE)
    return Turn(text=text, **fields)


def calls(*asked: tuple[str, Any], text: str = "", **fields: Any) -> Turn:
    """A turn with tool calls; arguments that are no text become JSON."""
    made = tuple(
        ToolCall(f"call{place}", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
        for place, (name, arguments) in enumerate(asked)
    )
    fields.setdefault("finish", Finish.TOOL_CALLS)
    return Turn(text=text, tool_calls=made, usage=USAGE, **fields)


class FakeLLM:
    """Says what it is told, one turn a call; the last of them again and again."""

    def __init__(self, *turns: Say, abilities: Abilities = TAKES_TOOLS, piece: int = 7) -> None:
        """`piece`: characters of a delta."""
        self.turns, self._abilities, self._piece = list(turns), abilities, piece
        self.requests: list[TurnRequest] = []
        self.ended_early = 0
        self.asked = asyncio.Event()
        self.gate: asyncio.Event | None = None  # held at before the end of each turn

    async def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        place = min(len(self.requests), len(self.turns) - 1)
        self.requests.append(request)
        is_over = False
        try:
            told = self.turns[place]
            if isinstance(told, Exception):
                is_over = True
                raise told
            turn = told if isinstance(told, Turn) else told(request)
            if turn.reasoning:
                yield Delta(reasoning=turn.reasoning)
            for start in range(0, len(turn.text), self._piece):
                yield Delta(turn.text[start : start + self._piece])
            self.asked.set()
            if self.gate is not None:
                await self.gate.wait()
            is_over = True
            yield turn
        finally:
            self.ended_early += not is_over

    async def abilities(self, model: str) -> Abilities:
        return self._abilities

    @property
    def contents(self) -> list[str]:
        """Of the last request's messages."""
        return [message.content for message in self.requests[-1].messages]

    def told(self, place: int = -1) -> str:
        """All that a request told the model, as one text."""
        return "\n".join(message.content for message in self.requests[place].messages)


Function = Callable[[dict[str, Any]], str | Outcome | Awaitable[str | Outcome]]


class FakeTools:
    """Tools that are functions."""

    def __init__(self, **functions: Function) -> None:
        self.offered = {name: tool(name) for name in functions}
        self._functions = dict(functions)
        self.executed: list[tuple[str, str, str, float]] = []
        self.under_way = 0
        self.cancelled: list[str] = []
        self.begun = asyncio.Event()

    def add(self, offered: Tool, function: Function) -> None:
        self.offered[offered.name] = offered
        self._functions[offered.name] = function

    async def tools(self) -> Mapping[str, Tool]:
        return dict(self.offered)

    async def execute(self, tool: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        self.executed.append((tool, arguments_json, call_id, seconds))
        self.under_way += 1
        self.begun.set()
        try:
            brought = self._functions[tool](json.loads(arguments_json))
            if not isinstance(brought, str | Outcome):
                brought = await brought
        except asyncio.CancelledError:
            self.cancelled.append(tool)
            raise
        finally:
            self.under_way -= 1
        return brought if isinstance(brought, Outcome) else Outcome(brought)


async def never(arguments: dict[str, Any]) -> str:
    """A tool that does not end by itself."""
    await asyncio.Event().wait()
    return ""


def echo(arguments: dict[str, Any]) -> str:
    return f"echo {arguments.get('text', '')}"


def tool(name: str, properties: Mapping[str, Any] | None = None, **fields: Any) -> Tool:
    if properties is None:
        properties = {"text": {"type": "string"}}
    return Tool(name, f"the tool {name}", {"type": "object", "properties": dict(properties)}, **fields)


def engine(llm: FakeLLM, tools: FakeTools | None = None, **settings: Any) -> Engine:
    return Engine({"main": llm}, tools or FakeTools(), KEYS, PROMPTS, Settings(**settings))


def opened(state: bytes) -> Run:
    return open_state(state, KEYS, now=0, most_bytes=2**30)


async def begin(made: Engine, query: str = "How many?", **fields: Any) -> bytes:
    return await made.initialize(NewRun(query=query, **fields))


async def to_end(made: Engine, state: bytes, most: int = 50, **fields: Any) -> list[StepResult]:
    """Steps until the run is done."""
    results: list[StepResult] = []
    for _ in range(most):
        results.append(await made.step(results[-1].state if results else state, **fields))
        if results[-1].done:
            return results
    raise AssertionError(f"not done after {most} steps")
