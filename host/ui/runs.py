"""Agents asked from the page: each run as a stream of events, with a person's consent where a tool wants it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from host.agents.agent import Conversation, opened, plugins_of
from host.agents.events import ActionAsked, AnswerDelta, ThoughtDelta, as_json
from host.agents.tool_server import Tool
from host.agents.toolbox import Decision
from host.config import Agent
from host.connect import connect
from host.ui.current import Current, NotFound
from host.ui.kept_runs import KeptRuns
from host.ui.streams import Busy, held
from shared.errors import StartError
from shared.nearest import did_you_mean

MOST_RUNS = 8  # at a time
LONGEST_QUESTION = 100_000  # characters
_MOST_CONVERSATIONS = 100  # that are remembered
_LONGEST_REASON = 500  # characters
_AHEAD = 64  # events that a run may be ahead of the page

_MOST_KEPT = 4_000_000  # characters of a run
BUSY = "Too much is under way; try again in a moment."

Item = Mapping[str, Any]


@dataclass
class _Talk:
    """A conversation with one agent."""

    agent: str
    conversation: Conversation = field(default_factory=Conversation)
    is_busy: bool = False


@dataclass
class _Run:
    """One that is under way."""

    asked: dict[str, asyncio.Future[Decision]] = field(default_factory=dict)  # by the action's id
    allowed: set[str] = field(default_factory=set)  # tools that may be called without asking again


class Runs:
    """For the event loop's thread."""

    def __init__(self, current: Current, kept: KeptRuns) -> None:
        self._current, self.kept = current, kept
        self._runs: dict[str, _Run] = {}
        self._talks: OrderedDict[str, _Talk] = OrderedDict()

    async def ask(
        self, name: str, question: str, *, llm: str, talk: str, asks_always: bool
    ) -> AsyncGenerator[Item, None]:
        """The run's events, each with `at`, seconds since it began. The first is Began, the last Done or Failed.
        Closed early, it ends what is under way in the model and the tools. Raises StartError, Busy."""
        config = self._current.config
        if config.agents and name not in config.agents:
            raise NotFound(f"There is no agent {name}{did_you_mean(name, config.agents)}.")
        agent = config.agent(name)
        if llm:
            agent = replace(agent, llm=config.llm(llm))
        if len(self._runs) >= MOST_RUNS:
            raise Busy
        key, conversation = self._talk(talk, name)
        if conversation.is_busy:
            raise StartError("this conversation is waiting for an answer; stop that run first, or begin a new one")
        run_id = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
        run = self._runs[run_id] = _Run()
        conversation.is_busy = True
        record = _Record(run_id, agent, question, len(conversation.conversation.messages))
        try:
            yield record.add({"event": "Began", "run": run_id, "talk": key, "title": agent.title})
            async with contextlib.aclosing(self._events(agent, question, conversation, run, asks_always)) as events:
                async for item in events:
                    yield record.add(item)
        finally:
            conversation.is_busy = False
            del self._runs[run_id]
            self.kept.keep(record.summary(), record.events)

    def decide(self, run: str, action: str, *, allowed: bool, for_all: bool, reason: str) -> None:
        """What a person says of a call that waits. Raises NotFound."""
        waiting = self._runs[run].asked.get(action) if run in self._runs else None
        if waiting is None or waiting.done():
            raise NotFound("Nothing waits for this decision any more.")
        waiting.set_result(Decision(allowed, "" if allowed else reason.strip()[:_LONGEST_REASON]))
        if allowed and for_all:
            self._runs[run].allowed.add(action)

    def _talk(self, key: str, agent: str) -> tuple[str, _Talk]:
        talk = self._talks.get(key)
        if talk is None or talk.agent != agent:
            key, talk = secrets.token_hex(8), _Talk(agent)
            self._talks[key] = talk
        self._talks.move_to_end(key)
        while len(self._talks) > _MOST_CONVERSATIONS:
            self._talks.popitem(last=False)
        return key, talk

    async def _events(
        self, agent: Agent, question: str, talk: _Talk, run: _Run, asks_always: bool
    ) -> AsyncGenerator[Item, None]:
        """Those of the agent, and what a person is asked in between."""
        items: asyncio.Queue[Item | None] = asyncio.Queue(_AHEAD)

        async def approve(action: ActionAsked, tool: Tool) -> Decision:
            if f"tool {action.tool}" in run.allowed:
                return Decision(True)
            decision = run.asked[action.id] = asyncio.get_running_loop().create_future()
            kind = {"destructive": tool.destructive, "read_only": tool.read_only}
            await items.put({"event": "ApprovalAsked", **vars(action), **kind})
            try:
                answer: Decision = await decision
            finally:
                del run.asked[action.id]
            if action.id in run.allowed:
                run.allowed.add(f"tool {action.tool}")
            await items.put({"event": "Decided", "id": action.id, "allowed": answer.allowed, "reason": answer.reason})
            return answer

        async def go() -> None:
            try:
                async with (
                    held(connect(self._current.config, plugins_of(agent))) as connections,
                    opened(self._current.config, agent, connections, approve, asks_always=asks_always) as open_agent,
                    contextlib.aclosing(open_agent.run(question, talk.conversation)) as events,
                ):
                    async for event in events:
                        await items.put(as_json(event))
            except StartError as error:
                await items.put({"event": "Failed", "message": str(error)})
            except Busy:
                await items.put({"event": "Failed", "message": BUSY})
            except Exception:
                logging.getLogger("host.ui").exception("a run failed")
                await items.put(
                    {"event": "Failed", "message": "The host made a mistake; what `serve` prints says which."}
                )
            await items.put(None)

        task = asyncio.ensure_future(go())
        try:
            while (item := await items.get()) is not None:
                yield item
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Record:
    """What is kept of a run: all but the pieces of text, which come whole at the end of their step."""

    def __init__(self, run: str, agent: Agent, question: str, history: int) -> None:
        self.events: list[Item] = []
        self._began = time.monotonic()
        self._room = _MOST_KEPT
        self._end: Item = {"event": "Stopped"}
        self._about = {
            "run": run,
            "agent": agent.name,
            "title": agent.title,
            "question": question,
            "at": time.time(),
            "input": {
                "prompt": agent.prompt,
                "llm": agent.llm.name,
                "model": agent.llm.model,
                "strategy": agent.reasoning.plugin.name if agent.reasoning else "",
                "tools": [tool.name for tool in agent.tools],
                "database": agent.database.name if agent.database else "",
                "earlier_messages": history,
                "max_iterations": agent.max_iterations,
                "max_tokens": agent.max_tokens,
                "max_tool_calls": agent.max_tool_calls,
                "max_seconds": agent.max_seconds,
            },
        }

    def add(self, item: Item) -> Item:
        """`item` with the time since the run began."""
        timed = {**item, "at": round(time.monotonic() - self._began, 3)}
        if item["event"] in ("Done", "Failed"):
            self._end = timed
        if item["event"] not in (ThoughtDelta.__name__, AnswerDelta.__name__):
            self._room -= len(str(item.get("content", ""))) + len(str(item.get("thought", ""))) + 100
            if self._room > 0 or timed is self._end:
                self.events.append(timed)
        return timed

    def summary(self) -> Item:
        end = self._end
        return {
            **self._about,
            "end": end["event"],
            "stop_reason": end.get("stop_reason", ""),
            "message": end.get("message", ""),
            "seconds": round(time.monotonic() - self._began, 3),
            "steps": end.get("steps"),
            "tool_calls": end.get("tool_calls"),
            "usage": end.get("usage"),
        }
