"""llm_openai over the socket: what is sent for each field, structured output, dropped options, models, secrets."""

from __future__ import annotations

import base64
import json
import math
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest
import yaml
from google.protobuf.struct_pb2 import Struct
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from plugins.llm_openai.__main__ import build, configured
from shared.errors import StartError
from tests.llm_endpoint import Endpoint, Play, refusal
from tests.llm_tools import (
    CITY,
    KEY,
    MODULE,
    QUIET,
    WEATHER,
    generate,
    refused,
    said,
    started,
    started_alone,
    stream,
    stub_of,
    text_of,
)
from tests.servers import SECONDS, details, missing, run_plugin, start_plugin

AUDIO_BY_URL = pb.ContentPart(url="http://127.0.0.1/a.mp3", mime_type="audio/mpeg")
PLAIN_TEXT_FILE = pb.ContentPart(data=b"hello", mime_type="text/plain")
PNG = b"\x89PNG\r\n\x1a\n----"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def stub(endpoint: Endpoint) -> Iterator[rpc.LLMProviderStub]:
    with started(endpoint) as plugin:
        yield stub_of(plugin)


# ---------------------------------------------------------------- what is sent


def test_a_prompt_is_a_message_of_the_user(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """A prompt alone is one message, and nothing that was not asked for is sent with it."""
    generate(stub, "hello", prompt="Hi")
    assert endpoint.bodies[-1] == {"model": "hello", "messages": [{"role": "user", "content": "Hi"}]}


def test_a_prompt_beside_messages_comes_last(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Messages keep their order, and the prompt is appended as the last message of the user."""
    messages = [
        pb.ChatMessage(role="system", content="Be brief."),
        pb.ChatMessage(role="user", content="One", name="ann"),
    ]
    generate(stub, "hello", prompt="Two", messages=messages)
    assert endpoint.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One", "name": "ann"},
        {"role": "user", "content": "Two"},
    ]


def test_parts_are_sent(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Text, images by URL and by bytes, the kind of image found where it is not said, sound and PDF."""
    parts = [
        pb.ContentPart(text="What is this?"),
        pb.ContentPart(url="https://example.org/cat.png"),
        pb.ContentPart(data=PNG),
        pb.ContentPart(data=b"123", mime_type="image/webp"),
        pb.ContentPart(data=b"123", mime_type="audio/mpeg"),
        pb.ContentPart(data=b"%PDF-1.7"),
    ]
    generate(stub, "hello", prompt="", messages=[pb.ChatMessage(role="user", content="Look.", parts=parts)])
    encoded = base64.b64encode
    assert endpoint.bodies[-1]["messages"][0]["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(PNG).decode()}"}},
        {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{encoded(b'123').decode()}"}},
        {"type": "input_audio", "input_audio": {"data": encoded(b"123").decode(), "format": "mp3"}},
        {
            "type": "file",
            "file": {
                "filename": "file.pdf",
                "file_data": f"data:application/pdf;base64,{encoded(b'%PDF-1.7').decode()}",
            },
        },
    ]


def test_a_tool_turn_is_sent(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Calls go back with their id, arguments from either form, and results with the id they answer."""
    given = Struct()
    given.update({"days": 3, "city": "Oslo"})
    calls = [
        pb.ToolCall(id="c1", name="weather", arguments_json='{"city": "Rome"}'),
        pb.ToolCall(id="c2", name="weather", arguments=given),
    ]
    messages = [
        pb.ChatMessage(role="assistant", tool_calls=calls, reasoning="not sent"),
        pb.ChatMessage(role="tool", tool_call_id="c1", content="sunny"),
    ]
    generate(stub, "hello", prompt="", messages=messages)
    first, second = endpoint.bodies[-1]["messages"]
    assert first["content"] is None
    assert [(call["id"], call["type"], call["function"]["name"]) for call in first["tool_calls"]] == [
        ("c1", "function", "weather"),
        ("c2", "function", "weather"),
    ]
    assert first["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    assert json.loads(first["tool_calls"][1]["function"]["arguments"]) == {"days": 3, "city": "Oslo"}
    assert ".0" not in first["tool_calls"][1]["function"]["arguments"]
    assert "reasoning" not in first
    assert second == {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


def test_options_are_sent(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """Every option under the name that the endpoint knows; a zero that was set is sent; extra_json wins."""
    options = pb.GenerationOptions(
        temperature=0,
        top_p=0.5,
        max_tokens=7,
        stop=["a", "b"],
        seed=0,
        presence_penalty=0.25,
        frequency_penalty=0,
        reasoning_effort="low",
        tool_choice="weather",
        parallel_tool_calls=False,
        extra_json='{"min_p": 0.1, "top_p": 0.75, "big": 9007199254740993}',
    )
    generate(stub, "tool", options=options, tools=[WEATHER])
    sent = endpoint.bodies[-1]
    assert {key: sent[key] for key in sent if key not in ("model", "messages", "tools")} == {
        "temperature": 0,
        "top_p": 0.75,
        "max_tokens": 7,
        "stop": ["a", "b"],
        "seed": 0,
        "presence_penalty": 0.25,
        "frequency_penalty": 0,
        "reasoning_effort": "low",
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "min_p": 0.1,
        "big": 9007199254740993,
    }
    assert sent["tools"][0]["function"]["parameters"] == json.loads(WEATHER.parameters_json)


def test_the_guides_flat_parameters_are_a_schema(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """`{name: type}`, as in the guide's samples, goes out as a JSON Schema of type object."""
    flat = Struct()
    flat.update({"city": "string"})
    generate(stub, "hello", tools=[pb.Tool(name="weather", parameters=flat)])
    function = endpoint.bodies[-1]["tools"][0]["function"]
    assert function["parameters"] == {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"prompt": ""}, "messages"),
        ({"messages": [pb.ChatMessage(role="robot", content="x")]}, "messages[0].role"),
        ({"messages": [pb.ChatMessage(role="tool", content="x")]}, "messages[0].tool_call_id"),
        ({"messages": [pb.ChatMessage(role="user", parts=[pb.ContentPart()])]}, "messages[0].parts[0]"),
        ({"tools": [pb.Tool()]}, "tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tools": [pb.Tool(name="a", parameters_json='{"type": "strng"}')]}, "tools[0].parameters"),
        ({"messages": [pb.ChatMessage(role="user", parts=[AUDIO_BY_URL])]}, "messages[0].parts[0]"),
        ({"messages": [pb.ChatMessage(role="user", parts=[PLAIN_TEXT_FILE])]}, "messages[0].parts[0]"),
        ({"options": pb.GenerationOptions(temperature=math.nan)}, "options.temperature"),
        ({"options": pb.GenerationOptions(top_p=math.inf)}, "options.top_p"),
        ({"options": pb.GenerationOptions(max_tokens=0)}, "options.max_tokens"),
        ({"options": pb.GenerationOptions(stop=["a", ""])}, "options.stop"),
        ({"tools": [pb.Tool(name="a", parameters_json="[]")]}, "tools[0].parameters_json"),
        ({"options": pb.GenerationOptions(tool_choice="oracle")}, "options.tool_choice"),
        ({"options": pb.GenerationOptions(tool_choice="required")}, "options.tool_choice"),
        ({"options": pb.GenerationOptions(extra_json="{")}, "options.extra_json"),
        ({"options": pb.GenerationOptions(response_format=9)}, "options.response_format"),  # type: ignore[arg-type]
        ({"options": pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA)}, "options.json_schema"),
        (
            {
                "options": pb.GenerationOptions(
                    response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema='{"type": 5}'
                )
            },
            "options.json_schema",
        ),
        ({"options": pb.GenerationOptions(json_schema="{")}, "options.json_schema"),
        ({"options": pb.GenerationOptions(json_schema='{"maximum": NaN}')}, "options.json_schema"),
        ({"options": pb.GenerationOptions(json_schema='{"title": "\\ud800"}')}, "options.json_schema"),
        ({"options": pb.GenerationOptions(json_schema='{"not":' * 900 + "{}" + "}" * 900)}, "options.json_schema"),
    ],
)
def test_a_wrong_request_is_not_sent(
    stub: rpc.LLMProviderStub, endpoint: Endpoint, request_: dict[str, Any], field: str
) -> None:
    """INVALID_ARGUMENT that names the field, before the endpoint hears of it."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "hello", **request_)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation[0] for violation in details(error).violations] == [field]
    assert len(endpoint.seen) == before


def test_call_tool_needs_tools(stub: rpc.LLMProviderStub) -> None:
    """CallTool without tools is INVALID_ARGUMENT on `tools`."""
    error = refused(stub.CallTool, pb.CallToolRequest(prompt="Hi", model="tool"))
    assert details(error).violations[0][0] == "tools"


# ---------------------------------------------------------------- options that an endpoint refuses


def test_refused_options_are_learnt(endpoint: Endpoint) -> None:
    """What the endpoint's 400s refuse is left out, told in dropped_params and not sent again; stop is cut here."""
    options = pb.GenerationOptions(temperature=0.5, max_tokens=7, stop=["END"], parallel_tool_calls=True)
    with started(endpoint) as plugin:
        stub = stub_of(plugin)
        before = len(endpoint.seen)
        reply = generate(stub, "picky", options=options, tools=[WEATHER])
        assert reply.text == "one, two, "
        assert reply.finish_reason == pb.FINISH_REASON_STOP
        assert sorted(reply.dropped_params) == ["parallel_tool_calls", "stop", "temperature"]
        assert len(endpoint.seen) == before + 5
        assert endpoint.bodies[-1]["max_completion_tokens"] == 7
        again = stream(stub, "picky", options=options, tools=[WEATHER])
        assert text_of(again) == "one, two, "
        assert sorted(again[-1].dropped_params) == ["parallel_tool_calls", "stop", "temperature"]
        assert len(endpoint.seen) == before + 6, "it was not sent again"


def test_a_wrong_value_is_no_refusal(stub: rpc.LLMProviderStub) -> None:
    """A value that the endpoint rightly refuses is the caller's error, and the option is not dropped."""
    error = refused(generate, stub, "hot", options=pb.GenerationOptions(temperature=5))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "between 0 and 2" in said(error)


@pytest.mark.parametrize(
    ("model", "wrong", "right", "sent"),
    [
        (
            "picky-effort",
            pb.GenerationOptions(reasoning_effort="xhigh"),
            pb.GenerationOptions(reasoning_effort="low"),
            "reasoning_effort",
        ),
        (
            "lists-its-parameters",
            pb.GenerationOptions(extra_json='{"foo": 1}', temperature=0.5),
            pb.GenerationOptions(temperature=0.5),
            "temperature",
        ),
        (
            "picky-schema",
            pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema='{"pattern": "a"}'),
            pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema='{"type": "object"}'),
            "response_format",
        ),
    ],
)
def test_one_callers_mistake_is_not_learnt(
    stub: rpc.LLMProviderStub,
    endpoint: Endpoint,
    model: str,
    wrong: pb.GenerationOptions,
    right: pb.GenerationOptions,
    sent: str,
) -> None:
    """A wrong value is INVALID_ARGUMENT for who sent it, and the option goes out for everybody else as before."""
    assert refused(generate, stub, model, options=wrong).code() is grpc.StatusCode.INVALID_ARGUMENT
    reply = generate(stub, model, options=right)
    assert sent in endpoint.bodies[-1]
    assert not reply.dropped_params


def test_any_refused_stop_is_cut_here(stub: rpc.LLMProviderStub) -> None:
    """A stop that came in extra_json is cut here too, where the endpoint does not take it."""
    reply = generate(stub, "picky", options=pb.GenerationOptions(extra_json='{"stop": "two"}'))
    assert reply.text == "one, "


# ---------------------------------------------------------------- structured output

STRUCTURED = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=CITY)


def test_a_schema_is_sent(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """As json_schema, strict only where the schema is of the strict kind."""
    strict = json.dumps(json.loads(CITY) | {"additionalProperties": False})
    for schema, wanted in ((CITY, False), (strict, True)):
        options = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=schema)
        generate(stub, "fenced", options=options)
        form = endpoint.bodies[-1]["response_format"]
        assert form["type"] == "json_schema"
        assert form["json_schema"]["schema"] == json.loads(schema)
        assert form["json_schema"]["strict"] is wanted
    generate(stub, "fenced", options=pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON))
    assert endpoint.bodies[-1]["response_format"] == {"type": "json_object"}


def test_a_fence_is_taken_off(stub: rpc.LLMProviderStub) -> None:
    """JSON in a fence is JSON."""
    assert generate(stub, "fenced", options=STRUCTURED).text == '{"city": "Rome"}'


def test_one_repair(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """An answer against the schema is asked for once more, told what was wrong; the usage is that of both."""
    reply = generate(stub, "mends", options=STRUCTURED)
    assert reply.text == '{"city": "Rome"}'
    assert reply.usage.total_tokens == 10
    _, first, told = endpoint.bodies[-1]["messages"]
    assert first == {"role": "assistant", "content": '{"city": 5}'}
    assert 'city: 5 is not of type "string"' in told["content"]


def test_no_second_repair(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """A second wrong answer is FAILED_PRECONDITION with INVALID_OUTPUT, and what is wrong with it."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "rambles", options=STRUCTURED)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(error).reason == "INVALID_OUTPUT"
    assert "not JSON" in said(error)
    assert len(endpoint.seen) == before + 2


def test_a_stream_is_checked_at_its_end(stub: rpc.LLMProviderStub) -> None:
    """A stream whose text does not hold ends in INVALID_OUTPUT after the text, not in `done`."""
    messages: list[pb.StreamTextResponse] = []
    error = refused(stream, stub, "rambles", messages, options=STRUCTURED)
    assert details(error).reason == "INVALID_OUTPUT"
    assert text_of(messages) == "Well, the city is Rome."
    assert stream(stub, "fenced", options=STRUCTURED)[-1].done


def test_without_response_format_it_is_asked_in_words(endpoint: Endpoint) -> None:
    """Where the endpoint knows no response_format the schema is in the message, and the answer is checked as ever."""
    with started(endpoint) as plugin:
        reply = generate(stub_of(plugin), "no-schema", options=STRUCTURED)
    assert reply.text == '{"city": "Rome"}'
    assert list(reply.dropped_params) == ["response_format"]
    sent = endpoint.bodies[-1]
    assert "response_format" not in sent
    assert CITY in sent["messages"][-1]["content"]


def test_a_cut_answer_is_not_repaired(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """JSON that max_tokens cut off says so at once: the next try would be cut as well."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "long", options=STRUCTURED)
    assert "raise max_tokens" in said(error)
    assert len(endpoint.seen) == before + 1


def test_a_filtered_answer_is_not_repaired(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """JSON that the endpoint's filter stopped says so at once: the next try would be stopped as well."""
    before = len(endpoint.seen)
    error = refused(generate, stub, "filtered-json", options=STRUCTURED)
    assert (details(error).reason, "filter" in said(error)) == ("CONTENT_FILTERED", True)
    assert len(endpoint.seen) == before + 1


def test_a_pattern_that_we_do_not_know_is_sent(stub: rpc.LLMProviderStub, endpoint: Endpoint) -> None:
    """A tool whose schema has such a pattern is offered as it is; its calls are not called valid, and what is surely
    wrong is told."""
    schema = json.loads(WEATHER.parameters_json)
    schema["properties"]["city"]["pattern"] = r"^(?!Oslo).*(.)\1"
    for model, words in (("tool", "cannot be checked"), ("tool-wrong", 'city: 5 is not of type "string"')):
        tool = pb.Tool(name="weather", parameters_json=json.dumps(schema))
        call = stream(stub, model, tools=[tool])[-1].tool_calls[0]
        assert (call.arguments_valid, words in call.arguments_error) == (False, True)
        assert endpoint.bodies[-1]["tools"][0]["function"]["parameters"] == schema


# ---------------------------------------------------------------- models


def test_models_are_listed(endpoint: Endpoint) -> None:
    """The endpoint's, whatever they call things, and the settings' on top; the default first; asked for once."""
    with Endpoint() as own:
        listed = {
            "data": [
                {"id": "b", "owned_by": "them", "created": 5, "max_model_len": 100},
                {
                    "id": "a",
                    "context_length": 200,
                    "top_provider": {"max_completion_tokens": 50},
                    "supported_parameters": ["tools", "structured_outputs", "reasoning"],
                    "architecture": {"input_modalities": ["text", "image"]},
                },
                {"no": "id"},
            ]
        }
        own.models = Play([json.dumps(listed)], kind="application/json", chunked=False)
        about = {"b": {"max_output_tokens": 7, "capabilities": ["tools"]}, "z": {"context_length": 9}}
        with started(own, "--model", "b", "--models", json.dumps(about)) as plugin:
            stub = stub_of(plugin)
            models = list(stub.ListModels(pb.ListModelsRequest()).models)
            stub.ListModels(pb.ListModelsRequest())
        assert len(own.seen) == 1
    assert [(model.id, model.is_default) for model in models] == [("b", True), ("a", False), ("z", False)]
    first, second, third = models
    assert (first.owned_by, first.created, first.context_length, first.max_output_tokens) == ("them", 5, 100, 7)
    assert list(first.capabilities) == ["tools"]
    assert (second.context_length, second.max_output_tokens) == (200, 50)
    assert list(second.capabilities) == ["tools", "vision", "json_schema", "reasoning"]
    assert third.context_length == 9


def test_models_without_a_list() -> None:
    """When /models fails, what the settings name is there; without any it is the endpoint's error."""
    with Endpoint() as own:
        own.models = refusal(500, "no list here")
        with started(own, "--model", "b") as plugin:
            assert [model.id for model in stub_of(plugin).ListModels(pb.ListModelsRequest()).models] == ["b"]
        with started(own) as plugin:
            error = refused(stub_of(plugin).ListModels, pb.ListModelsRequest())
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "no list here" in said(error)


def test_which_model_is_asked() -> None:
    """The request's, by its alias, else the setting's, else the only one there is; else the error lists some."""
    with Endpoint() as own:
        with started(own, "--model", "hello", "--aliases", '{"fast": "echo"}') as plugin:
            stub = stub_of(plugin)
            assert generate(stub, "").text == "Hello"
            assert generate(stub, "fast").text == "Hi"
        with started(own) as plugin:
            error = refused(generate, stub_of(plugin), "")
            assert details(error).violations[0][0] == "model"
            assert "has hello, echo, comments" in said(error)
        own.models = Play(['{"data": [{"id": "hello"}]}'], kind="application/json", chunked=False)
        with started(own) as plugin:
            assert generate(stub_of(plugin), "").text == "Hello"


def test_defaults_of_the_settings(endpoint: Endpoint) -> None:
    """temperature and max_tokens of the settings hold for requests without; extra fields and headers go along."""
    args = ["--temperature", "0.25", "--max-tokens", "9", "--organization", "org"]
    env = {
        "LLM_OPENAI__BODY": '{"user": "u"}',
        "LLM_OPENAI__HEADERS": '{"X-Tag": "t"}',
        "LLM_OPENAI__QUERY": '{"api-version": "1"}',
    }
    with started(endpoint, *args, env=env) as plugin:
        generate(stub_of(plugin), "hello")
        seen = endpoint.seen[-1]
        assert (seen.body["temperature"], seen.body["max_tokens"], seen.body["user"]) == (0.25, 9, "u")
        assert (seen.headers["x-tag"], seen.headers["openai-organization"]) == ("t", "org")
        assert seen.path == "/v1/chat/completions?api-version=1"
        generate(stub_of(plugin), "hello", options=pb.GenerationOptions(temperature=0, max_tokens=1))
        assert (endpoint.bodies[-1]["temperature"], endpoint.bodies[-1]["max_tokens"]) == (0, 1)


# ---------------------------------------------------------------- keys


def test_without_a_key_no_authorization_is_sent(endpoint: Endpoint) -> None:
    """No key, no header."""
    with started(endpoint) as plugin:
        generate(stub_of(plugin), "hello")
    assert "authorization" not in endpoint.seen[-1].headers


def test_where_the_key_comes_from(endpoint: Endpoint, tmp_path: Path) -> None:
    """From the environment, the setting or a file; a header of the settings takes its place."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    for args, env in (
        ([], {"OPENAI_API_KEY": KEY}),
        ([], {"OPENAI_API_KEY": f"{KEY}\n"}),
        ([], {"LLM_OPENAI__API_KEY": KEY, "OPENAI_API_KEY": "sk-other-000000"}),
        (["--api-key-file", str(tmp_path / "key")], {}),
    ):
        with started(endpoint, *args, env=env) as plugin:
            generate(stub_of(plugin), "hello")
        assert endpoint.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    with started(endpoint, env={"LLM_OPENAI__HEADERS": '{"Authorization": "Basic abc"}'}) as plugin:
        generate(stub_of(plugin), "hello")
    assert endpoint.seen[-1].headers["authorization"] == "Basic abc"


def test_the_endpoint_of_the_environment(endpoint: Endpoint) -> None:
    """OPENAI_BASE_URL is the endpoint where the settings name none."""
    with start_plugin(MODULE, env=QUIET | {"OPENAI_BASE_URL": endpoint.url}) as plugin:
        assert generate(stub_of(plugin), "hello").text == "Hello"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["environment", "file", "header"])
def test_a_key_is_never_shown(endpoint: Endpoint, tmp_path: Path, source: str) -> None:
    """Not in --check, not in the log at its most talkative, not in an error, also when the endpoint repeats it."""
    (tmp_path / "key").write_text(KEY)
    env, args = {
        "environment": ({"OPENAI_API_KEY": KEY}, []),
        "file": ({}, ["--api-key-file", str(tmp_path / "key")]),
        "header": ({"LLM_OPENAI__HEADERS": json.dumps({"Authorization": f"Bearer {KEY}"})}, []),
    }[source]
    checked = run_plugin(MODULE, "--check", "--endpoint", endpoint.url, *args, env=QUIET | env)
    assert checked.returncode == 0
    assert KEY not in checked.stdout + checked.stderr
    with started_alone(endpoint, *args, "--log-level", "debug", "--max-retries", "0", env=env) as plugin:
        stub = stub_of(plugin)
        assert KEY[:8] not in said(refused(generate, stub, "tells-the-key-late"))
        error = refused(generate, stub, "tells-the-key")
        assert KEY not in repr(error)
        assert KEY not in str(error.trailing_metadata())
        assert KEY not in str(details(error).status)
        assert "***" in said(error)
        refused(generate, stub, "status-500")
        refused(generate, stub, "page")
        reflected = ProtoReflectionDescriptorDatabase(plugin.channel())
        names = list(reflected.get_services())
        assert "hector.plugins.v1.LLMProvider" in names
        assert not [name for name in names if KEY in str(reflected.FindFileContainingSymbol(name))]
        plugin.terminate()
    assert KEY not in plugin.stdout() + plugin.stderr()


def test_secrets_of_fallbacks_are_masked(endpoint: Endpoint) -> None:
    """--check masks the key, the headers and the query of a fallback too."""
    env = {
        "LLM_OPENAI__FALLBACKS__B__API_KEY": KEY,
        "LLM_OPENAI__FALLBACKS__B__HEADERS__X_TAG": KEY,
        "LLM_OPENAI__QUERY__KEY": KEY,
        "LLM_OPENAI__ENDPOINT": f"http://me:{KEY}@127.0.0.1/v1",
    }
    checked = run_plugin(MODULE, "--check", env=QUIET | env)
    assert checked.returncode == 0, checked.stderr
    assert "***" in checked.stdout
    assert KEY not in checked.stdout + checked.stderr


def test_check_shows_what_is_no_secret_of_a_fallback() -> None:
    """--check shows a fallback's address and model, its names of headers, and of all else that it is set."""
    fallback = {
        "endpoint": f"http://me:{KEY}@127.0.0.1:8000/v1",
        "model": "small",
        "api_key": KEY,
        "headers": {"X-Key": KEY},
        "body": {"inner": {"n": 5}},
    }
    checked = run_plugin(MODULE, "--check", env=QUIET | {"LLM_OPENAI__FALLBACKS": json.dumps({"second": fallback})})
    assert checked.returncode == 0, checked.stderr
    assert yaml.safe_load(checked.stdout)["fallbacks"]["second"] == {
        "endpoint": "http://***@127.0.0.1:8000/v1",
        "model": "small",
        "api_key": "***",
        "headers": {"X-Key": "***"},
        "body": {"inner": {"n": "***"}},
    }


def test_another_endpoint_gets_no_key_of_the_first(endpoint: Endpoint) -> None:
    """A fallback on another server is sent neither the first one's key nor its headers."""
    with Endpoint() as other:
        fallbacks = json.dumps({"other": {"endpoint": other.url, "model": "hello"}})
        env = {"OPENAI_API_KEY": KEY, "LLM_OPENAI__FALLBACKS": fallbacks, "LLM_OPENAI__HEADERS": '{"X-Key": "abcdef"}'}
        env |= {"OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "project", "OPENAI_CUSTOM_HEADERS": "X-Custom: abcdef"}
        with started(endpoint, "--max-retries", "0", env=env) as plugin:
            assert generate(stub_of(plugin), "status-503").text == "Hello"
        first = endpoint.seen[-1].headers
        assert (first["authorization"], first["x-key"], first["openai-organization"]) == (
            f"Bearer {KEY}",
            "abcdef",
            "org",
        )
        assert {"openai-project", "x-custom"} & first.keys() == set()
        names = {"authorization", "x-key", "openai-organization", "openai-project", "x-custom"}
        assert names & other.seen[-1].headers.keys() == set()


def test_the_ca_bundle(tmp_path: Path) -> None:
    """An endpoint whose certificate only ca_bundle knows is trusted with it, and refused without."""
    if shutil.which("openssl") is None:
        missing("the openssl command, which makes the certificate")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=endpoint", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", *kind, *names, "-keyout", key, "-out", cert]
    subprocess.run(argv, check=True, capture_output=True, timeout=SECONDS)
    with Endpoint(certificate=(cert, key)) as own:
        with started(own, "--ca-bundle", cert) as plugin:
            assert generate(stub_of(plugin), "hello").text == "Hello"
        with started(own, "--max-retries", "0") as plugin:
            error = refused(generate, stub_of(plugin), "hello")
            assert (details(error).reason, "certificate" in said(error).lower()) == ("UPSTREAM_UNREACHABLE", True)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"endpoint": "localhost:8000"}, "expected a URL such as"),
        ({"endpoint": "ftp://x"}, "not a URL"),
        ({"fallbacks": '{"a": {"endpont": "x"}}'}, "did you mean 'endpoint'"),
        ({"models": '{"a": {"capabilities": ["tool"]}}'}, "did you mean 'tools'"),
        ({"models": '{"a": {"context_length": -1}}'}, "context_length"),
        ({"headers": '{"a": 5}'}, "put it in quotes"),
        ({"headers": '{"a": null}'}, "a name has no value"),
        ({"api_key_file": "/nowhere/key"}, "cannot read /nowhere/key"),
        ({"proxy": "nonsense"}, "proxy: expected a URL such as"),
        ({"proxy": "http://127.0.0.1:port"}, "proxy: expected a URL such as"),
        ({"proxy": "http://127.0.0.1:99999"}, "proxy: expected a URL such as"),
        ({"proxy": "gopher://127.0.0.1:70"}, "setting proxy, or HTTPS_PROXY and its like: not a URL such as"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle"),
        ({"endpoint": "http://127.0.0.1:port/v1"}, "expected a URL such as"),
        ({"endpoint": "http://[::1/v1"}, "expected a URL such as"),
        ({"endpoint": "http://127.0.0.1:99999/v1"}, "expected a URL such as"),
        ({"endpoint": "http://127.0.0.1:0/v1"}, "expected a URL such as"),
        ({"endpoint": "http://999.1.1.1/v1"}, "not a URL"),
        ({"endpoint": "none"}, "not a URL"),
        ({"headers": '{"a b": "c"}'}, "a b is a name"),
        ({"headers": '{"a": "c\\n"}'}, "no header can have"),
        ({"fallbacks": '{"b": {"endpoint": 5}}'}, "'b': endpoint: expected text"),
        ({"fallbacks": '{"b": {"headers": "x"}}'}, "'b': headers: expected a mapping"),
        ({"fallbacks": '{"b": {"headers": null}}'}, "'b': headers: has no value"),
        ({"fallbacks": '{"b": {"headers": {"x": 1}}}'}, "'b': headers: 'x' must be text"),
        ({"fallbacks": '{"b": {"endpoint": "nonsense"}}'}, "'b': endpoint: expected a URL such as"),
        ({"endpoint": "http://127.0.0.1/v1?key=abc"}, "put that into the setting query"),
        ({"proxy": "socks5://127.0.0.1:1"}, "proxy"),
        ({"models": '{"a": {"context_length": "²"}}'}, "context_length"),
        ({"api_key_file": "/dev/null"}, "is empty"),
        ({"api_key_file": "/dev/zero"}, "cannot read /dev/zero: it has more than 64 KiB"),
        ({"ca_bundle": "/dev/zero"}, "cannot use /dev/zero: it is not a regular file"),
        ({"temperature": "hot"}, "expected a number"),
        ({"max_tokens": "0"}, "at least 1"),
    ],
)
def test_wrong_settings(given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep it from starting, with one sentence that names the setting; with --check too."""
    for name, value in (QUIET | {f"LLM_OPENAI__{name.upper()}": value for name, value in given.items()}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartError) as started:
        build(configured(["--port", "0"]))
    with pytest.raises(StartError) as checked:
        configured(["--port", "0", "--check"])
    for error in (started, checked):
        assert words in str(error.value)


def test_a_wrong_setting_ends_the_process() -> None:
    """With one line and exit status 2; with --check too."""
    for check in ([], ["--check"]):
        ended = run_plugin(MODULE, "--port", "0", *check, env=QUIET | {"LLM_OPENAI__ENDPOINT": "localhost:8000"})
        assert ended.returncode == 2
        assert "setting endpoint" in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_proxy_of_the_environment_that_is_none() -> None:
    """HTTPS_PROXY with a bad port is one line, which shows nothing of it, and status 2."""
    ended = run_plugin(MODULE, "--port", "0", env=QUIET | {"HTTPS_PROXY": f"http://me:{KEY}@127.0.0.1:port"})
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "HTTPS_PROXY" in ended.stderr
    assert KEY not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_variable_of_openssl_that_cannot_be_used(variable: str, check: list[str]) -> None:
    """One line that names it, and status 2; with --check and for plain http too."""
    env = QUIET | {variable: "/nowhere/file", "LLM_OPENAI__ENDPOINT": "http://127.0.0.1:8000/v1"}
    ended = run_plugin(MODULE, "--port", "0", *check, env=env)
    assert (ended.returncode, ended.stderr.count("\n"), variable in ended.stderr) == (2, 1, True)


@pytest.mark.parametrize("source", ["setting", "environment"])
def test_a_proxy_that_is_down_is_named(endpoint: Endpoint, source: str) -> None:
    """The error says through which proxy it went, without its password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        proxy = f"http://me:{KEY}@127.0.0.1:{probe.getsockname()[1]}"
    own = (
        {"LLM_OPENAI__PROXY": proxy}
        if source == "setting"
        else {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": ""}
    )
    with started(endpoint, "--max-retries", "0", env=own | {"no_proxy": "", "no_grpc_proxy": "127.0.0.1"}) as plugin:
        error = refused(generate, stub_of(plugin), "hello")
    assert details(error).reason == "UPSTREAM_UNREACHABLE"
    assert f"proxy http://127.0.0.1:{proxy.rpartition(':')[2]}" in said(error)
    assert KEY not in said(error)


@pytest.mark.parametrize("option", ["--headers", "--query", "--body", "--fallbacks", "--api-key"])
def test_what_can_hold_a_secret_is_no_option(option: str) -> None:
    """On the command line others could read it: refused with the name of the variable to use, and not repeated."""
    ended = run_plugin(MODULE, "--port", "0", option, f'{{"x": "{KEY}"}}', env=QUIET)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"set LLM_OPENAI__{option[2:].upper().replace('-', '_')} or put it in the file" in ended.stderr
    assert KEY not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--endpoint", "--proxy"])
@pytest.mark.parametrize("url", ["http://me:{}@127.0.0.1/v1", "http://127.0.0.1/v1?key={}", "http://h/#{}", "me:{}@h"])
def test_a_url_with_a_secret_is_no_option(option: str, url: str) -> None:
    """A URL is an option without user, password and query, and refused with any; its address alone is fine."""
    ended = run_plugin(MODULE, "--port", "0", option, url.format(KEY), env=QUIET)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"set LLM_OPENAI__{option[2:].upper()} or put it in the file" in ended.stderr
    assert KEY not in ended.stderr
    assert run_plugin(MODULE, option, "http://127.0.0.1:8000/v1", "--check", env=QUIET).returncode == 0


@pytest.mark.slow
def test_check_says_which_variable_it_is(endpoint: Endpoint) -> None:
    """--check names the world's variables that it takes settings from, and shows the path of a key's file."""
    env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org"}
    checked = run_plugin(MODULE, "--check", env=QUIET | env)
    assert f'endpoint: "{endpoint.url}"  # OPENAI_BASE_URL' in checked.stdout
    assert 'api_key: "***"  # OPENAI_API_KEY' in checked.stdout
    assert 'organization: "org"  # OPENAI_ORG_ID' in checked.stdout
    checked = run_plugin(MODULE, "--check", "--api-key-file", "/nowhere/key", env=QUIET)
    assert 'api_key_file: "/nowhere/key"' in checked.stdout
