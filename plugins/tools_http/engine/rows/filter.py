"""filter: the rows for which a condition holds. A condition is data and is never evaluated as code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.errors import InvalidArgument, quoted

from .algorithm import Algorithm, Options, Result
from .choice import CHOICE, chosen
from .options import nearest
from .patterns import matcher
from .table import Table
from .values import MISSING, NUMBERS, is_value, key, keys, kind_of

Hits = list[bool]  # for each row whether the condition holds

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: bool(value > bound),
    "ge": lambda value, bound: bool(value >= bound),
    "lt": lambda value, bound: bool(value < bound),
    "le": lambda value, bound: bool(value <= bound),
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda value, part: part in value,
    "starts_with": lambda value, part: value.startswith(part),
    "ends_with": lambda value, part: value.endswith(part),
}
_ALONE: dict[str, Callable[[Any], bool]] = {
    "is_null": lambda value: value is None,
    "is_missing": lambda value: value is MISSING,
    "has_value": is_value,
}
_OPS = ["eq", "ne", *_ORDER, "in", "not_in", *_TEXT, "matches", *_ALONE]
_COMBINED = ("and", "or", "not")
_MOST_CONDITIONS = 200
_DEEPEST = 20


def run(table: Table, options: Options, most_rows: int) -> Result:
    hits = _Conditions(table).hits(options["where"], "options.where", 0)
    rows = [row for row, hit in zip(table.rows, hits, strict=True) if hit]
    return Result(value=chosen(rows, table, options), facts={"matching_rows": len(rows)})


class _Conditions:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._count = 0

    def hits(self, condition: Any, where: str, depth: int) -> Hits:
        self._count += 1
        if self._count > _MOST_CONDITIONS or depth > _DEEPEST:
            raise _wrong(
                f"{where}: more than {_MOST_CONDITIONS} conditions, or deeper than {_DEEPEST}: use `in`", where
            )
        if not isinstance(condition, dict):
            raise _wrong(f"{where} is {kind_of(condition)}, and a condition is an object{_FORMS}", where)
        combined = [name for name in _COMBINED if name in condition]
        if not combined:
            return self._compared(condition, where)
        if len(condition) > 1:
            raise _wrong(
                f"{where} holds {quoted(combined[0])} and more: put each condition in an object of its own", where
            )
        name, inner = combined[0], condition[combined[0]]
        if name == "not":
            return [not hit for hit in self.hits(inner, f"{where}.not", depth + 1)]
        if not isinstance(inner, list) or not inner:
            raise _wrong(f"{where}.{name} is {kind_of(inner)}, and it is an array of conditions", f"{where}.{name}")
        lists = [self.hits(each, f"{where}.{name}[{number}]", depth + 1) for number, each in enumerate(inner)]
        every = all if name == "and" else any
        return [every(hits) for hits in zip(*lists, strict=True)]

    def _compared(self, condition: dict[str, Any], where: str) -> Hits:
        for name in condition:
            if name not in ("column", "op", "value"):
                raise _wrong(
                    f"{where} knows no {quoted(name)}{nearest(name, ['column', 'op', 'value', *_COMBINED])}", where
                )
        column, op = condition.get("column"), condition.get("op", "eq")
        if not isinstance(column, str | int) or isinstance(column, bool):
            raise _wrong(f"{where}.column is required and is a column's name{_FORMS}", f"{where}.column")
        if op not in _OPS:
            shown = op if isinstance(op, str) else kind_of(op)
            raise _wrong(f"{where}.op is {quoted(shown)}, which it cannot be{nearest(shown, _OPS)}", f"{where}.op")
        if ("value" in condition) == (op in _ALONE):
            problem = "takes no value" if op in _ALONE else "needs a value"
            raise _wrong(f"{where}.value: {op} {problem}", f"{where}.value")
        values = self._table.values(column, f"{where}.column")
        return self._hits_of(op, values, condition.get("value"), column, where)

    def _hits_of(self, op: str, values: list[Any], value: Any, column: str | int, where: str) -> Hits:
        if op in _ALONE:
            return [_ALONE[op](each) for each in values]
        if op in ("eq", "ne"):
            wanted = key(value)
            return [(each == wanted) is (op == "eq") for each in keys(values)]
        if op in ("in", "not_in"):
            if not isinstance(value, list):
                raise _wrong(f"{where}.value is {kind_of(value)}, and {op} needs an array", f"{where}.value")
            among = set(map(key, value))
            return [(each in among) is (op == "in") for each in keys(values)]
        if op == "contains" and any(type(each) is list for each in values):
            wanted = key(value)
            texts = type(value) is str
            return [
                wanted in keys(each) if type(each) is list else texts and type(each) is str and value in each
                for each in values
            ]
        if op in _ORDER:
            return self._in_order(op, values, value, column, where)
        if not isinstance(value, str):
            raise _wrong(f"{where}.value is {kind_of(value)}, and {op} needs a text", f"{where}.value")
        compare = matcher(value, f"{where}.value") if op == "matches" else _with(_TEXT[op], value)
        return [type(each) is str and compare(each) for each in values]

    def _in_order(self, op: str, values: list[Any], value: Any, column: str | int, where: str) -> Hits:
        """Only numbers compare with a number, and texts with a text: a row with anything else does not match."""
        kinds = NUMBERS if type(value) in NUMBERS else {type(value)}
        if not kinds <= NUMBERS | {str}:
            raise _wrong(f"{where}.value is {kind_of(value)}, and {op} needs a number or a text", f"{where}.value")
        others = next((each for each in values if is_value(each) and type(each) not in kinds), None)
        if others is not None and not any(type(each) in kinds for each in values):
            raise _wrong(
                f"{where}.value is {kind_of(value)}, and the column {quoted(str(column))} holds {kind_of(others)}: "
                "write the value as the column has it",
                f"{where}.value",
            )
        compare = _ORDER[op]
        return [type(each) in kinds and compare(each, value) for each in values]


def _with(compare: Callable[[str, str], bool], part: str) -> Callable[[str], bool]:
    return lambda value: compare(value, part)


def _wrong(message: str, field: str) -> InvalidArgument:
    return InvalidArgument(message, reason="BAD_ARGUMENTS", field=field)


_FORMS = (
    ', such as {"column": "amount", "op": "ge", "value": 100}, {"and": [CONDITION, …]}, {"or": [CONDITION, …]} '
    'or {"not": CONDITION}'
)

ALGORITHM = Algorithm(
    name="filter",
    summary=(
        'Rows for which a condition holds. where is {"column", "op", "value"}, {"and": [...]}, {"or": [...]} or '
        f'{{"not": {{...}}}}; op is one of {", ".join(_OPS)}. gt, ge, lt and le compare numbers with numbers and texts '
        "with texts, by code point; ne and not_in hold for rows that lack the column; matches is a regular expression "
        "without look-around and back references."
    ),
    example={
        "where": {
            "and": [
                {"column": "amount", "op": "ge", "value": 100},
                {"column": "region", "op": "in", "value": ["EU", "US"]},
            ]
        }
    },
    takes="rows",
    options={
        "type": "object",
        "properties": {"where": {"type": "object", "description": "the condition"}, **CHOICE},
        "required": ["where"],
        "additionalProperties": False,
    },
    run=run,
)
