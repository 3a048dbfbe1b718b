"""Patterns in a tool's schema that we cannot check: look-around, back references, other engines' syntax.

The endpoint may know them, so the tool is offered with them. What we check is the rest of the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.json_schema import schema_problem

_VALUES = ("enum", "const", "default", "examples", "example")  # hold values, not schemas
UNCHECKED = "it cannot be checked: its schema has a pattern with look-around, back references or syntax not known here"


def checkable(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`schema` itself where it can be checked, without its patterns where it is those that cannot; None: not at all.

    >>> checkable({"type": "string", "pattern": "(?=a)a"}), checkable({"type": "strng"})
    ({'type': 'string'}, None)
    """
    if not schema_problem(schema):
        return schema
    try:
        bare = _without(schema)
    except RecursionError:
        return None
    return None if schema_problem(bare) else bare


def _without(value: Any) -> Any:
    if isinstance(value, list):
        return [_without(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: inner if name in _VALUES else _without(inner)
        for name, inner in value.items()
        if name != "patternProperties" and not (name == "pattern" and isinstance(inner, str))
    }
