"""JSON values and google.protobuf.Struct, which cannot hold all of them.

A Struct keeps every number as a double (integers above 2^53 change), loses the order of keys and ends at 33 levels.
So a `*_json` text stands beside each Struct in the contract: sent, it wins; in a reply it is filled whenever the
Struct would not say the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from google.protobuf.struct_pb2 import Struct, Value

from .errors import InvalidArgument

_EXACT = 2**53
# json.dumps and json.loads make a new one for each value, which takes longer than a small value.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_DEEPEST_TEXT = 500  # half of what Python's own recursion limit lets `json` write again
# Bytes of a Value, its tag included.
_NUMBER = 9
_SIZES = {float: _NUMBER, bool: 2, type(None): 2}
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
    if _MAY_BE_INFINITE.search(text):
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


def struct_size(value: dict[str, Any]) -> tuple[int, bool]:
    """How many bytes a Struct has that `fill` has filled, and what `fill` gives; without making one, which takes five
    times as long. Of too deep a value it is 0, False."""
    return _fields_size(value) if _depth(value) <= _DEEPEST else (0, False)


def varint_size(value: int) -> int:
    """Bytes that a length, or another number, takes on the wire."""
    return max(1, (value.bit_length() + 6) // 7)


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


def _fields_size(fields: dict[str, Any]) -> tuple[int, bool]:
    sizes, exact = _value_sizes(fields.values())
    return sum(
        _inside(_inside(len(key.encode())) + _inside(size)) for key, size in zip(fields, sizes, strict=True)
    ), exact


def _value_sizes(values: Iterable[Any]) -> tuple[list[int], bool]:
    """Of a message `Value` for each: the field of its kind, with its tag."""
    sizes, exact = [], True
    for value in values:
        kind = value.__class__
        if kind is int:
            sizes.append(_NUMBER)
            if not -_EXACT <= value <= _EXACT:
                exact = False
                try:
                    float(value)
                except OverflowError:
                    sizes[-1] = _inside(len(str(value)))
        elif kind is str:
            sizes.append(_inside(len(value.encode())))
        elif kind is dict or kind is list:
            size, is_exact = _fields_size(value) if kind is dict else _list_size(value)
            sizes.append(_inside(size))
            exact &= is_exact
        else:
            sizes.append(_SIZES[kind])
    return sizes, exact


def _list_size(values: list[Any]) -> tuple[int, bool]:
    sizes, exact = _value_sizes(values)
    return sum(map(_inside, sizes)), exact


def _inside(size: int) -> int:
    """Of a text or message of so many bytes within another one: with a tag of one byte and its length."""
    return 2 + size if size < 128 else 1 + varint_size(size) + size


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


# A number has an exponent, or 309 digits, where it is too large for a double. Only the beginning of a number is looked
# at, so that each digit is read once.
_MAY_BE_INFINITE = re.compile(r"[0-9.][eE]|(?<![0-9])[0-9]{309}")
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
