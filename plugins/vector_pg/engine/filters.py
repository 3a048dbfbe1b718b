"""Filters as PostgreSQL answers them; what they are is `shared/vectors/filters.py`'s."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import quoted
from shared.vectors import filters
from shared.vectors.filters import DEEPEST, MOST, Compare, Condition, Exists, Filter, Ids, Operator, refused, too_many

from . import wire

_FEW = 32  # values of a list that the index on metadata is asked for one by one
_GROUP = 40
_SMALL = 500  # conditions, ids or values of a list
_MOST_VALUES = 60_000  # keys of fields and values that are sent one by one: a statement takes 65,535 of them


@dataclass(frozen=True)
class Where:
    """An SQL expression over the columns of an items table, always true or false, with its parameters."""

    sql: str = "TRUE"
    values: tuple[object, ...] = ()


def is_large(filter: Filter | None) -> bool:
    """Whether `where` may take long."""
    if filter is None:
        return False
    conditions = [*filter.must, *filter.should, *filter.must_not]
    return len(conditions) > _SMALL or any(
        is_large(one)
        if isinstance(one, Filter)
        else len(one.ids) > _SMALL
        if isinstance(one, Ids)
        else isinstance(one, Compare) and isinstance(one.value, list) and len(one.value) > _SMALL
        for one in conditions
    )


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
        if depth > DEEPEST:
            raise refused(at, f"is nested more than {DEEPEST} levels deep")
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
        if len(self.values) > _MOST_VALUES:
            raise refused(at, f"has one of more than {_MOST_VALUES} keys of fields and values; ask for less at once")
        match condition:
            case Filter():
                return self.filter(condition, at, depth + 1)
            case Ids(ids):
                self.values.append(wire.texts(one for one in ids if "\0" not in one))  # such ids do not exist
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
                held = self._holds(keys, [value])
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
        _scalar(value, at, "compares with")
        return self._holds(keys, value)

    def _holds(self, keys: Sequence[str], value: Any) -> str:
        """That it is there or, of a list, that one with all of its values is. The index on metadata answers it."""
        for key in reversed(keys):
            value = {key: value}
        self.values.append(json.dumps(value))
        return "(metadata @> %s::jsonb)"

    def _one_of(self, keys: Sequence[str], values: Sequence[Any], at: str) -> str:
        if len(values) <= _FEW:
            return _joined("OR", [self._equal(keys, value, at) for value in values]) if values else "FALSE"
        texts = [_scalar(value, at, "compares with") for value in values]
        member = self._member(keys)
        self.values.append(wire.jsons(texts))
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
    keys = filters.keys_of(field, at)
    if any("\0" in key for key in keys):
        raise refused(at, f"names the field {quoted(field)}, with a NUL character, which PostgreSQL cannot hold")
    return keys


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
