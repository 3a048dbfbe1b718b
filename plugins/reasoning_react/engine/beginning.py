"""A run as it begins, out of what its caller wants and what the settings allow."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Mapping

from shared.errors import InvalidArgument, quoted
from shared.json_schema import as_object_schema, is_known, schema_problem
from shared.nearest import did_you_mean
from shared.off_loop import in_thread

from . import bounds
from .chat import Tool
from .interface import NewRun, Settings
from .run import Budget, Run

_FOR_EVER = 253_402_300_799.0  # the last second of the year 9999


async def begun(
    new: NewRun, settings: Settings, llms: Mapping[str, object], offered: Mapping[str, Tool], now: float
) -> Run:
    """The run. `offered`: the tool providers' tools; none of them where the caller's own are all that it needs. Raises
    InvalidArgument."""
    _check(new, llms)
    await _check_tools(new, offered)
    return Run(
        id=secrets.token_hex(16),
        nonce=secrets.token_hex(8),
        began=now,
        expires=now + settings.state_ttl if settings.state_ttl else _FOR_EVER,
        question=new.query.strip(),
        context=new.context.strip(),
        history=new.history,
        llm=new.llm,
        model=new.model or settings.model,
        temperature=settings.temperature if new.temperature is None else new.temperature,
        mode=new.mode or settings.mode,
        mode_is_fixed=(new.mode or settings.mode) is not None,
        host_executes=new.host_executes,
        max_iterations=new.max_iterations or settings.max_iterations,
        budget=bounds.lower(new.budget, Budget(settings.max_tokens, settings.max_tool_calls, settings.max_seconds)),
        given_tools=new.tools,
    )


def _check(new: NewRun, llms: Mapping[str, object]) -> None:
    numbers = {
        "max_iterations": new.max_iterations,
        "budget.max_tokens": new.budget.max_tokens,
        "budget.max_tool_calls": new.budget.max_tool_calls,
        "budget.max_seconds": new.budget.max_seconds,
        "temperature": new.temperature or 0.0,
    }
    for name, number in numbers.items():
        if not 0 <= number < math.inf:  # not so for NaN either
            raise InvalidArgument(f"{name} is {number:g}; send 0 or more", field=name)
    if new.llm and new.llm not in llms:
        meant = did_you_mean(new.llm, llms) or f"; there are: {', '.join(list(llms)[:20])}"
        raise InvalidArgument(f"there is no llm named {quoted(new.llm)}{meant}", reason="UNKNOWN_LLM", field="llm")


async def _check_tools(new: NewRun, offered: Mapping[str, Tool]) -> None:
    """Of the caller's tools."""
    for name, count in Counter(tool.name for tool in new.tools).items():
        if not name.strip() or count > 1:
            problem = f"the name {quoted(name)} twice" if name.strip() else "one without a name"
            raise InvalidArgument(f"tools have {problem}; give each a name of its own", field="tools")
    for place, tool in enumerate(new.tools):
        field = f"tools[{place}]"
        if not new.host_executes and tool.name not in offered:
            raise InvalidArgument(
                f"Unknown tool: {tool.name}: no tool provider has it; set host_executes to run it yourself"
                f"{did_you_mean(tool.name, offered)}",
                reason="UNKNOWN_TOOL",
                field=f"{field}.name",
            )
        schema = as_object_schema(tool.parameters)
        if problem := schema_problem(schema) if is_known(schema) else await in_thread(schema_problem, schema):
            raise InvalidArgument(f"the parameters of {tool.name}: {problem}", field=f"{field}.parameters")
