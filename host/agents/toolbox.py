"""The tools of one agent, and the one gate that each call of them goes through: known, whole, allowed, bounded.

Whatever is wrong with a call becomes an observation for the model to mend; nothing here ends a run.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from host.agents.events import ActionAsked, Observed
from host.agents.failure import AgentFailed
from host.agents.tool_server import Outcome, Runner, Tool
from shared.json_schema import MOST_STEPS, CannotCheck, Checker, schema_problem
from shared.loose_json import CutOff, Unreadable, read_whole
from shared.nearest import did_you_mean
from shared.off_loop import in_thread
from shared.structs import dump
from shared.wording import in_words, kind_of

TOOL_SECONDS = 60.0  # a call may take, without the time that a person takes to allow it
_LONGEST_ARGUMENTS = 2**19  # characters
_LONGEST_NAME = 64  # characters, in models' APIs
_NOBODY = "it wants a person's approval, and there is no terminal to ask in"
_MOST_TOLD = 10  # faults of arguments in one sentence


@dataclass(frozen=True)
class Decision:
    """`reason`: why not, for the model; it may be empty."""

    allowed: bool
    reason: str = ""


# Whoever decides whether a call is made. It is asked about one call at a time, after that was found to be sound.
Approve = Callable[[ActionAsked, Tool], Awaitable[Decision]]


@dataclass(frozen=True)
class Wanted:
    """One tool of a runner, or all."""

    runner: Runner
    tool: str = ""  # as the runner calls it; empty: all of them, as they are
    name: str = ""  # for models
    description: str = ""  # for models; empty: the runner's own
    asks: bool = False  # a person is asked before each call, whether or not all calls are asked about


@dataclass(frozen=True)
class Read:
    """`arguments`: exactly what goes out, a JSON object. `problem`: why nothing does, for the model."""

    arguments: str
    problem: str = ""


@dataclass(frozen=True)
class _Route:
    runner: Runner
    tool: Tool  # as the runner knows it
    asks: bool = False  # a person is asked before each call


class Toolbox:
    """Use `opened`."""

    def __init__(self, routes: Mapping[str, _Route], approve: Approve | None, asks_always: bool) -> None:
        self._routes = routes
        self._approve, self._asks_always = approve, asks_always
        self._asking = asyncio.Lock()  # a person is asked one thing at a time

    @property
    def tools(self) -> tuple[Tool, ...]:
        """By the names that models see."""
        return tuple(replace(route.tool, name=name) for name, route in self._routes.items())

    async def read(self, tool: str, arguments: str) -> Read:
        """A call as it would go out, or why it will not."""
        route = self._routes.get(tool)
        if route is None:
            known = f"; the tools are: {', '.join(list(self._routes)[:50])}" if self._routes else "; there are no tools"
            return Read("", f"Unknown tool: {tool[:200]}{known}{did_you_mean(tool, self._routes)}")
        return await in_thread(_read, tool, route.tool.parameters, arguments)

    async def run(self, actions: Sequence[ActionAsked], seconds: float, most: int) -> AsyncGenerator[Observed, None]:
        """What each brought, as they end; side by side, the first `most` of them, and the others are refused. Cancelled
        or closed, it ends all that are under way."""
        for action in actions[most:]:
            yield refused(action, "the run has made all the calls it may")
        tasks = [asyncio.ensure_future(self._run(action, seconds)) for action in actions[:most]]
        try:
            for ended in asyncio.as_completed(tasks):
                yield await ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, action: ActionAsked, seconds: float) -> Observed:
        began = time.monotonic()
        outcome = await self._outcome(action, seconds)
        content = outcome.content or ("denied" if outcome.denied else "no result")
        took = time.monotonic() - began
        return Observed(action.id, action.tool, content, outcome.is_error or outcome.denied, outcome.denied, took)

    async def _outcome(self, action: ActionAsked, seconds: float) -> Outcome:
        read = await self.read(action.tool, action.arguments)
        if read.problem:
            return Outcome(read.problem, is_error=True)
        route, exact = self._routes[action.tool], replace(action, arguments=read.arguments)
        if route.asks or self._asks_always:
            decision = Decision(False, _NOBODY)
            if self._approve is not None:
                async with self._asking:
                    decision = await self._approve(exact, replace(route.tool, name=action.tool))
            if not decision.allowed:
                why = f": {decision.reason}" if decision.reason else ""
                return Outcome(f"{action.tool} was not run, it was not allowed{why}", denied=True)
        return await route.runner.execute(route.tool, exact.arguments, action.id, min(seconds, TOOL_SECONDS))


def refused(action: ActionAsked, why: str) -> Observed:
    return Observed(action.id, action.tool, f"{action.tool} was not run: {why}", True, False, 0.0)


async def opened(wanted: Sequence[Wanted], approve: Approve | None = None, *, asks_always: bool = False) -> Toolbox:
    """Asks every runner for its tools. Raises AgentFailed where one cannot be asked or lacks a tool that is named.

    `approve` is asked before calls of tools that want it, or with `asks_always` before all; None: these are denied.
    """
    listed = await asyncio.gather(*(each.runner.list() for each in wanted))
    offered: list[tuple[str, _Route]] = []
    for each, tools in zip(wanted, listed, strict=True):
        by_name = {tool.name: tool for tool in tools if not schema_problem(tool.parameters)}
        if not each.tool:
            offered += [(_for_models(name), _Route(each.runner, tool, each.asks)) for name, tool in by_name.items()]
            continue
        if each.tool not in by_name:
            raise AgentFailed(f"plugin {each.runner.name} has no tool {each.tool}{did_you_mean(each.tool, by_name)}")
        tool = by_name[each.tool]
        tool = replace(tool, description=each.description or tool.description)
        offered.append((_for_models(each.name or each.tool), _Route(each.runner, tool, each.asks)))
    times = Counter(name for name, _ in offered)
    routes: dict[str, _Route] = {}
    for name, route in offered:
        # Where two have a tool of one name, models know the two as PLUGIN__tool.
        shown = name if times[name] == 1 else _for_models(f"{route.runner.name}__{name}")
        if len(shown) <= _LONGEST_NAME:
            routes.setdefault(shown, route)
    return Toolbox(routes, approve, asks_always)


def _for_models(name: str) -> str:
    """With what the APIs of models do not take in names as `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _read(tool: str, parameters: Mapping[str, Any], arguments: str) -> Read:
    def problem(words: str) -> Read:
        return Read("", f"{tool} was not run: {words}")

    if len(arguments) > _LONGEST_ARGUMENTS:
        return problem(f"its arguments have more than {_LONGEST_ARGUMENTS:,} characters; send fewer")
    try:
        value = read_whole(arguments) if arguments.strip() else {}
    except CutOff:
        return problem("its arguments end before they are whole; call it again, with one whole JSON object")
    except Unreadable as error:
        return problem(f"its arguments are no JSON: {error}; call it again, with one JSON object")
    value = {} if value is None else value
    if not isinstance(value, dict):
        return problem(f"its arguments must be one JSON object, and are {kind_of(value)}")
    try:
        faults, is_all = Checker(parameters).faults(value, MOST_STEPS)
    except CannotCheck as error:
        return problem(f"its arguments are too large: {error}")
    told = [words for fault in faults[:100] for _, words in in_words(fault, tool, parameters, value)]
    if told:
        more = "" if is_all and len(told) <= _MOST_TOLD else "; and more"
        return problem("; ".join(told[:_MOST_TOLD]) + more)
    return Read(dump(value))
