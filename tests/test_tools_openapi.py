"""What becomes of an OpenAPI document: servers, references, schemas, names, and the report that says so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from plugins.tools_http.engine.credentials import read_credentials
from plugins.tools_http.engine.engine import Engine, Invocation, Settings
from plugins.tools_http.engine.exchange import Request, Response
from plugins.tools_http.engine.openapi import Imported, OperationReport, import_documents
from plugins.tools_http.engine.redaction import Redactor
from shared.errors import InvalidArgument, NotFound, StartError
from shared.json_schema import complaint
from tests.tools_apis import FakeClient, call, document, imported, named, operation, response, sender, sent

TEXT = {"type": "string"}


def only(result: Imported) -> OperationReport:
    [operation] = result.report.operations
    return operation


def schema_of(body: Any, version: str = "3.0.3", /, **components: Any) -> dict[str, Any]:
    """What becomes of a schema in the place of a body's field."""
    about = operation(body={"type": "object", "properties": {"x": body}})
    result = imported(document({"/x": {"post": about}}, version, components={"schemas": components}))
    assert result.tools, result.report.table()
    schema: dict[str, Any] = result.tools[0].parameters["properties"]["x"]
    return schema


def changes(body: Any, version: str = "3.0.3", /, **components: Any) -> str:
    about = operation(body={"type": "object", "properties": {"x": body}})
    return "; ".join(
        only(imported(document({"/x": {"post": about}}, version, components={"schemas": components}))).changes
    )


# ---------------------------------------------------------------- servers


def test_servers() -> None:
    """A relative server is taken from where the document is from; one of an operation counts for more, one of a path
    in between."""
    client = FakeClient()
    paths = {
        "/x": {
            "get": {"operationId": "plain"},
            "post": {"operationId": "own", "servers": [{"url": "https://other.test/v9"}]},
        },
        "/y": {"servers": [{"url": "../v4/"}], "get": {"operationId": "of_path"}},
    }
    about = document(paths) | {"servers": [{"url": "/api/v3"}]}
    tools = imported(about, client, base="https://api.test/docs/openapi.json").tools
    for name in ("plain", "own", "of_path"):
        call(named(tools, name), {})
    assert [request.url for request in client.requests] == [
        "https://api.test/api/v3/x", "https://other.test/v9/x", "https://api.test/v4/y",
    ]  # fmt: skip


def test_no_server() -> None:
    """Without servers the document's own origin is the server; a file has none, and its operations say so."""
    client = FakeClient()
    about = document({"/x": {"get": operation()}})
    del about["servers"]
    call(imported(about, client, base="https://api.test/docs/openapi.json").tools[0], {})
    assert client.requests[0].url == "https://api.test/x"
    assert "give the setting `server`" in only(imported(about)).reason
    call(imported(about, client, server="http://127.0.0.1:8000/api/").tools[0], {})
    assert client.requests[1].url == "http://127.0.0.1:8000/api/x"


def test_server_variables() -> None:
    """A server's variables have their defaults or the setting's values, which the enum allows."""
    server = {
        "url": "https://{region}.api.test/{v}",
        "variables": {"region": {"default": "eu", "enum": ["eu", "us"]}, "v": {"default": "v1"}},
    }
    about = document({"/x": {"get": operation()}}) | {"servers": [server]}
    for variables, url in (({}, "https://eu.api.test/v1/x"), ({"region": "us", "v": "v2"}, "https://us.api.test/v2/x")):
        client = FakeClient()
        call(imported(about, client, server_variables=variables).tools[0], {})
        assert client.requests[0].url == url
    assert "must be one of eu, us" in only(imported(about, server_variables={"region": "mars"})).reason
    about["servers"] = [{"url": "https://{a}.test"}]
    assert "not described" in only(imported(about)).reason
    about["servers"] = [{"url": "ftp://api.test"}]
    assert "cannot be used" in only(imported(about)).reason
    assert "has a brace" in only(imported(about, server="https://a.test/{x}")).reason


def test_policy_decides_what_is_offered() -> None:
    """An operation that the policy would refuse becomes no tool, and the report has the policy's words."""

    def allowed(url: str, method: str) -> str:
        return "" if method == "GET" else f"{method} is not allowed on {url}"

    result = imported(document({"/x": {"get": operation(), "post": {}}}), allowed=allowed)
    assert [tool.name for tool in result.tools] == ["op"]
    assert result.report.operations[1].reason == "POST is not allowed on https://api.test/v1/"
    assert result.report.operations[1].status == "refused"


# ---------------------------------------------------------------- parameters


def test_parameters_of_path_items_and_references() -> None:
    """Parameters of a path item hold for its operations, which may say otherwise; a `$ref` leads to where it is."""
    about = document(
        {
            "/x/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}, {"name": "q", "in": "query", "schema": TEXT}],
                "get": operation({"name": "q", "in": "query", "required": True, "schema": {"type": "integer"}}),
            }
        },
        components={
            "parameters": {
                "Id": {"name": "id", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/I"}}
            },
            "schemas": {"I": {"type": "integer", "minimum": 1}},
        },
    )
    [tool] = imported(about).tools
    assert tool.parameters["properties"] == {"id": {"type": "integer", "minimum": 1}, "q": {"type": "integer"}}
    assert tool.parameters["required"] == ["id", "q"]


def test_path_items_behind_references() -> None:
    """A path item may stand elsewhere in the document."""
    about = document(
        {"/x": {"$ref": "#/components/pathItems/X"}}, "3.1.0", components={"pathItems": {"X": {"get": operation()}}}
    )
    assert [tool.name for tool in imported(about).tools] == ["op"]


def test_headers_that_are_set_here() -> None:
    """Accept, Content-Type, Authorization and headers of the transport are no arguments; Idempotency-Key is filled."""
    names = ["Accept", "content-type", "Authorization", "Host", "Proxy-X", "Idempotency-Key", "X-Own"]
    about = operation(*({"name": name, "in": "header", "schema": TEXT} for name in names))
    client = FakeClient()
    [tool] = imported(document({"/x": {"post": about}}), client).tools
    assert list(tool.parameters["properties"]) == ["X-Own"]
    call(tool, {}, "c1")
    call(tool, {}, "c1")
    keys = [dict(request.headers)["Idempotency-Key"] for request in client.requests]
    assert keys[0] == keys[1]
    assert client.requests[0].repeatable


def test_names_that_collide() -> None:
    """One name in path, query, header, cookie and body is five arguments, each sent where it belongs."""
    places = [
        {"name": "id", "in": place, "required": True, "schema": TEXT} for place in ("path", "query", "header", "cookie")
    ]
    about = operation(
        *places, body={"type": "object", "required": ["id"], "properties": {"id": TEXT, "query_id": TEXT}}
    )
    [tool] = imported(document({"/x/{id}": {"post": about}})).tools
    names = list(tool.parameters["properties"])
    assert names[:5] == ["id", "query_id", "header_id", "cookie_id", "body_id"]
    assert names[5].startswith("body_query_id")
    assert set(tool.parameters["required"]) == set(names[:5])
    request = sent(about, {name: name[0] + str(i) for i, name in enumerate(names)}, "/x/{id}", "post")
    assert request.url == "https://api.test/v1/x/i0?id=q1"
    assert dict(request.headers)["id"] == "h2"
    assert dict(request.headers)["Cookie"] == "id=c3"
    assert json.loads(request.body or b"") == {"id": "b4", "query_id": "b5"}


def test_mistakes_in_parameters() -> None:
    """What a document forgets is reported: an undescribed or superfluous path parameter, no schema, a wrong style."""
    about = operation(
        {"name": "gone", "in": "path", "required": True, "schema": TEXT},
        {"name": "bare", "in": "query"},
        {"name": "odd", "in": "query", "style": "matrix", "schema": TEXT},
        {"in": "query", "schema": TEXT},
        {"name": "b", "in": "body", "schema": TEXT},
    )
    result = imported(document({"/x/{id}": {"get": about}}))
    assert list(result.tools[0].parameters["properties"]) == ["id", "bare", "odd"]
    told = "; ".join(only(result).changes)
    for words in ("{id} is not described", "no {gone}", "bare has no schema", "matrix is none", "without a name"):
        assert words in told
    required = operation({"name": "b", "in": "querystring", "required": True, "schema": TEXT})
    assert only(imported(document({"/x": {"get": required}}, "3.2.0"))).status == "refused"


def test_arguments_are_checked() -> None:
    """A missing, too large or misspelled argument is refused in words that a model can act on, and nothing is sent."""
    about = operation({"name": "limit", "in": "query", "required": True, "schema": {"type": "integer", "maximum": 100}})
    client = FakeClient()
    engine = Engine(imported(document({"/x": {"get": about}}), client).tools, Settings())

    def error(**arguments: Any) -> str:
        result = asyncio.run(engine.execute(Invocation(tool="op", arguments=json.dumps(arguments))))
        return result.error.message if result.error else ""

    assert "limit is missing" in error()
    assert "limit must be at most 100, it is 500" in error(limit=500)
    assert "limt is not an argument of op; did you mean limit?" in error(limt=5, limit=5)
    assert not client.requests
    assert not error(limit=5)
    assert len(client.requests) == 1


# ---------------------------------------------------------------- references


def test_cycles() -> None:
    """A schema that holds itself is cut to a plain object where it comes again, and the report says which."""
    node = {"type": "object", "properties": {"name": TEXT, "next": {"$ref": "#/components/schemas/Node"}}}
    shown = schema_of({"$ref": "#/components/schemas/Node"}, Node=node)
    assert shown["properties"] == {"name": TEXT, "next": {"type": "object"}}
    assert "#/components/schemas/Node holds itself" in changes({"$ref": "#/components/schemas/Node"}, Node=node)
    pair: dict[str, Any] = {"A": {"type": "array", "items": {"$ref": "#/components/schemas/B"}},
            "B": {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/A"}}}}  # fmt: skip
    shown = schema_of({"$ref": "#/components/schemas/A"}, **pair)
    assert shown["items"]["properties"]["a"] == {"type": "array", "items": {}}
    for loop in ({"$ref": "#/components/schemas/L"}, {"allOf": [{"$ref": "#/components/schemas/L"}], "type": "string"}):
        assert schema_of({"$ref": "#/components/schemas/L"}, L=loop) in ({}, TEXT)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("https://evil.test/schema.json#/A", "never followed"),
        ("other.yaml#/A", "never followed"),
        ("file:///etc/passwd", "never followed"),
        ("#/components/schemas/Missing", "leads to nothing"),
        ("#anchor", "names an anchor"),
    ],
)
def test_references_that_lead_nowhere(reference: str, words: str) -> None:
    """A remote `$ref` is never followed: the operation is refused with the remedy, others are not."""
    about = document({"/x": {"post": operation(body={"$ref": reference})}, "/y": {"get": {"operationId": "fine"}}})
    client = FakeClient()
    result = imported(about, client)
    assert [tool.name for tool in result.tools] == ["fine"]
    assert words in result.report.operations[0].reason
    assert not client.requests
    parameter = document({"/x": {"get": operation({"$ref": reference})}})
    assert words in only(imported(parameter)).reason


def test_pointers() -> None:
    """A JSON pointer may go through lists and through names with ~ / % in them."""
    about = operation({"name": "a", "in": "query", "schema": {"$ref": "#/paths/~1x~1{id}/get/parameters/1/schema"}})
    about["parameters"].append({"name": "b", "in": "query", "schema": {"$ref": "#/components/schemas/a%20~0b"}})
    result = imported(document({"/x/{id}": {"get": about}}, components={"schemas": {"a ~b": {"type": "boolean"}}}))
    assert result.tools[0].parameters["properties"]["a"] == {"type": "boolean"}


# ---------------------------------------------------------------- schemas


def test_all_of() -> None:
    """allOf becomes one object: fields and required names of all, the narrower bounds."""
    base = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}, "b": TEXT}}
    shown = schema_of(
        {
            "allOf": [
                {"$ref": "#/components/schemas/Base"},
                {"properties": {"a": {"minimum": 5, "maximum": 9}, "c": {"type": "boolean"}}, "required": ["c"]},
            ],
            "description": "both",
        },
        Base=base,
    )
    assert shown == {
        "type": "object",
        "description": "both",
        "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 9}, "b": TEXT, "c": {"type": "boolean"}},
        "required": ["a", "c"],
    }


def test_nullable() -> None:
    """OpenAPI 3.0's nullable and 3.1's null become a type that may be null; an enum gets a null."""
    assert schema_of({"type": "string", "nullable": True}) == {"type": ["string", "null"]}
    assert schema_of({"allOf": [{"$ref": "#/components/schemas/T"}], "nullable": True}, T=TEXT) == {
        "type": ["string", "null"]
    }
    assert schema_of({"type": "string", "enum": ["a"], "nullable": True})["enum"] == ["a", None]
    assert schema_of({"type": ["string", "null"]}, "3.1.0") == {"type": ["string", "null"]}
    for union in ("oneOf", "anyOf"):
        shown = schema_of({union: [{"$ref": "#/components/schemas/T"}, {"type": "null"}]}, "3.1.0", T=TEXT)
        assert shown == {"type": ["string", "null"]}
    shown = schema_of({"oneOf": [TEXT, {"type": "integer"}, {"type": "null"}]}, "3.1.0")
    assert shown == {"anyOf": [TEXT, {"type": "integer"}, {"type": "null"}]}


def test_exclusive_bounds() -> None:
    """OpenAPI 3.0's exclusiveMinimum is true, 3.1's is a number: both become a number."""
    assert schema_of({"type": "integer", "minimum": 1, "exclusiveMinimum": True}) == {
        "type": "integer",
        "exclusiveMinimum": 1,
    }
    assert schema_of({"type": "integer", "exclusiveMinimum": 1}, "3.1.0") == {"type": "integer", "exclusiveMinimum": 1}


@pytest.mark.parametrize("union", ["oneOf", "anyOf"])
def test_a_union_as_a_body(union: str) -> None:
    """A body that is one of several goes into an argument of its own: no model's API takes a union at the top."""
    cat = {"type": "object", "required": ["lives"], "properties": {"lives": {"type": "integer"}}}
    dog = {"type": "object", "required": ["bark"], "properties": {"bark": TEXT}}
    about = operation(body={union: [cat, dog]})
    [tool] = imported(document({"/x": {"post": about}})).tools
    assert list(tool.parameters["properties"]) == ["body"]
    assert not tool.parameters.keys() & {"anyOf", "oneOf", "allOf"}
    assert sent(about, {"body": {"bark": "loud"}}, method="post").body == b'{"bark":"loud"}'
    assert complaint({"body": {"meow": 1}}, tool.parameters)


def test_a_parent_with_a_choice_of_its_children() -> None:
    """Pet is one of Cat and Dog, which are Pets by allOf: a Pet is shown as the choice, a Cat as a Cat."""

    def child(**properties: Any) -> dict[str, Any]:
        return {"allOf": [{"$ref": "#/components/schemas/Pet"}, {"type": "object", "properties": properties}]}

    schemas: dict[str, Any] = {
        "Pet": {"type": "object", "required": ["kind"], "properties": {"kind": TEXT},
                "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}]},
        "Cat": child(lives={"type": "integer"}),
        "Dog": child(bark=TEXT),
    }  # fmt: skip
    pet = schema_of({"$ref": "#/components/schemas/Pet"}, **schemas)
    assert [set(choice["properties"]) for choice in pet["anyOf"]] == [{"kind", "lives"}, {"kind", "bark"}]
    cat = schema_of({"$ref": "#/components/schemas/Cat"}, **schemas)
    assert set(cat["properties"]) == {"kind", "lives"}
    assert "anyOf" not in cat


def test_read_only() -> None:
    """What only answers have is no argument, and nothing requires it."""
    properties = {
        "id": {"type": "integer", "readOnly": True}, "name": TEXT, "ref": {"$ref": "#/components/schemas/R"},
    }  # fmt: skip
    body = {"type": "object", "required": ["id", "name"], "properties": properties}
    about = operation(body=body)
    components = {"schemas": {"R": {"type": "string", "readOnly": True}}}
    [tool] = imported(document({"/x": {"post": about}}, components=components)).tools
    assert tool.parameters["properties"] == {"name": TEXT}
    assert tool.parameters["required"] == ["name"]


def test_names_within_bodies() -> None:
    """Fields with names that models do not take get others, at every depth, and are sent under their own."""
    inner = {"type": "object", "required": ["@type"], "properties": {"@type": TEXT, "x" * 70: TEXT}}
    outer = {"type": "object", "properties": {"content type": inner, "list": {"type": "array", "items": inner},
             "map": {"type": "object", "additionalProperties": inner}, "type": TEXT, "@type": TEXT}}  # fmt: skip
    about = operation(body=outer)
    [tool] = imported(document({"/x": {"post": about}})).tools
    properties = tool.parameters["properties"]
    names = list(properties)
    assert names[:4] == ["content_type", "list", "map", "type"]
    long_name = list(properties["content_type"]["properties"])[1]
    assert len(long_name) <= 64
    value = {"type": "a", long_name: "b"}
    arguments = {"content_type": value, "list": [value], "map": {"any key": value}, "type": "t", names[4]: "@"}
    wire = {"@type": "a", "x" * 70: "b"}
    assert json.loads(sent(about, arguments, method="post").body or b"") == {
        "content type": wire, "list": [wire], "map": {"any key": wire}, "type": "t", "@type": "@",
    }  # fmt: skip


def test_one_name_for_two_in_a_choice() -> None:
    """Where a name would stand for two fields of a choice, the choice is a plain object, with the API's own names."""
    first, second = ({"type": "object", "properties": {name: TEXT}} for name in ("@type", "$type"))
    assert schema_of({"oneOf": [first, second]}) == {"type": "object"}
    plain = {"type": "object", "properties": {"type": TEXT}}
    assert schema_of({"oneOf": [first, plain]}) == {"type": "object"}
    assert "one name would stand for two" in changes({"oneOf": [first, second]})


def test_what_a_model_reads() -> None:
    """Descriptions, enums, defaults and examples stay; texts are cut, and one description is on one line."""
    about = {
        "type": "string",
        "enum": ["a", "b"],
        "default": "a",
        "description": " one\n two ",
        "example": "b",
        "format": "x",
    }
    shown = schema_of(about)
    assert shown.pop("examples") == [about.pop("example")]
    assert shown == {**about, "description": "one two"}
    assert len(schema_of({"type": "string", "description": "word " * 1_000})["description"]) <= 500
    assert schema_of({"const": "x"}, "3.1.0") == {"type": "string", "enum": ["x"]}
    assert schema_of({"type": "string", "deprecated": True, "title": "T"}) == {
        "type": "string",
        "description": "Deprecated. T",
    }
    tool = imported(document({"/x": {"get": operation(summary="Find it.", description="Long. " * 500)}})).tools[0]
    assert tool.description.startswith("Find it. Long.")
    assert tool.description.endswith("Sends GET /x to the API Test.")
    assert len(tool.description) <= 1_000
    about = operation({"name": "q", "in": "query", "required": True, "example": "x", "schema": TEXT})
    [tool] = imported(document({"/x": {"get": about}})).tools
    assert tool.description.endswith('Example: {"q": "x"}')


def test_patterns() -> None:
    """A pattern that can be checked in linear time stays; one with look-ahead is left out, and reported."""
    assert schema_of({"type": "string", "pattern": "^a+$"})["pattern"] == "^a+$"
    assert schema_of({"type": "string", "pattern": "^(?=a)b"}) == TEXT
    assert "pattern" in changes({"type": "string", "pattern": "^(?=a)b"})


@pytest.mark.parametrize(
    "odd",
    [
        True, 5, "x", [], None, {"type": "file"}, {"type": 5}, {"properties": []}, {"properties": {"a": 5}},
        {"items": 5},
        {"enum": "x"}, {"enum": []}, {"required": "x"}, {"required": [1, None]}, {"minimum": "1"}, {"maxLength": -1},
        {"maxLength": 1.5}, {"multipleOf": 0}, {"pattern": 5}, {"pattern": "["}, {"format": 5}, {"allOf": 5},
        {"oneOf": []},
        {"oneOf": [5, None]}, {"anyOf": {}}, {"additionalProperties": 5}, {"additionalProperties": []}, {"$ref": 5},
        {"description": 5}, {"default": {"a": [1]}}, {"nullable": "yes"}, {"type": ["string", "strng"]}, {"type": []},
        {"allOf": [False]}, {"oneOf": [False, True]}, {"not": {}}, {"enum": [1, 1.0, True, "1", None]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"prefixItems": [1], "type": "array"},
        {"minimum": 1, "exclusiveMinimum": True, "type": "number"}, {"allOf": [{"enum": [1]}, {"enum": [2]}]},
    ],
    ids=str,
)  # fmt: skip
def test_odd_schemas(odd: Any) -> None:
    """Whatever stands in the place of a schema, what comes out is one by draft 2020-12, without references."""
    about = operation({"name": "q", "in": "query", "schema": odd}, body={"type": "object", "properties": {"x": odd}})
    for version in ("3.0.3", "3.1.0"):
        result = imported(document({"/x": {"post": about}}, version))
        assert only(result).status == "tool", result.report.table()
        schema = result.tools[0].parameters
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert "$ref" not in json.dumps(schema)


# ---------------------------------------------------------------- operations


def test_operation_ids() -> None:
    """A missing, repeated or unfit operationId gets a name with a hash of method and path, the same every time and
    whatever else the document has."""
    paths = {
        "/a": {"get": {}, "post": {"operationId": "same"}},
        "/b": {"get": {"operationId": "same"}, "put": {"operationId": "my op/1"}, "delete": {"operationId": "x" * 80}},
        "/c/{id}": {"get": {"operationId": ""}, "put": {"operationId": "2fa.enable"}},
    }
    names = [tool.name for tool in imported(document(paths)).tools]
    assert len(set(names)) == 7
    assert "op_2fa_enable" in names
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() for name in names)
    assert "my_op_1" in names
    assert [name[:5] for name in names if name.startswith("same_")] == ["same_", "same_"]
    assert any(name.startswith("get_c_id_") for name in names)
    fewer = [tool.name for tool in imported(document({"/c/{id}": paths["/c/{id}"], "/a": {"get": {}}})).tools]
    assert set(fewer) < set(names)
    assert [tool.name for tool in imported(document({"/a": {"get": {"operationId": "op"}}}), prefix="shop_").tools] == [
        "shop_op"
    ]


def test_include_and_exclude() -> None:
    """Operations are chosen by name, `METHOD path`, path or tag, with wildcards; a pattern that fits none is noted."""
    paths = {
        "/a": {"get": {"operationId": "listA", "tags": ["read"]}, "delete": {"operationId": "dropA"}},
        "/b/{id}": {"get": {"operationId": "getB"}, "delete": {"operationId": "dropB"}},
    }

    def names(**settings: Any) -> list[str]:
        return [tool.name for tool in imported(document(paths), **settings).tools]

    assert names(include=["listA"]) == ["listA"]
    assert names(include="GET /*") == ["listA", "getB"]
    assert names(include=["tag:read", "/b/*"]) == ["listA", "getB", "dropB"]
    assert names(exclude=["drop*"]) == ["listA", "getB"]
    result = imported(document(paths), include=["lista", "getB"])
    assert "'lista' of include or exclude fits no operation" in result.report.notes[0]
    assert [operation.status for operation in result.report.operations].count("left out") == 3


def test_deprecated_operations() -> None:
    """A deprecated operation is left out, unless it is named or all of them are wanted; its description says so."""
    about = document({"/x": {"get": operation(deprecated=True, summary="Old")}})
    assert not imported(about).tools
    assert "deprecated" in only(imported(about)).reason
    for settings in ({"deprecated": True}, {"include": ["op"]}):
        assert imported(about, **settings).tools[0].description.startswith("Deprecated. Old.")
    assert not imported(about, include=["*"]).tools


def test_kinds_of_tools() -> None:
    """A GET only reads, a DELETE destroys and may come twice, a POST may not."""
    methods = ("get", "head", "options", "post", "put", "patch", "delete", "trace")
    about = document({"/x": {method: {"operationId": method} for method in methods}})
    kinds = {tool.name: (tool.read_only, tool.idempotent, tool.destructive) for tool in imported(about).tools}
    assert kinds == {
        "get": (True, True, False), "head": (True, True, False), "options": (True, True, False),
        "post": (False, False, False), "put": (False, True, True), "patch": (False, False, True),
        "delete": (False, True, True),
    }  # fmt: skip


def test_paths_that_are_none() -> None:
    """A path without a slash, with a lone brace or a parameter behind its ? is refused; what follows # is not sent."""
    paths = {
        path: {"get": {"operationId": f"op{i}"}}
        for i, path in enumerate(["x", "/a/{b", "/a?x={b}", "/#Action", "/q?a=1"])
    }
    result = imported(document(paths))
    assert [operation.status for operation in result.report.operations] == ["refused"] * 3 + ["tool"] * 2
    client = FakeClient()
    for tool in imported(document(paths), client).tools:
        call(tool, {})
    assert [request.url for request in client.requests] == ["https://api.test/v1/", "https://api.test/v1/q?a=1"]


# ---------------------------------------------------------------- documents


def test_swagger_2() -> None:
    """Swagger 2 is refused, with how to convert it."""
    with pytest.raises(StartError, match=r"Swagger 2.*swagger2openapi") as raised:
        imported({"swagger": "2.0", "paths": {}})
    assert "setting openapi: 'api'" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no mapping"), ("[]", "no mapping"), ("5", "no mapping"), ("{", "neither JSON nor YAML"),
        ("a: b: c", "in line 1"), ('{"openapi": "4.0"}', "of version 3.0 or 3.1"), ("openapi: [3.0]", "of version 3.0"),
        ('{"openapi": "3.0.0", "paths": []}', "no mapping"), ("openapi: '3.0.0'\nopenapi: '3.1.0'", "twice"),
        ("openapi: 2.5", "of version 3.0"),
    ],
)  # fmt: skip
def test_no_documents(text: str, words: str) -> None:
    """What is no OpenAPI document stops the start, in one line that names it."""
    with pytest.raises(StartError) as raised:
        imported(text or b" ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_yaml() -> None:
    """YAML is read by the rules of YAML 1.2: `no` is a text, keys are texts, anchors and merges work."""
    text = """
openapi: 3.1
info: {title: Norway, version: 1.0}
servers: [{url: 'https://api.test/v1'}]
x-shared: &id {name: id, in: path, required: true, schema: {type: string}}
paths:
  /x/{id}:
    parameters: [*id]
    get:
      operationId: on
      responses: {200: {description: fine}}
      parameters:
        - {<<: *id, name: country, in: query, schema: {enum: [no, se, 010, 1e3, ~], default: no}}
"""
    [tool] = imported(text).tools
    assert tool.name == "on"
    assert tool.parameters["properties"]["country"]["enum"] == ["no", "se", 10, 1000.0, None]
    assert tool.parameters["properties"]["country"]["default"] == "no"
    assert tool.parameters["required"] == ["id", "country"]


def test_documents_from_files_and_urls(tmp_path: Path) -> None:
    """A document is a file, or is fetched through the client, with the credential of its origin; both are told apart
    by their tools' prefixes."""
    about = document({"/x": {"get": operation()}}) | {"servers": [{"url": "v2"}]}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(about))

    def answer(request: Request) -> Response:
        fetched = response(about)
        return Response(status=200, url=request.url, headers=fetched.headers, body=fetched.body, wire_bytes=1)

    client = FakeClient(answer)
    credentials = read_credentials({"https://docs.test": {"bearer": "doc-key"}}, client, Redactor())
    settings: dict[str, Any] = {
        "file": {"document": str(path), "server": "https://a.test", "prefix": "file_"},
        "url": {"document": "https://docs.test/api/openapi.json", "prefix": "url_"},
    }

    async def run() -> list[Imported]:
        return await import_documents(
            settings, sender(client), credentials, max_operations=60, allowed=lambda url, method: ""
        )

    first, second = asyncio.run(run())
    assert [tool.name for tool in (*first.tools, *second.tools)] == ["file_op", "url_op"]
    assert client.requests[0].credential is not None
    call(second.tools[0], {})
    assert client.requests[1].url == "https://docs.test/api/v2/x"
    for broken, words in (
        ({"document": str(tmp_path / "none.json")}, "cannot be read"),
        ({"document": str(tmp_path)}, "cannot be read"),
        ({"document": "ftp://a.test/x"}, "document"),
        ({}, "document is missing"),
        ({"document": "x", "incldue": []}, "did you mean 'include'"),
        ({"document": "x", "server": "not a url"}, "server"),
        ({"document": "x", "prefix": "a b"}, "prefix"),
        ({"document": "x", "headers": {"X": "a\nb"}}, "printable"),
    ):
        settings = {"broken": broken}
        with pytest.raises(StartError, match="setting openapi: 'broken'") as raised:
            asyncio.run(run())
        assert words in str(raised.value)
    client.answer = lambda request: response({}, 404)
    settings = {"broken": {"document": "https://docs.test/x?key=s3cr3t"}}
    with pytest.raises(StartError, match="HTTP 404") as raised:
        asyncio.run(run())
    assert "s3cr3t" not in str(raised.value)


# ---------------------------------------------------------------- report and catalogue


def test_the_report() -> None:
    """The table says what was changed, left out or refused, an operation a line, in characters that print."""
    paths = {
        "/a\x1b[31m": {"get": operation({"name": "a b", "in": "query", "schema": TEXT})},
        "/b": {"get": operation(deprecated=True)},
        "/c": {"post": operation(body={"$ref": "http://x.test/"})},
    }
    report = imported(document(paths)).report
    table = report.table()
    assert report.summary() == "api: 1 tools of Test: 1 usable, 1 left out, 1 refused"
    assert "changed: the query parameter 'a b' is called a_b" in table
    assert "left out: it is deprecated" in table
    assert "refused: $ref 'http://x.test/'" in table
    assert table.replace("\n", "").isprintable()


def many(count: int) -> dict[str, Any]:
    paths: dict[str, Any] = {
        f"/things{i}/{{id}}": {"get": {"operationId": f"getThing{i}", "summary": f"Read thing {i}", "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}}
        for i in range(count)
    }  # fmt: skip
    paths["/invoices"] = {"get": {"operationId": "listInvoices", "summary": "List open invoices", "tags": ["billing"]}}
    return document(paths)


def test_many_operations() -> None:
    """Of more operations than max_operations two tools are made: one finds operations and says what they take, the
    other calls one, its arguments checked."""
    client = FakeClient()
    assert len(imported(many(59), client).tools) == 60
    result = imported(many(60), client)
    search, run = result.tools
    assert [search.name, run.name] == ["api_search_operations", "api_call_operation"]
    assert "two tools" in result.report.notes[0]
    assert search.read_only
    assert run.read_only
    for tool in (search, run):
        call(tool, json.loads(tool.description.partition("Example: ")[2]))
    assert client.requests.pop().url == "https://api.test/v1/things0/1"
    hits = call(search, {"query": "open invoice"}).structured["operations"]
    assert hits[0]["operation"] == "listInvoices"
    hits = call(search, {"query": "thing 7", "limit": 3}).structured["operations"]
    assert len(hits) == 3
    assert hits[0]["parameters"]["required"] == ["id"]
    assert call(search, {"query": "zebra"}).structured["operations"] == []
    call(run, {"operation": "getThing7", "arguments": {"id": 5}})
    call(run, {"operation": "listInvoices"})
    assert [request.url for request in client.requests] == [
        "https://api.test/v1/things7/5", "https://api.test/v1/invoices",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument, match="id"):
        call(run, {"operation": "getThing7", "arguments": {"id": "x"}})
    with pytest.raises(NotFound, match="listInvoices"):
        call(run, {"operation": "listInvoice"})
    assert len(client.requests) == 2


def test_the_example_of_many_operations() -> None:
    """The example of PREFIX_call_operation is a call that would be taken, of an operation that only reads, with the
    document's own example where it has one; where none can be made up it names the operation alone."""
    paths = many(0)["paths"]
    name = {"type": "string", "pattern": "^[a-z]{3}$"}
    for place in range(61):
        parameter = {"in": "path", "name": "id", "required": True, "schema": name}
        paths[f"/a{place}/{{id}}"] = {"delete": {"operationId": f"drop{place}", "parameters": [parameter]}}
    assert example_of(paths) == {"operation": "listInvoices", "arguments": {}}
    del paths["/invoices"]
    assert example_of(paths) == {"operation": "drop0"}
    read = {"operationId": "getOne", "parameters": [{**parameter, "example": "abc"}]}
    paths["/a3/{id}"]["get"] = read
    assert example_of(paths) == {"operation": "getOne", "arguments": {"id": "abc"}}


def example_of(paths: dict[str, Any]) -> Any:
    _, run = imported(document(paths)).tools
    return json.loads(run.description.partition("Example: ")[2])
