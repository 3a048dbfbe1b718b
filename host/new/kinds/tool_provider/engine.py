"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: a function for each tool, and what a model has to know to call it, in the list of `Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs

from shared.errors import InvalidArgument, NotFound, StartError, quoted

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    name: str
    description: str  # for the model: what it does and when to use it
    parameters: dict[str, Any]  # a JSON Schema of type object
    run: Callable[[Arguments], str]  # runs in a thread, with arguments that fit the schema; gives text for the model
    read_only: bool = False  # it changes nothing anywhere, so that to run it twice does no harm


class Engine:
    def __init__(self, timezone: str) -> None:
        """Raises StartError where `timezone` is none."""
        try:
            clock = Clock(timezone)
        except InvalidArgument as error:
            raise StartError(f"setting timezone: {error}") from None
        tools = [
            Tool(
                name="current_time",
                description="Tells the date and the time of day, now, in a time zone.",
                parameters={
                    "type": "object",
                    "properties": {
                        "timezone": {"type": "string", "description": f"Such as Europe/Berlin; {timezone} unless said."}
                    },
                    "additionalProperties": False,
                },
                run=clock.now,
                read_only=True,
            )
        ]
        self.tools = {tool.name: tool for tool in tools}
        self._validators = {tool.name: _validator(tool) for tool in tools}

    def tool(self, name: str) -> Tool:
        """Raises NotFound, in words that hosts know."""
        if name not in self.tools:
            raise NotFound(f"Unknown tool: {name}", field="tool")
        return self.tools[name]

    def run(self, tool: Tool, arguments: Arguments) -> str:
        """What the tool gives. Raises InvalidArgument, naming each argument at fault, before anything has run."""
        faults = [
            (".".join(["parameters", *map(str, error.instance_path)]), error.message[:200])
            for error in self._validators[tool.name].iter_errors(arguments)
        ]
        if faults:
            sentence = "; ".join(f"{field}: {problem}" for field, problem in faults)
            raise InvalidArgument(f"the arguments of {tool.name} do not fit its schema: {sentence}", violations=faults)
        return tool.run(arguments)


def _validator(tool: Tool) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(tool.parameters)
    except jsonschema_rs.ValidationError as error:
        place = ".".join(["parameters", *map(str, error.instance_path)])
        raise StartError(f"tool {tool.name}: {place} is no JSON Schema: {error.message}") from None


class Clock:
    """A tool that has something to remember between calls is a class; any other is a plain function."""

    def __init__(self, timezone: str) -> None:
        self._zone = _zone(timezone)

    def now(self, arguments: Arguments) -> str:
        zone = _zone(arguments["timezone"]) if "timezone" in arguments else self._zone
        return datetime.now(zone).strftime("%A, %Y-%m-%d %H:%M:%S %z")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        message = f"there is no time zone {quoted(name)}; name one as Europe/Berlin"
        raise InvalidArgument(message, field="parameters.timezone") from None
