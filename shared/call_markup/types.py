"""Arguments get the types that the tool's schema says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..loose_json import NotRead, read_whole

JSON = Any

_INTEGER = re.compile(r"[+-]?[0-9]{1,400}(?:\.0{1,20})?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "True": True, "false": False, "False": False}
_NULLS = ("null", "None")
_DEEPEST = 4  # of combined schemas, and of references one after another
_MOST = 64  # schemas of a combination that are looked at


def properties_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Name → schema of a tool's parameters, also when they are in the guide's flat form."""
    properties = parameters.get("properties")
    if isinstance(properties, Mapping):
        return dict(properties)
    if parameters.get("type") == "object" or any(key.startswith("$") for key in parameters):
        return {}
    return {
        name: {"type": kind} if isinstance(kind, str) else kind
        for name, kind in parameters.items()
        if isinstance(kind, str | Mapping)
    }


def only_property(parameters: Mapping[str, Any]) -> str:
    """The parameter that a bare value must be meant for: the only one, or the only one that is required."""
    properties = properties_of(parameters)
    required = parameters.get("required")
    if isinstance(required, list) and len(required) == 1 and required[0] in properties:
        return str(required[0])
    return next(iter(properties)) if len(properties) == 1 else ""


def typed(
    arguments: dict[str, JSON], parameters: Mapping[str, Any], raw: frozenset[str] = frozenset()
) -> dict[str, JSON]:
    """`raw`: names of the arguments that are text as it stood between tags, not values of JSON."""
    properties = properties_of(parameters)
    return {
        name: _of_value(value, kinds(properties.get(name), parameters), name in raw)
        for name, value in arguments.items()
    }


def kinds(schema: Any, root: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """The JSON types that a schema allows; none: it does not say."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return frozenset()
    if isinstance(reference := schema.get("$ref"), str):
        return kinds(_referred(reference, root), root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset([kind.lower()])
    if isinstance(kind, list):
        return frozenset(str(item).lower() for item in kind[:_MOST])
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return frozenset(_kind(value) for value in values[:_MOST])
    for combined in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(combined), list):
            of_options = [kinds(option, root, depth + 1) for option in options[:_MOST]]
            return frozenset[str]().union(*of_options) if all(of_options) else frozenset()
    if isinstance(parts := schema.get("allOf"), list):
        return next((known for part in parts[:_MOST] if (known := kinds(part, root, depth + 1))), frozenset())
    return (
        frozenset(["object"]) if "properties" in schema else frozenset(["array"]) if "items" in schema else frozenset()
    )


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/"):
        return None
    place: Any = root
    for part in reference[2:].split("/")[:_DEEPEST]:
        place = place.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(place, Mapping) else None
    return place


def _kind(value: JSON) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _of_value(value: JSON, allowed: frozenset[str], is_raw: bool) -> JSON:
    if isinstance(value, str):
        return _of_text(value, allowed, is_raw)
    if type(value) is int and "string" in allowed and not allowed & {"integer", "number"}:
        return str(value)  # a house number, an id: written without quotes
    return value


def _of_text(text: str, allowed: frozenset[str], is_raw: bool) -> JSON:
    """What a text stands for where the schema wants something else than text, or says nothing."""
    bare = text.strip()
    if is_raw and "null" in allowed and bare in _NULLS:
        return None
    if "string" in allowed and (not is_raw or not allowed & {"object", "array"}):
        return text
    if bare[:1] in ("{", "[") and ((not allowed and is_raw) or allowed & {"object", "array"}):
        try:
            value = read_whole(bare)
        except NotRead:
            return text
        return value if not allowed or _kind(value) in allowed else text
    if "integer" in allowed and _INTEGER.fullmatch(bare):
        return int(bare.partition(".")[0])
    if "number" in allowed and _NUMBER.fullmatch(bare):
        return int(bare) if _INTEGER.fullmatch(bare) and "." not in bare else _float(bare, text)
    if "boolean" in allowed and bare in _WORDS:
        return _WORDS[bare]
    if "null" in allowed and bare in _NULLS:
        return None
    return text


def _float(digits: str, text: str) -> JSON:
    number = float(digits)
    return number if abs(number) != float("inf") else text
