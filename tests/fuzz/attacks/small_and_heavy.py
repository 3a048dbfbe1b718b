"""Requests of a caller with the token that are small to send and much work, if nobody counts before working."""

from __future__ import annotations

import contextlib
import functools
import json
from random import Random

import hector_plugins_pb2 as pb

from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import SERVICES
from tests.fuzz.mutate import varint

Call = tuple[str, str, bytes]  # name of the method, what it is, message


def run(target: Target, random: Random) -> Steps:
    calls = CALLS[SERVICES[target.plugin]]()
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            for _ in range(20):
                name, what, message = random.choice(calls)
                path = f"/hector.plugins.v1.{SERVICES[target.plugin]}/{name}"
                stream = connection.open(path, target.token)
                connection.message_whole(stream, message)
                sent = Sent(what, message[:65_536], path)
                yield sent
                connection.wait(stream, 0.2)
                if bug := bug_of(connection, stream):
                    yield Problem(f"{bug} to {what}", sent)
                if connection.ended:
                    break


@functools.cache
def _database() -> list[Call]:
    empty, name = b"\x12\x00", b"\x0a\x04fuzz"
    deep = pb.Filter()
    for _ in range(45):
        deep = pb.Filter(must=[pb.Condition(filter=deep)])
    wide = pb.SearchVectorsRequest(collection="fuzz", vector=[1.0] * 8, filter=pb.Filter()).SerializeToString()
    return [
        ("SearchVectorsBatch", "100,000 empty searches", b"\x0a\x00" * 100_000),
        ("UpsertVectors", "1,000,000 empty vectors", name + empty * 1_000_000),
        ("UpsertVectorsStream", "200,000 empty vectors", name + empty * 200_000),
        ("GetVectors", "500,000 empty ids", name + empty * 500_000),
        ("DeleteVectors", "500,000 empty ids", name + empty * 500_000),
        ("UpdateMetadata", "1,000,000 empty updates", name + empty * 1_000_000),
        ("UpdateMetadata", "900,000 keys to remove", name + _field(2, b"\x1a\x01k" * 900_000)),
        ("SearchVectors", "500,000 empty conditions", wide + _field(11, b"\x0a\x00" * 500_000)),
        ("CountVectors", "500,000 empty conditions", name + _field(2, b"\x0a\x00" * 500_000)),
        ("SearchVectors", "filters 90 deep", wide + _field(11, deep.SerializeToString())),
        ("UpsertVectors", "metadata of 300,000 empty values", name + _field(2, b"\x0a\x01a" + _struct(300_000))),
        ("UpsertVectors", "JSON metadata 100,000 deep", _upsert("[" * 100_000 + "]" * 100_000)),
        ("UpsertVectors", "JSON metadata of 300,000 numbers", _upsert('{"a":[' + "0," * 300_000 + "0]}")),
        ("SearchVectors", "1,000 hits with vectors and metadata", _large_reply()),
        ("DescribeCollection", "a description", pb.DescribeCollectionRequest(name="kept").SerializeToString()),
    ]


@functools.cache
def _embedder() -> list[Call]:
    return [
        ("EmbedBatch", "1,000,000 empty texts", b"\x0a\x00" * 1_000_000),
        ("CountTokens", "1,000,000 empty texts", b"\x0a\x00" * 1_000_000),
        ("EmbedText", "a text of 1 MB", pb.EmbedTextRequest(text="word " * 200_000).SerializeToString()),
        ("EmbedText", "one word of 1 MB", pb.EmbedTextRequest(text="w" * 1_000_000).SerializeToString()),
        (
            "EmbedText",
            "500,000 combining characters",
            pb.EmbedTextRequest(text="a" + "\u0301" * 500_000).SerializeToString(),
        ),
        ("CountTokens", "a text of 4 MB", pb.CountTokensRequest(texts=["x " * 2_000_000]).SerializeToString()),
        ("EmbedStream", "a text of 1 MB", pb.EmbedStreamRequest(text="é" * 500_000).SerializeToString()),
    ]


@functools.cache
def _llm() -> list[Call]:
    schema = {"$defs": {"n": {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}}] * 2}}, "$ref": "#/$defs/n"}
    nested = '{"a":' * 60 + "1" + "}" * 60
    options = pb.GenerationOptions(response_format=pb.RESPONSE_FORMAT_JSON_SCHEMA, json_schema=json.dumps(schema))
    checked = pb.GenerateTextRequest(prompt=nested, model="echo", options=options)
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(20_000)}}
    tools = [pb.Tool(name=f"tool-{number}", parameters_json=json.dumps(wide)) for number in range(2)]
    return [
        ("GenerateText", "a schema that branches at every level", checked.SerializeToString()),
        ("StreamText", "a schema that branches at every level", checked.SerializeToString()),
        ("GenerateText", "1,000,000 empty chat messages", _field(10, b"") * 1_000_000),
        ("CallTool", "500,000 empty tools", b"\x0a\x01x" + _field(11, b"") * 500_000),
        ("CallTool", "tools of 20,000 parameters", _tools(tools)),
        (
            "GenerateText",
            "a prompt of 8 MB",
            pb.GenerateTextRequest(prompt="x" * 8_000_000, model="hello").SerializeToString(),
        ),
        ("GenerateText", "JSON 100,000 deep", _extra("[" * 100_000)),
        ("GenerateText", "JSON of 500,000 keys", _extra(json.dumps({str(number): 0 for number in range(500_000)}))),
        ("GenerateText", "an endpoint that sends without end", _model("endless")),
        ("StreamText", "an endpoint that sends without end", _model("endless")),
        ("GenerateText", "an error of 100 MB", _model("huge-error")),
    ]


@functools.cache
def _tools_of_provider() -> list[Call]:
    rows = '"data":[' + ",".join(['{"a":1,"b":"x"}'] * 200_000) + "]"
    return [
        ("ListTools", "the list of tools", b""),
        ("ExecuteTool", "arguments 100,000 deep", _call("custom_api_call", '{"json":' + "[" * 100_000)),
        ("ExecuteTool", "arguments of 300,000 values", _call("custom_api_call", '{"json":[' + "0," * 300_000 + "0]}")),
        ("ExecuteTool", "arguments of 8 MB", _call("custom_api_call", '{"body":"' + "x" * 8_000_000 + '"}')),
        ("ExecuteTool", "quotes without end", _call("custom_api_call", '{"body":"' + '\\"' * 500_000)),
        ("ExecuteTool", "a Struct of 300,000 empty values", b"\x0a\x0fcustom_api_call" + _field(2, _entries(300_000))),
        ("ExecuteTool", "9,999 unknown arguments", _call("fetch_page", json.dumps({str(n): 0 for n in range(9_999)}))),
        ("ExecuteTool", "200,000 rows", _call("custom_data_processing", "{" + rows + ',"algorithm":"describe"}')),
        ("ExecuteTool", "data 1,000,000 deep", _call("custom_data_processing", '{"data":' + "[" * 1_000_000)),
        ("ExecuteTool", "a join of all with all", _call("custom_data_processing", _join())),
        ("ExecuteTool", "a text of 4 MB as CSV", _call("custom_data_processing", _csv("a," * 2_000_000))),
        ("ExecuteTool", "CSV of quotes", _call("custom_data_processing", _csv('\\"' * 2_000_000))),
        ("ExecuteTool", "an expression that is nested", _call("custom_data_processing", _nested())),
    ]  # fmt: skip


@functools.cache
def _strategy() -> list[Call]:
    query = b"\x52\x01x"
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(20_000)}}
    branches = {"$defs": {"n": {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}}] * 2}}, "$ref": "#/$defs/n"}
    return [
        ("Initialize", "1,000,000 empty messages of a history", query + _field(11, b"") * 1_000_000),
        ("Initialize", "60,000 empty messages of a history", query + _field(11, b"") * 60_000),
        ("Initialize", "500,000 empty tools", query + _field(12, b"") * 500_000),
        ("Initialize", "128 tools", _of_host(*(pb.Tool(name=f"tool-{number}") for number in range(128)))),
        ("Initialize", "tools of 20,000 parameters", _of_host(*(_tool(f"tool-{n}", wide) for n in range(2)))),
        ("Initialize", "a schema that branches at every level", _of_host(_tool("tool", branches))),
        ("Initialize", "a schema 100,000 deep", _of_host(pb.Tool(name="tool", parameters_json="[" * 100_000))),
        ("Initialize", "a tool of 300,000 empty values", query + _field(12, _field(3, _entries(300_000)))),
        ("Initialize", "a call with 300,000 empty values", query + _field(11, _field(4, _field(4, _entries(300_000))))),
        ("Initialize", "a context of 4 MB", pb.InitializeRequest(context="x " * 2_000_000).SerializeToString()),
        ("Initialize", "1,000,000 line breaks", pb.InitializeRequest(context="\n" * 1_000_000).SerializeToString()),
        ("ProcessIteration", "500,000 empty observations", b"\x0a\x01x" + _field(10, b"") * 500_000),
        ("ProcessIteration", "60,000 empty observations", b"\x0a\x01x" + _field(10, b"") * 60_000),
        ("StreamIteration", "60,000 empty observations", b"\x0a\x01x" + _field(10, b"") * 60_000),
        ("ProcessIteration", "a state of 16 MB", _field(1, b"hector-react" + b"\0" * 2**24)),
        ("StreamIteration", "an input of 1 MB", _field(1, b"hector-react") + _field(2, b"x" * 2**20)),
        ("Finalize", "a state of 16 MB", _field(1, b"hector-react" + b"\0" * 2**24)),
    ]  # fmt: skip


def _of_host(*tools: pb.Tool) -> bytes:
    return pb.InitializeRequest(query="x", tools=tools, host_executes=True).SerializeToString()


def _tool(name: str, schema: object) -> pb.Tool:
    return pb.Tool(name=name, parameters_json=json.dumps(schema))


def _entries(values: int) -> bytes:
    return _field(1, _field(1, b"json") + _field(2, _field(6, b"\x0a\x00" * values)))


def _call(tool: str, arguments: str) -> bytes:
    return pb.ExecuteToolRequest(tool=tool, parameters_json=arguments).SerializeToString()


def _join() -> str:
    rows = [{"a": 1}] * 20_000
    return json.dumps({"data": rows, "algorithm": "join", "options": {"right": rows, "on": ["a"]}})


def _csv(text: str) -> str:
    return '{"data":"' + text + '","algorithm":"parse_csv"}'


def _nested() -> str:
    return json.dumps({"data": {}, "algorithm": "jmespath", "options": {"expression": "a" + "[" * 5_000}})


CALLS = {
    "DatabaseProvider": _database,
    "EmbedderProvider": _embedder,
    "LLMProvider": _llm,
    "ToolProvider": _tools_of_provider,
    "ReasoningStrategy": _strategy,
}


def _field(number: int, value: bytes) -> bytes:
    """A field of a message that holds a message, as it goes over the wire."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def _struct(values: int) -> bytes:
    """The metadata of a vector: a list of so many values that say nothing."""
    entry = _field(1, b"a") + _field(2, _field(6, b"\x0a\x00" * values))
    return _field(3, _field(1, entry))


def _upsert(metadata: str) -> bytes:
    vector = pb.Vector(id="heavy", vector=[1.0] * 8, metadata_json=metadata)
    return pb.UpsertVectorsRequest(collection="fuzz", vectors=[vector]).SerializeToString()


def _large_reply() -> bytes:
    return pb.SearchVectorsRequest(
        collection="kept", vector=[1.0] * 8, limit=1000, include_vectors=True
    ).SerializeToString()


def _tools(tools: list[pb.Tool]) -> bytes:
    return pb.CallToolRequest(prompt="x", model="tool", tools=tools).SerializeToString()


def _extra(text: str) -> bytes:
    options = pb.GenerationOptions(extra_json=text)
    return pb.GenerateTextRequest(prompt="x", model="hello", options=options).SerializeToString()


def _model(name: str) -> bytes:
    return pb.GenerateTextRequest(prompt="x", model=name).SerializeToString()
