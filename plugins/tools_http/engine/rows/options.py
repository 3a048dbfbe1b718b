"""What a model wrote against a schema, with errors that it can act on: the field, the rule, the nearest name."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from shared.errors import InvalidArgument, quoted
from shared.nearest import nearest as nearest_names
from shared.wording import rule_of, shown, wanted

# What others call it.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "avg": ("mean",), "average": ("mean",), "std": ("stdev",), "stddev": ("stdev",), "total": ("sum",),
    "size": ("count",), "len": ("count",), "nunique": ("distinct",), "count_distinct": ("distinct",),
    "unique": ("distinct", "deduplicate"), "dedupe": ("deduplicate",), "group_by": ("group_aggregate",),
    "groupby": ("group_aggregate",), "aggregate": ("group_aggregate",), "merge": ("join",), "order_by": ("sort",),
    "=": ("eq",), "==": ("eq",), "!=": ("ne",), "<>": ("ne",), ">": ("gt",), ">=": ("ge",), "gte": ("ge",),
    "<": ("lt",), "<=": ("le",), "lte": ("le",), "regex": ("matches",), "like": ("contains",),
}  # fmt: skip
_MOST_ERRORS = 5
_MOST_NAMES = 20  # that an error lists


def nearest(name: str, names: Iterable[str]) -> str:
    """How a sentence goes on that said that `name` is wrong.

    >>> nearest("regoin", ["region", "amount"])
    "; the nearest is 'region' (there are: 'region', 'amount')"
    """
    names = list(names)
    folded = [each for each in names if each.strip().casefold() == name.strip().casefold()]
    usual = [each for each in _USUAL.get(name.strip().lower(), ()) if each in names]
    best = (folded or usual or nearest_names(name, names, 1))[:1]
    listed = ", ".join(quoted(each) for each in names[:_MOST_NAMES]) or "none"
    if len(names) > _MOST_NAMES:
        listed += f" and {len(names) - _MOST_NAMES} more"
    return f"; the nearest is {quoted(best[0])} (there are: {listed})" if best else f" (there are: {listed})"


def check(value: Any, schema: Mapping[str, Any], where: str, whose: str) -> None:
    """Raises InvalidArgument naming every field at fault, `where` in front, and what `whose` options are.

    The schema is ours: plain objects and arrays of them, no references.
    """
    errors = list(_validator(json.dumps(schema)).iter_errors(value))
    if not errors:
        return
    violations: dict[str, str] = {}
    for error in errors[:_MOST_ERRORS]:
        for field, sentence in _sentences(error, schema, where):
            violations.setdefault(field, sentence)
    message = "; ".join(dict.fromkeys(violations.values()))
    if len(errors) > _MOST_ERRORS:
        message += f"; and {len(errors) - _MOST_ERRORS} more"
    raise InvalidArgument(
        f"{message}. {whose}: {outline(schema)}",
        reason="BAD_ARGUMENTS",
        violations=list(violations.items()),
    )


def outline(schema: Mapping[str, Any]) -> str:
    """
    >>> outline({"properties": {"by": {"type": "array"}, "limit": {"type": "integer"}}, "required": ["by"]})
    'by (array, required), limit (integer)'
    """
    parts = []
    for name, inner in schema["properties"].items():
        kind = inner.get("type", "any")
        kind = kind if isinstance(kind, str) else " or ".join(kind)
        if "enum" in inner:
            kind = " | ".join(map(str, inner["enum"]))
        if inner.get("items", {}).get("properties"):
            kind = f"array of {{{outline(inner['items'])}}}"
        parts.append(f"{name} ({kind}{', required' if name in schema.get('required', ()) else ''})")
    return ", ".join(parts) or "none"


def _sentences(error: Any, schema: Mapping[str, Any], where: str) -> Iterable[tuple[str, str]]:
    path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
    at = _at(schema, error.instance_path)
    rule = error.kind.name
    details = error.kind.as_dict()
    if rule == "additionalProperties":
        for name in details["unexpected"]:
            yield f"{path}.{name}", f"{path} knows no {quoted(name)}{nearest(name, at['properties'])}"
    elif rule == "required":
        name = details["property"]
        about = at["properties"][name]
        meaning = f" ({about['description']})" if "description" in about else ""
        yield f"{path}.{name}", f"{path}.{name} is missing{wanted(about)}{meaning}"
    elif rule == "enum" and isinstance(error.instance, str):
        yield (
            path,
            f"{path} is {quoted(error.instance)}, which it cannot be{nearest(error.instance, map(str, at['enum']))}",
        )
    elif words := rule_of(rule, at.get(rule)):
        yield path, f"{path} must {words}, it is {shown(error.instance, rule)}"
    else:
        message = " ".join(error.message.split())
        yield path, f"{path}: {message if len(message) <= 150 else message[:75] + ' … ' + message[-75:]}"


def _at(schema: Mapping[str, Any], path: Iterable[str | int]) -> Mapping[str, Any]:
    for part in path:
        if isinstance(part, int):
            schema = schema["items"]
        else:
            schema = schema.get("properties", {}).get(part) or schema["additionalProperties"]
    return schema


@functools.cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.validator_for(json.loads(schema))
