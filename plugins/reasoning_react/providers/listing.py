"""What a tool provider lists, as tools; those are left out that no model could be offered."""

from __future__ import annotations

from collections.abc import Sequence

import hector_plugins_pb2 as pb

from shared import logs
from shared.errors import InvalidArgument
from shared.json_schema import as_object_schema, schema_problem
from shared.structs import read_object, whole_numbers

from ..engine.chat import Tool

_MOST_TOOLS = 1_000
_LARGEST_SCHEMA = 2**17  # bytes; no model reads as much for a tool
_MOST_BYTES = 2**20  # of all its tools; no model reads as much
_LONGEST_DESCRIPTION = 2**14  # characters


def read_tools(reply: pb.ListToolsResponse, provider: str) -> Sequence[Tool]:
    """Takes about a second for all that is looked at. `provider`: its name, for the log."""
    tools, room = [], _MOST_BYTES
    for message in reply.tools[:_MOST_TOOLS]:
        try:
            size = min(len(message.description), _LONGEST_DESCRIPTION) + _schema_bytes(message)
            if size > room:
                raise InvalidArgument(f"the tools together have more than {_MOST_BYTES:,} bytes")
            tools.append(_tool(message))
            room -= size
        except InvalidArgument as error:
            logs.event("tool_left_out", provider=provider, tool=message.name[:80], reason=error.message)
    if len(reply.tools) > _MOST_TOOLS:
        logs.event("tools_cut", provider=provider, kept=_MOST_TOOLS, listed=len(reply.tools))
    return tools


def _tool(message: pb.Tool) -> Tool:
    """Raises InvalidArgument where it cannot be offered."""
    if not message.name:
        raise InvalidArgument("it has no name")
    if _schema_bytes(message) > _LARGEST_SCHEMA:
        raise InvalidArgument(f"its schema has more than {_LARGEST_SCHEMA:,} bytes")
    schema = as_object_schema(whole_numbers(read_object(message.parameters, message.parameters_json, "parameters")))
    if problem := schema_problem(schema):
        raise InvalidArgument(problem)
    description = message.description
    if len(description) > _LONGEST_DESCRIPTION:
        description = description[:_LONGEST_DESCRIPTION] + "…"
    return Tool(
        message.name,
        description,
        schema,
        read_only=message.read_only,
        destructive=message.destructive,
        idempotent=message.idempotent,
    )


def _schema_bytes(message: pb.Tool) -> int:
    return len(message.parameters_json) or message.parameters.ByteSize()
