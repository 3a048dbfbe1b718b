"""What the plugin promises: the engine by itself, and over gRPC."""

from __future__ import annotations

import asyncio
import json

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub

from host.new.kinds.llm_provider.engine import Engine, Message
from shared.testing import Plugin


def test_the_engine() -> None:
    """The engine works without a server: it answers in pieces that make the whole."""

    async def pieces() -> list[str]:
        return [piece async for piece in Engine("echo").write([Message("user", "one two  three")])]

    assert asyncio.run(pieces()) == ["one", " two", "  three"]


def test_a_stream_is_the_whole(plugin: Plugin) -> None:
    """The pieces of a stream are the text of the whole turn; the last message, and it alone, is done and empty."""
    client = LLMProviderStub(plugin.channel)
    whole = client.GenerateText(pb.GenerateTextRequest(prompt="Hello, you two"))
    pieces = list(client.StreamText(pb.StreamTextRequest(prompt="Hello, you two")))
    assert "".join(piece.text for piece in pieces) == whole.text == "Hello, you two"
    assert [piece.done for piece in pieces] == [False, False, False, True]
    assert (pieces[-1].text, pieces[-1].finish_reason) == ("", pb.FINISH_REASON_STOP)
    assert whole.usage == pieces[-1].usage


def test_max_tokens(plugin: Plugin) -> None:
    """A turn that is cut short says so, and which options made no difference."""
    options = pb.GenerationOptions(max_tokens=1, top_p=0.5)
    reply = LLMProviderStub(plugin.channel).GenerateText(pb.GenerateTextRequest(prompt="one two", options=options))
    assert (reply.text, reply.finish_reason) == ("one", pb.FINISH_REASON_LENGTH)
    assert list(reply.dropped_params) == ["top_p"]


def test_tools(plugin: Plugin) -> None:
    """CallTool asks for a tool that was offered."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = pb.Tool(name="weather", parameters_json=json.dumps(schema))
    reply = LLMProviderStub(plugin.channel).CallTool(pb.CallToolRequest(prompt="Oslo", tools=[tool]))
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments_json)) == ("weather", {"city": "Oslo"})
    assert reply.finish_reason == pb.FINISH_REASON_TOOL_CALLS


def test_errors(plugin: Plugin) -> None:
    """A request without a question, and one for a model that is not there, fail with a status."""
    client = LLMProviderStub(plugin.channel)
    (model,) = client.ListModels(pb.ListModelsRequest()).models
    assert model.id == "echo"
    for request, code in (
        (pb.GenerateTextRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.GenerateTextRequest(prompt="hi", model="other"), grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            client.GenerateText(request)
        assert caught.value.code() is code
