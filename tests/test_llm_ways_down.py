"""What llm_openai asks for instead, where an endpoint refuses an option: one way down or another ends in an answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.llm_openai.engine import Format, Message, Options, Request, Tool
from plugins.llm_openai.engine.body import build
from plugins.llm_openai.engine.failures import of_status
from plugins.llm_openai.engine.refusals import Refusals
from tests.llm_endpoint import REFUSALS, Endpoint
from tests.llm_tools import CITY, WEATHER, generate, refused, said, started, stream, stub_of
from tests.servers import details

STRICT = json.dumps(json.loads(CITY) | {"additionalProperties": False})
SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 7,
    "max_tokens": 9,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "reasoning_effort": "low",
}
TOOLS = {"tool_choice": "weather", "parallel_tool_calls": True}
FORMS = {"response_format": pb.RESPONSE_FORMAT_JSON_SCHEMA, "json_schema": STRICT}
DEVELOPER = [pb.ChatMessage(role="developer", content="Be brief."), pb.ChatMessage(role="user", content="Hi")]
# What is asked for when each is refused, and what `dropped_params` says then.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    **{name: (SAMPLING, [name]) for name in SAMPLING},
    "max_tokens": (SAMPLING, []),
    "max_tokens,max_completion_tokens": (SAMPLING, ["max_tokens"]),
    "parallel_tool_calls": (TOOLS, ["parallel_tool_calls"]),
    "stream_options": ({}, []),
    "json_schema": (FORMS, ["response_format"]),
    "json_schema,json_unsaid": (FORMS, ["response_format"]),
    "json_schema,json_object": (FORMS, ["response_format"]),
    "json_object": ({"response_format": pb.RESPONSE_FORMAT_JSON}, ["response_format"]),
    "json_unsaid": ({"response_format": pb.RESPONSE_FORMAT_JSON}, []),
    "strict": (FORMS, []),
    "choice_by_name": (TOOLS, ["tool_choice"]),
    "choice_by_name,choice_required": (TOOLS, ["tool_choice"]),
    "choice_by_name,choice_required,choice": (TOOLS, ["tool_choice"]),
    "developer": ({}, []),
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint, "--max-retries", "0") as plugin:
        yield stub_of(plugin)


@pytest.mark.parametrize("names", CASES)
def test_what_is_refused_is_left_out(stub: rpc.LLMProviderStub, endpoint: Endpoint, names: str) -> None:
    """In the words of real servers: the call ends in an answer, tells what was left out, and the next asks at once."""
    given, dropped = CASES[names]
    tools = [WEATHER, pb.Tool(name="other")] if given is TOOLS else []
    more: dict[str, Any] = {"options": pb.GenerationOptions(**given), "tools": tools}
    if names == "developer":
        more |= {"messages": DEVELOPER, "prompt": ""}
    last = stream(stub, f"refuses-{names}", **more)[-1]
    assert (last.done, sorted(last.dropped_params)) == (True, dropped)
    before = len(endpoint.bodies)
    again = generate(stub, f"refuses-{names}", **more)
    assert sorted(again.dropped_params) == dropped
    # `strict` is tried with every schema: another may be taken.
    assert len(endpoint.bodies) - before == (2 if names == "strict" else 1)
    if tools:
        assert [call.name for call in again.tool_calls] == ["weather"]
        offered = [one["function"]["name"] for one in endpoint.bodies[-1]["tools"]]
        assert offered == (["weather"] if names.startswith("choice") else ["weather", "other"])


@pytest.mark.slow
def test_any_subset_of_refusals_ends_in_an_answer() -> None:
    """Whatever set of options is refused, one after the other: no more tries than there are steps down, and
    `dropped_params` names just those that are not in what was taken."""
    forms = {"json_schema", "json_object", "json_unsaid", "strict"}
    choices = ["choice_by_name", "choice_required", "choice"]
    schema = json.loads(STRICT)
    sampling: dict[str, Any] = SAMPLING | {"stop": tuple(SAMPLING["stop"])}
    request = Request(
        (Message("developer", "Be brief."), Message("user", "Hi")),
        tools=(Tool("weather", "", {"type": "object"}), Tool("other", "", {"type": "object"})),
        options=Options(
            **sampling,
            format=Format.JSON_SCHEMA,
            schema=schema,
            tool_choice="weather",
            parallel_tool_calls=True,
        ),
    )
    body = build(request, "m", {}, stream=True)
    plain = [name for name in REFUSALS if name not in forms and name not in choices]
    # Sampling options do not meddle with formats and choices: every subset of them is tried by itself, and all pairs
    # with every subset of the rest.
    every = [*itertools.chain(*(itertools.combinations(plain, n) for n in range(len(plain) + 1)))]
    small = [names for names in every if len(names) in (0, 1, 2, len(plain))]
    rest = [*itertools.chain(*(itertools.combinations([*sorted(forms), *choices], n) for n in range(8)))]
    for names in (*every, *(first + second for first in small for second in rest if second)):
        refusals = Refusals()
        for _ in range(len(names) + 1 + 2 * ("choice" in names)):  # a tool's name, required, auto, none
            sent, dropped = refusals.without(body)
            words = next((REFUSALS[name][1] for name in names if REFUSALS[name][0](sent)), None)
            if words is None:
                break
            answered = of_status(400, {"error": {"message": words}}, headers={})
            assert refusals.learn(answered, sent, None), (names, words)
        else:
            pytest.fail(f"no answer for {names}")
        lost = {name for name in (*SAMPLING, "parallel_tool_calls") if name in body and name not in sent}
        lost -= {"max_tokens"} if "max_completion_tokens" in sent else set()
        lost |= {"tool_choice"} if sent.get("tool_choice") != body["tool_choice"] else set()
        lost |= {"response_format"} if sent.get("response_format", {}).get("type") != "json_schema" else set()
        assert set(dropped) == lost, names
        assert len(dropped) == len(lost)


def test_refusals_in_a_list(stub: rpc.LLMProviderStub) -> None:
    """A message that is a list of complaints is read, all of it."""
    reply = generate(stub, "refuses-in-a-list", options=pb.GenerationOptions(seed=1, stop=["a"]))
    assert (reply.text, sorted(reply.dropped_params)) == ("Hello", ["seed", "stop"])


def test_a_broken_endpoint_teaches_nothing(endpoint: Endpoint) -> None:
    """A 500 that mentions an option is tried again with it, and the option goes out with the next call too."""
    with started(endpoint) as plugin:
        reply = generate(stub_of(plugin), "broken-and-hot", options=pb.GenerationOptions(temperature=0.5))
    assert (reply.text, list(reply.dropped_params)) == ("Hello", [])
    assert endpoint.bodies[-1]["temperature"] == 0.5


@pytest.mark.parametrize(("model", "words"), [("base-resp", "the well is dry"), ("words-behind", "the tea is cold")])
def test_words_of_an_error_are_found(stub: rpc.LLMProviderStub, model: str, words: str) -> None:
    """Wherever an endpoint puts the reason, it is in the message."""
    error = refused(generate, stub, model)
    assert words in said(error)
    assert details(error).reason in ("UPSTREAM_UNAVAILABLE", "UPSTREAM_INVALID_REQUEST")


def test_strict_only_where_the_schema_is(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """A schema with what `strict` has no place for is sent without it."""
    closed = json.loads(STRICT)
    for inner, answers in (
        ({"oneOf": [{"type": "string"}]}, True),
        ({"$ref": "#/$defs/a", "description": "a"}, True),
        ({"type": "object", "additionalProperties": False}, False),
    ):
        schema = closed | {"properties": {"city": inner}, "$defs": {"a": {"type": "string"}}}
        options = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=json.dumps(schema))
        if answers:
            assert generate(stub, "fenced", options=options).text == '{"city": "Rome"}'
        else:
            assert details(refused(generate, stub, "fenced", options=options)).reason == "INVALID_OUTPUT"
        assert endpoint.bodies[-1]["response_format"]["json_schema"]["strict"] is False


ASKED: dict[str, Any] = {
    "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "temperature": 0.5, "top_p": 0.5, "max_tokens": 9, "stop": ["END"], "seed": 7, "presence_penalty": 0.5,
    "frequency_penalty": 0.5, "reasoning_effort": "low", "tool_choice": "required", "parallel_tool_calls": True,
    "stream_options": {"include_usage": True}, "response_format": {"type": "json_object"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "learnt"),
    [
        ("`temperature` may only be set to 1 when thinking is enabled.", {"temperature"}),
        ("temperature must be 1 for this model", {"temperature"}),
        ("temperature must be 1 or less", set()),
        ("temperature must be between 0 and 2", set()),
        ("Argument not supported on this model: presencePenalty", {"presence_penalty"}),
        ("Penalty is not enabled for this model", {"presence_penalty", "frequency_penalty"}),
        ('think value "low" is not supported for this model', {"reasoning_effort"}),
        ("tool_choice: Input should be 'auto' or 'none'", {"tool_choice=required"}),
        ("Tool choice must be auto", {"tool_choice=required"}),
        ("Invalid tool_choice: only none and auto", {"tool_choice=required"}),
        ("JSON mode is not enabled for this model", {"response_format=json_object"}),
        ("json mode cannot be combined with tool calling", {"response_format=json_object"}),
        ("response mime type 'application/json' is unsupported", {"response_format=json_object"}),
        # What an endpoint lists as known, and what is no name but a word, is not refused.
        ("unknown field `stream_options`, expected one of `model`, `stop`, `seed`", {"stream_options"}),
        ("Unrecognized argument: seed. Supported parameters: temperature, stop", {"seed"}),
        ("Please stop sending unsupported images", set()),
        ("image input is not supported by this model", set()),
        ("messages.0.role: Input should be 'system', 'user' or 'assistant'", {"role=developer"}),
        ("role developer not found, only system, user, assistant", {"role=developer"}),
    ],
)
def test_what_a_refusal_means(words: str, learnt: set[str]) -> None:
    """Just what is refused is learnt, in whatever words, and nothing that they only mention."""
    refusals = Refusals()
    assert refusals.learn(of_status(400, {"error": {"message": words}}, headers={}), ASKED, None) == bool(learnt)
    assert refusals.known == learnt
