"""llm_openai, over the socket, in front of endpoints that end, number, repeat, label and cut as they should not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
from google.protobuf import json_format

from plugins.llm_openai.engine import listening
from tests.llm_endpoint import POEM, WRITTEN, Endpoint
from tests.llm_tools import WEATHER, generate, reasoning_of, refused, said, started, stream, stub_of, text_of
from tests.servers import details

NO_CALLS = ["written-unknown", "written-broken", "written-about"]
ROME, OSLO = {"city": "Rome"}, {"city": "Oslo"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint, "--max-retries", "0") as plugin:
        yield stub_of(plugin)


def calls_of(reply: pb.StreamTextResponse | pb.GenerateTextResponse | pb.CallToolResponse) -> list[Any]:
    """The arguments of valid calls; of others what is wrong."""
    assert len({call.id for call in reply.tool_calls}) == len(reply.tool_calls)
    assert all(call.id and call.name == "weather" for call in reply.tool_calls)
    return [
        json.loads(call.arguments_json) if call.arguments_valid else call.arguments_error for call in reply.tool_calls
    ]


def streamed_calls(messages: list[pb.StreamTextResponse]) -> list[str]:
    """The arguments that the deltas add up to."""
    texts: dict[int, str] = {}
    for message in messages:
        if message.HasField("tool_call_delta"):
            delta = message.tool_call_delta
            texts[delta.index] = texts.get(delta.index, "") + delta.arguments_json
    return [texts[index] for index in sorted(texts)]


# ---------------------------------------------------------------- ends that are none


@pytest.mark.parametrize(
    ("model", "reasoning", "text", "calls"),
    [
        pytest.param("finish-on-every-chunk", "", "Hello", [], marks=pytest.mark.slow),
        pytest.param("finish-on-reasoning", "Two and two.", "Four.", [], marks=pytest.mark.slow),
        pytest.param("finish-before-answer", "Two and two.", "Four.", [], marks=pytest.mark.slow),
        pytest.param("finish-before-tool", "", "Hello", [ROME], marks=pytest.mark.slow),
    ],
)
def test_a_finish_reason_that_is_none(
    stub: rpc.LLMProviderStub, model: str, reasoning: str, text: str, calls: list[Any]
) -> None:
    """What comes after a finish reason takes it back, and the bound on the time after it too: nothing is lost."""
    messages = stream(stub, model, tools=[WEATHER])
    assert (reasoning_of(messages), text_of(messages), calls_of(messages[-1])) == (reasoning, text, calls)
    assert messages[-1].done
    reply = generate(stub, model, tools=[WEATHER])
    assert (reply.reasoning, reply.text, calls_of(reply)) == (reasoning, text, calls)


@pytest.mark.slow
def test_a_connection_that_is_kept_holds_no_reply_up(endpoint: Endpoint) -> None:
    """A reply that has ended comes out, usage and calls too, although its connection stays open without `[DONE]`."""
    counted = ["lingering-once", "lingering-usage", "lingering-body", "lingering-done", "lingering-done-line"]
    text = ["lingering", "lingering-beside", "lingering-line", "late-line-end", *counted]
    asked = [(model, ask) for model in (*text, "lingering-tool") for ask in (stream, generate)]

    def answer(model: str, ask: Callable[..., Any]) -> tuple[str, list[Any], int]:
        reply = ask(stub, model, tools=[WEATHER] if model == "lingering-tool" else [], timeout=100)
        last = reply if ask is generate else reply[-1]
        said = last.text if ask is generate else text_of(reply)
        return said, calls_of(last), last.usage.total_tokens

    with started(endpoint, "--max-retries", "0") as plugin, ThreadPoolExecutor(len(asked)) as pool:
        stub = stub_of(plugin)
        answers = dict(zip(asked, pool.map(lambda one: answer(*one), asked), strict=True))
    for (model, ask), answered in answers.items():
        said, calls = ("", [ROME]) if model == "lingering-tool" else ("Hello", [])
        assert answered == (said, calls, 5 if model in counted else 0), (model, ask)


def test_what_may_not_be_the_end_is_no_success(endpoint: Endpoint) -> None:
    """A finish reason beside the first piece, as of servers that send one with each: silence after it is an error."""
    with started(endpoint, "--max-retries", "0", "--read-timeout", "1s") as plugin:
        for model in ("lingering-unsure", "stall"):
            assert details(refused(stream, stub_of(plugin), model)).reason == "UPSTREAM_TIMEOUT"


@pytest.mark.parametrize(
    "model",
    ["finish-on-every-chunk-reset", "finish-on-first-chunk-reset", "finish-on-reasoning-reset", "finish-null-text"],
)
def test_a_break_is_an_error(stub: rpc.LLMProviderStub, model: str) -> None:
    """A break after a finish reason that says little, and an end after one that says nothing, are no success."""
    messages: list[pb.StreamTextResponse] = []
    error = refused(stream, stub, model, messages)
    assert details(error).reason == "STREAM_TRUNCATED"
    assert text_of(messages) == ("" if model == "finish-on-reasoning-reset" else "Hel")
    assert not any(message.done for message in messages)
    assert details(refused(generate, stub, model)).reason == "STREAM_TRUNCATED"


@pytest.mark.slow
def test_silence_after_a_finish_reason_on_every_chunk(endpoint: Endpoint) -> None:
    """It is the silence of an endpoint in mid-text: an error after read_timeout, not a success after 2 s."""
    with started(endpoint, "--max-retries", "0", "--read-timeout", "3s") as plugin:
        error = refused(stream, stub_of(plugin), "finish-on-every-chunk-stall")
    assert details(error).reason == "UPSTREAM_TIMEOUT"


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize("model", ["choice-counts-up", "choice-one", "choice-two-texts"])
def test_a_choice_of_any_number_is_read(stub: rpc.LLMProviderStub, model: str) -> None:
    """Whatever the number of the choice, and whether it counts up; of two texts side by side the first."""
    messages = stream(stub, model)
    assert text_of(messages) == "Hello"
    assert messages[-1].finish_reason == pb.FINISH_REASON_STOP
    assert generate(stub, model).text == "Hello"


def test_of_several_that_were_asked_for_the_first_is_read(stub: rpc.LLMProviderStub) -> None:
    """With `n` the first choice is the reply, and without it texts that take turns are an error, not a mixture."""
    options = pb.GenerationOptions(extra_json='{"n": 3}')
    assert text_of(stream(stub, "choice-several", options=options)) == "Hello"
    assert generate(stub, "choice-several", options=options).text == "Hello"
    error = refused(generate, stub, "choice-several")
    assert details(error).reason == "UPSTREAM_MALFORMED"
    assert "several choices" in said(error)


def test_a_reply_spread_over_choices(stub: rpc.LLMProviderStub) -> None:
    """Text in one choice and calls in others are one reply."""
    last = stream(stub, "choice-spread", tools=[WEATHER])
    assert (text_of(last), calls_of(last[-1])) == ("Hello", [ROME, OSLO])
    reply = generate(stub, "choice-spread", tools=[WEATHER])
    assert (reply.text, calls_of(reply)) == ("Hello", [ROME, OSLO])


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [("unread", "UPSTREAM_MALFORMED", "hologram"), ("done-only", "STREAM_TRUNCATED", "empty")],
)
def test_an_empty_reply_is_none(stub: rpc.LLMProviderStub, model: str, reason: str, words: str) -> None:
    """A reply of which nothing could be read is an error that names what it had, not an empty success."""
    for call in (stream, generate):
        error = refused(call, stub, model)
        assert details(error).reason == reason
        assert words in said(error)


# ---------------------------------------------------------------- what is said twice


def test_a_message_after_deltas_repeats_nothing(stub: rpc.LLMProviderStub) -> None:
    """A last event with the whole message, as a message or as a delta, doubles neither text nor calls."""
    assert text_of(stream(stub, "repeats-message")) == "Hello"
    assert text_of(stream(stub, "repeats-delta")).strip() == POEM
    assert generate(stub, "repeats-delta").text.strip() == POEM
    messages = stream(stub, "repeats-calls", tools=[WEATHER])
    assert (calls_of(messages[-1]), streamed_calls(messages)) == ([ROME], ['{"city":"Rome"}'])


def test_a_message_after_deltas_completes_them(stub: rpc.LLMProviderStub) -> None:
    """What the deltas lack comes from the message: the end of the text, of a call's arguments, another call."""
    messages = stream(stub, "completes-message", tools=[WEATHER])
    assert (text_of(messages), calls_of(messages[-1])) == ("Hello", [ROME, OSLO])
    assert list(map(json.loads, streamed_calls(messages))) == [ROME, OSLO]


@pytest.mark.parametrize("model", ["thinks-twice", "thinks-again"])
def test_reasoning_in_two_places_is_one(stub: rpc.LLMProviderStub, model: str) -> None:
    """The same reasoning in a field and inline comes out once; what differs comes out too."""
    messages = stream(stub, model)
    assert (reasoning_of(messages), text_of(messages)) == ("Two and two.", "Four.")
    reply = generate(stub, model)
    assert (reply.reasoning, reply.text) == ("Two and two.", "Four.")


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("call-old-and-new", [ROME]),
        ("call-new-ids", [ROME]),
        ("call-new-ids-no-index", [ROME]),
        ("call-split-index", [ROME, OSLO]),
        ("call-object-then-text", [ROME]),
        ("call-empty-object-first", [ROME]),
        ("call-places", [ROME, OSLO]),
        ("call-twice", [ROME]),
        ("call-twice-encoded", [ROME]),
        ("call-twice-no-id", [ROME]),
        ("call-under-each-index", [ROME]),
    ],
)
def test_one_call_is_one(stub: rpc.LLMProviderStub, model: str, wanted: list[Any]) -> None:
    """However its pieces are labelled, however often it is told: no call becomes two, none is lost, all are valid."""
    messages = stream(stub, model, tools=[WEATHER])
    assert calls_of(messages[-1]) == wanted
    assert list(map(json.loads, streamed_calls(messages))) == wanted
    assert calls_of(generate(stub, model, tools=[WEATHER])) == wanted


def test_guesses_are_not_valid(stub: rpc.LLMProviderStub) -> None:
    """Arguments that came twice and differ, or that may belong to either of two calls, are flagged."""
    (wrong,) = calls_of(stream(stub, "call-two-values", tools=[WEATHER])[-1])
    assert "not JSON" in wrong
    assert "Rome" in str(stream(stub, "call-two-values", tools=[WEATHER])[-1].tool_calls[0].arguments_json)
    first, second = calls_of(stream(stub, "call-guess", tools=[WEATHER])[-1])
    assert ("cut off" in first, "did not say to which call" in second) == (True, True)


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize("model", ["two-in-one-event", "lost-line-end", "error-of-nothing"])
def test_odd_lines_are_read(stub: rpc.LLMProviderStub, model: str) -> None:
    """Several JSON texts in a line are read, and an error that says nothing is none."""
    assert text_of(stream(stub, model)) == "Hello"
    assert generate(stub, model).text == "Hello"


def test_separators_end_no_line(stub: rpc.LLMProviderStub) -> None:
    """U+2028 and U+0085 in JSON lines stay in the text."""
    assert text_of(stream(stub, "json-lines-separator")) == "a\u2028b\u0085c"


@pytest.mark.parametrize("model", ["json-lines-slow", "no-blank-lines-slow"])
def test_events_go_out_as_they_come(stub: rpc.LLMProviderStub, model: str) -> None:
    """Neither the blank line nor the next event nor the end is waited for."""
    began = time.monotonic()
    call = stub.StreamText(pb.StreamTextRequest(prompt="Hi", model=model))
    assert next(call).text == "Hel"
    assert time.monotonic() - began < 15, "the second event comes after half a minute"
    call.cancel()


@pytest.mark.parametrize(
    ("model", "reason"), [("json-lines-broken", "UPSTREAM_MALFORMED"), ("json-lines-cut", "STREAM_TRUNCATED")]
)
def test_a_broken_line_is_an_error(stub: rpc.LLMProviderStub, model: str, reason: str) -> None:
    """A line that cannot be read is never passed over; at the end it is a reply that was cut off."""
    messages: list[pb.StreamTextResponse] = []
    with pytest.raises(grpc.RpcError) as caught:
        stream(stub, model, messages)
    assert (text_of(messages), details(caught.value).reason) == ("Hel", reason)


@pytest.mark.parametrize("model", ["error-over-lines", "error-over-data-lines"])
def test_an_error_over_lines_keeps_its_words(stub: rpc.LLMProviderStub, model: str) -> None:
    """An error object that is written over several lines is read as one."""
    messages: list[pb.StreamTextResponse] = []
    error = refused(stream, stub, model, messages)
    assert text_of(messages) == "Hel"
    assert (details(error).metadata["http_status"], "the GPU is on fire" in said(error)) == ("503", True)


# ---------------------------------------------------------------- numbers and sizes


@pytest.mark.parametrize(
    ("model", "words"), [("call-endless-number", "Infinity"), ("call-infinite-number", "1e999 is out of range")]
)
def test_a_number_that_no_struct_holds(stub: rpc.LLMProviderStub, model: str, words: str) -> None:
    """Arguments with a number that is no double are flagged, have no Struct, and can be printed as JSON."""
    for reply in (stream(stub, model, tools=[pb.Tool(name="weather")])[-1], generate(stub, model)):
        (call,) = reply.tool_calls
        assert (call.arguments_valid, call.HasField("arguments"), words in call.arguments_error) == (False, False, True)
        json_format.MessageToJson(reply)


def test_an_endless_number_beside_the_text(stub: rpc.LLMProviderStub) -> None:
    """A number that nobody needs does not cost the text."""
    assert text_of(stream(stub, "endless-number")) == "Hello"


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        ("usage-null", None),
        ("usage-null-told", (3, 2, 5, 0)),
        ("usage-in-parts", (3, 2, 5, 0)),
        ("usage-beside-reasoning", (3, 22, 25, 20)),
        ("usage-elsewhere", (3, 2, 5, 0)),
        ("usage-late", (3, 2, 5, 0)),
    ],
)
def test_usage_means_what_the_contract_says(
    stub: rpc.LLMProviderStub, model: str, counts: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a false zero; reasoning is part of the completion; counted wherever and whenever the endpoint does."""
    # Half a second may be too short for late counts on a busy machine; those that come end the wait.
    monkeypatch.setattr(listening, "_FOR_USAGE", 20.0)
    last = stream(stub, model)[-1]
    usage = last.usage
    got = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.reasoning_tokens)
    assert (got if last.HasField("usage") else None) == counts


def test_large_arguments_come_through(stub: rpc.LLMProviderStub) -> None:
    """Arguments of 2.2 MB are on the last message, those of 5 MB in the deltas alone, and the call says so."""
    last = stream(stub, "large-arguments", tools=[WEATHER])[-1]
    assert [len(call.arguments_json) for call in last.tool_calls] == [730_012] * 3
    assert all(call.arguments_valid for call in last.tool_calls)
    messages = stream(stub, "huge-arguments", tools=[WEATHER])
    (call,) = messages[-1].tool_calls
    assert (call.arguments_json, call.arguments_valid) == ("", False)
    assert "the deltas add up to" in call.arguments_error
    assert [len(text) for text in streamed_calls(messages)] == [5_000_011]


def test_a_huge_event_is_split(stub: rpc.LLMProviderStub) -> None:
    """5 MB in one event go out in messages that a client takes."""
    messages = stream(stub, "huge-event")
    assert (len(text_of(messages)), len(reasoning_of(messages))) == (5 * 10**6 // 6, 5 * 10**6)
    assert max(message.ByteSize() for message in messages) < 2**20


def test_a_compressed_reason_is_read(stub: rpc.LLMProviderStub) -> None:
    """The words of an error that came compressed are in ours."""
    assert "the moon is full" in said(refused(generate, stub, "gzip-error"))


# ---------------------------------------------------------------- more that models say


@pytest.mark.parametrize(
    "model",
    [
        "thinks-thinking",
        "thinks-thought",
        "thinks-mistral",
        "thinks-harmony",
        "thinks-details",
        "thinks-text",
        "thinks-object",
    ],
)
def test_reasoning_by_other_marks_and_fields(stub: rpc.LLMProviderStub, model: str) -> None:
    """It is reasoning wherever it stands, and nothing of it is in the text."""
    messages = stream(stub, model)
    assert (reasoning_of(messages), text_of(messages)) == ("Two and two.", "Four.")
    reply = generate(stub, model)
    assert (reply.reasoning, reply.text) == ("Two and two.", "Four.")


@pytest.mark.parametrize("model", [name for name in WRITTEN if name not in NO_CALLS])
def test_a_call_in_the_text_is_a_call(stub: rpc.LLMProviderStub, model: str) -> None:
    """Where the endpoint left it in the text and it is of a tool of the request; its markup is shown to nobody."""
    messages = stream(stub, model, tools=[WEATHER])
    assert (calls_of(messages[-1]), list(map(json.loads, streamed_calls(messages)))) == ([ROME], [ROME])
    assert messages[-1].finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert text_of(messages).strip() == ("Hello" if "hermes" in model else "")
    assert calls_of(stub.CallTool(pb.CallToolRequest(prompt="Hi", model=model, tools=[WEATHER]))) == [ROME]


@pytest.mark.parametrize("model", NO_CALLS)
def test_what_is_no_call_stays_text(stub: rpc.LLMProviderStub, model: str) -> None:
    """Of an unknown tool, broken off, or only about calls: every letter of it comes out; so does all without tools."""
    for tools in ([WEATHER], []):
        for messages in (stream(stub, model, tools=tools), [generate(stub, model, tools=tools)]):
            assert "".join(message.text for message in messages) == WRITTEN[model]
            assert not messages[-1].tool_calls
    assert text_of(stream(stub, "written-hermes")) == WRITTEN["written-hermes"]


def test_images_and_sound_are_told(stub: rpc.LLMProviderStub) -> None:
    """An answer that is nothing but an image is an error; beside a text it is told; the words of a voice are text."""
    for call in (stream, generate):
        assert "images" in said(refused(call, stub, "image-only"))
    last = stream(stub, "image-and-text")
    assert (text_of(last), list(last[-1].dropped_params)) == ("Hello", ["images"])
    last = stream(stub, "spoken")
    assert (text_of(last), list(last[-1].dropped_params)) == ("Hello", ["audio"])
