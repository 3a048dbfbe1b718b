"""Numbers made of the rows of a group: count, sum, mean and so on. Null and what is missing count in none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from shared.errors import InvalidArgument, quoted

from . import arithmetic
from .table import COLUMN, Column, Table
from .values import NUMBERS, is_value, keys, kind_of, numbers


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[[list[Any], Column, str], Any]:
    def extreme(values: list[Any], column: Column, option: str) -> Any:
        values = [value for value in values if is_value(value)]
        kinds = set(map(type, values))
        if not (kinds <= NUMBERS or kinds <= {str} or kinds <= {bool}):
            held = " and ".join(sorted({kind_of(value) for value in values}))
            raise InvalidArgument(
                f"{option}: the column {quoted(str(column))} holds {held}, of which none is the least or the most: "
                "filter for one kind, or sort",
                reason="NOT_COMPARABLE",
                field=option,
            )
        return pick(values) if values else None

    return extreme


def _of_numbers(reckon: Callable[[list[Any], str], Any]) -> Callable[[list[Any], Column, str], Any]:
    return lambda values, column, option: reckon(numbers(values, column, option), option)


_OPS: dict[str, Callable[[list[Any], Column, str], Any]] = {
    "count": lambda values, column, option: sum(map(is_value, values)),
    "sum": _of_numbers(arithmetic.total),
    "mean": _of_numbers(arithmetic.mean),
    "median": _of_numbers(arithmetic.median),
    "stdev": _of_numbers(arithmetic.deviation),
    "min": _extreme(min),
    "max": _extreme(max),
    "distinct": lambda values, column, option: len(set(keys([value for value in values if is_value(value)]))),
    "first": lambda values, column, option: next(filter(is_value, values), None),
    "last": lambda values, column, option: next(filter(is_value, reversed(values)), None),
}

AGGREGATES: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 100,
    "description": "what to reckon for each group; count without a column counts rows",
    "items": {
        "type": "object",
        "properties": {
            "op": {"type": "string", "enum": list(_OPS)},
            "column": COLUMN,
            "as": {"type": "string", "description": "name in the result; OP_COLUMN when left out"},
        },
        "required": ["op"],
        "additionalProperties": False,
    },
}


def aggregated(
    table: Table, group_of: list[int], count: int, wanted: list[dict[str, Any]], taken: list[str]
) -> list[dict[str, Any]]:
    """For each of `count` groups what is `wanted`, of the form AGGREGATES, by name. `group_of` is the number of each
    row's group; `taken` are the names that the result has already.
    """
    results: list[dict[str, Any]] = [{} for _ in range(count)]
    values_of: dict[Column, list[list[Any]]] = {}
    names = set(taken)
    for number, aggregate in enumerate(wanted):
        option, op = f"options.aggregates[{number}]", aggregate["op"]
        column = aggregate.get("column")
        name = aggregate.get("as", op if column is None else f"{op}_{column}")
        if name in names:
            raise InvalidArgument(
                f"{option}.as: the result has a column {quoted(name)} already: give another name",
                reason="NAME_TAKEN",
                field=f"{option}.as",
            )
        names.add(name)
        if column is None and op != "count":
            raise InvalidArgument(
                f"{option}.column is required: {op} is of a column", reason="BAD_ARGUMENTS", field=f"{option}.column"
            )
        if column is None:
            counts = Counter(group_of)
            for group, result in enumerate(results):
                result[name] = counts[group]
            continue
        if column not in values_of:
            values_of[column] = _by_group(table.values(column, f"{option}.column"), group_of, count)
        for result, values in zip(results, values_of[column], strict=True):
            result[name] = _OPS[op](values, column, option)
    return results


def _by_group(values: list[Any], group_of: list[int], count: int) -> list[list[Any]]:
    by_group: list[list[Any]] = [[] for _ in range(count)]
    for group, value in zip(group_of, values, strict=True):
        by_group[group].append(value)
    return by_group
