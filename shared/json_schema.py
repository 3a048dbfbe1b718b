"""JSON Schema as plugins need it: is a value right, in one sentence; and a tool's parameters in either of two forms."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

_MOST = 3  # complaints in one sentence
_LONGEST = 200  # characters of each


def schema_problem(schema: Mapping[str, Any]) -> str:
    """What keeps `schema` from being a JSON Schema; empty where nothing does.

    >>> schema_problem({"type": "strng"})[:36]
    'the schema is no JSON Schema: type: '
    """
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
    except RecursionError:
        return "the schema is too deep"
    return validator if isinstance(validator, str) else ""


def complaint(value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with `value`, every field at fault by its path; empty when it holds. A `$ref` reaches nothing
    outside of the schema. Draft 2020-12 unless `$schema` names another.

    >>> complaint({"city": 5}, {"type": "object", "properties": {"city": {"type": "string"}}})
    "city: 5 is not of type 'string'"
    """
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
        if isinstance(validator, str):
            return validator
        found = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    except RecursionError:
        return "too deep to be checked against the schema"
    except Exception as error:  # a $ref that leads nowhere, a pattern that is no regular expression
        return _cut(f"the schema cannot be used: {error}")
    said = [_cut(f"{_path(error.absolute_path)}{error.message}") for error in found[:_MOST]]
    if len(found) > _MOST:
        said.append(f"and {len(found) - _MOST} more")
    return "; ".join(said)


def as_object_schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's parameters as a JSON Schema of type object, also when they are in the guide's flat form.

    >>> as_object_schema({"city": "string"})
    {'type': 'object', 'properties': {'city': {'type': 'string'}}}
    """
    if not parameters:
        return {"type": "object", "properties": {}}
    if isinstance(parameters.get("properties"), Mapping) or any(key.startswith("$") for key in parameters):
        return {"type": "object"} | dict(parameters)
    if parameters.get("type") == "object" or {"oneOf", "anyOf", "allOf"} & parameters.keys():
        return dict(parameters)
    properties = {
        name: {"type": kind} if isinstance(kind, str) else kind
        for name, kind in parameters.items()
        if isinstance(kind, str | Mapping)
    }
    return {"type": "object", "properties": properties}


@functools.lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    """A validator of the schema, or what is wrong with the schema."""
    # The import takes time, and not every process needs it.
    import jsonschema
    import referencing

    schema = json.loads(text)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        return _cut(f"the schema is no JSON Schema: {_path(error.absolute_path)}{error.message}")
    return kind(schema, registry=referencing.Registry())


def _path(parts: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
