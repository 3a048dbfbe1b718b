"""JSON Schema as plugins need it: is a value right, in one sentence; and a tool's parameters in either of two forms.

A schema can come from anybody, so it is held harmless: a `$ref` reaches nothing outside of it, patterns take linear
time (look-around and back references are refused), and one that unfolds without end, by `$ref`s to `$ref`s, is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

_MOST = 3  # complaints in one sentence
_LONGEST = 200  # characters of each
_LARGEST = 20_000  # places of a schema, those that it refers to counted each time


def schema_problem(schema: Mapping[str, Any]) -> str:
    """What keeps `schema` from being used; empty where nothing does.

    >>> schema_problem({"type": "strng"})[:33]
    'the schema cannot be used: type: '
    """
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
    except RecursionError:
        return "the schema is too deep"
    return validator if isinstance(validator, str) else ""


def complaint(value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with `value`, every field at fault by its path; empty when it holds. Draft 2020-12 unless `$schema`
    names another.

    >>> complaint({"city": 5}, {"type": "object", "properties": {"city": {"type": "string"}}})
    'city: 5 is not of type "string"'
    """
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
        if isinstance(validator, str) or validator.is_valid(value):
            return validator if isinstance(validator, str) else ""
        found = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.instance_path])
    except (RecursionError, ValueError) as error:
        return _cut(f"it cannot be checked: {error}")
    said = [_cut(f"{_path(error.instance_path)}{error.message}") for error in found[:_MOST]]
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
    import jsonschema_rs

    schema = json.loads(text)
    if _size(schema) > _LARGEST:
        return f"the schema has more than {_LARGEST} places, those that it refers to counted each time"
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions())
    except jsonschema_rs.ValidationError as error:
        return _cut(f"the schema cannot be used: {_path(error.instance_path)}{error.message}")
    except ValueError as error:
        return _cut(f"the schema cannot be used: {error}")


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is outside of the schema")


def _size(schema: Any) -> int:
    """How many places `schema` has when each local `$ref` stands for what it refers to; one to itself counts once."""
    known: dict[int, int] = {}

    def size(node: Any) -> int:
        if not isinstance(node, dict | list):
            return 1
        if id(node) not in known:
            known[id(node)] = 1  # of a cycle: how far it goes depends on the value, which is bounded
            total = 1 + sum(map(size, node.values() if isinstance(node, dict) else node))
            reference = node.get("$ref") if isinstance(node, dict) else None
            for target in _at(schema, reference) if isinstance(reference, str) else ():
                total += size(target)
            known[id(node)] = min(total, 2 * _LARGEST)
        return known[id(node)]

    return size(schema)


def _at(schema: Any, reference: str) -> Iterator[Any]:
    """The place that `#/a/0/b` names, if there is one."""
    if not reference.startswith("#"):
        return
    for part in reference.lstrip("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~").replace("%25", "%")
        if isinstance(schema, dict) and name in schema:
            schema = schema[name]
        elif isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        else:
            return
    yield schema


def _path(parts: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{path}: " if path else ""


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
