"""Documents that nobody vouches for: whatever is in them, reading ends soon, in tools that are small and fit, or in one
line that says why not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine.openapi import document as reading
from plugins.tools_http.engine.openapi import yaml_reader
from plugins.tools_http.engine.openapi.document import MOST_BYTES
from shared.errors import StartError
from tests.tools_apis import document, imported, operation

TEXT = {"type": "string"}
MOST_SECONDS = 30  # each takes less than a second on a machine that is not busy
MOST_CHARACTERS = 200_000  # of a tool's schema


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def chain(link: Callable[[str], Any], last: Any, length: int = 40) -> dict[str, Any]:
    """Schemas S0 … S40, each made of the next one."""
    return {f"S{i}": link(f"S{i + 1}") for i in range(length)} | {f"S{length}": last}


def posts(body: Any, schemas: Mapping[str, Any], count: int = 5) -> dict[str, Any]:
    """As many operations with that body."""
    paths = {f"/x{i}": {"post": operation(body=body) | {"operationId": f"op{i}"}} for i in range(count)}
    return document(paths, components={"schemas": dict(schemas)})


def nested(levels: int) -> bytes:
    return b'{"openapi": "3.0.0", "x": ' + b"[" * levels + b"]" * levels + b"}"


ALIASES = "openapi: 3.0.0\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
HOSTILE: dict[str, Callable[[], Any]] = {
    "fields that double": lambda: posts(
        ref("S0"), chain(lambda s: {"type": "object", "properties": {"a": ref(s), "b": ref(s)}}, TEXT)
    ),
    "allOf that doubles": lambda: posts(ref("S0"), chain(lambda s: {"allOf": [ref(s), {"allOf": [ref(s)]}]}, TEXT)),
    "allOf of one thing many times": lambda: posts(
        ref("S0"), chain(lambda s: {"allOf": [{"allOf": [ref(s)]}] * 50}, TEXT)
    ),
    "choices that double": lambda: posts(
        ref("S0"), chain(lambda s: {"oneOf": [ref(s), {"type": "object", "properties": {"x": ref(s)}}]}, TEXT)
    ),
    "nulls in a row": lambda: posts(ref("S0"), chain(lambda s: {"oneOf": [ref(s), {"type": "null"}]}, TEXT, 1_000)),
    "references in a row": lambda: posts(ref("S0"), chain(ref, TEXT, 5_000)),
    "all hold all": lambda: posts(
        ref("S0"),
        {f"S{i}": {"type": "object", "properties": {f"p{j}": ref(f"S{j}") for j in range(40)}} for i in range(40)},
    ),
    "very many fields": lambda: posts(
        ref("B"),
        {"B": {"required": [f"q{i}" for i in range(6_000)], "properties": {f"q{i}": TEXT for i in range(6_000)}}},
    ),
    "a long enum": lambda: posts(
        {"allOf": [{"enum": [str(i) for i in range(6_000)]}, ref("E")]},
        {"E": {"enum": [str(i) for i in range(90_000)]}},
        5,
    ),
    "many choices": lambda: posts(ref("U"), {"U": {"oneOf": [{"properties": {f"p{i}": TEXT}} for i in range(6_000)]}}),
    "a long allOf": lambda: posts(ref("A"), {"A": {"allOf": [{"description": "x"}] * 50_000}}),
    "many operations": lambda: document({f"/x{i}": {"get": {"operationId": f"op{i % 7}"}} for i in range(1_000)}),
    "many parameters": lambda: document(
        {"/x": {"get": operation(*({"name": f"p{i}", "in": "query", "schema": TEXT} for i in range(5_000)))}}
    ),
    "many ways to be allowed": lambda: document(
        {f"/x{i}": {"get": {"operationId": f"op{i}"}} for i in range(300)},
        security=[{f"s{i}": []} for i in range(5_000)] + [{f"s{i}": [] for i in range(5_000)}],
    ),
    "variables of a server": lambda: document(
        {
            "/x": {
                "get": {
                    "servers": [
                        {
                            "url": "https://{a}{b}.test",
                            "variables": {name: {"default": "{b}{a}" * 500} for name in "ab"},
                        }
                    ]
                }
            }
        }
    ),
    "patterns": lambda: posts(
        {
            "type": "object",
            "properties": {f"p{i}": {"type": "string", "pattern": "(a|b){1,50}" * 20 + str(i)} for i in range(50)},
        },
        {},
        5,
    ),
    "names without end": lambda: posts({"properties": {"ä" * 5_000 + str(i): TEXT for i in range(20)}}, {}),
    "aliases of aliases": lambda: (
        ALIASES + "paths: {/x: {post: {requestBody: {content: {application/json: {schema: "
        "{properties: {a: {default: *x29, enum: *x29, example: *x29, required: *x29}, "
        "b: {allOf: *x29, oneOf: *x29}}}}}}}}}"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents(name: str) -> None:
    """What would unfold without end is cut, and what is too much is refused; in bounded time, into bounded tools."""
    made = HOSTILE[name]()
    data = made if isinstance(made, str) else json.dumps(made)
    began = time.monotonic()
    result = imported(data, most=5_000)
    assert time.monotonic() - began < MOST_SECONDS
    assert result.report.operations
    for tool in result.tools:
        assert len(json.dumps(tool.parameters)) < MOST_CHARACTERS
    if result.tools:
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **result.tools[0].parameters}
        )


@pytest.mark.parametrize(
    "data",
    [
        b'{"openapi": "3.0.0", "x": "' + b"a" * MOST_BYTES + b'"}',
        nested(100_000),
        b"[" * 200_000,
        b"- " * 200_000,
        b"a: &a [*a]",
        b"a: *nothing",
        b"? {a: b}\n: c",
        b"? [a]\n: c",
        b"&a b: 1\n*a : 2",
        b"openapi: '3.0.0'\npaths: !!python/object/apply:os.system [ls]",
        b"\xff\xfe\x00",
        b"openapi: \x00",
        b"{'a': \"\\xZZ\"}",
        b'{"openapi": "3.0.0", "x": NaN}',
        b'{"openapi": "3.0.0", "info": {"title": "\\ud800"}}',
        b'{"openapi": "3.0.0", "x": ' + b"9" * 10_000 + b"}",
        b"<<: 5\nopenapi: '3.0.0'",
        b"%TAG ! " + b"a" * 100_000,
    ],
    ids=range(18),
)
def test_hostile_texts(data: bytes) -> None:
    """Text that is too long, too deep or no document ends in one line, and runs nothing."""
    began = time.monotonic()
    try:
        result = imported(data)
        assert not result.tools
        words = ""
    except StartError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 500
    assert time.monotonic() - began < MOST_SECONDS


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML of too many values is refused before it is all read."""
    monkeypatch.setattr(yaml_reader, "_MOST_EVENTS", 1_000)
    with pytest.raises(StartError, match="more than 1000 values"):
        imported("- a\n" * 2_000)


def test_schemas_of_a_document_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations past what a document's schemas may take altogether are refused, with what to do; earlier ones stay."""
    monkeypatch.setattr("plugins.tools_http.engine.openapi.importer._MOST_STEPS", 100)
    result = imported(posts({"type": "object", "properties": {f"p{i}": TEXT for i in range(30)}}, {}, 10))
    assert 1 <= len(result.tools) < 10
    assert "name fewer operations in `include`" in result.report.operations[-1].reason


# ---------------------------------------------------------------- at random

KEYS = [
    "type",
    "properties",
    "items",
    "allOf",
    "oneOf",
    "anyOf",
    "$ref",
    "enum",
    "const",
    "required",
    "nullable",
    "format",
    "additionalProperties",
    "readOnly",
    "description",
    "default",
    "example",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "a",
    "@b",
    "c d",
]
WORDS = [
    "object",
    "array",
    "string",
    "integer",
    "null",
    "binary",
    "#/components/schemas/A",
    "#/components/schemas/B",
    "#/paths",
    "x",
    "",
    "^a$",
    "(",
]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(st.characters(codec="ascii", exclude_characters="\x7f", min_codepoint=32), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["id", "q", "a b", "", "Accept", "X"]),
        "in": st.sampled_from(["path", "query", "header", "cookie", "body"]),
        "required": anything,
        "schema": anything,
        "style": st.sampled_from(["form", "simple", "deepObject", "x"]) | anything,
        "explode": anything,
        "content": anything,
        "description": anything,
        "example": anything,
        "$ref": st.sampled_from(WORDS),
    },
)
media = st.fixed_dictionaries({}, optional={"schema": anything, "encoding": anything})
kinds = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
    "image/*",
    "*/*",
    "x",
]
operations = st.fixed_dictionaries(
    {},
    optional={
        "operationId": st.sampled_from(["op", "a b", ""]) | anything,
        "parameters": st.lists(parameters, max_size=4) | anything,
        "requestBody": st.fixed_dictionaries({"content": st.dictionaries(st.sampled_from(kinds), media, max_size=3)})
        | anything,
        "servers": anything,
        "security": anything,
        "tags": anything,
        "summary": anything,
        "deprecated": st.booleans(),
    },
)
documents = st.fixed_dictionaries(
    {
        "openapi": st.sampled_from(["3.0.0", "3.1.0"]),
        "paths": st.dictionaries(
            st.sampled_from(["/", "/x/{id}", "/{id}/{id}", "x", "/{", "/y?z"]),
            st.dictionaries(
                st.sampled_from(["get", "post", "put", "delete", "parameters", "$ref", "servers"]),
                operations,
                max_size=3,
            )
            | anything,
            max_size=3,
        ),
    },
    optional={
        "info": anything,
        "servers": st.just([{"url": "https://a.test/v1"}]) | anything,
        "security": anything,
        "components": st.fixed_dictionaries({"schemas": st.fixed_dictionaries({"A": anything, "B": anything})})
        | anything,
    },
)


def check_document(about: dict[str, Any]) -> None:
    result = imported(json.dumps(about), most=3)
    names = [tool.name for tool in result.tools]
    assert len(set(names)) == len(names)
    assert result.report.table().isprintable() or "\n" in result.report.table()
    for tool in result.tools:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **tool.parameters})
        assert json.dumps(tool.parameters, allow_nan=False)


@given(documents)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_document_brings_it_down(about: dict[str, Any]) -> None:
    """Whatever stands in the place of whatever, there is a report, and every tool has a schema of draft 2020-12."""
    check_document(about)


@pytest.mark.slow
@given(documents)
@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_document_brings_it_down_at_length(about: dict[str, Any]) -> None:
    """The same, many times."""
    check_document(about)


@given(anything)
@settings(max_examples=30, deadline=None)
def test_yaml_reads_what_json_reads(value: Any) -> None:
    """JSON is YAML: both readers give the same values, but for numbers that YAML takes for texts."""
    text = json.dumps(value)
    assert repr(yaml_reader.parse(text)) == repr(json.loads(text)) or "e" in text.lower()


def test_bounds_are_those_of_the_module() -> None:
    """A document of the longest size is read, one byte more is refused."""
    about = b'{"openapi": "3.0.0", "paths": {}, "x": "%s"}'
    assert reading.parse(about % (b"a" * (MOST_BYTES - len(about) + 2)))
    with pytest.raises(reading.BadDocument, match="more than"):
        reading.parse(about % (b"a" * (MOST_BYTES - len(about) + 3)))


def test_numbers_that_json_cannot_hold() -> None:
    """1e999 is read as infinity, and is in no schema that comes out."""
    text = '{"type": "number", "maximum": 1e999, "default": 1e999, "example": [1e999], "enum": [1e999, 1]}'
    about = json.dumps(document({"/x": {"get": operation({"name": "q", "in": "query", "schema": "HERE"})}}))
    about = about.replace('"HERE"', text)
    [tool] = imported(about).tools
    assert json.dumps(tool.parameters, allow_nan=False)
