"""The stream reader of llm_openai, over the socket, in front of an endpoint that plays every behaviour."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from tests.llm_endpoint import BEHAVIOURS, Endpoint, described
from tests.llm_tools import WEATHER, generate, reasoning_of, refused, said, started, stream, stub_of, text_of
from tests.servers import details


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint, "--max-retries", "1") as plugin:
        yield stub_of(plugin)


def test_every_behaviour_is_described() -> None:
    """Each behaviour of the endpoint says in a sentence what it does."""
    assert all(len(line.split(maxsplit=1)) == 2 for line in described())
    assert all(function.__doc__ for function in BEHAVIOURS.values())


# ---------------------------------------------------------------- whole, however it is written


@pytest.mark.parametrize(
    "model",
    [
        "hello", "comments", "empty-data", "pings", "no-done", "no-finish", "no-last-blank", "crlf", "no-blank-lines",
        "json-lines", "json-body", "stream-unasked", "null-content", "usage-on-every-chunk", "no-usage", "lingering",
        "finish-reset", "finish-garbage", "finish-keepalive",
    ],
)  # fmt: skip
def test_a_whole_stream_is_whole(stub: rpc.LLMProviderStub, model: str) -> None:
    """The text comes out, and one last message that is done, has no text, and says why it ended."""
    messages = stream(stub, model)
    assert text_of(messages) == "Hello"
    assert [message.done for message in messages] == [False] * (len(messages) - 1) + [True]
    last = messages[-1]
    assert last.text == ""
    unknown = model == "no-finish"
    assert last.finish_reason == (pb.FINISH_REASON_UNSPECIFIED if unknown else pb.FINISH_REASON_STOP)
    assert last.raw_finish_reason == ("" if unknown else "stop")
    assert (last.model, last.response_id) == ("played", "chatcmpl-1")


@pytest.mark.parametrize(
    "model", ["hello", "json-body", "stream-unasked", "comments", "no-done", "json-lines", "no-usage"]
)
def test_a_whole_reply_is_whole(stub: rpc.LLMProviderStub, model: str) -> None:
    """GenerateText gets the same text, also where a stream comes that nobody asked for."""
    reply = generate(stub, model)
    assert (reply.text, reply.finish_reason, reply.raw_finish_reason) == ("Hello", pb.FINISH_REASON_STOP, "stop")


def test_text_is_handed_on_as_it_comes(stub: rpc.LLMProviderStub) -> None:
    """Chunks that come one by one go out one by one; the first does not wait, what is empty is left out."""
    began = time.monotonic()
    call = stub.StreamText(pb.StreamTextRequest(prompt="Hi", model="paused"))
    assert next(call).text == "one "
    assert time.monotonic() - began < 20, "the second comes after half a minute"
    call.cancel()
    texts = [message.text for message in stream(stub, "slow")]
    assert (texts[0], "".join(texts)) == ("one ", "one two three")
    assert len(texts) > 2, "it was not gathered"


def test_text_that_came_together_goes_out_together(stub: rpc.LLMProviderStub) -> None:
    """Of chunks in one piece the first goes out by itself, the rest as one; other kinds keep their place."""
    messages = stream(stub, "burst")
    said_and_thought = [(message.text, message.reasoning) for message in messages[:-1]]
    assert said_and_thought == [("a", ""), ("bc", ""), ("", "why"), ("d", "")]


def test_text_before_an_error_in_one_piece_comes_out(stub: rpc.LLMProviderStub) -> None:
    """Text that came in one piece with the error after it is not lost."""
    messages: list[pb.StreamTextResponse] = []
    refused(stream, stub, "burst-error", messages)
    assert text_of(messages) == "abc"


def test_only_line_ends_end_a_line(stub: rpc.LLMProviderStub) -> None:
    """U+2028 and U+0085 inside of a text stay in the text."""
    assert text_of(stream(stub, "separators")) == "a\u2028b\u0085c"


def test_halves_of_a_character_find_each_other(stub: rpc.LLMProviderStub) -> None:
    """An emoji that is cut in two comes out whole, and a half without its other as U+FFFD."""
    assert text_of(stream(stub, "split-emoji")) == "a😀b\ufffd!"


# ---------------------------------------------------------------- usage


def test_usage_is_the_last_that_came(stub: rpc.LLMProviderStub) -> None:
    """Of counts on every chunk the last counts; they are the endpoint's, and say so."""
    usage = stream(stub, "usage-on-every-chunk")[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 2, 5)
    assert usage.source == pb.USAGE_SOURCE_PROVIDER


@pytest.mark.parametrize("model", ["no-usage", "zero-usage"])
def test_unknown_usage_is_absent(stub: rpc.LLMProviderStub, model: str) -> None:
    """No count, and a count of nothing, are no usage: never a false zero."""
    assert not stream(stub, model)[-1].HasField("usage")
    assert not generate(stub, model).HasField("usage")


def test_usage_has_its_details(stub: rpc.LLMProviderStub) -> None:
    """Reasoning and cached tokens come through."""
    usage = generate(stub, "rich-usage").usage
    assert (usage.reasoning_tokens, usage.cached_tokens, usage.total_tokens) == (1, 2, 5)


def test_usage_is_asked_for(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """A stream asks for usage, a whole reply has it anyway."""
    stream(stub, "hello")
    assert endpoint.bodies[-1]["stream_options"] == {"include_usage": True}
    generate(stub, "hello")
    assert "stream_options" not in endpoint.bodies[-1]


# ---------------------------------------------------------------- errors and cuts


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("error-in-stream", "503"),
        ("error-event", "529"),
        ("error-text", "500"),
        ("error-object", "500"),
        ("error-in-choice", "502"),
        ("error-in-delta", "502"),
        ("error-plain", "502"),
    ],
)
def test_an_error_in_the_stream_is_an_error(stub: rpc.LLMProviderStub, model: str, status: str) -> None:
    """Whatever its shape: the text so far, then UNAVAILABLE with the endpoint's words, and nothing is tried again."""
    messages: list[pb.StreamTextResponse] = []
    with pytest.raises(grpc.RpcError) as caught:
        stream(stub, model, messages)
    assert text_of(messages) == "Hel"
    assert not any(message.done for message in messages)
    found = details(caught.value)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert found.reason == "UPSTREAM_UNAVAILABLE"
    assert "the GPU is on fire" in said(caught.value)
    assert found.metadata["http_status"] == status


@pytest.mark.parametrize("model", ["cut-off", "cut-in-event", "reset", "aborted"])
def test_a_cut_is_no_success(stub: rpc.LLMProviderStub, model: str) -> None:
    """A stream that ends early is the text so far, no `done`, then UNAVAILABLE with STREAM_TRUNCATED."""
    messages: list[pb.StreamTextResponse] = []
    with pytest.raises(grpc.RpcError) as caught:
        stream(stub, model, messages)
    assert text_of(messages) == "Hel"
    assert not any(message.done for message in messages)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value).reason == "STREAM_TRUNCATED"


@pytest.mark.parametrize("model", ["cut-off", "reset", "half-json"])
def test_a_cut_reply_is_no_reply(stub: rpc.LLMProviderStub, model: str) -> None:
    """GenerateText never gives half of an answer as a whole one."""
    with pytest.raises(grpc.RpcError) as caught:
        generate(stub, model)
    assert details(caught.value).reason == "STREAM_TRUNCATED"


@pytest.mark.parametrize("model", ["error-first", "reset-at-once"])
def test_before_the_first_text_it_is_tried_again(endpoint: Endpoint, model: str) -> None:
    """What fails before any text went out is tried again, and the caller sees one whole stream."""
    with started(endpoint) as plugin:
        assert text_of(stream(stub_of(plugin), model)) == "Hello"


# ---------------------------------------------------------------- reasoning and refusals


@pytest.mark.parametrize("model", ["reasoning", "reasoning-content", "think", "content-parts"])
def test_reasoning_is_kept_apart(stub: rpc.LLMProviderStub, model: str) -> None:
    """From wherever it comes, reasoning is in `reasoning` and nowhere in the text."""
    messages = stream(stub, model)
    assert (reasoning_of(messages), text_of(messages)) == ("Two and two.", "Four.")
    reply = generate(stub, model)
    assert (reply.reasoning, reply.text) == ("Two and two.", "Four.")


def test_a_refusal_is_no_text(stub: rpc.LLMProviderStub) -> None:
    """A refusal has its own field, whole on the last message of a stream."""
    messages = stream(stub, "refused")
    assert [message.refusal for message in messages] == ["I cannot do that."]
    assert text_of(messages) == ""
    assert generate(stub, "refused").refusal == "I cannot do that."


@pytest.mark.parametrize(
    ("model", "finish", "raw"),
    [
        ("filtered", pb.FINISH_REASON_CONTENT_FILTER, "content_filter"),
        ("long", pb.FINISH_REASON_LENGTH, "length"),
        ("odd-finish", pb.FINISH_REASON_OTHER, "tired"),
    ],
)
def test_finish_reasons(stub: rpc.LLMProviderStub, model: str, finish: int, raw: str) -> None:
    """Kept raw and normalised."""
    reply = generate(stub, model)
    assert (reply.finish_reason, reply.raw_finish_reason) == (finish, raw)


# ---------------------------------------------------------------- tool calls

ROME, OSLO = {"city": "Rome"}, {"city": "Oslo"}


@pytest.mark.parametrize(
    ("model", "wanted", "ids"),
    [
        ("tool", [ROME], ["c1"]),
        ("tool-no-index", [ROME, OSLO], ["c1", "c2"]),
        ("tool-no-id", [ROME, OSLO], None),
        ("tool-equal-ids", [ROME, OSLO], ["c1", "c1-2"]),
        ("tool-repeated-names", [ROME], ["c1"]),
        ("tool-object", [ROME], ["c1"]),
        ("tool-one-function", [ROME, OSLO], None),
        ("tool-index-zero", [ROME, OSLO], ["c1", "c2"]),
        ("tool-stop", [ROME], ["c1"]),
        ("tool-old", [ROME], None),
        ("tool-emoji", [{"city": "😀"}], ["c1"]),
        ("tool-late-name", [ROME], ["c1"]),
        ("tool-blank-end", [ROME], None),
        ("tool-message", [ROME, OSLO], ["c1", "c1-2"]),
    ],
)
def test_tool_calls_come_out_whole(
    stub: rpc.LLMProviderStub, model: str, wanted: list[dict[str, str]], ids: list[str] | None
) -> None:
    """On the last message, each with an id of its own and valid arguments; the deltas add up to the same."""
    messages = stream(stub, model, tools=[WEATHER])
    last = messages[-1]
    assert [json.loads(call.arguments_json) for call in last.tool_calls] == wanted
    assert [dict(call.arguments) for call in last.tool_calls] == wanted
    assert {call.name for call in last.tool_calls} == {"weather"}
    assert all(call.arguments_valid and not call.arguments_error for call in last.tool_calls)
    got = [call.id for call in last.tool_calls]
    assert len(set(got)) == len(wanted)
    assert all(got)
    if ids is not None:
        assert got == ids
    assert last.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    pieces: dict[int, str] = {}
    named: dict[int, tuple[str, str]] = {}
    late = model == "tool-late-name"
    for message in messages[:-1]:
        assert not message.tool_calls
        delta = message.tool_call_delta
        before = named.setdefault(delta.index, (delta.id, delta.name))
        assert late or (delta.id, delta.name) in (before, ("", "")), "id and name come once, on the first"
        pieces[delta.index] = pieces.get(delta.index, "") + delta.arguments_json
    assert [json.loads(pieces[index]) for index in sorted(pieces)] == wanted
    assert late or [named[index] for index in sorted(named)] == [(call.id, call.name) for call in last.tool_calls]


def test_two_names_are_two_calls(stub: rpc.LLMProviderStub) -> None:
    """Calls without arguments, index and id are told apart by their names."""
    tools = [pb.Tool(name=name) for name in ("first", "second")]
    calls = stream(stub, "tool-two-names", tools=tools)[-1].tool_calls
    assert [(call.name, call.arguments_json, call.arguments_valid) for call in calls] == [
        ("first", "{}", True),
        ("second", "{}", True),
    ]


def test_arguments_that_are_nearly_json(stub: rpc.LLMProviderStub) -> None:
    """NaN and half of a character are not JSON: flagged, kept as they came, and no Struct."""
    calls = stream(stub, "tool-strange", tools=[WEATHER])[-1].tool_calls
    assert [call.arguments_json for call in calls] == ['{"city":NaN}', '{"city":"\\ud800"}']
    assert ["no NaN" in calls[0].arguments_error, "half of a character" in calls[1].arguments_error] == [True, True]
    assert not any(call.arguments_valid or call.HasField("arguments") for call in calls)


def test_cut_arguments_make_it_length(stub: rpc.LLMProviderStub) -> None:
    """Arguments that end in the middle: flagged, kept as they are, and the finish reason is LENGTH."""
    last = stream(stub, "tool-cut", tools=[WEATHER])[-1]
    (call,) = last.tool_calls
    assert (call.arguments_valid, call.arguments_json) == (False, '{"city":"Ro')
    assert "cut off" in call.arguments_error
    assert not call.HasField("arguments")
    assert (last.finish_reason, last.raw_finish_reason) == (pb.FINISH_REASON_LENGTH, "tool_calls")


def test_wrong_arguments_are_flagged(stub: rpc.LLMProviderStub) -> None:
    """Arguments that do not hold say why, the field by name; the calls come all the same."""
    calls = stream(stub, "tool-wrong", tools=[WEATHER])[-1].tool_calls
    assert [call.arguments_valid for call in calls] == [False] * 4
    for call, words in zip(
        calls, ('city: 5 is not of type "string"', "not JSON", "no JSON object", "'wether'"), strict=True
    ):
        assert words in call.arguments_error


def test_call_tool(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """CallTool asks with tool_choice required and ends in calls; nothing is executed."""
    reply = stub.CallTool(pb.CallToolRequest(prompt="Hi", model="tool", tools=[WEATHER]))
    assert [(call.id, call.name, dict(call.arguments)) for call in reply.tool_calls] == [("c1", "weather", ROME)]
    assert reply.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert endpoint.bodies[-1]["tool_choice"] == "required"


def test_call_tool_falls_back_to_auto(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Where the endpoint refuses required, it is asked with auto, and the reply says so."""
    reply = stub.CallTool(pb.CallToolRequest(prompt="Hi", model="no-required", tools=[WEATHER]))
    assert [call.name for call in reply.tool_calls] == ["weather"]
    assert list(reply.dropped_params) == ["tool_choice"]
    assert endpoint.bodies[-1]["tool_choice"] == "auto"


def test_call_tool_without_a_call_is_an_error(stub: rpc.LLMProviderStub) -> None:
    """A model that calls nothing is FAILED_PRECONDITION with NO_TOOL_CALL, its words in the message."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.CallTool(pb.CallToolRequest(prompt="Hi", model="tool-never", tools=[WEATHER]))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(caught.value).reason == "NO_TOOL_CALL"
    assert "Hello" in said(caught.value)
