"""LLMProvider over the engine: messages in, messages out. What is raised here becomes the call's gRPC status."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import LLMProviderServicer

from shared.errors import InvalidArgument, NotFound, Unsupported, quoted
from shared.structs import read_object

from .engine import Engine, Message, Tool

Context = grpc.aio.ServicerContext[Any, Any]
Request = pb.GenerateTextRequest | pb.StreamTextRequest | pb.CallToolRequest

# Counted before a request is converted, which takes time.
_MOST = {"messages": 1000, "tools": 200}
MOST_ITEMS = {"GenerateText": _MOST, "StreamText": _MOST, "CallTool": _MOST}
_LARGEST = 2**18  # bytes of a request, which the event loop has the time to look at


class Ended(NamedTuple):
    """How a turn ended."""

    reason: pb.FinishReason.ValueType
    usage: pb.TokenUsage


class Servicer(LLMProviderServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        reply = pb.GenerateTextResponse(
            model=self._engine.model, dropped_params=_dropped(request.options, "max_tokens")
        )
        pieces: list[str] = []
        async for piece in self._turn(request):
            if isinstance(piece, str):
                pieces.append(piece)
            else:
                reply.finish_reason = piece.reason
                reply.usage.CopyFrom(piece.usage)
        reply.text = "".join(pieces)
        return reply

    async def StreamText(self, request: pb.StreamTextRequest, context: Context) -> AsyncIterator[pb.StreamTextResponse]:
        async for piece in self._turn(request):
            if isinstance(piece, str):
                yield pb.StreamTextResponse(text=piece)
            else:
                yield pb.StreamTextResponse(
                    done=True,
                    finish_reason=piece.reason,
                    usage=piece.usage,
                    model=self._engine.model,
                    dropped_params=_dropped(request.options, "max_tokens"),
                )

    async def CallTool(self, request: pb.CallToolRequest, context: Context) -> pb.CallToolResponse:
        messages = self._messages(request)
        tools = [Tool(tool.name, read_object(tool.parameters, tool.parameters_json, "tools")) for tool in request.tools]
        if not tools:
            raise InvalidArgument("tools is empty; offer the model at least one", field="tools")
        reply = pb.CallToolResponse(
            model=self._engine.model,
            finish_reason=pb.FINISH_REASON_TOOL_CALLS,
            dropped_params=_dropped(request.options),
        )
        for call in await self._engine.call(messages, tools):
            reply.tool_calls.add(
                id=f"call_{secrets.token_hex(8)}",
                name=call.tool,
                arguments_json=call.arguments_json,
                arguments_error="not checked against the tool's schema",
            )
        return reply

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[pb.ModelInfo(id=self._engine.model, capabilities=["tools"])])

    async def _turn(self, request: pb.GenerateTextRequest | pb.StreamTextRequest) -> AsyncIterator[str | Ended]:
        """The pieces of the answer, and then how it ended."""
        messages = self._messages(request)
        max_tokens, written = request.options.max_tokens or 2**31, 0
        reason = pb.FINISH_REASON_STOP
        async with aclosing(self._engine.write(messages)) as pieces:  # the model stops writing where nobody reads on
            async for piece in pieces:
                if written == max_tokens:
                    reason = pb.FINISH_REASON_LENGTH
                    break
                written += 1
                yield piece
        read = self._engine.count(messages)
        yield Ended(reason, pb.TokenUsage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written))

    def _messages(self, request: Request) -> list[Message]:
        if request.model not in ("", self._engine.model):
            raise NotFound(f"there is no model {quoted(request.model)}; ListModels has those there are", field="model")
        if request.ByteSize() > _LARGEST:
            too_long = f"the request has more than {_LARGEST} bytes, more than the model reads; send less of it"
            raise InvalidArgument(too_long, reason="CONTEXT_LENGTH_EXCEEDED")
        for index, message in enumerate(request.messages):
            if message.parts:
                raise Unsupported(f"messages[{index}].parts: this model reads text alone; send it as content")
        messages = [Message(message.role, message.content) for message in request.messages]
        if request.prompt:
            messages.append(Message("user", request.prompt))
        if not messages:
            raise InvalidArgument("there is neither `prompt` nor `messages`; send one of them", field="prompt")
        return messages


def _dropped(options: pb.GenerationOptions, *used: str) -> Sequence[str]:
    """The options that were sent and make no difference here; the reply says so."""
    return [field.name for field, _ in options.ListFields() if field.name not in used]
