"""What holds for every ToolProvider. A tool is run only where the operator allows it: --tool NAME --arguments JSON.

Everything else is tried without a tool that runs: the list, the schemas, unknown tools, arguments that are to be
refused before anything runs. The last are made from the schema of a tool that is read-only or that may be run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hector_plugins_pb2 as pb
from google.protobuf import json_format

from host.check.claims import Claims, NotAsked, expect
from host.check.odd_bytes import takes_no_odd_bytes
from host.check.refusal import Refusal
from host.check.subject import Subject

claims = Claims("tools")
LISTED = "ListTools: every tool with its schema; a name is unique within its provider."
SCHEMA = "`parameters` are a JSON Schema of type object; the flat {name: type} of the guide's samples is read too."
UNKNOWN = "An unknown tool reads exactly `Unknown tool: NAME`."
CHECKED = "Arguments are checked before anything runs; the error names every field at fault."
RUN = "ExecuteTool runs one tool; `result` is text for the model."
NOBODY = "no_such_tool_of_check"
TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


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


def safe(check: Subject) -> list[Any]:
    """Tools that a call which is to be refused may be tried on: should it run after all, nothing is lost."""
    return [tool for tool in tools(check) if tool.read_only or tool.name == check.options.tool]


def with_schema(check: Subject, keyword: str) -> list[Any]:
    """Of those, the ones whose schema says something under `keyword`. Raises NotAsked where there is none."""
    listed = [tool for tool in safe(check) if schema_of(tool).get(keyword)]
    if not listed:
        raise NotAsked(f"no tool that may be tried (read_only, or --tool) has {keyword}")
    return listed


def unnamed(refusal: Refusal, names: Iterable[str]) -> list[str]:
    """Those of `names` that a refusal does not name, in its words or in its fields."""
    text = " ".join((refusal.message, *refusal.fields))
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


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
            good = isinstance(kinds, list) and set(kinds) <= TYPES
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
    for tool in with_schema(check, "required"):
        required = schema_of(tool)["required"]
        refusal = check.refused("ExecuteTool", pb.ExecuteToolRequest(tool=tool.name), f"{tool.name} without arguments")
        missing = unnamed(refusal, required)
        expect(not missing, f"{tool.name} without arguments: the error does not name {missing}", refusal.reply)


@claims.guide("An argument of a wrong type is refused, and named.", CHECKED)
def wrong_type(check: Subject) -> None:
    for tool in with_schema(check, "properties"):
        for name, field in schema_of(tool)["properties"].items():
            kind = field.get("type") if isinstance(field, dict) else None
            wrong: Any = {"a": {"nested": []}} if kind in ("string", "number", "integer", "boolean") else None
            wrong = "text" if kind in ("object", "array") else wrong
            if wrong is None:
                continue
            sent = pb.ExecuteToolRequest(tool=tool.name)
            json_format.ParseDict({name: wrong}, sent.parameters)
            refusal = check.refused("ExecuteTool", sent, f"{tool.name} with {name} of a wrong type")
            expect(not unnamed(refusal, [name]), f"{tool.name}: the error does not name {name}", refusal.reply)


@claims.guide("Every argument at fault is named, not only the first.", CHECKED)
def all_named(check: Subject) -> None:
    for tool in with_schema(check, "properties"):
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
        missing = unnamed(refusal, names)
        expect(not missing, f"{tool.name}: the error does not name {missing}", refusal.reply)


@claims.guide("An argument that a closed schema does not have is refused.", CHECKED)
def unknown_argument(check: Subject) -> None:
    asked = False
    for tool in safe(check):
        if schema_of(tool).get("additionalProperties") is False:
            asked = True
            sent = pb.ExecuteToolRequest(tool=tool.name)
            json_format.ParseDict({"no_such_argument": 1}, sent.parameters)
            refusal = check.refused("ExecuteTool", sent, f"{tool.name} with an argument that it does not have")
            expect(not unnamed(refusal, ["no_such_argument"]), "the error does not name it", refusal.reply)
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
    takes_no_odd_bytes(check, "ExecuteTool")
    tools(check)
