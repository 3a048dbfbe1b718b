"""LLMProvider over the engine: messages in, messages out, nothing else.

Unlike the other plugins' replies, these have no `success`: every error is a gRPC status, so none is caught here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.struct_pb2 import Struct
from hector_plugins_pb2_grpc import LLMProviderServicer

from shared.errors import InvalidArgument
from shared.json_schema import as_object_schema
from shared.off_loop import in_thread
from shared.structs import dump, fill, read_object, whole_numbers

from .engine import (
    Delta,
    Engine,
    Finish,
    Format,
    Message,
    Model,
    Options,
    Part,
    Reply,
    Request,
    Tool,
    ToolCall,
    Usage,
)
from .engine.json_text import read

Context = grpc.aio.ServicerContext[Any, Any]
AnyRequest = pb.GenerateTextRequest | pb.StreamTextRequest | pb.CallToolRequest
AnyReply = TypeVar("AnyReply", pb.GenerateTextResponse, pb.StreamTextResponse, pb.CallToolResponse)

TOO_LARGE_HINTS = {"GenerateText": "ask for fewer max_tokens, or use StreamText"}

MOST_ITEMS = {name: {"messages": 20_000, "tools": 1_024} for name in ("GenerateText", "StreamText", "CallTool")}

_FORMATS = {
    pb.RESPONSE_FORMAT_UNSPECIFIED: Format.TEXT,
    pb.RESPONSE_FORMAT_TEXT: Format.TEXT,
    pb.RESPONSE_FORMAT_JSON: Format.JSON,
    pb.RESPONSE_FORMAT_JSON_SCHEMA: Format.JSON_SCHEMA,
}
_FINISHES = {
    Finish.UNKNOWN: pb.FINISH_REASON_UNSPECIFIED,
    Finish.STOP: pb.FINISH_REASON_STOP,
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    Finish.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
    Finish.OTHER: pb.FINISH_REASON_OTHER,
}


_MOST_TOKENS = 2**31 - 1  # an int32 holds no more
_MANY_MODELS = 500
_LARGE_REQUEST, _MANY = 2**13, 200  # bytes, messages and tools: more take milliseconds to be read
_LARGE_ARGUMENTS = 2**13  # characters, likewise
_LARGEST_STRUCT = 2**20  # bytes of arguments that come as a Struct too, which takes thirty times as much
_LONGEST_DELTA = 2**18  # characters of one message of a stream, which may have four times as many bytes
_LONGEST_JSON = 2**20  # characters of a schema, and of extra_json


class Servicer(LLMProviderServicer):
    def __init__(self, engine: Engine, *, timeout: float, max_reply_bytes: int) -> None:
        """`timeout` is the server's own bound on a call in seconds, 0 for none. Messages of a stream are kept below
        `max_reply_bytes`, past which the server refuses them."""
        self._engine = engine
        self._timeout = timeout
        self._most = max_reply_bytes
        self._longest = min(_LONGEST_DELTA, max_reply_bytes // 16)

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        reply = await self._engine.generate(await _read_request(request), self._left(context))
        return await _fill(pb.GenerateTextResponse(text=reply.text), reply, self._most)

    async def StreamText(self, request: pb.StreamTextRequest, context: Context) -> AsyncIterator[pb.StreamTextResponse]:
        # Closed here, whatever ends the call, and with it the connection to the endpoint.
        items = self._engine.stream(await _read_request(request), self._left(context))
        async with contextlib.aclosing(items):
            async for item in items:
                if isinstance(item, Reply):
                    yield await _fill(pb.StreamTextResponse(done=True), item, self._most)
                elif item.length <= self._longest:
                    yield _delta(item)
                else:
                    for piece in item.split(self._longest):
                        yield _delta(piece)

    async def CallTool(self, request: pb.CallToolRequest, context: Context) -> pb.CallToolResponse:
        reply = await self._engine.call_tool(await _read_request(request), self._left(context))
        return await _fill(pb.CallToolResponse(text=reply.text), reply, self._most)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models = await self._engine.models()
        return await in_thread(_models, models) if len(models) > _MANY_MODELS else _models(models)

    def _left(self, context: Context) -> float | None:
        bounds = [bound for bound in (context.time_remaining(), self._timeout or None) if bound is not None]
        return min(bounds, default=None)


def _models(models: Iterable[Model]) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(
        models=[
            pb.ModelInfo(
                id=model.id,
                owned_by=model.owned_by,
                created=model.created,
                context_length=model.context_length,
                max_output_tokens=model.max_output_tokens,
                capabilities=model.capabilities,
                is_default=model.is_default,
            )
            for model in models
        ]
    )


async def _read_request(request: AnyRequest) -> Request:
    large = len(request.messages) + len(request.tools) > _MANY or request.ByteSize() > _LARGE_REQUEST
    return await in_thread(_request, request) if large else _request(request)


def _request(request: AnyRequest) -> Request:
    for number, tool in enumerate(request.tools):
        _bounded(tool.parameters_json, f"tools[{number}].parameters_json")
    _bounded(request.options.json_schema, "options.json_schema")
    _bounded(request.options.extra_json, "options.extra_json")
    messages = [_message(message, f"messages[{n}]") for n, message in enumerate(request.messages)]
    if request.prompt:
        messages.append(Message("user", request.prompt))
    tools = tuple(_tool(tool, f"tools[{n}]") for n, tool in enumerate(request.tools))
    return Request(tuple(messages), request.model, tools, _options(request.options))


def _bounded(text: str, field: str) -> None:
    """Refuses JSON that would take seconds to read, in which nothing else runs."""
    if len(text) > _LONGEST_JSON:
        raise InvalidArgument(f"{field} has more than {_LONGEST_JSON} characters", field=field)


def _message(message: pb.ChatMessage, field: str) -> Message:
    return Message(
        message.role,
        message.content,
        tuple(Part(part.text, part.url, part.data, part.mime_type) for part in message.parts),
        tuple(_call(call, f"{field}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls)),
        message.tool_call_id,
        message.name,
        message.opaque,
    )


def _call(call: pb.ToolCall, field: str) -> ToolCall:
    # Text goes back as the model wrote it, also where it is no JSON.
    arguments = call.arguments_json or dump(whole_numbers(read_object(call.arguments, "", f"{field}.arguments")))
    return ToolCall(call.id, call.name, arguments, opaque=call.opaque)


def _tool(tool: pb.Tool, field: str) -> Tool:
    parameters = read_object(tool.parameters, tool.parameters_json, f"{field}.parameters")
    return Tool(tool.name, tool.description, as_object_schema(whole_numbers(parameters)))


def _options(options: pb.GenerationOptions) -> Options:
    set_ = {field.name for field, _ in options.ListFields()}  # also those that were set to their zero

    def given(name: str) -> Any:
        return getattr(options, name) if name in set_ else None

    if options.response_format not in _FORMATS:
        raise InvalidArgument(
            f"response_format {options.response_format} is not one of the contract's", field="options.response_format"
        )
    return Options(
        temperature=given("temperature"),
        top_p=given("top_p"),
        max_tokens=given("max_tokens"),
        stop=tuple(options.stop),
        seed=given("seed"),
        presence_penalty=given("presence_penalty"),
        frequency_penalty=given("frequency_penalty"),
        format=_FORMATS[options.response_format],
        schema=_schema(options.json_schema) if options.json_schema else None,
        reasoning_effort=options.reasoning_effort,
        tool_choice=options.tool_choice,
        parallel_tool_calls=given("parallel_tool_calls"),
        extra=read_object(Struct(), options.extra_json, "options.extra") if options.extra_json else {},
    )


def _schema(text: str) -> dict[str, Any]:
    try:
        schema = read(text)
    except ValueError as error:
        raise InvalidArgument(f"options.json_schema is not JSON: {error}", field="options.json_schema") from None
    if not isinstance(schema, dict):
        raise InvalidArgument("options.json_schema must be a JSON object", field="options.json_schema")
    return schema


def _delta(delta: Delta) -> pb.StreamTextResponse:
    message = pb.StreamTextResponse(text=delta.text)
    if delta.reasoning:
        message.reasoning = delta.reasoning
    if (call := delta.call) is not None:
        message.tool_call_delta.index = call.index
        message.tool_call_delta.id = call.id
        message.tool_call_delta.name = call.name
        message.tool_call_delta.arguments_json = call.arguments
    return message


async def _fill(message: AnyReply, reply: Reply, most: int) -> AnyReply:
    size = sum(len(call.arguments) for call in reply.tool_calls)
    return await in_thread(_filled, message, reply, most) if size > _LARGE_ARGUMENTS else _filled(message, reply, most)


def _filled(message: AnyReply, reply: Reply, most: int) -> AnyReply:
    """`message` with all that the three replies have in common; it may have `most` bytes."""
    is_stream = isinstance(message, pb.StreamTextResponse)
    message.tool_calls.extend(_tool_calls(reply.tool_calls, most * 7 // 8 - message.ByteSize(), is_stream))
    message.finish_reason = _FINISHES[reply.finish]
    message.raw_finish_reason = reply.raw_finish
    if reply.usage is not None:
        message.usage.CopyFrom(_usage(reply.usage))
    message.reasoning = "" if is_stream else reply.reasoning  # it went out in pieces
    message.refusal = reply.refusal
    message.model = reply.model
    message.response_id = reply.id
    message.dropped_params.extend(reply.dropped)
    message.opaque = reply.opaque
    return message


def _tool_calls(calls: Sequence[ToolCall], room: int, is_stream: bool) -> Iterator[pb.ToolCall]:
    """In at most about `room` bytes: Structs are left out first, and of a stream the arguments that went out before."""
    sizes = [len(call.arguments) if call.arguments.isascii() else len(call.arguments.encode()) for call in calls]
    left_out = is_stream and sum(sizes) > room
    room -= sum(sizes)
    for call, size in zip(calls, sizes, strict=True):
        if left_out:
            many = f"the arguments have {size} bytes, too many for one message: they are what the deltas add up to"
            yield pb.ToolCall(id=call.id, name=call.name, arguments_error=call.error or many, opaque=call.opaque)
            continue
        message = pb.ToolCall(
            id=call.id,
            name=call.name,
            arguments_json=call.arguments,
            arguments_valid=not call.error,
            arguments_error=call.error,
            opaque=call.opaque,
        )
        with contextlib.suppress(ValueError):
            if size <= min(_LARGEST_STRUCT, room):
                value = read(call.arguments)
                if isinstance(value, dict):
                    fill(message.arguments, value)
            if message.arguments.ByteSize() > room:
                message.ClearField("arguments")
            room -= message.arguments.ByteSize()
        yield message


def _usage(usage: Usage) -> pb.TokenUsage:
    return pb.TokenUsage(
        prompt_tokens=min(usage.prompt, _MOST_TOKENS),
        completion_tokens=min(usage.completion, _MOST_TOKENS),
        total_tokens=min(usage.total, _MOST_TOKENS),
        reasoning_tokens=min(usage.reasoning, _MOST_TOKENS),
        cached_tokens=min(usage.cached, _MOST_TOKENS),
        source=pb.USAGE_SOURCE_PROVIDER,
    )
