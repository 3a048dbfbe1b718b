"""JSON Schema as plugins use it: `shared/json_schema.py`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from shared import json_schema
from shared.json_schema import (
    MOST_STEPS,
    QUICK_STEPS,
    CannotCheck,
    Checker,
    as_object_schema,
    complaint,
    schema_problem,
)
from shared.schema_work import Schema, subschemas, work
from shared.structs import read_object, whole_numbers
from tests.servers import unhurried

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}


def test_a_right_value_has_no_complaint() -> None:
    """What holds is an empty text; 5.0 is an integer, as JSON knows no other."""
    assert complaint({"city": "Rome", "days": 5.0}, CITY) == ""


def test_every_field_at_fault_is_named() -> None:
    """Each field by its path; of many, the first three and how many more."""
    assert complaint({"city": 5, "days": "x"}, CITY) == (
        'city: 5 is not of type "string"; days: "x" is not of type "integer"'
    )
    assert '"city" is a required property' in complaint({}, CITY)
    nested = {"type": "array", "items": {"type": "integer"}}
    assert complaint(["a"] * 5, nested).startswith('[0]: "a" is not of type "integer"; [1]: ')
    assert complaint(["a"] * 5, nested).endswith("; and 2 more")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"pattern": "("},
        {"pattern": "(?=a)b"},
    ],
)
def test_a_broken_schema_is_told(schema: dict[str, Any]) -> None:
    """A schema that is none, or that leads outside of itself, is a complaint, not an error and not a request."""
    assert schema_problem(schema).startswith("the schema cannot be used: ")
    assert complaint("x", schema) == schema_problem(schema)


def bomb(levels: int) -> dict[str, Any]:
    """Each level refers to the next one twice."""
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": defs | {f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def test_a_schema_is_held_harmless() -> None:
    """One that unfolds without end is refused, one that calls itself ends, a pattern takes no time."""
    assert "unfolds into more than 500000 schemas" in schema_problem(bomb(40))
    assert schema_problem(bomb(8)) == ""
    assert "'x'" not in complaint("x", bomb(8))
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
    assert complaint({"child": {"child": {}}}, tree) == ""
    assert "chid" in complaint({"child": {"chid": {}}}, tree)
    assert complaint("a" * 5000 + "b", {"pattern": "^(a+)+$"}) != ""
    assert schema_problem({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}).endswith("end")
    deep: Any = {}
    for _ in range(5000):
        deep = {"not": deep}
    assert schema_problem(deep) != ""


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = {"a": value}
    return value


ROOT = {"$ref": "#"}
TWICE = {"anyOf": [{"type": "object", "properties": {"a": ROOT}}, {"type": "object", "properties": {"a": ROOT}}]}


def all_of_each_other(count: int) -> dict[str, Any]:
    """Schemas each of which refers to all the others, for the same value."""
    names = [f"d{n}" for n in range(count)]
    defs = {name: {"allOf": [{"$ref": f"#/$defs/{other}"} for other in names if other != name]} for name in names}
    return {"$defs": defs, "$ref": "#/$defs/d0"}


def unevaluated(levels: int, keyword: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": True}}
    for _ in range(levels):
        inner = schema if keyword == "if" else [schema]
        schema = {keyword: inner, "unevaluatedProperties": False}
    return schema


def test_no_nested_value_takes_for_ever() -> None:
    """A schema that refers to itself twice is checked at any depth: wrong is wrong, right is right."""
    right = {"anyOf": [{"type": ["object", "integer"], "properties": {"a": ROOT}}] * 2}
    for levels in (1, 8, 30, 100):
        assert complaint(nested(levels), TWICE) != ""
        assert complaint(nested(levels), right) == ""
    assert "not valid under any" in complaint(nested(2), TWICE)
    assert complaint(nested(100), TWICE) == "it does not hold to its schema, and is too large to say where"


@pytest.mark.parametrize(
    "schema",
    [
        all_of_each_other(12),
        {"$id": "http://x/y", "allOf": [{"$ref": "y"}]},
        {"$anchor": "x", "allOf": [{"$ref": "#x"}]},
        {"$defs": {"a": {"dependentSchemas": {"a": ROOT}}}, "if": {"$ref": "#/$defs/a"}},
        {"$dynamicAnchor": "x", "not": {"$dynamicRef": "#x"}},
        bomb(40),
        {"properties": {"a": bomb(40) | {"$defs": {}}}, "$defs": bomb(40)["$defs"]},
        {"patternProperties": {f"\\\\p{{L}}{{50}}{n}": True for n in range(100)}},
        {"anyOf": [{"$ref": "#/$defs/a"}] * 3000, "$defs": {"a": {}}},
        {"properties": {f"p{n}": {"type": "string"} for n in range(10_001)}},
        {"description": "x" * 2**20},
    ],
)
def test_a_schema_without_end_is_refused(schema: dict[str, Any]) -> None:
    """What holds to itself, unfolds past every bound, or is large or costly to compile: refused before it is."""
    assert schema_problem(schema).startswith("the schema ")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (unevaluated(40, "anyOf"), nested(1)),
        (unevaluated(40, "oneOf"), nested(1)),
        (unevaluated(40, "if"), nested(1)),
        ({"pattern": "[ab]*a[ab]{500}c"}, "ab" * 10_000),
        ({"patternProperties": {f"^a{n}b+$": True for n in range(1000)}}, {f"a{n}b": 1 for n in range(1000)}),
        ({"items": {"enum": [{"a": n} for n in range(1000)]}}, [{"a": 999}] * 1000),
        ({"items": {"const": nested(100)}}, [nested(100)] * 10_000),
        ({"uniqueItems": True}, [10**30 + n for n in range(1000)]),
        ({"maximum": 10**4000, "items": {"maximum": 10**4000}}, [10**4000] * 1000),
        ({"items": {"allOf": [{"minLength": 1}] * 1000}}, ["x"] * 1000),
        ({"items": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}, [{"items": {}}] * 10_000),
        ({"items": {"required": [f"p{n}" for n in range(1000)]}}, [{}] * 1000),
    ],
)
def test_what_cannot_be_checked_is_neither_right_nor_wrong(schema: dict[str, Any], value: Any) -> None:
    """A value whose check is past the bound is told apart from a wrong one, before the work begins."""
    assert schema_problem(schema) == ""
    with pytest.raises(CannotCheck, match=f"it cannot be checked: .* more than {MOST_STEPS} steps"):
        complaint(value, schema)


def test_large_and_ordinary_values_are_checked() -> None:
    """Tens of thousands of places, patterns, unique items and recursion as they are used are within the bound."""
    row = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "name": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
    }
    rows: list[Any] = [{"id": n, "name": None} for n in range(10_000)]
    assert complaint(rows, {"type": "array", "items": row}) == ""
    rows[9_000] = {"id": "x"}
    assert complaint(rows, {"type": "array", "items": row}).startswith('[9000].id: "x" is not of type "integer"')
    assert complaint([str(n) for n in range(10_000)], {"uniqueItems": True, "items": {"pattern": "^[0-9]+$"}}) == ""
    uuid = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
    assert complaint("01234567-89ab-cdef-0123-456789abcdef", {"pattern": uuid}) == ""
    term = {"anyOf": [{"type": "number"}, *({"type": "object", "properties": {op: {"items": ROOT}}} for op in "+-*")]}
    value: Any = 1
    for n in range(60):
        value = {"+-*"[n % 3]: [value, n]}
    assert complaint(value, term) == ""


def test_what_only_looks_like_a_schema_is_none() -> None:
    """`default`, `enum`, `const` and `examples` hold values: no references, no bounds on schemas, no walk."""
    looks = {"$ref": "#", "allOf": [{"$ref": "#"}]}
    schema = {"default": looks, "enum": [looks], "const": looks, "examples": [looks]}
    assert (schema_problem(schema), complaint(looks, schema)) == ("", "")
    assert list(subschemas(schema)) == []
    assert list(subschemas({"properties": {"default": {"type": "string"}}})) == [{"type": "string"}]


def test_validators_are_kept_within_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many large schemas leave no more behind than the bound says; one that is asked for again is still right."""
    kept = json_schema._Validators()
    monkeypatch.setattr(json_schema, "_validators", kept)
    for n in range(40):
        assert schema_problem({"description": "x" * 100_000, "minimum": n}) == ""
        assert complaint(n - 1, {"description": "x" * 100_000, "minimum": n}) != ""
    assert sum(size for _, size in kept._kept.values()) == kept._bytes <= json_schema._MOST_KEPT
    assert 0 < len(kept._kept) < 40


SCHEMAS = st.recursive(
    st.sampled_from([True, {"type": "object"}, {"type": ["object", "integer"]}, {"$ref": "#/$defs/a"}, {"$ref": "#"}]),
    lambda inner: st.one_of(
        st.builds(
            lambda key, some: {key: some},
            st.sampled_from(["anyOf", "oneOf", "allOf"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda key, one: {key: one, "unevaluatedProperties": False}, st.sampled_from(["not", "if"]), inner),
        st.builds(
            lambda key, one: {key: {"a": one}},
            st.sampled_from(["properties", "patternProperties", "dependentSchemas"]),
            inner,
        ),
        st.builds(
            lambda key, one: {key: one},
            st.sampled_from(["additionalProperties", "items", "contains", "propertyNames"]),
            inner,
        ),
    ),
    max_leaves=8,
)


@unhurried
@given(SCHEMAS, SCHEMAS, st.integers(0, 30))
def test_any_schema_ends(root: Any, other: Any, levels: int) -> None:
    """Whatever refers to whatever: it is refused, cannot be checked, or is checked; and small counts never lie."""
    schema = {"$defs": {"a": other, "b": root}, "$ref": "#/$defs/b"}
    if schema_problem(schema):
        return
    try:
        verdict = complaint(nested(levels), schema)
    except CannotCheck:
        return
    assert isinstance(verdict, str)
    assert work(Schema(schema), nested(levels), MOST_STEPS, lambda pattern, text: True).check <= MOST_STEPS


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"city": "string", "days": "integer"}, {"city": {"type": "string"}, "days": {"type": "integer"}}),
        ({"city": {"type": "string", "description": "d"}}, {"city": {"type": "string", "description": "d"}}),
        ({"type": "string"}, {"type": {"type": "string"}}),
        (CITY, CITY),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": "object"}, {"type": "object"}),
        ({"anyOf": "string", "properties": "array"}, {"anyOf": {"type": "string"}, "properties": {"type": "array"}}),
        (
            {"properties": {"type": "object"}, "name": "string"},
            {"properties": {"type": "object"}, "name": {"type": "string"}},
        ),
    ],
)
def test_both_forms_of_parameters(parameters: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A JSON Schema stays as it is, the guide's flat form becomes one; a parameter may be named `type`."""
    whole = wanted if wanted.get("type") == "object" else {"type": "object", "properties": wanted}
    assert as_object_schema(parameters) == whole


def test_whole_numbers_of_a_struct() -> None:
    """A Struct's 5.0 was a 5; fractions, and what a double cannot hold exactly, stay."""
    struct = Struct()
    struct.update({"a": 5, "b": [0.5, {"c": -3}], "d": 1e300, "e": True})
    value = whole_numbers(read_object(struct, "", "x"))
    assert value == {"a": 5, "b": [0.5, {"c": -3}], "d": 1e300, "e": True}
    assert [type(one) for one in (value["a"], value["b"][1]["c"], value["d"], value["e"])] == [int, int, float, bool]


def test_faults_by_place_and_rule() -> None:
    """A Checker tells of each fault the place, the keyword and what that says; a value that holds has none."""
    schema = {
        "type": "object",
        "properties": {
            "name": {},
            "limit": {"type": "integer", "maximum": 100},
            "rows": {"type": "array", "items": {"enum": [1]}},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    checker = Checker(schema)
    found, is_all = checker.faults({"limit": 500, "rows": [1, 2], "limt": 5})
    assert is_all
    assert {(fault.path, fault.keyword, str(fault.parameter)) for fault in found} == {
        ((), "required", "name"),
        ((), "additionalProperties", "['limt']"),
        (("limit",), "maximum", "100"),
        (("rows", 1), "enum", "[1]"),
    }
    assert checker.is_known
    assert checker.faults({"name": 1, "limit": 5}, QUICK_STEPS) == ([], True)
    with pytest.raises(CannotCheck):
        checker.faults({"name": 1, "rows": [1] * 100_000}, QUICK_STEPS)


def test_what_is_cheap_is_not_dear() -> None:
    """A value that is not counted takes few steps: neither many places nor a large schema gets past the counting."""
    wide = Checker({"type": "array", "items": {"required": [f"p{number}" for number in range(1_000)]}})
    with pytest.raises(CannotCheck):
        wide.faults([{}] * 1_000, QUICK_STEPS)
    assert Checker({"type": "array", "items": {"type": "integer"}}).faults([1] * 100, QUICK_STEPS) == ([], True)
