"""JSON values and google.protobuf.Struct, which cannot hold all of them.

A Struct keeps every number as a double (integers above 2^53 change), loses the order of keys and ends at 33 levels.
So a `*_json` text stands beside each Struct in the contract: sent, it wins; in a reply it is filled whenever the
Struct would not say the same.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from google.protobuf.struct_pb2 import Struct, Value

from .errors import InvalidArgument

_EXACT = 2**53
# json.dumps and json.loads make a new one for each value, which takes longer than a small value.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_DEEPEST_TEXT = 500  # half of what Python's own recursion limit lets `json` write again
_DEEPEST = 32  # protobuf refuses 100 nested messages, and a level of JSON is three of them


def read_object(struct: Struct, text: str, field: str) -> dict[str, Any]:
    """The JSON object that a request carries in `struct` or, when that is sent, in `text`.

    Raises InvalidArgument naming `field` (and its `_json` twin) when the text is no JSON object or holds a number
    that JSON does not have.
    """
    if not text:
        value = {key: from_value(item) for key, item in struct.fields.items()}
        _refuse_infinite(value, field)
        return value
    field += "_json"
    try:
        parsed = _decode(text)
    except RecursionError:
        raise _too_deep(field) from None
    except ValueError as error:
        raise InvalidArgument(f"{field} is not JSON: {error}", field=field) from None
    if not isinstance(parsed, dict):
        raise InvalidArgument(f"{field} must be a JSON object", field=field)
    if _depth(parsed) > _DEEPEST_TEXT:
        raise _too_deep(field)
    _refuse_infinite(parsed, field)
    if "\\u" in text:
        _refuse_half_characters(parsed, field)
    return parsed


def dump(value: Any) -> str:
    """`value` as compact JSON, keys in the order they came."""
    return _encode(value)


def fill(struct: Struct, value: dict[str, Any]) -> bool:
    """Fills `struct` with `value`; False when it could not be held exactly. Too deep a value leaves it empty."""
    return _depth(value) <= _DEEPEST and _fill_fields(struct, value)


def fill_value(target: Value, value: Any) -> bool:
    """As `fill`, of any JSON value; too deep a one leaves `target` unset."""
    return (not isinstance(value, dict | list) or _depth(value) <= _DEEPEST) and _fill_value(target, value)


def from_value(value: Value) -> Any:
    """
    >>> from_value(Value(number_value=1.0))
    1.0
    """
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: from_value(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def whole_numbers(value: Any) -> Any:
    """`value` with 5.0 as 5: a Struct knows no integers, and what reads the JSON may know nothing else.

    >>> whole_numbers({"maxLength": 5.0, "multipleOf": 0.5})
    {'maxLength': 5, 'multipleOf': 0.5}
    """
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def _fill_value(target: Value, value: Any) -> bool:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int):
        try:
            target.number_value = float(value)
        except OverflowError:
            target.string_value = str(value)
        return -_EXACT <= value <= _EXACT
    elif isinstance(value, float):
        target.number_value = value
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        return _fill_fields(target.struct_value, value)
    else:
        target.list_value.SetInParent()
        exact = True
        for item in value:
            exact &= _fill_value(target.list_value.values.add(), item)
        return exact
    return True


def _fill_fields(struct: Struct, value: dict[str, Any]) -> bool:
    exact = True
    for key, item in value.items():
        exact &= _fill_value(struct.fields[key], item)
    return exact


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
    return deepest


def _too_deep(field: str) -> InvalidArgument:
    return InvalidArgument(f"{field} is nested more than {_DEEPEST_TEXT} levels deep", field=field)


def _refuse_infinite(value: Any, field: str) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidArgument(f"{field} holds a number that is not finite; JSON has no such thing", field=field)


def _refuse_half_characters(value: Any, field: str) -> None:
    """JSON can spell half of a surrogate pair, which is no character and has no UTF-8."""
    try:
        dump(value).encode()
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"{field} holds half of a surrogate pair, which is not a character", field=field
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
