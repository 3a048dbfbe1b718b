"""What a tool's schema says of its arguments, and what is put right by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.call_markup.types import kinds, only_property, properties_of, typed

from ..chat import JSON

_STANDS_FOR_ONE = frozenset(
    {"input", "__arg1", "arg", "arg1", "value", "action_input", "tool_input", "argument", "query"}
)
_WRAPPERS = frozenset(
    {"input", "inputs", "arguments", "args", "parameters", "params", "action_input", "tool_input", "kwargs"}
)


class CannotRead(Exception):
    """The message is for the model: what is wrong, and what to write instead."""


def cut_off(tool: str) -> CannotRead:
    return CannotRead(
        f"The call of {tool} was cut off, so it was not run. Write it again, whole, and shorter if need be."
    )


def only_text(schema: Mapping[str, Any]) -> str:
    """The parameter that a bare text must be meant for, or nothing."""
    only = only_property(schema)
    if only:
        return only
    texts = [name for name, about in properties_of(schema).items() if "string" in kinds(about, schema)]
    required = schema.get("required")
    return texts[0] if len(texts) == 1 and not (isinstance(required, list) and set(required) - set(texts)) else ""


def shape(tool: str, schema: Mapping[str, Any] | None) -> str:
    """How the arguments of a tool are to be written, as it ends a sentence."""
    properties = properties_of(schema or {})
    if not properties:
        return "{}"
    required = (schema or {}).get("required")
    names = (
        [name for name in required if name in properties] if isinstance(required, list) and required else [*properties]
    )
    examples = []
    for name in names[:8]:
        kind = sorted(kinds(properties[name], schema or {}) - {"null"})[:1]
        examples.append(f"{json.dumps(name[:60], ensure_ascii=False)}: {_EXAMPLES.get(kind[0] if kind else '', '…')}")
    return "{" + ", ".join(examples) + "}"


_EXAMPLES = {"string": '"…"', "integer": "1", "number": "1.5", "boolean": "true", "array": "[…]", "object": "{…}"}


def raw_typed(arguments: dict[str, JSON], schema: Mapping[str, Any] | None) -> dict[str, JSON]:
    """Arguments that stood, each for itself, between tags."""
    return typed(arguments, schema or {}, raw=frozenset(arguments))


def refuse_schema(arguments: dict[str, JSON], tool: str, schema: Mapping[str, Any]) -> None:
    """Arguments that repeat what the schema says of them in the place of values."""
    properties = properties_of(schema)
    for name, value in arguments.items():
        if isinstance(value, dict) and {"type", "description"} & set(value) and set(value) <= _OF_SCHEMAS:
            allowed = kinds(properties.get(name), schema)
            if allowed and "object" not in allowed:
                raise CannotRead(
                    f"The argument {name} of {tool} is a copy of its schema. Write the value itself: "
                    f"Action Input: {shape(tool, schema)}"
                )


_OF_SCHEMAS = frozenset(
    {"type", "description", "title", "default", "enum", "required", "format", "example", "examples"}
)


def unwrapped(value: dict[str, JSON], properties: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, JSON]:
    if len(value) != 1:
        return value
    key, inner = next(iter(value.items()))
    if key in properties:
        return value
    if not properties and inner in ("", None, "None", [], {}):
        return {}
    if key in _WRAPPERS and isinstance(inner, dict) and (set(inner) & set(properties) or not inner):
        return inner
    only = only_text(schema)
    if key in _STANDS_FOR_ONE and only and isinstance(inner, str):
        return {only: inner}
    return value
