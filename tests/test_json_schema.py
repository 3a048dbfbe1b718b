"""JSON Schema as plugins use it: `shared/json_schema.py`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from shared.json_schema import as_object_schema, complaint
from shared.structs import read_object, whole_numbers

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}


def test_a_right_value_has_no_complaint() -> None:
    """What holds is an empty text; 5.0 is an integer, as JSON knows no other."""
    assert complaint({"city": "Rome", "days": 5.0}, CITY) == ""


def test_every_field_at_fault_is_named() -> None:
    """Each field by its path; of many, the first three and how many more."""
    assert complaint({"city": 5, "days": "x"}, CITY) == (
        "city: 5 is not of type 'string'; days: 'x' is not of type 'integer'"
    )
    assert "'city' is a required property" in complaint({}, CITY)
    nested = {"type": "array", "items": {"type": "integer"}}
    assert complaint(["a"] * 5, nested).startswith("[0]: 'a' is not of type 'integer'; [1]: ")
    assert complaint(["a"] * 5, nested).endswith("; and 2 more")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": 5}, "no JSON Schema"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "cannot be used"),
        ({"$ref": "file:///etc/passwd"}, "cannot be used"),
        ({"$ref": "#/nowhere"}, "cannot be used"),
        ({"pattern": "("}, "the schema "),
    ],
)
def test_a_broken_schema_is_told(schema: dict[str, Any], words: str) -> None:
    """A schema that is none, or that leads outside of itself, is a complaint, not an error and not a request."""
    assert words in complaint("x", schema)


def test_too_deep_is_told() -> None:
    """A schema that calls itself without end is a complaint."""
    assert complaint({}, {"$ref": "#"}) != ""


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
