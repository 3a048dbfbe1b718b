"""ToolProvider over the engine: messages in, messages out. What is raised here becomes the reply's error."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ToolProviderServicer

from shared.fields import take_only
from shared.off_loop import in_thread
from shared.repeats import Repeats, Run
from shared.structs import dump, fill, read_object, whole_numbers

from .engine import Arguments, Engine, Tool

Context = grpc.aio.ServicerContext[Any, Any]

# Counted before a request is converted, which takes time. In bytes.
MOST_ITEMS = {"ExecuteTool": {"parameters": 2**15, "parameters_json": 2**18, "tool": 2**10, "call_id": 2**10}}
TOO_LARGE_HINTS = {"ExecuteTool": "ask for fewer max_result_chars"}


class Servicer(ToolProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A call that is repeated, with its `call_id`, is answered from here and does not run twice.
        self._repeats: Repeats[str] = Repeats(
            most=1000, most_bytes=2**24, seconds=600.0, most_runs=100, most_held=2**24
        )

    async def ListTools(self, request: pb.ListToolsRequest, context: Context) -> pb.ListToolsResponse:
        return pb.ListToolsResponse(tools=map(_message, self._engine.tools.values()))

    async def GetToolSchema(self, request: pb.GetToolSchemaRequest, context: Context) -> pb.GetToolSchemaResponse:
        message = _message(self._engine.tool(request.tool))
        return pb.GetToolSchemaResponse(success=True, schema=message.parameters, schema_json=message.parameters_json)

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Context) -> pb.ExecuteToolResponse:
        take_only(request, "tool", "parameters", "parameters_json", "call_id", "max_result_chars")
        tool = self._engine.tool(request.tool)
        sent = read_object(request.parameters, request.parameters_json, "parameters")
        arguments = sent if request.parameters_json else whole_numbers(sent)  # a Struct knows no integers
        text = await self._run(tool, arguments, request.call_id)
        max_chars = request.max_result_chars or len(text)
        return pb.ExecuteToolResponse(
            success=True, result=text[:max_chars], truncated=len(text) > max_chars, content_type="text/plain"
        )

    async def _run(self, tool: Tool, arguments: Arguments, call_id: str) -> str:
        async def work() -> str:
            return await in_thread(self._engine.run, tool, arguments)

        if not call_id:
            return await work()
        digest = hashlib.sha256(dump([tool.name, arguments]).encode()).digest()
        run = Run(work, size=len, keep=lambda _: True, repeatable=tool.read_only)
        return (await self._repeats.answer(call_id, digest, run))[0]


def _message(tool: Tool) -> pb.Tool:
    message = pb.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=dump(tool.parameters),
        read_only=tool.read_only,
        idempotent=tool.read_only,
    )
    fill(message.parameters, tool.parameters)
    return message
