"""What holds for every ToolProvider. A tool is run only where the operator allows it: --tool NAME --arguments JSON.

Everything else is tried without a tool that runs: the list, the schemas, unknown tools, arguments that are to be
refused before anything runs. The last are made from the schema of a tool that is read-only or that may be run.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, NotAsked, expect
from host.check.subject import Subject
from shared.errors import Code

claims = Claims("tools")
LISTED = "ListTools: every tool with its schema; a name is unique within its provider."
SCHEMA = "`parameters` are a JSON Schema of type object; the flat {name: type} of the guide's samples is read too."
UNKNOWN = "An unknown tool reads exactly `Unknown tool: NAME`."
CHECKED = "Arguments are checked before anything runs; the error names every field at fault."
RUN = "ExecuteTool runs one tool; `result` is text for the model."
NOBODY = "no_such_tool_of_check"
_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


def tools(check: Subject) -> list[Any]:
    return list(check.ok("ListTools", pb.ListToolsRequest()).tools)


def schema_of(tool: Any) -> dict[str, Any]:
    """A tool's parameters as a JSON Schema of type object, whichever form it lists them in."""
    listed: dict[str, Any] = json.loads(tool.parameters_json) if tool.parameters_json else plain(tool.parameters)
    if listed.get("type") == "object" or "properties" in listed:
        return listed
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in listed.items()}}


def plain(struct: Any) -> dict[str, Any]:
    value: dict[str, Any] = json_format.MessageToDict(struct)
    return value


def arguments(check: Subject) -> dict[str, Any]:
    """What --tool may be run with. Raises NotAsked."""
    check.needs("tool")
    try:
        value = json.loads(check.options.arguments)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NotAsked("--arguments is no JSON object")
    return value


def request(check: Subject, **fields: Any) -> Any:
    """A call of --tool with --arguments. Raises NotAsked."""
    made = pb.ExecuteToolRequest(tool=check.needs("tool"), **fields)
    if made.tool not in [tool.name for tool in tools(check)]:
        raise NotAsked(f"ListTools has no {made.tool}")
    json_format.ParseDict(arguments(check), made.parameters)
    return made


# ---------------------------------------------------------------- the guide


@claims.guide("Every tool has a name of its own and a description.", LISTED)
def named(check: Subject) -> None:
    listed = tools(check)
    names = [tool.name for tool in listed]
    expect(all(name.strip() for name in names), "a tool has no name")
    expect(len(set(names)) == len(names), f"a name comes twice among {names}")
    for tool in listed:
        expect(tool.description.strip(), f"tool {tool.name} has no description")


@claims.guide("The list is the same when it is asked for again.", LISTED)
def same_list(check: Subject) -> None:
    first, second = tools(check), tools(check)
    expect([t.name for t in first] == [t.name for t in second], "the second list has other tools, or another order")


@claims.guide("A tool's parameters are a schema.", SCHEMA)
def schemas(check: Subject) -> None:
    for tool in tools(check):
        try:
            schema = schema_of(tool)
        except ValueError:
            schema = {}
        whole = isinstance(schema, dict) and isinstance(schema.get("properties", {}), dict)
        expect(whole and schema.get("type") == "object", f"the parameters of {tool.name} are no schema of type object")
        for name, field in schema.get("properties", {}).items():
            kinds = field.get("type", []) if isinstance(field, dict) else None
            kinds = [kinds] if isinstance(kinds, str) else kinds
            good = isinstance(kinds, list) and set(kinds) <= _TYPES
            expect(good, f"parameter {name} of {tool.name} has type {kinds!r}")
        missing = set(schema.get("required", ())) - set(schema.get("properties", {}))
        expect(not missing, f"{tool.name} requires {sorted(missing)}, which it does not describe")


@claims.guide("GetToolSchema gives what the list has.", "GetToolSchema: the schemas that Tool carries.")
def schema_by_name(check: Subject) -> None:
    for tool in tools(check):
        reply = check.ok("GetToolSchema", pb.GetToolSchemaRequest(tool=tool.name))
        expect(reply.schema == tool.parameters, f"the schema of {tool.name} is not the one in the list", reply)


@claims.guide("An unknown tool reads exactly `Unknown tool: NAME`.", UNKNOWN)
def unknown_tool(check: Subject) -> None:
    for name in (NOBODY, "", "../etc", "tool with blanks", "ünïcode"):
        for rpc, sent in (
            ("ExecuteTool", pb.ExecuteToolRequest(tool=name)),
            ("GetToolSchema", pb.GetToolSchemaRequest(tool=name)),
        ):
            refusal = check.refused(rpc, sent, f"the unknown tool {name!r}")
            if name.isascii() and name:
                same = refusal.message == f"Unknown tool: {name}"
                expect(same, f"{rpc}: the error reads {refusal.message!r}", refusal.reply)


@claims.guide("The name of a tool is matched exactly.", UNKNOWN)
def exact_name(check: Subject) -> None:
    names = {tool.name for tool in tools(check)}
    for name in sorted(names)[:3]:
        for other in (name.upper(), name + " ", name[:-1], f"{name}\u0000"):
            if other not in names:
                check.refused("GetToolSchema", pb.GetToolSchemaRequest(tool=other), f"{other!r} for {name!r}")


@claims.guide("A call without an argument that is required is refused, and names it.", CHECKED)
def missing_argument(check: Subject) -> None:
    for tool in _with_schema(check, "required"):
        required = schema_of(tool)["required"]
        refusal = check.refused("ExecuteTool", pb.ExecuteToolRequest(tool=tool.name), f"{tool.name} without arguments")
        text = " ".join((refusal.message, *refusal.fields))
        missing = [name for name in required if name not in text]
        expect(not missing, f"{tool.name} without arguments: the error does not name {missing}", refusal.reply)


@claims.guide("An argument of a wrong type is refused, and named.", CHECKED)
def wrong_type(check: Subject) -> None:
    for tool in _with_schema(check, "properties"):
        for name, field in schema_of(tool)["properties"].items():
            kind = field.get("type") if isinstance(field, dict) else None
            wrong: Any = {"a": {"nested": []}} if kind in ("string", "number", "integer", "boolean") else None
            wrong = "text" if kind in ("object", "array") else wrong
            if wrong is None:
                continue
            sent = pb.ExecuteToolRequest(tool=tool.name)
            json_format.ParseDict({name: wrong}, sent.parameters)
            refusal = check.refused("ExecuteTool", sent, f"{tool.name} with {name} of a wrong type")
            text = " ".join((refusal.message, *refusal.fields))
            expect(name in text, f"{tool.name}: the error does not name {name}", refusal.reply)


@claims.guide("Every argument at fault is named, not only the first.", CHECKED)
def all_named(check: Subject) -> None:
    for tool in _with_schema(check, "properties"):
        simple = ("string", "number", "integer", "boolean")
        names = [
            name
            for name, field in schema_of(tool)["properties"].items()
            if isinstance(field, dict) and field.get("type") in simple
        ][:4]
        if len(names) < 2:
            continue
        sent = pb.ExecuteToolRequest(tool=tool.name)
        json_format.ParseDict({name: {"nested": []} for name in names}, sent.parameters)
        refusal = check.refused("ExecuteTool", sent, f"{tool.name} with {names} of wrong types")
        text = " ".join((refusal.message, *refusal.fields))
        unnamed = [name for name in names if name not in text]
        expect(not unnamed, f"{tool.name}: the error does not name {unnamed}", refusal.reply)


@claims.guide("An argument that a closed schema does not have is refused.", CHECKED)
def unknown_argument(check: Subject) -> None:
    asked = False
    for tool in _safe(check):
        if schema_of(tool).get("additionalProperties") is False:
            asked = True
            sent = pb.ExecuteToolRequest(tool=tool.name)
            json_format.ParseDict({"no_such_argument": 1}, sent.parameters)
            refusal = check.refused("ExecuteTool", sent, f"{tool.name} with an argument that it does not have")
            text = " ".join((refusal.message, *refusal.fields))
            expect("no_such_argument" in text, "the error does not name it", refusal.reply)
    if not asked:
        raise NotAsked("no tool that may be tried has a closed schema")


@claims.guide("The tool that may be run gives a result.", RUN)
def runs(check: Subject) -> None:
    name, names = check.needs("tool"), [tool.name for tool in tools(check)]
    expect(name in names, f"{name} is not in the list, which has {', '.join(names)}")
    reply = check.ok("ExecuteTool", request(check))
    expect(reply.result, "the result is empty", reply)


@claims.guide("Runs side by side each give a result.", "Each request has its own reply.")
def parallel_runs(check: Subject) -> None:
    sent = request(check)
    with ThreadPoolExecutor(4) as pool:
        for reply in pool.map(lambda _: check.ok("ExecuteTool", sent), range(4)):
            expect(reply.result, "a result is empty", reply)


@claims.guide("A refused call does not change the next.", "Each request has its own reply.")
def failure_is_over(check: Subject) -> None:
    check.refused("ExecuteTool", pb.ExecuteToolRequest(tool=NOBODY), "an unknown tool")
    check.ok("ExecuteTool", request(check))


@claims.guide("Bytes that are no message do no harm.", "What proto3 refuses gRPC answers; the server goes on.")
def broken_bytes(check: Subject) -> None:
    for data in (b"\x0a\x02\xff\xfe", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"):
        answer = check.raw("ExecuteTool", data)
        taken = not isinstance(answer, grpc.RpcError) and pb.ExecuteToolResponse.FromString(answer).success
        expect(not taken, f"the bytes {data[:8].hex()} were taken for a call")
    tools(check)


# ---------------------------------------------------------------- the additions


@claims.full("An unknown tool is NOT_FOUND, wrong arguments are INVALID_ARGUMENT with the fields.", CHECKED)
def error_details(check: Subject) -> None:
    for rpc, sent in (
        ("ExecuteTool", pb.ExecuteToolRequest(tool=NOBODY)),
        ("GetToolSchema", pb.GetToolSchemaRequest(tool=NOBODY)),
    ):
        check.refused_with(rpc, sent, "an unknown tool", Code.NOT_FOUND)
    for tool in _with_schema(check, "required"):
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
            expect(isinstance(json.loads(tool.output_schema_json), dict), f"the output schema of {tool.name} is none")


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
    listed = _safe(check)
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
    "max_result_chars bounds the result, and says that it was cut.",
    "`max_result_chars`: most characters of `result`; `truncated`: only a part.",
)
def bounded_result(check: Subject) -> None:
    whole = check.ok("ExecuteTool", request(check))
    if len(whole.result) < 8:
        raise NotAsked("the result of --tool is too short to be cut")
    most = len(whole.result) // 2
    reply = check.ok("ExecuteTool", request(check, max_result_chars=most))
    expect(len(reply.result) <= most, f"max_result_chars={most} gives {len(reply.result)} characters", reply)
    expect(reply.truncated, "the result was cut and does not say so", reply)


@claims.full(
    "A success has neither `error` nor `status`.", "When `success` is true, `error` is empty and `status` unset."
)
def clean_success(check: Subject) -> None:
    reply = check.ok("ExecuteTool", request(check))
    expect(not reply.HasField("status"), "a success has a `status`", reply)
    for tool in tools(check)[:3]:
        schema = check.ok("GetToolSchema", pb.GetToolSchemaRequest(tool=tool.name))
        expect(not schema.HasField("status"), "a success has a `status`", schema)


def _safe(check: Subject) -> list[Any]:
    """Tools that a call which is to be refused may be tried on: should it run after all, nothing is lost."""
    return [tool for tool in tools(check) if tool.read_only or tool.name == check.options.tool]


def _with_schema(check: Subject, keyword: str) -> list[Any]:
    """Of those, the ones whose schema says something under `keyword`. Raises NotAsked where there is none."""
    listed = [tool for tool in _safe(check) if schema_of(tool).get(keyword)]
    if not listed:
        raise NotAsked(f"no tool that may be tried (read_only, or --tool) has {keyword}")
    return listed


def _as_struct(value: dict[str, Any]) -> dict[str, Any]:
    """As it comes back out of a Struct, whose numbers are doubles."""
    return plain(json_format.ParseDict(value, pb.Tool().parameters))
