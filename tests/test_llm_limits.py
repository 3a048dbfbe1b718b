"""llm_openai in front of endpoints that send without end, and of callers who send what is odd or costly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm_endpoint import Endpoint, Play
from tests.llm_tools import CITY, WEATHER, generate, refused, said, started, started_alone, stream, stub_of, text_of
from tests.servers import SECONDS, Plugin, details, health, unhurried
from tests.test_llm_failures import peak, resident

MB = 10**6
ROOT = {"$ref": "#"}
TWICE: dict[str, Any] = {"anyOf": [{"type": "object", "properties": {"a": ROOT}}] * 2}
UNEVALUATED: dict[str, Any] = {"type": "object"}
for _ in range(40):
    UNEVALUATED = {"anyOf": [UNEVALUATED], "unevaluatedProperties": False}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def plugin(endpoint: Endpoint) -> Iterator[Plugin]:
    with started_alone(endpoint, "--max-response-bytes", "1MB", "--max-retries", "0") as running:
        yield running


@pytest.fixture
def stub(plugin: Plugin) -> Iterator[rpc.LLMProviderStub]:
    """None of these tests may leave a bug in the log."""
    yield stub_of(plugin)
    assert "event=bug" not in plugin.stderr()


def structured(schema: dict[str, Any]) -> pb.GenerationOptions:
    return pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=json.dumps(schema))


CALLERS = ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


def code_of(call: Callable[..., Any], *args: Any, **more: Any) -> str:
    """What the call ends in."""
    try:
        call(*args, **more)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


# ---------------------------------------------------------------- endless replies


@pytest.mark.parametrize(
    ("call", "model"),
    [
        *(
            ("GenerateText", f"flood{kind}")
            for kind in ("", "-reasoning", "-refusal", "-arguments", "-body", "-letters")
        ),
        *(("StreamText", f"flood{kind}") for kind in ("-refusal", "-arguments", "-body")),
    ],
)
def test_an_endless_reply_ends(
    plugin: Plugin, stub: rpc.LLMProviderStub, endpoint: Endpoint, call: str, model: str
) -> None:
    """Past max_response_bytes: RESOURCE_EXHAUSTED that names the setting, the connection closed, no memory taken."""
    generate(stub, "hello")
    before = resident(plugin.process.pid)
    error = refused(generate if call == "GenerateText" else stream, stub, model)
    assert (error.code().name, details(error).reason) == ("RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE")
    assert "max_response_bytes of 1000000" in said(error)
    assert endpoint.seen[-1].gone.wait(SECONDS)
    assert peak(plugin.process.pid) < before + 40 * MB


def test_what_is_not_kept_is_not_bounded(stub: rpc.LLMProviderStub) -> None:
    """A stream's text goes out and is not kept, so it may be longer; with a response format it is kept."""
    long = stream(stub, "large-event")
    assert text_of(long) == "x" * 4 * MB + "y"
    error = refused(stream, stub, "large-event", options=pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON))
    assert details(error).reason == "RESPONSE_TOO_LARGE"


def test_a_reply_up_to_the_limit_is_whole(endpoint: Endpoint) -> None:
    """With the default of 64 MiB a reply of 4 MB is no problem, also one that comes letter by letter."""
    with started(endpoint, "--max-reply-bytes", "64MiB") as plugin:
        assert len(generate(stub_of(plugin), "large-event").text) == 4 * MB + 1


def test_a_thousand_calls(stub: rpc.LLMProviderStub) -> None:
    """1,024 tool calls with one id come out whole, each with an id of its own."""
    last = stream(stub, "many-calls", tools=[WEATHER])[-1]
    assert len({call.id for call in last.tool_calls}) == 1024
    assert [call.arguments_json for call in last.tool_calls] == [f'{{"city":"{n}"}}' for n in range(1024)]
    assert all(call.arguments_valid for call in last.tool_calls)


@pytest.mark.slow
def test_blanks_without_end(stub: rpc.LLMProviderStub) -> None:
    """200,000 blanks before the text are text: they are not held back in the hope of a tag."""
    assert text_of(stream(stub, "blanks")).lstrip() == "Hello"


def test_a_number_that_python_does_not_read(stub: rpc.LLMProviderStub) -> None:
    """Arguments with a number of 5,000 digits are flagged and kept, and no bug."""
    (call,) = stream(stub, "tool-digits", tools=[WEATHER])[-1].tool_calls
    assert (call.arguments_valid, len(call.arguments_json)) == (False, 5009)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "listed"),
    [
        (json.dumps({"data": [{"id": f"m{n}"} for n in range(20_000)]}), 5_000),
        (json.dumps({"data": [{"id": "m"}] * 100_000 + [{"id": "n"}]}), 2),
    ],
)
def test_a_list_of_many_models(body: str, listed: int) -> None:
    """The first 5,000 are listed, the log says that there were more."""
    with Endpoint() as own:
        own.models = Play([body], kind="application/json", chunked=False)
        with started_alone(own) as plugin:
            assert len(stub_of(plugin).ListModels(pb.ListModelsRequest()).models) == listed
            assert plugin.terminate() == 0  # so that all of its log is here
            assert ("event=models_cut" in plugin.stderr()) is (listed == 5_000)


def test_a_list_of_a_million_models() -> None:
    """It is refused before it is read, and nothing of it stays."""
    with Endpoint() as own:
        own.models = Play(['{"data": [' + "{}," * 10**6 + "{}]}"], kind="application/json", chunked=False)
        with started(own) as plugin:
            error = refused(stub_of(plugin).ListModels, pb.ListModelsRequest())
            assert (error.code().name, details(error).reason) == ("UNAVAILABLE", "UPSTREAM_MALFORMED")
            assert "more than 250000 values" in said(error)


# ---------------------------------------------------------------- schemas


def test_a_nested_answer_is_checked(plugin: Plugin, stub: rpc.LLMProviderStub) -> None:
    """187 bytes of schema that refer to themselves twice, an answer of 40 levels: wrong, at once, and it serves on."""
    error = refused(generate, stub, "nested", options=structured(TWICE))
    assert (error.code().name, details(error).reason) == ("FAILED_PRECONDITION", "INVALID_OUTPUT")
    assert "does not hold to its schema" in said(error)
    tool = pb.Tool(name="weather", parameters_json=json.dumps(TWICE))
    (call,) = stream(stub, "nested", tools=[tool])[-1].tool_calls
    assert (call.arguments_valid, call.arguments_json.count("a")) == (False, 40)
    assert health(plugin.channel()) == 1


def test_what_cannot_be_checked_is_not_called_wrong(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Past the bound on work: a tool call comes whole with the reason, structured output is OUTPUT_NOT_CHECKED, and no
    repair is asked for. A stream's text is there all the same."""
    tool = pb.Tool(name="weather", parameters_json=json.dumps(UNEVALUATED))
    (call,) = stream(stub, "nested", tools=[tool])[-1].tool_calls
    assert (call.arguments_valid, call.arguments_json.count("a")) == (False, 40)
    assert call.arguments_error.startswith("it cannot be checked")
    before = len(endpoint.seen)
    error = refused(generate, stub, "nested", options=structured(UNEVALUATED))
    assert (error.code().name, details(error).reason) == ("FAILED_PRECONDITION", "OUTPUT_NOT_CHECKED")
    assert len(endpoint.seen) == before + 1
    messages: list[pb.StreamTextResponse] = []
    assert (
        details(refused(stream, stub, "nested", messages, options=structured(UNEVALUATED))).reason
        == "OUTPUT_NOT_CHECKED"
    )
    assert text_of(messages).count("a") == 40


@pytest.mark.slow
def test_schemas_are_not_kept_without_end(endpoint: Endpoint) -> None:
    """A hundred schemas of a megabyte each leave a few megabytes behind."""
    with started_alone(endpoint) as plugin:
        stub = stub_of(plugin)

        def ask(number: int) -> None:
            schema = {"type": "object", "description": "x" * 900_000, "title": str(number)}
            generate(stub, "hello", tools=[pb.Tool(name="a", parameters_json=json.dumps(schema))])

        for number in range(10):
            ask(number)
        before = resident(plugin.process.pid)
        for number in range(10, 100):
            ask(number)
        assert resident(plugin.process.pid) < before + 40 * MB


ODD: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["city"],
    "properties": {
        "city": {
            "type": "string",
            "default": {"type": "object", "required": 5, "$ref": "#/nowhere"},
            "examples": [{"properties": {"a": 1}, "required": [{}]}],
        },
    },
}


def test_values_in_a_schema_are_no_schemas(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """What `default`, `enum`, `const` and `examples` hold refuses no schema, and makes none less strict."""
    generate(stub, "fenced", options=structured(ODD))
    assert endpoint.bodies[-1]["response_format"]["json_schema"]["strict"] is True
    loose = ODD | {
        "properties": ODD["properties"] | {"n": {"enum": [{"type": "object", "required": None}], "const": {}}}
    }
    generate(stub, "fenced", options=structured(loose))
    assert endpoint.bodies[-1]["response_format"]["json_schema"]["strict"] is False
    generate(stub, "tool", tools=[pb.Tool(name="weather", parameters_json=json.dumps(loose))])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [pb.Tool(name=f"t{n}") for n in range(1025)]}, "tools"),
        ({"options": pb.GenerationOptions(stop=["a"] * 65)}, "options.stop"),
        ({"options": pb.GenerationOptions(stop=["a" * 257])}, "options.stop"),
        ({"options": pb.GenerationOptions(extra_json=json.dumps({"stop": ["a"] * 65}))}, "options.extra_json"),
        ({"options": pb.GenerationOptions(extra_json=json.dumps({"x": "y" * 2**20}))}, "options.extra_json"),
        ({"options": pb.GenerationOptions(json_schema=json.dumps({"title": "y" * 2**20}))}, "options.json_schema"),
        ({"tools": [pb.Tool(name="a", parameters_json=" " * 2**20 + "{}")]}, "tools[0].parameters_json"),
        ({"tools": [pb.Tool(name="a", parameters_json=json.dumps({"allOf": [ROOT]}))]}, "tools[0].parameters"),
    ],
)
def test_what_is_too_much_is_refused(
    stub: rpc.LLMProviderStub, endpoint: Endpoint, more: dict[str, Any], field: str
) -> None:
    """Tools, stop sequences and JSON past their bounds are INVALID_ARGUMENT that names the field; nothing is sent."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "hello", **more)
    assert (error.code().name, details(error).violations[0][0]) == ("INVALID_ARGUMENT", field)
    assert len(endpoint.seen) == before


# ---------------------------------------------------------------- extra_json

VALUES: tuple[Any, ...] = (
    5,
    "x",
    True,
    False,
    None,
    [],
    {},
    [1],
    {"a": 1},
    1e308,
    -1,
    [[]],
    [{"role": 5}],
    {"type": []},
)
NAMES = ("messages", "tools", "stop", "stream", "response_format", "tool_choice", "temperature", "max_tokens", "n",
         "stream_options", "seed", "parallel_tool_calls", "reasoning_effort")  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("messages", "stream") else pytest.mark.slow) for name in NAMES]
)
def test_any_extra_field_of_any_kind(stub: rpc.LLMProviderStub, name: str) -> None:
    """It is passed on, and what an endpoint that knows few options makes of it is an answer or an error, never a bug;
    and the next caller's options are as before."""
    for value in VALUES:
        options = pb.GenerationOptions(
            extra_json=json.dumps({name: value}), response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=CITY
        )
        for model in ("no-schema", "picky", "fenced"):
            for call in (generate, stream):
                assert code_of(call, stub, model, options=options, tools=[WEATHER]) in CALLERS, value


def test_one_callers_extra_is_nobody_elses(endpoint: Endpoint) -> None:
    """What is refused of a value out of the ordinary, or beside extra_json, is left out for that call alone."""
    with started(endpoint) as plugin:
        stub = stub_of(plugin)
        odd: list[tuple[Any, pb.GenerationOptions]] = [
            (generate, pb.GenerationOptions(temperature=7)),
            (generate, pb.GenerationOptions(extra_json='{"temperature": 3}')),
            (stream, pb.GenerationOptions(extra_json='{"stream": false}')),
            (generate, structured({"pattern": "a"})),
        ]
        for call, options in odd:
            assert code_of(call, stub, "picky-value", options=options) in ("OK", "INVALID_ARGUMENT")
        reply = generate(stub, "picky-value", options=structured(json.loads(CITY)))
        assert not reply.dropped_params
        assert endpoint.bodies[-1]["response_format"]["type"] == "json_schema"
        last = stream(stub, "picky-value", options=pb.GenerationOptions(temperature=0.5))[-1]
        assert not last.dropped_params
        assert (endpoint.bodies[-1]["temperature"], "stream_options" in endpoint.bodies[-1]) == (0.5, True)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
WORDS = """type properties required enum const default items $ref anyOf not examples if additionalProperties $defs
           $schema $id pattern"""
KEYWORDS = st.sampled_from(WORDS.split())
LIKE_SCHEMAS = st.recursive(
    st.sampled_from(["object", "string", "#", "#/$defs/a", True, [], {}]) | JSON,
    lambda inner: st.dictionaries(KEYWORDS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@unhurried
@given(extra=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3), schema=LIKE_SCHEMAS, of_a_tool=st.booleans())
def test_no_request_is_a_bug(plugin: Plugin, extra: dict[str, Any], schema: Any, of_a_tool: bool) -> None:
    """Whatever stands in extra_json and in a schema: an answer, or an error that is the caller's to mend."""
    options = pb.GenerationOptions(extra_json=json.dumps(extra))
    tools = [WEATHER]
    if of_a_tool:
        tools = [
            pb.Tool(name="weather", parameters_json=json.dumps(schema if isinstance(schema, dict) else {"a": schema}))
        ]
    else:
        options.response_format = pb.RESPONSE_FORMAT_JSON_SCHEMA
        options.json_schema = json.dumps(schema)
    model = "tool" if of_a_tool else "no-schema"
    assert code_of(stream, stub_of(plugin), model, options=options, tools=tools) in CALLERS
