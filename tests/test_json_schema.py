"""JSON Schema as plugins use it: `shared/json_schema.py`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from shared.json_schema import as_object_schema, complaint, schema_problem
from shared.structs import read_object, whole_numbers

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
    assert "more than 20000 places" in schema_problem(bomb(40))
    assert schema_problem(bomb(8)) == ""
    assert "'x'" not in complaint("x", bomb(8))
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
    assert complaint({"child": {"child": {}}}, tree) == ""
    assert "chid" in complaint({"child": {"chid": {}}}, tree)
    assert complaint("a" * 5000 + "b", {"pattern": "^(a+)+$"}) != ""
    deep: Any = {}
    for _ in range(5000):
        deep = {"not": deep}
    assert schema_problem(deep) != ""


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
