"""ToolProvider over the engine: messages in, messages out, nothing else."""

from __future__ import annotations

import json
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.struct_pb2 import Struct
from hector_plugins_pb2_grpc import ToolProviderServicer, add_ToolProviderServicer_to_server

from shared import logs
from shared.errors import CallerError
from shared.off_loop import in_thread
from shared.status import failure
from shared.structs import dump, fill, fill_value, read_object, whole_numbers

from .engine.engine import Engine, Invocation
from .engine.model_schema import for_models
from .engine.replies import Result
from .engine.tool import ABSENT, Tool

Context = grpc.aio.ServicerContext[Any, Any]

TOO_LARGE_HINTS = {
    "ListTools": "exclude operations, or have a larger max_reply_bytes",
    "ExecuteTool": "ask for fewer max_result_chars",
}
# Bytes of a Struct: read a hundred times as slowly as JSON, which parameters_json takes.
MOST_ITEMS = {"ExecuteTool": {"parameters": 2**20, "tool": 2**12, "call_id": 2**12, "cursor": 2**12}}

_LARGE = 2**12  # bytes of a Struct, characters of a structured result: more take milliseconds
_LARGEST_VALUE = 2**18  # characters of a structured result that comes as a Value too; a larger one as JSON alone
_ROOM = 64 * 2**10  # bytes of a reply beside its tools


def register(server: grpc.aio.Server, servicer: Servicer) -> None:
    """Adds the servicer to the server, with ListTools from bytes: to pack a thousand tools takes 8 ms."""
    add_ToolProviderServicer_to_server(servicer, server)
    list_tools = grpc.unary_unary_rpc_method_handler(
        servicer.ListTools, request_deserializer=pb.ListToolsRequest.FromString, response_serializer=bytes
    )
    service = pb.DESCRIPTOR.services_by_name["ToolProvider"].full_name
    server.add_registered_method_handlers(service, {"ListTools": list_tools})


class Servicer(ToolProviderServicer):
    def __init__(self, engine: Engine, *, timeout: float, max_reply_bytes: int) -> None:
        """`timeout` is the server's own bound on a call in seconds, 0 for none."""
        self._engine = engine
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self.prepare()

    def prepare(self) -> None:
        """Packs the tools that the engine has now: for a thousand of them it takes a while, and calls should not."""
        messages = {tool.name: _tool(tool) for tool in self._engine.tools}
        if sum(message.ByteSize() + 6 for message in messages.values()) > self._max_reply_bytes - _ROOM:
            # The JSON beside it says the same, in half of the bytes.
            logs.event("tools_without_struct", tools=len(messages), remedy="have a larger max_reply_bytes")
            for message in messages.values():
                message.ClearField("parameters")
        self._messages = messages
        self._list = pb.ListToolsResponse(tools=messages.values()).SerializeToString()

    async def ListTools(  # type: ignore[override]  # `register` sends it as it is
        self, request: pb.ListToolsRequest, context: Context
    ) -> bytes:
        """The reply of ListTools as it goes out."""
        return self._list

    async def GetToolSchema(self, request: pb.GetToolSchemaRequest, context: Context) -> pb.GetToolSchemaResponse:
        try:
            tool = self._messages[self._engine.tool(request.tool).name]
        except CallerError as error:
            return failure(pb.GetToolSchemaResponse(), error)
        return pb.GetToolSchemaResponse(
            success=True,
            schema=tool.parameters,
            schema_json=tool.parameters_json,
            output_schema_json=tool.output_schema_json,
        )

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Context) -> pb.ExecuteToolResponse:
        try:
            arguments = request.parameters_json or await _arguments(request.parameters)
            result = await self._engine.execute(
                Invocation(
                    tool=request.tool,
                    arguments=arguments,
                    call_id=request.call_id,
                    cursor=request.cursor,
                    max_chars=request.max_result_chars,
                    seconds=self._left(context),
                )
            )
        except CallerError as error:
            return failure(pb.ExecuteToolResponse(), error)
        return await in_thread(_reply, result) if result.size > _LARGE else _reply(result)

    def _left(self, context: Context) -> float | None:
        bounds = [bound for bound in (context.time_remaining(), self._timeout or None) if bound is not None]
        return min(bounds, default=None)


def _tool(tool: Tool) -> pb.Tool:
    message = pb.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=dump(for_models(tool.parameters)),
        output_schema_json="" if tool.output_schema is None else dump(tool.output_schema),
        read_only=tool.read_only,
        destructive=tool.destructive,
        idempotent=tool.idempotent,
    )
    fill(message.parameters, json.loads(message.parameters_json))
    return message


async def _arguments(struct: Struct) -> dict[str, Any]:
    large = len(struct.fields) > 100 or struct.ByteSize() > _LARGE
    return await in_thread(_from_struct, struct) if large else _from_struct(struct)


def _from_struct(struct: Struct) -> dict[str, Any]:
    arguments: dict[str, Any] = whole_numbers(read_object(struct, "", "parameters"))
    return arguments


def _reply(result: Result) -> pb.ExecuteToolResponse:
    # Of a call that failed and brought nothing there is no type.
    is_result = not (result.error and not result.text and result.structured is ABSENT)
    reply = pb.ExecuteToolResponse(
        success=True,
        result=result.text.encode("utf-8", "replace").decode(),  # half of a surrogate pair has no UTF-8
        content_type=result.content_type if is_result else "",
        truncated=result.truncated,
        next_cursor=result.next_cursor,
    )
    if result.structured_json is not None:
        reply.structured_json = result.structured_json
    elif result.structured is not ABSENT:
        _fill_structured(reply, result)
    if result.metadata:
        _fill_metadata(reply, dict(result.metadata))
    return reply if result.error is None else failure(reply, result.error)


def _fill_structured(reply: pb.ExecuteToolResponse, result: Result) -> None:
    """As a Value and, where that cannot say the same or would be too large, as JSON."""
    structured = result.structured
    try:
        if result.size > _LARGE and len(text := dump(structured)) > _LARGEST_VALUE:
            reply.structured_json = text
        elif not fill_value(reply.structured, structured):
            reply.structured_json = dump(structured)
    except UnicodeEncodeError:
        reply.ClearField("structured")
        # Half of a surrogate pair, which JSON can spell and a protobuf string cannot hold.
        reply.structured_json = json.dumps(structured)


def _fill_metadata(reply: pb.ExecuteToolResponse, metadata: dict[str, Any]) -> None:
    try:
        if not fill(reply.metadata, metadata):
            reply.metadata_json = dump(metadata)
    except UnicodeEncodeError:
        reply.ClearField("metadata")
        reply.metadata_json = json.dumps(metadata)
