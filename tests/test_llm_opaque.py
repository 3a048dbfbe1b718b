"""What an endpoint wants back with the next turn of llm_openai: `opaque` of the replies, over the socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from tests.llm_endpoint import DETAILS, SIGNED, Endpoint
from tests.llm_tools import WEATHER, generate, refused, said, started, stream, stub_of

USER = pb.ChatMessage(role="user", content="What is the weather in Rome?")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint, "--max-retries", "0") as plugin:
        yield stub_of(plugin)


def first_turn(stub: rpc.LLMProviderStub, model: str, call: str) -> Any:
    more: dict[str, Any] = {"messages": [USER], "tools": [WEATHER]}
    if call == "CallTool":
        return stub.CallTool(pb.CallToolRequest(model=model, **more))
    more["prompt"] = ""
    return generate(stub, model, **more) if call == "GenerateText" else stream(stub, model, **more)[-1]


def second_turn(first: Any, opaque: bool = True) -> list[pb.ChatMessage]:
    """The conversation with the result of the tool, as any caller makes it from the reply."""
    turn = pb.ChatMessage(role="assistant", tool_calls=first.tool_calls, opaque=first.opaque)
    if not opaque:
        turn.opaque = b""
        for call in turn.tool_calls:
            call.opaque = b""
    return [USER, turn, pb.ChatMessage(role="tool", tool_call_id=first.tool_calls[0].id, content="sunny")]


@pytest.mark.parametrize("model", ["wants-reasoning", "wants-signature"])
@pytest.mark.parametrize("call", ["GenerateText", "StreamText", "CallTool"])
def test_the_second_turn_has_what_the_first_gave(stub: rpc.LLMProviderStub, model: str, call: str) -> None:
    """Reasoning, blocks that came in pieces and signatures go back as they came; without them the endpoint refuses."""
    first = first_turn(stub, model, call)
    assert [json.loads(one.arguments_json) for one in first.tool_calls] == [{"city": "Rome"}]
    reply = generate(stub, model, prompt="", messages=second_turn(first), tools=[WEATHER])
    assert reply.text == "Hello"
    bare = second_turn(first, opaque=False)
    assert "passed back" in said(refused(generate, stub, model, prompt="", messages=bare, tools=[WEATHER]))


def test_opaque_goes_to_its_own_endpoint_only(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Another endpoint is not sent it, nor is any where the setting says so; foreign bytes are passed over."""
    first = first_turn(stub, "wants-signature", "StreamText")
    with Endpoint() as other:
        for args, at in (((), other), (("--send-back", "false"), endpoint)):
            with started(at, *args) as plugin:
                generate(stub_of(plugin), "hello", prompt="", messages=second_turn(first), tools=[WEATHER])
            assert "extra_content" not in json.dumps(at.bodies[-1])
    generate(stub, "hello", prompt="", messages=second_turn(first), tools=[WEATHER])
    assert endpoint.bodies[-1]["messages"][1]["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
    packed = json.loads(first.tool_calls[0].opaque)
    forged = packed | {"fields": {"id": "forged", "function": {}, **packed["fields"]}}
    for odd in (b"\xff", b"[]", b'{"of": 5}', json.dumps(forged).encode()):
        messages = second_turn(first)
        messages[1].tool_calls[0].opaque = messages[1].opaque = odd
        generate(stub, "hello", prompt="", messages=messages, tools=[WEATHER])
        call = endpoint.bodies[-1]["messages"][1]["tool_calls"][0]
        assert (call["id"], call["function"]["name"]) == ("c1", "weather")


def test_blocks_in_pieces_are_one(stub: rpc.LLMProviderStub) -> None:
    """The blocks of a stream are those of a whole reply, and `opaque` shows nothing of the endpoint's address."""
    streamed, whole = (first_turn(stub, "wants-reasoning", call).opaque for call in ("StreamText", "GenerateText"))
    assert json.loads(streamed) == json.loads(whole)
    assert json.loads(streamed)["fields"]["reasoning_details"] == [DETAILS]
    assert b"127.0.0.1" not in streamed


def test_what_is_refused_is_not_sent_back_again(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """An endpoint that refuses its own reasoning gets the turn without, and is not asked with it again."""
    first = first_turn(stub, "refuses-reasoning", "GenerateText")
    for tries in (2, 1):
        before = len(endpoint.bodies)
        reply = generate(stub, "refuses-reasoning", prompt="", messages=second_turn(first), tools=[WEATHER])
        assert (reply.text, len(endpoint.bodies) - before) == ("Hello", tries)
