"""Filters on metadata and ids, and how PostgreSQL answers them.

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
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from shared.errors import InvalidArgument, quoted

_DEEPEST = 6
# Of one filter, all its levels together: conditions; values in lists; ids; characters in lists, and elsewhere but ids.
MOST = 1000
MOST_VALUES = 100_000
MOST_IDS = 100_000
MOST_LIST_TEXT = 4 * 2**20
MOST_TEXT = 2**20
_LONGEST_FIELD = 1000
_FEW = 32  # values of a list that the index on metadata is asked for one by one
_GROUP = 40
_PART = re.compile(r'("(?:[^"\\\0]|\\[^\0])*+")|([^."\\\0]+)')


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


@dataclass(frozen=True)
class Where:
    """An SQL expression over the columns of an items table, always true or false, with its parameters."""

    sql: str = "TRUE"
    values: tuple[object, ...] = ()


def unrestricted(filter: Filter, at: str = "filter") -> str:
    """Where the filter fits everything whatever is stored: what makes it so, such as `filter.must[0]`; else ""."""
    # A list that excludes nobody (`NOT_IN []`) looks like a condition and is none.
    wide = [_fits_all(one, f"{at}.must[{i}]") for i, one in enumerate(filter.must)]
    wide += [_fits_none(one, f"{at}.must_not[{i}]") for i, one in enumerate(filter.must_not)]
    if not all(wide):
        return ""
    if filter.should:
        choices = (_fits_all(one, f"{at}.should[{i}]") for i, one in enumerate(filter.should))
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
            parts = [_fits_none(one, f"{at}.must[{i}]") for i, one in enumerate(must)]
            parts += [_fits_all(one, f"{at}.must_not[{i}]") for i, one in enumerate(must_not)]
            choices = [_fits_none(one, f"{at}.should[{i}]") for i, one in enumerate(should)]
            if choices and all(choices):
                parts.append(choices[0])
            return next((part for part in parts if part), "")
        case Compare(_, Operator.IN, []) | Ids(()):
            return at
    return ""


def where(filter: Filter | None) -> Where:
    """Raises InvalidArgument, naming the condition at fault as `filter.must[0]`."""
    if filter is None:
        return Where()
    writer = _Writer()
    return Where(writer.filter(filter, "filter", 1), tuple(writer.values))


class _Writer:
    def __init__(self) -> None:
        self.values: list[object] = []
        self._count = 0

    def filter(self, filter: Filter, at: str, depth: int) -> str:
        if depth > _DEEPEST:
            raise refused(at, f"is nested more than {_DEEPEST} levels deep")
        parts = [self._condition(one, f"{at}.must[{i}]", depth) for i, one in enumerate(filter.must)]
        if filter.should:
            parts.append(
                _joined("OR", [self._condition(one, f"{at}.should[{i}]", depth) for i, one in enumerate(filter.should)])
            )
        parts += [
            f"(NOT {self._condition(one, f'{at}.must_not[{i}]', depth)})" for i, one in enumerate(filter.must_not)
        ]
        return _joined("AND", parts) if parts else "TRUE"

    def _condition(self, condition: Condition, at: str, depth: int) -> str:
        self._count += 1
        if self._count > MOST:
            raise too_many(at)
        match condition:
            case Filter():
                return self.filter(condition, at, depth + 1)
            case Ids(ids):
                self.values.append([one for one in ids if "\0" not in one])  # such ids do not exist
                return "(id = ANY(%s::text[]))"
            case Exists(field):
                return f"({self._member(_keys(field, at))} IS NOT NULL)"
            case Compare():
                return self._compare(condition, at)

    def _compare(self, compare: Compare, at: str) -> str:
        keys, value = _keys(compare.field, at), compare.value
        match compare.operator:
            case Operator.EQ:
                return self._equal(keys, value, at)
            case Operator.NE:
                return f"(NOT {self._equal(keys, value, at)})"
            case Operator.IN | Operator.NOT_IN as operator:
                if not isinstance(value, list):
                    raise refused(at, "needs a list of values")
                one_of = self._one_of(keys, value, at)
                return one_of if operator is Operator.IN else f"(NOT {one_of})"
            case Operator.CONTAINS:
                _scalar(value, at, "looks for")
                held = self._equal(keys, [value], at)
                return (
                    f"({held} OR {self._text(keys, 'strpos({}, %s) > 0', value)})" if isinstance(value, str) else held
                )
            case Operator.PREFIX:
                if not isinstance(value, str):
                    raise refused(at, "needs a string to begin with")
                _scalar(value, at, "begins with")
                return self._text(keys, "starts_with({}, %s)", value)
            case operator:
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise refused(at, "needs a number or a string to compare with")
                text = _scalar(value, at, "compares with")
                if isinstance(value, str):
                    return self._text(keys, f'{{}} COLLATE "C" {operator.value} %s', value)
                typed, member = self._member(keys), self._member(keys)
                self.values.append(text)
                return f"coalesce(jsonb_typeof({typed}) = 'number' AND {member} {operator.value} %s::jsonb, FALSE)"

    def _equal(self, keys: Sequence[str], value: Any, at: str) -> str:
        """Also, for a list of one value, whether there is a list that holds it. The index on metadata answers it."""
        values = value if isinstance(value, list) and len(value) == 1 else [value]
        _scalar(values[0], at, "compares with")
        for key in reversed(keys):
            value = {key: value}
        self.values.append(json.dumps(value))
        return "(metadata @> %s::jsonb)"

    def _one_of(self, keys: Sequence[str], values: Sequence[Any], at: str) -> str:
        if len(values) <= _FEW:
            return _joined("OR", [self._equal(keys, value, at) for value in values]) if values else "FALSE"
        texts = [_scalar(value, at, "compares with") for value in values]
        member = self._member(keys)
        self.values.append(texts)
        return f"coalesce({member} = ANY(%s::jsonb[]), FALSE)"

    def _text(self, keys: Sequence[str], test: str, value: str) -> str:
        """The test of a member that is a string; `{}` in it stands for the string, %s for the value."""
        typed, member = self._member(keys), self._member(keys)
        self.values.append(value)
        return f"coalesce(jsonb_typeof({typed}) = 'string' AND {test.format(f'({member} #>> ARRAY[]::text[])')}, FALSE)"

    def _member(self, keys: Sequence[str]) -> str:
        self.values += keys
        return f"(metadata{' -> %s::text' * len(keys)})"


def _keys(field: str, at: str) -> list[str]:
    """`author."file.name"` as its keys."""
    if len(field) > _LONGEST_FIELD:
        raise refused(at, f"names a field of more than {_LONGEST_FIELD} characters")
    keys: list[str] = []
    position = 0
    while position <= len(field):
        part = _PART.match(field, position)
        if part is None or (part.end() < len(field) and field[part.end()] != "."):
            raise _bad_field(field, at)
        try:
            key = json.loads(part[1], strict=False) if part[1] else part[2]
            key.encode()
        except ValueError:
            raise _bad_field(field, at) from None
        if "\0" in key:
            raise _bad_field(field, at)
        keys.append(key)
        position = part.end() + 1
    return keys


def _bad_field(field: str, at: str) -> InvalidArgument:
    return refused(
        at,
        f"names the field {quoted(field)}: keys with dots between, and a key with a dot, a quote or a backslash "
        "in it as a JSON string, without NUL",
    )


def _scalar(value: Any, at: str, does: str) -> str:
    """The value as JSON. Raises InvalidArgument where it is none that can be compared."""
    if not (value is None or isinstance(value, str | int | float)):
        raise refused(at, f"{does} a string, number, boolean or null only")
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(at, f"{does} a number that is not finite")
    if isinstance(value, str) and "\0" in value:
        raise refused(at, f"{does} a text with a NUL character, which PostgreSQL cannot hold; leave it out")
    return json.dumps(value)


def _joined(word: str, parts: Sequence[str]) -> str:
    """The parts in groups, so that no chain of expressions grows deep."""
    if len(parts) > _GROUP:
        parts = [_joined(word, parts[start : start + _GROUP]) for start in range(0, len(parts), _GROUP)]
    return "(" + f" {word} ".join(parts) + ")"


def too_many(at: str) -> InvalidArgument:
    return refused(at, f"has one of more than {MOST} conditions")


def too_many_values(at: str) -> InvalidArgument:
    return refused(at, f"has one of more than {MOST_VALUES} values in lists")


def refused(at: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{at} {what}", reason="BAD_FILTER", field=at)
