"""What a model asked for: read, checked, and run side by side."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.json_schema import MOST_STEPS, QUICK_STEPS, CannotCheck, Checker, as_object_schema, schema_problem
from shared.loose_json import CutOff, Unreadable, read_whole
from shared.nearest import did_you_mean
from shared.off_loop import in_thread
from shared.wording import in_words, kind_of

from .bounded import LONGEST_ARGUMENTS, MOST_CALLS
from .chat import JSON, Finish, Tool, ToolCall, Turn
from .ports import Outcome, Tools
from .reading import Call
from .run import Action, Observation, Run

_LARGE = 2**12  # characters of arguments: to read and check more may take milliseconds
_MOST_TOLD = 10  # faults of arguments in one sentence
_SLACK = 0.25  # seconds that whoever runs a tool has to say that its time is over


@dataclass(frozen=True)
class Asked:
    """A call of a model. `arguments`: None where they cannot be read, and `problem` says why."""

    tool: str
    arguments: dict[str, JSON] | None
    problem: str = ""
    call_id: str = ""
    opaque: bytes = b""


def of_text(calls: Sequence[Call], meant: Callable[[str], str]) -> list[Asked]:
    return [Asked(meant(call.name), call.arguments) for call in calls[:MOST_CALLS]]


async def of_api(turn: Turn, meant: Callable[[str], str]) -> list[Asked]:
    """The calls that came through the model's API."""
    last = len(turn.tool_calls) - 1
    asked = []
    for place, call in enumerate(turn.tool_calls[:MOST_CALLS]):
        asked.append(await _read(call, meant(call.name), is_cut=turn.finish is Finish.LENGTH and place == last))
        await asyncio.sleep(0)  # each takes a while, and there may be many
    return asked


async def _read(call: ToolCall, tool: str, *, is_cut: bool) -> Asked:
    def asked(arguments: dict[str, JSON] | None, problem: str = "") -> Asked:
        return Asked(tool, arguments, problem, call.id, call.opaque)

    cut_off = f"the arguments of {tool} were cut off at the length limit: call it again, with shorter ones"
    if len(call.arguments) > LONGEST_ARGUMENTS:
        return asked(
            None, f"the arguments of {tool} have more than {LONGEST_ARGUMENTS:,} characters: call it again, with fewer"
        )
    if not call.arguments.strip():
        return asked(None, cut_off) if is_cut else asked({})
    try:
        large = len(call.arguments) > _LARGE
        value = await in_thread(read_whole, call.arguments) if large else read_whole(call.arguments)
    except CutOff:
        end = "end before they are whole" if not is_cut else ""
        return asked(
            None, f"the arguments of {tool} {end}: call it again, with one whole JSON object" if end else cut_off
        )
    except Unreadable as error:
        return asked(None, f"the arguments of {tool} are no JSON: {error}; call it again, with one JSON object")
    if value is None:
        return asked({})
    if not isinstance(value, dict):
        return asked(None, f"the arguments of {tool} must be one JSON object, and are {kind_of(value)}")
    return asked(value)


# ---------------------------------------------------------------- before they are run


def action_id(run: Run, position: int) -> str:
    """Of an action of the run's current iteration: always the same, so that a tool provider knows one that comes
    again."""
    digest = hashlib.sha256(f"{run.id}\n{run.iteration}\n{position}".encode()).hexdigest()
    return f"act_{run.iteration}_{position}_{digest[:32]}"


def as_action(run: Run, position: int, asked: Asked) -> Action:
    arguments = json.dumps(asked.arguments or {}, ensure_ascii=False, separators=(",", ":"))
    return Action(action_id(run, position), asked.tool, arguments, asked.call_id, asked.opaque)


async def problem_of(asked: Asked, offered: Mapping[str, Tool], frozen: Mapping[str, str]) -> str:
    """Why a call is not going to be run, for the model; empty: it is. `frozen`: the names of all tools that the run
    began with."""
    tool = offered.get(asked.tool)
    if tool is None:
        if asked.tool in frozen:
            return f"{asked.tool} is not offered any more: it has changed, or is gone, since the run began"
        known = f"; the tools are: {', '.join(list(offered)[:50])}" if offered else "; there are no tools"
        return f"Unknown tool: {asked.tool}{known}{did_you_mean(asked.tool, offered)}"
    if asked.arguments is None:
        return f"{asked.tool} was not run: {asked.problem}"
    return await _complaint(tool, asked.arguments)


async def _complaint(tool: Tool, arguments: dict[str, JSON]) -> str:
    await asyncio.sleep(0)  # each takes a while, and there may be many
    large = len(json.dumps(arguments)) > _LARGE
    schema = as_object_schema(tool.parameters)
    try:
        checker = Checker(schema)
        if not large and checker.is_known:
            try:
                return _checked(tool.name, schema, checker, arguments, QUICK_STEPS)
            except CannotCheck:
                pass
        return await in_thread(_checked, tool.name, schema, checker, arguments, MOST_STEPS)
    except CannotCheck as error:
        return f"{tool.name} was not run: the arguments are too large: {error}"


def _checked(tool: str, schema: Mapping[str, JSON], checker: Checker, arguments: dict[str, JSON], steps: int) -> str:
    faults, is_all = checker.faults(arguments, steps)
    if not faults or schema_problem(schema):  # who runs the tool checks them too, and may know the schema better
        return ""
    told = [words for fault in faults[:100] for _, words in in_words(fault, tool, schema, arguments)]
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else "" if is_all else "; and perhaps more"
    return f"{tool} was not run: {'; '.join(told[:_MOST_TOLD])}{more}"


# ---------------------------------------------------------------- running


async def run_all(
    tools: Tools, actions: Sequence[tuple[Action, Tool]], seconds: float, ended: Callable[[Observation], None]
) -> list[Observation]:
    """What each brought, in their order; `ended` is called as they end. Each may take `seconds`. Cancelled, it ends all
    that are under way and waits until they have."""
    running = [asyncio.ensure_future(_run(tools, action, tool, seconds, ended)) for action, tool in actions]
    try:
        return list(await asyncio.gather(*running))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _run(
    tools: Tools, action: Action, tool: Tool, seconds: float, ended: Callable[[Observation], None]
) -> Observation:
    try:
        async with asyncio.timeout(seconds + min(_SLACK, seconds / 20)):
            outcome = await tools.execute(action.tool, action.arguments, action.id, seconds)
    except TimeoutError:
        unknown = "" if tool.read_only else "; whether it took effect is not known"
        outcome = Outcome(f"{action.tool} did not end in the {seconds:.3g} s that it had{unknown}", is_error=True)
    content = outcome.text
    if outcome.denied and not content.strip():
        content = f"{action.tool} was denied"
    observation = Observation(action.id, content, is_error=outcome.is_error or outcome.denied, denied=outcome.denied)
    ended(observation)
    return observation
