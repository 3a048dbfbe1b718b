"""A model's turn over an LLMProvider plugin, for agents that run as a plain tool loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.json_format import MessageToDict
from hector_plugins_pb2_grpc import LLMProviderStub

from host.agents.events import AnswerDelta, ThoughtDelta, Usage
from host.agents.failure import AgentFailed, of_call
from host.agents.peer import Dialled, Peer
from host.agents.tool_server import Tool, message_of
from host.config import Llm
from shared.errors import Code
from shared.structs import dump, whole_numbers

_LARGEST_MESSAGE = 2**24  # bytes
_LONGEST_TURN = 1_000_000  # characters
_MOST_CALLS = 32  # of one turn


@dataclass(frozen=True)
class Turn:
    """What a model wrote, whole."""

    text: str
    reasoning: str
    calls: tuple[pb.ToolCall, ...]
    is_cut: bool  # at a length limit: the last call's arguments may not be whole
    usage: Usage | None  # None: unknown
    refusal: str
    opaque: bytes

    def as_message(self) -> pb.ChatMessage:
        return pb.ChatMessage(
            role="assistant", content=self.text, tool_calls=self.calls, reasoning=self.reasoning, opaque=self.opaque
        )


class Model:
    """An LLM plugin with the options of an `llms:` block. Made where the event loop runs."""

    def __init__(self, llm: Llm, peer: Peer, *, streams: bool) -> None:
        self._who = peer.who
        self._llm, self._peer = llm, peer
        self._dialled = Dialled(peer, LLMProviderStub, _LARGEST_MESSAGE)
        self._streams = streams  # until it says that it does not

    async def close(self) -> None:
        await self._dialled.close()

    async def turn(
        self, prompt: str, messages: Sequence[pb.ChatMessage], tools: Sequence[Tool], seconds: float
    ) -> AsyncGenerator[ThoughtDelta | AnswerDelta | Turn, None]:
        """The turn's pieces as they come, and last the whole Turn. Raises AgentFailed. Closed or cancelled, it ends
        the call upstream.

        `prompt` is the last user message, for providers that know no other; empty: `messages` have it.
        """
        options = pb.GenerationOptions()
        if self._llm.temperature is not None:
            options.temperature = self._llm.temperature
        if self._llm.max_tokens is not None:
            options.max_tokens = self._llm.max_tokens
        fields: Mapping[str, Any] = {
            "prompt": prompt,
            "model": self._llm.model,
            "messages": messages,
            "tools": [message_of(tool) for tool in tools],
            "options": options,
        }
        turn = self._pieces(fields, min(seconds, self._peer.longest))
        async with self._peer.calling(), contextlib.aclosing(turn) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(
        self, fields: Mapping[str, Any], seconds: float
    ) -> AsyncGenerator[ThoughtDelta | AnswerDelta | Turn, None]:
        if self._streams:
            try:
                async with contextlib.aclosing(self._stream(fields, seconds)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except AgentFailed as error:
                if error.code is not Code.UNIMPLEMENTED or error.reason not in ("", "UNIMPLEMENTED"):
                    raise
                self._streams = False
        turn = await self._whole(fields, seconds)
        if turn.text:
            yield AnswerDelta(turn.text)
        yield turn

    async def _stream(
        self, fields: Mapping[str, Any], seconds: float
    ) -> AsyncGenerator[ThoughtDelta | AnswerDelta | Turn, None]:
        call = self._dialled.stub.StreamText(pb.StreamTextRequest(**fields), **self._how(seconds))
        texts: list[str] = []
        thoughts: list[str] = []
        size = 0
        try:
            async for message in call:
                if message.reasoning:
                    thoughts.append(message.reasoning)
                    yield ThoughtDelta(message.reasoning)
                if message.text:
                    texts.append(message.text)
                    yield AnswerDelta(message.text)
                if message.done:
                    yield _turn("".join(texts), "".join(thoughts), message)
                    return
                size += len(message.text) + len(message.reasoning)
                if size > _LONGEST_TURN:
                    yield Turn("".join(texts), "".join(thoughts), (), True, None, "", b"")
                    return
        except grpc.aio.AioRpcError as error:
            raise of_call(self._who, error) from None
        finally:
            call.cancel()
        raise AgentFailed(f"{self._who} ended its reply before it was whole", Code.UNAVAILABLE, "STREAM_TRUNCATED")

    async def _whole(self, fields: Mapping[str, Any], seconds: float) -> Turn:
        try:
            reply = await self._dialled.stub.GenerateText(pb.GenerateTextRequest(**fields), **self._how(seconds))
        except grpc.aio.AioRpcError as error:
            raise of_call(self._who, error) from None
        return _turn(reply.text, reply.reasoning, reply)

    def _how(self, seconds: float) -> dict[str, Any]:
        timeout = None if math.isinf(seconds) else seconds
        return {"metadata": self._peer.address.metadata, "timeout": timeout, "wait_for_ready": False}


def _turn(text: str, reasoning: str, last: pb.StreamTextResponse | pb.GenerateTextResponse) -> Turn:
    calls = tuple(last.tool_calls[:_MOST_CALLS])
    for call in calls:
        if not call.arguments_json and call.HasField("arguments"):  # a provider that fills the Struct alone
            call.arguments_json = dump(whole_numbers(MessageToDict(call.arguments)))
    usage = None
    if last.HasField("usage") and last.usage.total_tokens + last.usage.prompt_tokens + last.usage.completion_tokens:
        prompt, completion = max(0, last.usage.prompt_tokens), max(0, last.usage.completion_tokens)
        usage = Usage(prompt, completion, max(last.usage.total_tokens, prompt + completion))
    is_cut = last.finish_reason == pb.FINISH_REASON_LENGTH
    return Turn(text, reasoning, calls, is_cut, usage, last.refusal, last.opaque)
