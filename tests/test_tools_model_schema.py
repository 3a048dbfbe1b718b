"""tools_http: the schemas of tools as models' APIs are shown them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.tools_http.engine.model_schema import for_models
from shared.json_schema import complaint, schema_problem
from tests.tools_apis import not_for_every_model

VALUES: list[Any] = [None, True, "a", "b", "", 0, 1, 2, 0.5, -1, {}, {"a": 1}, {"a": "x"}, [], ["a"], [1], [None]]
ANYTHING = ["string", "number", "boolean", "null", "object", "array"]
NULL = {"type": "null"}
TEXT = {"type": "string"}
OBJECT = {"type": "object", "additionalProperties": True, "properties": {}}
SCALARS = [TEXT, {"type": "number"}, {"type": "boolean"}, NULL, OBJECT]
ANY = {"anyOf": [*SCALARS, {"type": "array", "items": {"anyOf": SCALARS}}]}


def shown(schema: Any) -> Any:
    """What becomes of one argument's schema."""
    parameters = {"type": "object", "properties": {"x": schema}, "additionalProperties": False}
    before = json.dumps(parameters)
    result = for_models(parameters)
    assert json.dumps(parameters) == before
    assert schema_problem(result) == ""
    assert not_for_every_model(result) == []
    return result["properties"]["x"]


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": ["string", "null"], "description": "D", "maxLength": 5, "default": None},
         {"description": "D", "default": None, "anyOf": [{"type": "string", "maxLength": 5}, NULL]}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"anyOf": [{**TEXT, "enum": ["a"]}, NULL]}),
        ({"type": ["string", "null"], "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", 1]}, {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "number", "enum": [1]}]}),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]},
         {"type": "object", "properties": {"a": {"type": "string"}},
          "anyOf": [{**OBJECT, "required": ["a"]}]}),
        ({"type": ["object", "null"], "properties": {"a": {}}, "default": None, "anyOf": [{"required": ["a"]}, NULL]},
         {"default": None,
          "anyOf": [{"type": "object", "properties": {"a": ANY}, "anyOf": [{**OBJECT, "required": ["a"]}]}, NULL]}),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
         {"type": "integer", "minimum": 1, "maximum": 8}),
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "description": "More than 0.", "minimum": 0}),
        ({"type": "string", "description": "Id.", "examples": ["a7"]},
         {"type": "string", "description": 'Id. Example: "a7"'}),
        ({**TEXT, "description": "Such as a7.", "examples": ["a7"]}, {**TEXT, "description": "Such as a7."}),
        ({"type": "string", "contentEncoding": "base64"}, {"type": "string", "description": "As base64."}),
        ({"type": "object"}, OBJECT),
        ({"type": "object", "additionalProperties": {}}, OBJECT),
        ({"properties": {}}, {"type": "object", "properties": {}}),
        ({"items": {"type": "string"}}, {"type": "array", "items": {"type": "string"}}),
    ],
    ids=str,
)  # fmt: skip
def test_what_becomes_of_a_schema(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    """What some API refuses is said in a way that all of them take."""
    assert shown(schema) == wanted


@pytest.mark.parametrize(
    "schema", [{}, True, {"description": "Anything."}, {"type": "array"}, {"type": "array", "items": {}}], ids=str
)
def test_what_may_be_anything(schema: Any) -> None:
    """Where a value may be anything, each type is listed."""
    result = shown(schema)
    result = result.get("items", result)
    assert [choice["type"] for choice in result["anyOf"]] == ANYTHING


@pytest.mark.parametrize(
    "schema",
    [
        {}, {"type": ["string", "integer", "null"], "minimum": 1}, {"type": ["object", "array"]}, {"minLength": 1},
        {"type": ["integer", "boolean"], "enum": [1, True]}, {"type": "integer", "exclusiveMinimum": 0},
        {"enum": ["a", 1, None]},
        {"type": "array", "items": {}}, {"type": "object", "additionalProperties": {"type": "integer"}}, {"const": 1},
        {"anyOf": [{"type": "string"}, {"type": ["object", "null"]}], "description": "x"}, {"minimum": 1},
        {"type": ["array", "null"], "items": {"type": ["string", "null"]}, "minItems": 1},
    ],
    ids=str,
)  # fmt: skip
def test_it_takes_the_same_values(schema: dict[str, Any]) -> None:
    """A value holds to the schema that is shown exactly where it holds to the tool's own."""
    result = shown(schema)
    for value in VALUES:
        assert (complaint(value, schema) == "") == (complaint(value, result) == ""), value


def test_it_stays_short() -> None:
    """A schema of thousands of fields of which it says nothing is shown by its arguments alone."""
    fields: dict[str, Any] = {f"field{number}": {} for number in range(2_000)}
    body = {"type": "object", "description": "B.", "properties": fields}
    parameters = {"type": "object", "properties": {"body": body}, "required": ["body"], "additionalProperties": False}
    wanted = {"body": {**OBJECT, "description": "B."}}
    assert for_models(parameters) == {**parameters, "properties": wanted}
