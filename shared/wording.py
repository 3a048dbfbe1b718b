"""What is wrong with an argument, in words that a model can act on: the argument, the rule, the nearest name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .nearest import did_you_mean

if TYPE_CHECKING:  # workers use the words without the checker
    from .json_schema import Fault

JSON = Any  # None, bool, int, float, str, lists and dicts of these

_LONGEST_VALUE = 60  # characters of a value that is shown


def in_words(
    fault: Fault, tool: str, schema: Mapping[str, Any], arguments: dict[str, JSON]
) -> list[tuple[list[str], str]]:
    """(path, what is wrong there and what would be right) of a fault."""
    path = [str(part) for part in fault.path]
    value = _at(arguments, fault.path)
    if fault.keyword == "required":
        name = str(fault.parameter)
        about = _at(schema, (*fault.schema_path[:-1], "properties", name))
        return [([*path, name], f"{_name(fault.path, name)} is missing{wanted(about)}")]
    if fault.keyword in ("additionalProperties", "unevaluatedProperties") and isinstance(fault.parameter, list):
        properties = _at(schema, (*fault.schema_path[:-1], "properties"))
        known = list(properties) if isinstance(properties, Mapping) else []
        return [([*path, str(name)], _unknown(fault.path, str(name), tool, known)) for name in fault.parameter[:20]]
    place = _name(fault.path)
    rule = rule_of(fault.keyword, fault.parameter)
    if not rule:
        return [(path, f"{place}: {_cut(fault.message, 200)}")]
    words = f"{place} must {rule}, it is {shown(value, fault.keyword)}"
    if fault.keyword == "enum" and isinstance(value, str):
        words += did_you_mean(value, [option for option in fault.parameter if isinstance(option, str)])
    return [(path, words)]


def _unknown(path: Sequence[str | int], name: str, tool: str, known: Sequence[str]) -> str:
    meant = did_you_mean(name, known)
    if not meant:
        meant = f"; it takes {', '.join(known[:20])}" if known else "; it takes none"
    return f"{_cut(_name(path, name), 100)} is not an argument of {tool}{meant}"


def rule_of(keyword: str, parameter: Any) -> str:
    """What a value must do or be, as it follows `must`."""
    match keyword:
        case "type":
            kinds = parameter if isinstance(parameter, list) else [parameter]
            return f"be {' or '.join(_KINDS.get(str(kind), str(kind)) for kind in kinds)}"
        case "enum" if isinstance(parameter, list):
            shown = ", ".join(_json(option) for option in parameter[:20])
            return f"be one of {shown}{f' and {len(parameter) - 20} more' if len(parameter) > 20 else ''}"
        case "const":
            return f"be {_json(parameter)}"
        case "pattern":
            return f"match the pattern {_cut(str(parameter), 100)}"
        case "format":
            return f"be a {parameter}"
        case "uniqueItems":
            return "have no item twice"
        case _ if keyword in _RULES:
            return _RULES[keyword].format(parameter)
    return ""


_KINDS = {"integer": "an integer", "number": "a number", "string": "a string", "boolean": "true or false",
          "array": "a list", "object": "an object", "null": "null"}  # fmt: skip
_RULES = {
    "maximum": "be at most {}",
    "minimum": "be at least {}",
    "exclusiveMaximum": "be less than {}",
    "exclusiveMinimum": "be more than {}",
    "multipleOf": "be a multiple of {}",
    "maxLength": "have at most {} characters",
    "minLength": "have at least {} characters",
    "maxItems": "have at most {} items",
    "minItems": "have at least {} items",
    "maxProperties": "have at most {} entries",
    "minProperties": "have at least {} entries",
}


def wanted(schema: Any) -> str:
    """What an argument would have to be, as it follows `is missing`; perhaps nothing."""
    if not isinstance(schema, Mapping):
        return ""
    rules = [rule_of(keyword, schema[keyword]) for keyword in ("type", "enum", "const") if keyword in schema]
    if not rules and isinstance(choices := schema.get("anyOf", schema.get("oneOf")), list):
        kinds = [choice.get("type") if isinstance(choice, Mapping) else None for choice in choices]
        if all(isinstance(kind, str) for kind in kinds):
            rules.append(rule_of("type", list(dict.fromkeys(kinds))))
    if "type" in schema:
        rules += [_RULES[key].format(schema[key]) for key in _RULES if key in schema and not _goes_without(key, schema)]
    return f"; it must {' and '.join(rules)}" if rules else ""


def _goes_without(keyword: str, schema: Mapping[str, Any]) -> bool:
    """Whether a rule is one that nobody breaks without meaning to."""
    limit = schema[keyword]
    return (keyword == "minLength" and limit == 1) or (keyword == "maxLength" and limit >= 100)


def _name(path: Sequence[str | int], last: str | None = None) -> str:
    parts = [*path] if last is None else [*path, last]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return _cut(name, 100) or "the arguments"


def shown(value: JSON, keyword: str) -> str:
    """A value that breaks the rule of a keyword, as it follows `it is`."""
    if keyword in ("maxLength", "minLength") and isinstance(value, str):
        return f"{len(value):,} characters long"
    if keyword in ("maxItems", "minItems", "maxProperties", "minProperties") and isinstance(value, list | dict):
        return f"{len(value):,} long"
    if isinstance(value, list | dict):
        return kind_of(value)
    return f"the string {_json(value)}" if isinstance(value, str) and keyword == "type" else _json(value)


def kind_of(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return _json(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "a string" if isinstance(value, str) else "a number"


def _json(value: JSON) -> str:
    try:
        return _cut(json.dumps(value, ensure_ascii=False), _LONGEST_VALUE)
    except ValueError:  # an integer of too many digits
        return "a number of very many digits"


def _cut(text: str, longest: int) -> str:
    text = " ".join(text[: 4 * longest].split())
    return text if len(text) <= longest else text[:longest] + "…"


def _at(value: Any, path: Sequence[str | int]) -> Any:
    """What stands at a path, or None."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            return None
    return value
