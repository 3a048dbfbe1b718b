"""An LLM provider over gRPC."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToDict
from hector_plugins_pb2_grpc import LLMProviderStub

from shared.client import Address, channel
from shared.errors import Code
from shared.off_loop import in_thread
from shared.structs import dump, whole_numbers

from ..engine.bounded import LONGEST_ARGUMENTS
from ..engine.chat import Abilities, Delta, Finish, Message, Tool, ToolCall, Turn, TurnRequest, Usage
from ..engine.ports import LLMFailed
from .abilities import Asked
from .calling import metadata, who, without_token
from .failure import Failure, of_call

_LIST_SECONDS = 5.0
_MOST_MODELS = 1_000  # that are remembered
_MOST_BYTES = 2**23  # of a turn; a provider that writes on is cut off there
_LARGEST_MESSAGE = 2**22  # bytes; plugins send no larger ones unless they are told to
_OF_A_MESSAGE = 4  # bytes that one counts for, however little is in it
_MOST_CALLS = 100  # of a turn; more are not run
_MOST_DROPPED = 100
_LARGE = 2**14  # bytes of a message: to read more may take milliseconds
_MOST_PACKED = 2**21  # bytes of the tools whose messages are kept; the tools themselves take ten times as much

_FINISHES = {
    pb.FINISH_REASON_STOP: Finish.STOP,
    pb.FINISH_REASON_LENGTH: Finish.LENGTH,
    pb.FINISH_REASON_TOOL_CALLS: Finish.TOOL_CALLS,
    pb.FINISH_REASON_CONTENT_FILTER: Finish.CONTENT_FILTER,
    pb.FINISH_REASON_OTHER: Finish.OTHER,
}
_OF_TOOLS = re.compile(r"\btools?\b|tool[ _-]?(?:call|choice|use)|function[ _-]?call", re.IGNORECASE)
_REFUSES = re.compile(r"not support|unsupported|not enabled|requires?\b|not implemented|not available", re.IGNORECASE)
_OF_THE_REQUEST = (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED)


class GrpcLLM:
    """`engine/ports.py`'s LLM. Made where the event loop runs. Raises StartError where a TLS file cannot be used."""

    def __init__(self, name: str, address: Address) -> None:
        """`name`: the setting's."""
        self._name = who(name, address)
        self._address = address
        self._channel = channel(address, aio=True, largest=_LARGEST_MESSAGE)
        self._stub: Any = LLMProviderStub(self._channel)
        self._abilities = Asked(self._list_models)
        self._packed: OrderedDict[int, tuple[Tool, pb.Tool]] = OrderedDict()
        self._packed_bytes = 0

    async def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        """See ports.LLM. A provider that does not stream is asked for the whole turn."""
        has_begun = False
        try:
            try:
                async with contextlib.aclosing(self._stream(request)) as items:
                    async for item in items:
                        has_begun = True
                        yield item
                return
            except grpc.aio.AioRpcError as error:
                if has_begun or not _is_no_method(of_call(error)):
                    raise
            yield await self._whole(request)
        except grpc.aio.AioRpcError as error:
            failure = of_call(error)
            told = without_token(failure.message, self._address)
            raise self._failed(replace(failure, message=told), request) from None

    async def abilities(self, model: str) -> Abilities:
        return await self._abilities.of(model)

    async def close(self) -> None:
        await self._channel.close()

    # ------------------------------------------------------------ turns

    async def _stream(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        call = self._stub.StreamText(
            pb.StreamTextRequest(**self._fields(request)), metadata=metadata(self._address), wait_for_ready=False
        )
        texts: list[str] = []
        reasoning: list[str] = []
        size = 0
        try:
            # Not `async for`: left before its end, that is a ring of objects that waits for the garbage collector.
            while (message := await call.read()) is not grpc.aio.EOF:
                size += _OF_A_MESSAGE + (bytes_of := message.ByteSize())
                if message.text or message.reasoning:
                    texts.append(message.text)
                    reasoning.append(message.reasoning)
                    yield Delta(message.text, message.reasoning)
                if message.done:
                    last = "".join(texts), "".join(reasoning), message
                    turn = await in_thread(_turn, *last) if bytes_of > _LARGE else _turn(*last)
                    yield self._checked(turn, request)
                    return
                if size > _MOST_BYTES:
                    yield Turn("".join(texts), "".join(reasoning), finish=Finish.LENGTH)
                    return
        finally:
            call.cancel()
        raise LLMFailed(
            f"the LLM provider {self._name} ended its reply before it was whole; take the step again",
            reason="STREAM_TRUNCATED",
            retry_after=1.0,
        )

    async def _whole(self, request: TurnRequest) -> Turn:
        reply = await self._stub.GenerateText(
            pb.GenerateTextRequest(**self._fields(request)), metadata=metadata(self._address), wait_for_ready=False
        )
        turn = await in_thread(_turn, reply.text, reply.reasoning, reply)
        return self._checked(turn, request)

    def _checked(self, turn: Turn, request: TurnRequest) -> Turn:
        if request.tools and "tools" in turn.dropped:
            raise LLMFailed(
                f"the LLM provider {self._name} leaves tools out, since the model does not take them",
                code=Code.INVALID_ARGUMENT,
                reason="TOOLS_REFUSED",
                tools_refused=True,
            )
        return turn

    def _failed(self, failure: Failure, request: TurnRequest) -> LLMFailed:
        if failure.code is Code.CANCELLED:  # by the server, as by one that shuts down
            failure = replace(failure, code=Code.UNAVAILABLE)
        too_long = failure.reason == "CONTEXT_LENGTH_EXCEEDED"
        refused = bool(request.tools) and not too_long and _refuses_tools(failure)
        return LLMFailed(
            self._words(failure),
            code=failure.code,
            reason=failure.reason or _REASONS.get(failure.code, "LLM_FAILED"),
            retry_after=failure.retry_after or (1.0 if failure.code is Code.UNAVAILABLE else None),
            tools_refused=refused,
            too_long=too_long,
        )

    def _words(self, failure: Failure) -> str:
        if failure.reason and not _is_no_method(failure):
            return f"the LLM provider {self._name}: {failure.message}"
        if failure.is_reply_too_large:
            return f"the LLM provider {self._name} sent a message of more than {_LARGEST_MESSAGE:,} bytes"
        # gRPC's own words name addresses of this network.
        match failure.code:
            case Code.UNAVAILABLE:
                return f"the LLM provider {self._name} is not there, or has gone; start it, or correct the setting llm"
            case Code.UNAUTHENTICATED | Code.PERMISSION_DENIED:
                return f"the LLM provider {self._name} refuses this plugin; correct the token in the setting llm"
            case Code.UNIMPLEMENTED:
                return f"the LLM provider {self._name} is another kind of server; correct the setting llm"
            case Code.RESOURCE_EXHAUSTED | Code.INVALID_ARGUMENT | Code.FAILED_PRECONDITION | Code.NOT_FOUND:
                return f"the LLM provider {self._name} refuses the call: {failure.message}"
        return f"the LLM provider {self._name} failed with {failure.code.name}; its log may say why"

    # ------------------------------------------------------------ requests

    def _fields(self, request: TurnRequest) -> dict[str, Any]:
        options = pb.GenerationOptions(stop=request.stop)
        if request.temperature is not None:
            options.temperature = request.temperature
        return {
            "model": request.model,
            "messages": [_message(message) for message in request.messages],
            "tools": [self._tool(tool) for tool in request.tools],
            "options": options,
        }

    def _tool(self, tool: Tool) -> pb.Tool:
        """The tool's message. To write a schema takes longer than all else of a request, and tools stay the same."""
        kept = self._packed.get(id(tool))
        if kept is None or kept[0] is not tool:
            message = pb.Tool(name=tool.name, description=tool.description, parameters_json=dump(tool.parameters))
            kept = self._packed[id(tool)] = tool, message
            self._packed_bytes += message.ByteSize()
            while self._packed_bytes > _MOST_PACKED and len(self._packed) > 1:
                self._packed_bytes -= self._packed.popitem(last=False)[1][1].ByteSize()
        return kept[1]

    async def _list_models(self) -> Iterable[pb.ModelInfo]:
        reply = await self._stub.ListModels(
            pb.ListModelsRequest(), metadata=metadata(self._address), timeout=_LIST_SECONDS, wait_for_ready=False
        )
        return list(reply.models[:_MOST_MODELS])


_REASONS = {
    Code.UNAVAILABLE: "LLM_UNAVAILABLE",
    Code.DEADLINE_EXCEEDED: "LLM_TIMEOUT",
    Code.UNAUTHENTICATED: "LLM_UNAUTHENTICATED",
    Code.PERMISSION_DENIED: "LLM_PERMISSION_DENIED",
}


def _is_no_method(failure: Failure) -> bool:
    """Whether it is the method that is not there, and not an option: gRPC's own error has no reason."""
    return failure.code is Code.UNIMPLEMENTED and failure.reason in ("", "UNIMPLEMENTED")


def _refuses_tools(failure: Failure) -> bool:
    if not _OF_TOOLS.search(failure.message):
        return False
    # A 5xx that only mentions tools is a passing fault of the endpoint.
    return failure.code in _OF_THE_REQUEST or bool(_REFUSES.search(failure.message))


def _message(message: Message) -> pb.ChatMessage:
    return pb.ChatMessage(
        role=message.role,
        content=message.content,
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments, opaque=call.opaque)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        name=message.name,
        reasoning=message.reasoning,
        opaque=message.opaque,
    )


def _turn(text: str, reasoning: str, last: pb.StreamTextResponse | pb.GenerateTextResponse) -> Turn:
    calls = tuple(
        ToolCall(call.id, call.name, call.arguments_json or _written(call), call.opaque)
        for call in last.tool_calls[:_MOST_CALLS]
    )
    return Turn(
        text=text,
        reasoning=reasoning,
        tool_calls=calls,
        finish=_FINISHES.get(last.finish_reason, Finish.TOOL_CALLS if calls else Finish.STOP),
        usage=_usage(last.usage) if last.HasField("usage") else None,
        refusal=last.refusal,
        opaque=last.opaque,
        dropped=tuple(last.dropped_params[:_MOST_DROPPED]),
    )


def _written(call: pb.ToolCall) -> str:
    """The arguments of a provider that fills the Struct alone."""
    if call.arguments.ByteSize() > LONGEST_ARGUMENTS:  # to read them may take seconds
        return " " * (LONGEST_ARGUMENTS + 1)
    return dump(whole_numbers(MessageToDict(call.arguments)))


def _usage(usage: pb.TokenUsage) -> Usage | None:
    """None where nothing was counted: no turn takes nothing. What is below zero would lift the run's bound."""
    prompt, completion = max(0, usage.prompt_tokens), max(0, usage.completion_tokens)
    total = max(usage.total_tokens, prompt + completion)
    if not total:
        return None
    return Usage(prompt, completion, total, max(0, usage.reasoning_tokens), max(0, usage.cached_tokens))
