"""A tool's schema as every model's API takes it: arguments are still checked by the tool's own.

Some APIs refuse a list of types, a schema without a type, an array without `items`, an object without `properties`, and
keywords such as `const`, `oneOf`, `examples`, `contentEncoding` and `exclusiveMinimum`. What these say is said in
another way here, in the description where there is no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties", "patternProperties",
               "propertyNames"),
    "array": ("items", "minItems", "maxItems", "uniqueItems", "prefixItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "multipleOf", "format"),
    "integer": ("minimum", "maximum", "multipleOf", "format"),
    "boolean": (),
    "null": (),
}  # fmt: skip
_REPLACED = ("type", "const", "oneOf", "anyOf", "examples", "contentEncoding", "contentMediaType", "exclusiveMinimum",
             "exclusiveMaximum")  # fmt: skip
_ANYTHING = ("string", "number", "boolean", "null", "object", "array")
_LONGEST_EXAMPLE = 200  # characters of JSON
_LONGEST = 200_000  # characters of a tool's schema as JSON


def for_models(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments. It takes what `parameters` takes; where that cannot be said, it takes more."""
    # An example of a whole call stands in the tool's description.
    own = {key: value for key, value in parameters.items() if key != "examples"}
    shown = _shown(own, "object")
    if len(json.dumps(shown)) > _LONGEST:  # a short schema that says nothing of thousands of fields
        arguments = {name: _outside(schema) for name, schema in own.get("properties", {}).items()}
        shown = _shown(own | {"properties": arguments}, "object")
    return shown


def _outside(schema: Any) -> dict[str, Any]:
    """`schema` without what it says of what a value holds."""
    schema = schema if isinstance(schema, Mapping) else {}
    return {key: schema[key] for key in ("type", "description") if key in schema}


def _shown(schema: Any, kind: str = "") -> dict[str, Any]:
    """`kind` is the type where the schema has none."""
    schema = schema if isinstance(schema, Mapping) else {}
    rest = {key: value for key, value in schema.items() if key not in _REPLACED}
    if "const" in schema:
        rest["enum"] = [schema["const"]]
    kinds = _kinds(schema, rest, kind)
    _bounds(schema, rest, kinds)
    if words := _description(schema, kinds):
        rest["description"] = words
    choices = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(choices, list) and choices:
        rest = _with_choices(kinds, rest, choices)
    elif len(kinds) == 1:
        rest = {"type": kinds[0]} | _inside(kinds[0], rest)
    else:
        rest = _as_choice(kinds, rest)
    return {key: rest[key] for key in ("type", "description", "enum") if key in rest} | rest


def _kinds(schema: Mapping[str, Any], rest: Mapping[str, Any], kind: str) -> list[str]:
    """The types that a value may have; of an enum those that its values have."""
    written = schema.get("type", kind or None)
    kinds = [each for each in (written if isinstance(written, list) else [written]) if each in _KEYWORDS]
    if isinstance(values := rest.get("enum"), list) and len(kinds) != 1:
        of_values = {_kind_of(value) for value in values}
        if not kinds:
            kinds = [each for each in _ANYTHING if each in of_values]
        else:
            kinds = [each for each in kinds if each in of_values or (each == "integer" and "number" in of_values)]
    if not kinds:
        kinds = ["object"] if "properties" in rest else ["array"] if "items" in rest else list(_ANYTHING)
    return kinds


def _with_choices(kinds: list[str], rest: dict[str, Any], choices: list[Any]) -> dict[str, Any]:
    """What holds for all choices beside them; they are of its type where they have none."""
    own = [kind for kind in kinds if kind != "null"]
    if len(own) != 1:
        inside = {*_KEYWORDS["object"], *_KEYWORDS["array"]}
        rest = {key: value for key, value in rest.items() if key not in inside}
        return rest | {"anyOf": [_shown(choice) for choice in choices]}
    kind = own[0]
    if len(kinds) == 1:
        return {"type": kind} | _inside(kind, rest) | {"anyOf": [_shown(choice, kind) for choice in choices]}
    shown = [_shown(choice, kind) for choice in choices]
    held = {key: rest[key] for key in _KEYWORDS[kind] if key in rest}
    held = {"type": kind} | _inside(kind, held) | {"anyOf": [each for each in shown if each.get("type") != "null"]}
    rest = {key: value for key, value in rest.items() if key not in held}
    return rest | {"anyOf": [held, {"type": "null"}]}


def _as_choice(kinds: list[str], rest: dict[str, Any]) -> dict[str, Any]:
    """A schema of each type, with what is said of that type."""
    said = {key for kind in _KEYWORDS for key in _KEYWORDS[kind]} | {"enum"}
    choices = []
    for kind in kinds:
        own = {key: rest[key] for key in _KEYWORDS[kind] if key in rest}
        if "format" in own and kind != "string" and "string" in kinds:
            del own["format"]
        if isinstance(values := rest.get("enum"), list):
            fits = (kind, "number") if kind == "integer" else (kind,)
            own["enum"] = [value for value in values if _kind_of(value) in fits]
        if kind == "array" and len(kinds) == len(_ANYTHING) and "items" not in own:
            # Whatever may stand in it: to say it to any depth is nowhere possible.
            own["items"] = {"anyOf": [_plain(each) for each in _ANYTHING if each != "array"]}
            choices.append({"type": kind} | own)
        elif kind == "null":
            choices.append({"type": kind})
        else:
            choices.append({"type": kind} | _inside(kind, own))
    return {key: value for key, value in rest.items() if key not in said} | {"anyOf": choices}


def _inside(kind: str, rest: Mapping[str, Any]) -> dict[str, Any]:
    """`rest` with the schemas of what a value of this type holds."""
    shown = dict(rest)
    if kind == "object":
        more = rest.get("additionalProperties", "properties" not in rest or None)
        if isinstance(more, Mapping):
            shown["additionalProperties"] = _shown(more) if more else True
        elif more is not None:
            shown["additionalProperties"] = more
        properties = rest.get("properties")
        shown["properties"] = (
            {name: _shown(value) for name, value in properties.items()} if isinstance(properties, Mapping) else {}
        )
    elif kind == "array":
        shown["items"] = _shown(rest.get("items"))
    return shown


def _plain(kind: str) -> dict[str, Any]:
    return {"type": kind} | (_inside(kind, {}) if kind == "object" else {})


def _bounds(schema: Mapping[str, Any], rest: dict[str, Any], kinds: list[str]) -> None:
    """Puts a bound that is itself allowed in place of one that is not."""
    is_whole = "number" not in kinds
    if (lower := _number(schema, "exclusiveMinimum")) is not None:
        lower = math.floor(lower) + 1 if is_whole else lower
        rest["minimum"] = max(lower, rest.get("minimum", lower))
    if (upper := _number(schema, "exclusiveMaximum")) is not None:
        upper = math.ceil(upper) - 1 if is_whole else upper
        rest["maximum"] = min(upper, rest.get("maximum", upper))


def _description(schema: Mapping[str, Any], kinds: list[str]) -> str:
    parts = [str(schema.get("description", "")).strip()]
    if "number" in kinds:
        for keyword, words in (("exclusiveMinimum", "More"), ("exclusiveMaximum", "Less")):
            if (bound := _number(schema, keyword)) is not None:
                parts.append(f"{words} than {bound}.")
    if schema.get("contentEncoding") == "base64" and "base64" not in parts[0]:
        parts.append("As base64.")
    examples = schema.get("examples")
    if isinstance(examples, list) and examples:
        text = json.dumps(examples[0], ensure_ascii=False)
        if len(text) <= _LONGEST_EXAMPLE and text.strip('"') not in parts[0]:
            parts.append(f"Example: {text}")
    return " ".join(filter(None, parts))


def _number(schema: Mapping[str, Any], keyword: str) -> float | None:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, int | float) else "object" if isinstance(value, Mapping) else "array"
