"""Filters on metadata and ids. What answers them is each store's own.

| condition | holds for |
|---|---|
| `Compare(field, EQ, x)` | a string, number, boolean or null equal to x; 1 and 1.0 are equal, 1 and true are not |
| `NE` | everything that EQ does not hold for, items without the field among them |
| `GT GTE LT LTE` | numbers with a number, strings with a string (by code point) |
| `IN`, `NOT_IN` | EQ holds for one, or for none, of a list |
| `CONTAINS` | a list that holds x, or a string that has the string x inside |
| `PREFIX` | a string that begins with x |
| `Exists(field)` | a field that is there, with null too |
| `Ids(ids)` | an item with one of these ids |

A field is a path with dots (`author.name`). A key with a dot, quote or backslash in it, or nothing, stands as a JSON
string (`"file.name"`, `""`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..errors import InvalidArgument, quoted

DEEPEST = 6  # levels of filters in filters
# Of one filter, all its levels together: conditions; values in lists; ids; characters in lists, and elsewhere but ids.
MOST = 1000
MOST_VALUES = 100_000
MOST_IDS = 100_000
MOST_LIST_TEXT = 4 * 2**20
MOST_TEXT = 2**20
_LONGEST_FIELD = 1000
# A key has no bare NUL: SQLite would end a path there, and PostgreSQL has no such text.
_KEY = re.compile(r'("(?:[^"\\\0]|\\[^\0])*+")|([^."\\\0]+)')


class Operator(Enum):
    EQ = "="
    NE = "!="
    GT = ">"
    GTE = ">="
    LT = "<"
    LTE = "<="
    IN = "in"
    NOT_IN = "not in"
    CONTAINS = "contains"
    PREFIX = "prefix"


@dataclass(frozen=True)
class Compare:
    field: str
    operator: Operator
    value: Any


@dataclass(frozen=True)
class Exists:
    field: str


@dataclass(frozen=True)
class Ids:
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """All of `must`, one of `should` if there are any, none of `must_not`."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()


Condition = Compare | Exists | Ids | Filter


def unrestricted(filter: Filter, at: str = "filter") -> str:
    """Where the filter fits everything whatever is stored: what makes it so, such as `filter.must[0]`; else ""."""
    # A list that excludes nobody (`NOT_IN []`) looks like a condition and is none.
    wide = [_fits_all(condition, f"{at}.must[{i}]") for i, condition in enumerate(filter.must)]
    wide += [_fits_none(condition, f"{at}.must_not[{i}]") for i, condition in enumerate(filter.must_not)]
    if not all(wide):
        return ""
    if filter.should:
        choices = (_fits_all(condition, f"{at}.should[{i}]") for i, condition in enumerate(filter.should))
        return next((choice for choice in choices if choice), "")
    return wide[0] if wide else at


def _fits_all(condition: Condition, at: str) -> str:
    match condition:
        case Filter():
            return unrestricted(condition, f"{at}.filter")
        case Compare(_, Operator.NOT_IN, []):
            return at
    return ""


def _fits_none(condition: Condition, at: str) -> str:
    match condition:
        case Filter(must, should, must_not):
            at += ".filter"
            parts = [_fits_none(part, f"{at}.must[{i}]") for i, part in enumerate(must)]
            parts += [_fits_all(part, f"{at}.must_not[{i}]") for i, part in enumerate(must_not)]
            choices = [_fits_none(choice, f"{at}.should[{i}]") for i, choice in enumerate(should)]
            if choices and all(choices):
                parts.append(choices[0])
            return next((part for part in parts if part), "")
        case Compare(_, Operator.IN, []) | Ids(()):
            return at
    return ""


def check_restricts(filter: Filter, done: str, remedy: str = "name a condition") -> None:
    """Raises InvalidArgument where everything would be `done` (deleted, changed), whatever is stored."""
    if at := unrestricted(filter):
        raise refused(at, f"restricts nothing, so everything would be {done}; {remedy}")


def keys_of(field: str, at: str) -> list[str]:
    """`author."file.name"` as its keys. Raises InvalidArgument."""
    if len(field) > _LONGEST_FIELD:
        raise refused(at, f"names a field of more than {_LONGEST_FIELD} characters")
    keys: list[str] = []
    position = 0
    while position <= len(field):
        part = _KEY.match(field, position)
        if part is None or (part.end() < len(field) and field[part.end()] != "."):
            raise _bad_field(field, at)
        try:
            key = json.loads(part[1], strict=False) if part[1] else part[2]
            key.encode()
        except ValueError:
            raise _bad_field(field, at) from None
        keys.append(key)
        position = part.end() + 1
    return keys


def _bad_field(field: str, at: str) -> InvalidArgument:
    return refused(
        at,
        f"names the field {quoted(field)}: keys with dots between, and a key with a dot, a quote or a backslash "
        "in it as a JSON string",
    )


def too_many(at: str) -> InvalidArgument:
    return refused(at, f"has one of more than {MOST} conditions")


def too_many_values(at: str) -> InvalidArgument:
    return refused(at, f"has one of more than {MOST_VALUES} values in lists")


def refused(at: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{at} {what}", reason="BAD_FILTER", field=at)
