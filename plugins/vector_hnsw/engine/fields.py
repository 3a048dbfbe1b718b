"""Indexes of fields in metadata, so that a filter which asks for a value or a range need not look at every item.

A field gets one after a few filters have asked for it where there are many items, and SQLite keeps it up with what is
written. It holds value, label and type, all that such a filter is about, so that the items themselves are not read.
Without it everything is answered the same, slower: it can be dropped at any time, and is where a damaged item is in its
way.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.vectors.filters import Compare, Filter, Operator

from .database import Database
from .filters import Where, finite, path_of

_log = logging.getLogger("hector")

_LEAST_ITEMS = 5000  # below, a scan is quick
_SCANS = 3  # of a field, before it is worth an index
_MOST_FIELDS = 8  # of one collection: each costs time in every write
_MOST_COUNTED = 10_000  # fields whose scans are counted: callers may name any
_LONGEST = 100  # characters of a value, on average: texts that nobody compares as a whole would double the store
_SHARE = 4  # with other conditions, an index is used where it leaves one in so many
_MOST_VALUES = 100
_RANGES = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)


@dataclass(frozen=True)
class Range:
    """What a filter demands of one field, as an SQL expression that its index answers. `is_all`: it demands no more."""

    path: str
    sql: str
    values: tuple[object, ...]
    is_all: bool


def ranges_of(filter: Filter) -> list[Range]:
    """One for each field of which the filter demands a value, one of a few, or a range."""
    by_path: dict[str, list[_Part]] = {}
    others = 0
    for compare in _demanded(filter):
        path = path_of(compare.field) if compare else None
        part = _part(compare, path) if compare and path else None
        if path and part:
            by_path.setdefault(path, []).append(part)
        else:
            others += 1
    return [_joined(path, parts, is_all=len(by_path) == 1 and not others) for path, parts in by_path.items()]


class FieldIndexes:
    """Of all collections. Any thread may ask; the one that writes makes and drops."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._paths: dict[int, set[str]] = {}  # by collection: what has an index
        self._scans: Counter[tuple[int, str]] = Counter()
        # Called with a collection and the path of a field that is worth an index.
        self.on_wanted: Callable[[int, str], None] = lambda _number, _path: None

    def condition(self, number: int, where: Where) -> tuple[str, tuple[object, ...]]:
        """What fits, as an SQL expression with its values: answered by an index where there is one and it helps."""
        ranges = ranges_of(where.filter) if where.filter else []
        there = self.of(number) if ranges else set()
        indexed = [demanded for demanded in ranges if demanded.path in there]
        for demanded in indexed:
            if demanded.is_all:
                return demanded.sql, demanded.values
        if ranges:
            last = self._last_row(number)
            counted = [(self._count(number, demanded, last // _SHARE), demanded) for demanded in indexed]
            if counted:
                count, best = min(counted, key=lambda pair: pair[0])
                if count < last // _SHARE:
                    return f"{best.sql} AND {where.sql}", (*best.values, *where.values)
            if last >= _LEAST_ITEMS:
                self._note(number, [demanded.path for demanded in ranges if demanded.path not in there])
        return where.sql, where.values

    def of(self, number: int) -> set[str]:
        """Paths of the fields that have an index."""
        paths = self._paths.get(number)  # once: `forget` may come in between
        if paths is None:
            prefix = _name(number, "")
            query = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?"
            names = [name for (name,) in self._database.rows(query, f"items_{number}") if name.startswith(prefix)]
            there = {bytes.fromhex(name.removeprefix(prefix)).decode() for name in names}
            return self._paths.setdefault(number, there)  # one that was made meanwhile is known already
        return paths

    def create(self, number: int, path: str) -> None:
        """Makes the index, unless there are many already or the values are long. Not while a write is under way."""
        if path in self.of(number) or len(self.of(number)) >= _MOST_FIELDS:
            return
        value, kind = _expressions(path)
        began = time.monotonic()
        ((length,),) = self._database.rows(f"SELECT avg(length({value})) FROM items_{number}")
        if (length or 0) > _LONGEST:
            return
        with self._database.transaction() as transaction:
            transaction.execute(f"CREATE INDEX {_name(number, path)} ON items_{number} ({value}, label, {kind})")
        self._paths[number] = self.of(number) | {path}
        _log.info("event=field_indexed collection=%d field=%r seconds=%.1f", number, path, time.monotonic() - began)

    def drop_all(self) -> bool:
        """Of every collection. False where there are none. Not while a write is under way."""
        names = self._database.rows(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB 'items_*_field_*'"
        )
        if names:
            with self._database.transaction() as transaction:
                for (name,) in names:
                    transaction.execute(f"DROP INDEX {name}")
            self._paths.clear()
            self._scans.clear()
        return bool(names)

    def forget(self) -> None:
        """Looks anew for indexes: somebody else makes and drops them."""
        self._paths.clear()

    def _note(self, number: int, paths: list[str]) -> None:
        for path in paths:
            if len(self._scans) >= _MOST_COUNTED:
                self._scans.clear()
            self._scans[number, path] += 1
            if self._scans[number, path] == _SCANS:
                self.on_wanted(number, path)

    def _last_row(self, number: int) -> int:
        """About how many items there are, or more, if many were deleted; at once."""
        ((last,),) = self._database.rows(f"SELECT coalesce(max(row), 0) FROM items_{number}")
        return int(last)

    def _count(self, number: int, demanded: Range, most: int) -> int:
        query = f"SELECT count(*) FROM (SELECT 1 FROM items_{number} WHERE {demanded.sql} LIMIT {most})"
        return int(self._database.rows(query, *demanded.values)[0][0])


def _demanded(filter: Filter) -> Iterator[Compare | None]:
    """Each comparison that must hold; None for anything else."""
    for condition in filter.must:
        match condition:
            case Filter():
                yield from _demanded(condition)
            case Compare():
                yield condition
            case _:
                yield None
    if filter.should or filter.must_not:
        yield None


@dataclass(frozen=True)
class _Part:
    """One comparison as filters.py has it. `bounds`: at which ends, < or >; `ends`: where values of its kind do."""

    sql: str
    values: tuple[object, ...]
    bounds: str
    ends: dict[str, str]


def _part(compare: Compare, path: str) -> _Part | None:
    """None where an index is no help."""
    value, kind = _expressions(path)
    several = compare.value if compare.operator is Operator.IN else [compare.value]
    if not isinstance(several, list) or not 0 < len(several) <= _MOST_VALUES:
        return None
    is_text = isinstance(several[0], str)
    for each in several:
        if isinstance(each, bool) or not isinstance(each, str | int | float) or isinstance(each, str) is not is_text:
            return None
    values = tuple(finite(each, "filter") for each in several)
    kinds = f"{kind} IS 'text'" if is_text else f"{kind} IN ('integer', 'real')"
    # SQLite orders numbers before texts.
    ends = {">": f"{value} >= ''"} if is_text else {"<": f"{value} < ''"}
    if compare.operator in (Operator.EQ, Operator.IN):
        return _Part(f"{kinds} AND {value} IN ({','.join('?' * len(values))})", values, "<>", ends)
    if compare.operator in _RANGES:
        return _Part(f"{kinds} AND {value} {compare.operator.value} ?", values, compare.operator.value[0], ends)
    return None


def _joined(path: str, parts: list[_Part], is_all: bool) -> Range:
    sql = [part.sql for part in parts]
    bounds = "".join(part.bounds for part in parts)
    # Of two bounds at one end SQLite would look up either, so there is one.
    sql += {end for part in parts for bound, end in part.ends.items() if bound not in bounds}
    return Range(path, " AND ".join(sql), tuple(value for part in parts for value in part.values), is_all)


def _expressions(path: str) -> tuple[str, str]:
    """Value and type of the field; an index is used only for expressions that are written as in it."""
    literal = "'" + path.replace("'", "''") + "'"
    return f"json_extract(metadata, {literal})", f"json_type(metadata, {literal})"


def _name(number: int, path: str) -> str:
    return f"items_{number}_field_{path.encode().hex()}"
