"""JSON values: what is equal, what comes first, what is a number.

Numbers are equal by value, whole or not (1 and 1.0), and compared exactly at any size. true is no number, "1" is a
text, null is a value, and what a row lacks is MISSING, which equals nothing else. The order of a column that holds
different kinds: false, true, numbers, texts by code point, arrays and objects by their JSON; null and MISSING apart.
"""

from __future__ import annotations

import json
from typing import Any

from shared.errors import InvalidArgument, quoted


class Missing:
    """What a row has where it lacks the column."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()
NUMBERS = {int, float}
_NOTHING = {type(None), Missing}
_PLAIN = {str, int, float} | _NOTHING  # kinds that Python tells apart as JSON does
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "an array",
    dict: "an object",
    type(None): "null",
    Missing: "missing",
}

_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def compact(value: Any) -> str:
    """As JSON without blanks. Raises InvalidArgument for a number that JSON cannot hold."""
    try:
        return _compact(value)
    except ValueError:
        raise too_large("data") from None


def kind_of(value: Any) -> str:
    """
    >>> kind_of(True), kind_of(1.5), kind_of("1.5")
    ('true or false', 'a number', 'a text')
    """
    return _KINDS[type(value)]


def is_value(value: Any) -> bool:
    return value is not None and value is not MISSING


def key(value: Any) -> Any:
    """Something hashable that is equal where the values are.

    >>> key(1) == key(1.0), key(1) == key(True), key([1]) == key([True]), key(None) == key(MISSING)
    (True, False, False, False)
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is bool:
        return bool, value
    if kind is list:
        return list, tuple(map(key, value))
    return dict, frozenset((name, key(inner)) for name, inner in value.items())


def keys(values: list[Any]) -> list[Any]:
    """`key` of each value; most columns need none and come back as they are."""
    if set(map(type, values)) <= _PLAIN:
        return values
    return list(map(key, values))


def sort_keys(values: list[Any]) -> list[Any]:
    """For each value something that sorts in the order of the module; null and MISSING must not be compared."""
    kinds = set(map(type, values)) - _NOTHING
    if kinds <= NUMBERS or kinds <= {str}:
        return values
    return [_rank(value) if is_value(value) else value for value in values]


def _rank(value: Any) -> tuple[int, Any]:
    kind = type(value)
    if kind is bool:
        return 0, value
    if kind in NUMBERS:
        return 1, value
    if kind is str:
        return 2, value
    return (3 if kind is list else 4), _canonical(value)


def numbers(values: list[Any], column: str | int, option: str) -> list[int | float]:
    """The numbers among `values`, null and MISSING left out; what was 1e400 in JSON is an infinity. Raises
    InvalidArgument where there is anything else.
    """
    kinds = set(map(type, values))
    if not kinds <= NUMBERS | _NOTHING:
        other = next(value for value in values if type(value) not in NUMBERS | _NOTHING)
        raise InvalidArgument(
            f"{option}: the column {quoted(str(column))} holds {kind_of(other)}, {shown(other)}, and numbers are "
            "needed: filter such rows out, or read text with parse_csv and its types",
            reason="NOT_A_NUMBER",
            field=option,
        )
    return values if kinds <= NUMBERS else [value for value in values if type(value) in NUMBERS]


def too_large(option: str) -> InvalidArgument:
    return InvalidArgument(
        f"{option}: a number, or what is reckoned from it, is too large: with a point or an exponent it can be up to "
        "1.8e308, and as a whole number have up to 4300 digits; filter such rows out",
        reason="NUMBER_TOO_LARGE",
        field=option,
    )


def shown(value: Any) -> str:
    """A value as it may stand in a message."""
    return quoted(value if isinstance(value, str) else _canonical(value))
