"""The tool provider through a socket: listing, schemas, arguments, results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from google.protobuf.json_format import MessageToDict

from plugins.tools_http.engine.tool import Call, Output
from shared.errors import Code, LimitReached, NotFound
from tests.servers import SECONDS, details
from tests.tools_socket import OPEN, Tools, serving, tool

FORECAST = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3},
        "units": {"type": "string", "enum": ["metric", "imperial"]},
    },
    "required": ["city"],
}


async def echo(arguments: dict[str, Any], call: Call) -> Output:
    return Output(text=json.dumps(arguments), structured=arguments, content_type="application/json")


async def unread(text: str, call: Call) -> Output:
    return Output(text=text)


async def failing(arguments: dict[str, Any], call: Call) -> Output:
    if arguments.get("kind") == "raised":
        raise LimitReached("the quota is spent; wait", reason="QUOTA", retry_after=7)
    if arguments.get("kind") == "bug":
        raise RuntimeError("a secret path")
    return Output(
        text='{"message": "no such user"}',
        structured={"message": "no such user"},
        content_type="application/json",
        metadata={"status": 404},
        error=NotFound("the server answered 404", reason="UPSTREAM_NOT_FOUND"),
    )


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    with serving(
        tool(echo, name="forecast", parameters=FORECAST, read_only=True, output_schema={"type": "object"}),
        tool(echo, name="echo", parameters=OPEN),
        tool(name="unread", run_text=unread),
        tool(failing, name="failing"),
    ) as running:
        yield running


def test_list_and_schema(tools: Tools) -> None:
    """ListTools and GetToolSchema give each tool's schema as a Struct and as JSON, and what it promises."""
    listed = tools.stub.ListTools(pb.ListToolsRequest(), timeout=SECONDS).tools
    assert [one.name for one in listed] == ["forecast", "echo", "unread", "failing", "read_result"]
    forecast = listed[0]
    assert json.loads(forecast.parameters_json) == FORECAST == MessageToDict(forecast.parameters)
    assert (forecast.read_only, forecast.destructive) == (True, False)
    schema = tools.stub.GetToolSchema(pb.GetToolSchemaRequest(tool="forecast"), timeout=SECONDS)
    assert (schema.success, json.loads(schema.schema_json), schema.schema) == (True, FORECAST, forecast.parameters)
    assert json.loads(schema.output_schema_json) == {"type": "object"}


def test_an_unknown_tool(tools: Tools) -> None:
    """An unknown tool reads exactly `Unknown tool: NAME`; the nearest names are in the details."""
    for reply in (tools.call("forcast"), tools.stub.GetToolSchema(pb.GetToolSchemaRequest(tool="forcast"))):
        assert (reply.success, reply.error) == (False, "Unknown tool: forcast")
        told = details(reply.status)
        assert (told.status.code, told.reason, told.metadata["nearest"]) == (Code.NOT_FOUND, "UNKNOWN_TOOL", "forecast")
        assert told.violations == (("tool", "did you mean forecast?"),)


def test_arguments_in_either_form(tools: Tools) -> None:
    """JSON wins over the Struct; a Struct's whole numbers are integers; neither is no arguments."""
    sent = pb.ExecuteToolRequest(tool="forecast")
    sent.parameters.update({"city": "Oslo", "days": 3})
    assert tools.stub.ExecuteTool(sent).result in ('{"city": "Oslo", "days": 3}', '{"days": 3, "city": "Oslo"}')
    sent.parameters_json = '{"city": "Bergen"}'
    assert tools.stub.ExecuteTool(sent).result == '{"city": "Bergen"}'
    assert tools.call("forecast", '{"city": "Oslo", "days": 3.0}').result == '{"city": "Oslo", "days": 3}'
    assert tools.call("echo").result == "{}"
    assert tools.call("unread", '{"a":   1}').result == '{"a":   1}'
    assert tools.call("unread").result == "{}"


def test_every_argument_at_fault(tools: Tools) -> None:
    """The error names each argument at fault, its rule and the nearest name; nothing is run."""
    reply = tools.call("forecast", {"town": "Oslo", "dayz": 3, "days": 15, "units": "metrik"})
    assert not reply.success
    assert not reply.result
    told = details(reply.status)
    assert (told.status.code, told.reason) == (Code.INVALID_ARGUMENT, "BAD_ARGUMENTS")
    assert dict(told.violations) == {
        "parameters.city": "city is missing; it must be a string and have at least 2 characters",
        "parameters.town": "town is not an argument of forecast; it takes city, days, units",
        "parameters.dayz": "dayz is not an argument of forecast; did you mean days?",
        "parameters.days": "days must be at most 14, it is 15",
        "parameters.units": 'units must be one of "metric", "imperial", it is "metrik"; did you mean metric?',
    }
    assert all(words in reply.error for _, words in told.violations)
    assert reply.error.startswith("forecast was not run: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "not JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a":' + "[" * 300 + "]" * 300 + "}", "nested more than 200 levels"),
        ('{"a":' + "[" * 90_000 + "]" * 90_000 + "}", "nested more than 200 levels"),
        ('{"a":' + "9" * 5_000 + "}", "too many digits"),
        ('{"a":[' + "[]," * 100_000 + "1]}", "more than 100,000 values"),
        ('{"a":"' + '\\"' * 150_000 + ",[{" * 50_000, "not JSON"),
        ('{"a":"' + "x" * 3_000_000 + '"}', "3,000,008 characters"),
    ],
)
def test_what_is_no_arguments(tools: Tools, text: str, words: str) -> None:
    """Text that is no JSON object, or too much of one, is refused with the reason."""
    reply = tools.call("echo", text)
    assert not reply.success
    assert words in reply.error
    assert details(reply.status).violations[0][0] == "parameters_json"


def test_commas_in_a_text_are_no_values(tools: Tools) -> None:
    """What counts as values are values: a long text may hold as many commas as it likes."""
    reply = tools.call("echo", {"csv": "1,2,3\n" * 60_000}, max_result_chars=300)
    assert reply.success, reply.error


def test_a_struct_that_is_too_large(tools: Tools) -> None:
    """A Struct of megabytes is refused before it is read, and the way around is said."""
    sent = pb.ExecuteToolRequest(tool="echo")
    sent.parameters.update({"a": "x" * 2**21})
    reply = tools.stub.ExecuteTool(sent)
    assert not reply.success
    assert "parameters has more than 1,048,576 bytes" in reply.error


def test_structured(tools: Tools) -> None:
    """What a Value cannot hold exactly comes as JSON too."""
    reply = tools.call("echo", '{"a": 9007199254740993, "b": [null, "x", 1.5]}')
    assert json.loads(reply.structured_json) == {"a": 2**53 + 1, "b": [None, "x", 1.5]}
    assert "9007199254740993" in reply.result
    plain = tools.call("echo", {"a": 1, "b": [None]})
    assert (plain.structured_json, MessageToDict(plain.structured)) == ("", {"a": 1, "b": [None]})
    assert plain.content_type == "application/json"


def test_a_thousand_tools_in_one_reply() -> None:
    """Where the list would be too large for a reply its tools come with JSON alone, which says the same."""
    many = [tool(echo, name=f"tool_{number}", parameters=FORECAST) for number in range(1_000)]
    with serving(*many) as running:
        listed = running.stub.ListTools(pb.ListToolsRequest(), timeout=SECONDS)
        assert len(listed.tools) == 1_001
        assert MessageToDict(listed.tools[999].parameters) == FORECAST
        size = listed.ByteSize()
    with serving(*many, max_reply_bytes=size) as running:
        listed = running.stub.ListTools(pb.ListToolsRequest(), timeout=SECONDS)
        assert len(listed.tools) == 1_001
        assert not any(one.HasField("parameters") for one in listed.tools)
        assert json.loads(listed.tools[999].parameters_json) == FORECAST


async def odd(arguments: dict[str, Any], call: Call) -> Output:
    half = "\ud800"
    return Output(text=f"a{half}b", structured={"a": half, half: [1] * 20}, metadata={"title": half, "status": 200})


async def deep(text: str, call: Call) -> Output:
    return Output(text="x", structured_json="[" * 3_000 + "]" * 3_000)


def test_halves_of_characters() -> None:
    """What JSON can spell and no text can hold comes as JSON, spelled so; a text has a mark in its place."""
    with serving(tool(odd)) as running:
        reply = running.call("toy")
        assert reply.success
        assert reply.result == "a?b"
        assert json.loads(reply.structured_json) == {"a": "\ud800", "\ud800": [1] * 20}
        assert json.loads(reply.metadata_json) == {"title": "\ud800", "status": 200}


def test_deep_data() -> None:
    """Data that is nested deeper than anybody reads goes out as it came."""
    with serving(tool(name="deep", run_text=deep)) as running:
        assert running.call("deep").structured_json == "[" * 3_000 + "]" * 3_000


def test_a_failure_keeps_the_body(tools: Tools) -> None:
    """A tool that failed says so, and what came is in the result all the same."""
    reply = tools.call("failing")
    assert (reply.success, reply.error, reply.result) == (
        False,
        "the server answered 404",
        '{"message": "no such user"}',
    )
    assert MessageToDict(reply.metadata) == {"status": 404}
    assert MessageToDict(reply.structured) == {"message": "no such user"}
    assert details(reply.status).reason == "UPSTREAM_NOT_FOUND"


def test_a_tool_that_raises(tools: Tools) -> None:
    """What a tool raises for its caller is `success=false` with its details; a bug shows nothing but an id."""
    told = details(tools.call("failing", {"kind": "raised"}).status)
    assert (told.status.code, told.reason, told.retry_after) == (Code.RESOURCE_EXHAUSTED, "QUOTA", 7)
    with pytest.raises(Exception, match="request_id") as raised:
        tools.call("failing", {"kind": "bug"})
    assert "secret path" not in str(raised.value)


def test_one_line_a_call(tools: Tools) -> None:
    """Each call leaves one line with what it was and how it went, and nothing that was sent."""
    before = len(tools.log_lines("tool_call"))
    tools.call("echo", {"password": "open sesame"})
    tools.call("failing")
    tools.call("forcast")
    lines = tools.log_lines("tool_call")[before:]
    assert [(line["tool"], line["code"]) for line in lines] == [
        ("echo", "OK"),
        ("failing", "UPSTREAM_NOT_FOUND"),
        ("forcast", "UNKNOWN_TOOL"),
    ]
    assert "sesame" not in tools.served.log()


def test_errors_are_for_models(tools: Tools) -> None:
    """A wrong kind of value is shown, short, beside the right one."""
    reply = tools.call("forecast", {"city": 5, "days": "3"})
    assert reply.error == (
        'forecast was not run: city must be a string, it is 5; days must be an integer, it is the string "3"'
    )


def test_a_name_that_others_begin_with() -> None:
    """Of the names that may be meant those that begin with what was written come first."""
    names = ("delete_item", "getItem_1a2b3c4d", "get_time")
    with serving(*(tool(name=name) for name in names)) as tools:
        assert details(tools.call("getItem").status).metadata["nearest"].split(", ")[0] == "getItem_1a2b3c4d"
