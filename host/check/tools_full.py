"""The additions of tools; the guide's part is in `tools.py`."""

from __future__ import annotations

import json
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, NotAsked, expect
from host.check.subject import Subject
from host.check.tools import CHECKED, NOBODY, TYPES, arguments, plain, request, safe, schema_of, tools, with_schema
from shared.errors import Code

claims = Claims("tools")


@claims.full("An unknown tool is NOT_FOUND, wrong arguments are INVALID_ARGUMENT with the fields.", CHECKED)
def error_details(check: Subject) -> None:
    for rpc, sent in (
        ("ExecuteTool", pb.ExecuteToolRequest(tool=NOBODY)),
        ("GetToolSchema", pb.GetToolSchemaRequest(tool=NOBODY)),
    ):
        check.refused_with(rpc, sent, "an unknown tool", Code.NOT_FOUND)
    for tool in with_schema(check, "required"):
        what = f"{tool.name} without arguments"
        refusal = check.refused_with("ExecuteTool", pb.ExecuteToolRequest(tool=tool.name), what, Code.INVALID_ARGUMENT)
        expect(refusal.fields, f"{what}: there are no BadRequest violations", refusal.reply)


@claims.full(
    "A schema stands as JSON text too, with the same content.", "`parameters_json`, `schema_json`: always filled."
)
def schema_text(check: Subject) -> None:
    for tool in tools(check):
        expect(tool.parameters_json, f"{tool.name} has no parameters_json")
        reply = check.ok("GetToolSchema", pb.GetToolSchemaRequest(tool=tool.name))
        same = json.loads(reply.schema_json or "null") == json.loads(tool.parameters_json)
        expect(same, f"schema_json of {tool.name} is not its parameters_json", reply)
        expect(
            plain(tool.parameters) == _as_struct(json.loads(tool.parameters_json)), f"{tool.name}: the two forms differ"
        )
        expect(reply.output_schema_json == tool.output_schema_json, f"{tool.name}: the output schemas differ", reply)
        if tool.output_schema_json:
            promised = json.loads(tool.output_schema_json)
            good = isinstance(promised, dict) and promised.get("type", "object") in TYPES
            expect(good, f"the output schema of {tool.name} is none")


@claims.full(
    "A tool does not claim to be read-only and destructive.",
    "read_only: changes nothing outside; destructive: may delete.",
)
def hints(check: Subject) -> None:
    for tool in tools(check):
        expect(not (tool.read_only and tool.destructive), f"{tool.name} is called both read-only and destructive")


@claims.full(
    "Arguments as JSON text win over the Struct.",
    "`parameters_json`: the arguments as a JSON object; wins over `parameters`.",
)
def json_wins(check: Subject) -> None:
    sent = request(check, parameters_json=json.dumps(arguments(check)))
    json_format.ParseDict({"no_such_argument": {"nested": []}}, sent.parameters)
    reply = check.ok("ExecuteTool", sent)
    expect(reply.result, "the result is empty", reply)


@claims.full("Arguments that are no JSON object are refused.", "`parameters_json`: the arguments as a JSON object.")
def bad_json(check: Subject) -> None:
    listed = safe(check)
    if not listed:
        raise NotAsked("give --tool")
    for text in ('{"a": ', "[]", "3", "null", '"{}"', "{}{}"):
        sent = pb.ExecuteToolRequest(tool=listed[0].name, parameters_json=text)
        check.refused_with("ExecuteTool", sent, f"arguments {text!r}", Code.INVALID_ARGUMENT)


@claims.full(
    "A repeated call_id with equal arguments has the answer of the first.",
    "A repeated `call_id` with equal arguments is answered from a bounded memory.",
)
def call_id(check: Subject) -> None:
    key = f"check-{id(check)}-{len(check.exchanges)}"
    first = check.ok("ExecuteTool", request(check, call_id=key))
    second = check.ok("ExecuteTool", request(check, call_id=key))
    expect(first == second, "the repeated call has another answer", second)


@claims.full(
    "A call_id is of its arguments too: with others it is another call.",
    "A repeated `call_id` with equal arguments is answered from a bounded memory.",
)
def call_id_of_others(check: Subject) -> None:
    name = check.needs("tool")
    fields: dict[str, Any] = next(
        (schema_of(tool).get("properties", {}) for tool in tools(check) if tool.name == name), {}
    )
    simple = [field for field, told in fields.items() if told.get("type") in ("string", "number", "integer", "boolean")]
    if not simple:
        raise NotAsked("--tool has no argument whose type can be got wrong")
    key = f"check-other-{id(check)}-{len(check.exchanges)}"
    check.ok("ExecuteTool", request(check, call_id=key))
    other = request(check, call_id=key)
    json_format.ParseDict({simple[0]: {"nested": []}}, other.parameters)
    check.refused("ExecuteTool", other, "the call_id of a call that went well, with wrong arguments")


@claims.full(
    "What a tool gives as data is JSON, of the schema that it promises.",
    "`structured`: the result as data, by Tool.output_schema_json; the *_json twins are JSON text.",
)
def structured_result(check: Subject) -> None:
    reply = check.ok("ExecuteTool", request(check))
    facts = json.loads(reply.metadata_json or "{}")
    expect(isinstance(facts, dict), f"metadata_json is no object: {reply.metadata_json[:80]}", reply)
    promised = next(t.output_schema_json for t in tools(check) if t.name == check.options.tool)
    data = json.loads(reply.structured_json) if reply.structured_json else None
    if reply.HasField("structured"):
        data = json_format.MessageToDict(reply)["structured"]
    if not promised:
        return
    expect(data is not None, "a tool with an output schema gives no data", reply)
    kind = json.loads(promised).get("type")
    kinds: dict[Any, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float)}
    fits = isinstance(data, kinds.get(kind, object)) if isinstance(kind, str) else True
    expect(fits, f"the data is a {type(data).__name__}, and the schema promises type {kind}", reply)
    required = json.loads(promised).get("required", ())
    missing = [field for field in required if field not in data] if isinstance(data, dict) else []
    expect(not missing, f"the data lacks {missing}, which the output schema requires", reply)


@claims.full(
    "max_result_chars bounds the result, and says that it was cut.",
    "`max_result_chars`: most characters of `result`; `truncated`: only a part; `next_cursor` reads on.",
)
def bounded_result(check: Subject) -> None:
    whole = check.ok("ExecuteTool", request(check))
    if len(whole.result) < 8:
        raise NotAsked("the result of --tool is too short to be cut")
    most = len(whole.result) // 2
    reply = check.ok("ExecuteTool", request(check, max_result_chars=most))
    expect(len(reply.result) <= most, f"max_result_chars={most} gives {len(reply.result)} characters", reply)
    expect(reply.truncated, "the result was cut and does not say so", reply)
    pages = 1
    while reply.next_cursor:
        expect(pages < 20, "after twenty pages the result, cut in two, has not ended", reply)
        reply = check.ok("ExecuteTool", request(check, max_result_chars=most, cursor=reply.next_cursor))
        pages += 1


@claims.full(
    "A success has neither `error` nor `status`.", "When `success` is true, `error` is empty and `status` unset."
)
def clean_success(check: Subject) -> None:
    reply = check.ok("ExecuteTool", request(check))
    expect(not reply.HasField("status"), "a success has a `status`", reply)
    for tool in tools(check)[:3]:
        schema = check.ok("GetToolSchema", pb.GetToolSchemaRequest(tool=tool.name))
        expect(not schema.HasField("status"), "a success has a `status`", schema)


def _as_struct(value: dict[str, Any]) -> dict[str, Any]:
    """As it comes back out of a Struct, whose numbers are doubles."""
    return plain(json_format.ParseDict(value, pb.Tool().parameters))
