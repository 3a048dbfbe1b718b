"""Filters as SQLite answers them; what they are is `shared/vectors/filters.py`'s.

SQLite ends a stored text at a NUL character: what is behind it is not looked at, and a value that has one equals
nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.vectors.filters import (
    DEEPEST,
    MOST,
    MOST_IDS,
    MOST_VALUES,
    Compare,
    Condition,
    Exists,
    Filter,
    Ids,
    Operator,
    keys_of,
    refused,
    too_many,
    too_many_values,
)

_GROUP = 40


@dataclass(frozen=True)
class Where:
    """A filter as an SQL expression over the columns of an items table, always true or false, with its values."""

    sql: str
    values: tuple[object, ...]
    filter: Filter | None = field(default=None, compare=False)  # what it was made of


def where(filter: Filter) -> Where:
    """Raises InvalidArgument, naming the condition at fault as `filter.must[0]`."""
    writer = _Writer()
    return Where(writer.filter(filter, "filter", 1), tuple(writer.values), filter)


def path_of(field: str) -> str | None:
    """The field as a path of SQLite's JSON functions; None where there is none to it. Raises InvalidArgument."""
    writer = _Writer()
    return str(writer.values[0]) if writer._source(field, "filter") == "metadata, ?" else None


class _Writer:
    def __init__(self) -> None:
        self.values: list[object] = []
        self._count = 0
        self._list_values = 0
        self._ids = 0

    def filter(self, filter: Filter, at: str, depth: int) -> str:
        if depth > DEEPEST:
            raise refused(at, f"is nested more than {DEEPEST} levels deep")
        parts = [self._condition(condition, f"{at}.must[{i}]", depth) for i, condition in enumerate(filter.must)]
        if filter.should:
            parts.append(
                _joined(
                    "OR",
                    [
                        self._condition(condition, f"{at}.should[{i}]", depth)
                        for i, condition in enumerate(filter.should)
                    ],
                )
            )
        parts += [
            f"(NOT {self._condition(condition, f'{at}.must_not[{i}]', depth)})"
            for i, condition in enumerate(filter.must_not)
        ]
        return _joined("AND", parts) if parts else "(1)"

    def _condition(self, condition: Condition, at: str, depth: int) -> str:
        self._add(1, at)
        match condition:
            case Filter():
                return self.filter(condition, at, depth + 1)
            case Ids(ids):
                self._ids += len(ids)
                if self._ids > MOST_IDS:
                    raise refused(at, f"has one of more than {MOST_IDS} ids")
                # SQLite's JSON ends a text at its first NUL, so those go by themselves.
                strange = [name for name in ids if "\0" in name]
                self._add(len(strange), at)
                self.values += [_json_list([name for name in ids if "\0" not in name]), *strange]
                return f"(id IN (SELECT value FROM json_each(?)) OR id IN ({','.join('?' * len(strange))}))"
            case Exists(field):
                return f"({self._typed(field, at)} IS NOT NULL)"
            case Compare():
                return self._compare(condition, at)

    def _compare(self, compare: Compare, at: str) -> str:
        field, value = compare.field, compare.value
        match compare.operator:
            case Operator.EQ:
                return self._equal(field, value, at)
            case Operator.NE:
                return f"(NOT {self._equal(field, value, at)})"
            case Operator.IN | Operator.NOT_IN as operator:
                if not isinstance(value, list):
                    raise refused(at, "needs a list of values")
                one_of = self._one_of(field, value, at)
                return one_of if operator is Operator.IN else f"(NOT {one_of})"
            case Operator.CONTAINS:
                return self._contains(field, value, at)
            case Operator.PREFIX:
                if not isinstance(value, str):
                    raise refused(at, "needs a string to begin with")
                typed, source = self._typed(field, at), self._source(field, at)
                self.values += [value, value]
                return f"({typed} IS 'text' AND substr(json_extract({source}), 1, length(?)) = ?)"
            case Operator.GT | Operator.GTE | Operator.LT | Operator.LTE as operator:
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise refused(at, "needs a number or a string to compare with")
                kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
                typed, source = self._typed(field, at), self._source(field, at)
                self.values.append(finite(value, at))
                return f"(coalesce({typed} IN {kinds}, 0) AND json_extract({source}) {operator.value} ?)"

    def _equal(self, field: str, value: Any, at: str) -> str:
        typed = self._typed(field, at)
        if value is None or isinstance(value, bool):
            return f"({typed} IS '{json.dumps(value)}')"
        if not isinstance(value, str | int | float):
            raise refused(at, "compares with a string, number, boolean or null")
        kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
        source = self._source(field, at)
        self.values.append(finite(value, at))
        return f"(coalesce({typed} IN {kinds}, 0) AND json_extract({source}) = ?)"

    def _one_of(self, field: str, values: Sequence[Any], at: str) -> str:
        """Of however many values SQLite makes an index, so that an item costs one look and not one for each of them."""
        self._list_values += len(values)
        if self._list_values > MOST_VALUES:
            raise too_many_values(at)
        literals: set[str] = set()
        lists: dict[str, list[str | float]] = {"('text')": [], "('integer', 'real')": []}
        for value in values:
            if value is None or isinstance(value, bool):
                literals.add(f"'{json.dumps(value)}'")
            elif isinstance(value, str):
                if "\0" not in value:  # as under EQ, nothing that is stored equals it
                    lists["('text')"].append(value)
            elif isinstance(value, int | float):
                lists["('integer', 'real')"].append(finite(value, at))
            else:
                raise refused(at, "compares with strings, numbers, booleans or null")
        parts = [f"coalesce({self._typed(field, at)} IN ({', '.join(sorted(literals))}), 0)"] if literals else []
        for kinds, some in lists.items():
            if some:
                typed, source = self._typed(field, at), self._source(field, at)
                self.values.append(_json_list(some))
                among = f"json_extract({source}) IN (SELECT value FROM json_each(?))"
                parts.append(f"(coalesce({typed} IN {kinds}, 0) AND {among})")
        return _joined("OR", parts) if parts else "(0)"

    def _contains(self, field: str, value: Any, at: str) -> str:
        typed, source = self._typed(field, at), self._source(field, at)
        if value is None or isinstance(value, bool):
            element = f"type = '{json.dumps(value)}'"
        elif isinstance(value, str | int | float):
            kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
            element = f"type IN {kinds} AND atom = ?"
            self.values.append(finite(value, at))
        else:
            raise refused(at, "looks for a string, number, boolean or null")
        sql = f"({typed} IS 'array' AND EXISTS (SELECT 1 FROM json_each({source}) WHERE {element}))"
        if isinstance(value, str):
            typed, source = self._typed(field, at), self._source(field, at)
            sql = f"({sql} OR ({typed} IS 'text' AND instr(json_extract({source}), ?) > 0))"
            self.values.append(value)
        return sql

    def _add(self, more: int, at: str) -> None:
        self._count += more
        if self._count > MOST:
            raise too_many(at)

    def _typed(self, field: str, at: str) -> str:
        return f"json_type({self._source(field, at)})"

    def _source(self, field: str, at: str) -> str:
        """Where SQLite's JSON functions find the field: their first two arguments."""
        keys = keys_of(field, at)
        if any('"' in key for key in keys):  # SQLite has no path to such a key
            self.values.append(json.dumps(keys))
            return "json_member(metadata, ?), '$'"
        self.values.append("$" + "".join("." + json.dumps(key, ensure_ascii=False) for key in keys))
        return "metadata, ?"


def member(metadata: str, keys: str) -> str | None:
    """For SQLite, as `json_member`: the JSON of what stands under these keys, one in the other; None for nothing."""
    value = json.loads(metadata)
    for key in json.loads(keys):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return json.dumps(value, ensure_ascii=False)


def _joined(word: str, parts: Sequence[str]) -> str:
    """The parts in groups: SQLite takes expressions of a thousand parts, but not a chain of as many."""
    if len(parts) > _GROUP:
        parts = [_joined(word, parts[start : start + _GROUP]) for start in range(0, len(parts), _GROUP)]
    return "(" + f" {word} ".join(parts) + ")"


def finite(value: str | float, at: str) -> str | float:
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(at, "compares with a number that is not finite")
    # SQLite's integers end at 64 bits; beyond, both sides are doubles.
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _json_list(values: Sequence[str | float]) -> str:
    # Not at once: `json` would let nobody else run until all are written.
    parts = [json.dumps(values[start : start + 1000])[1:-1] for start in range(0, len(values), 1000)]
    return f"[{','.join(parts)}]"
