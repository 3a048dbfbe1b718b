"""group_aggregate: one row for each group, with counts, sums and the like."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

from .aggregates import AGGREGATES, aggregated
from .algorithm import Algorithm, Options, Result
from .choice import CHOICE, chosen
from .sort import BY, ordered
from .table import COLUMN, Table
from .values import MISSING, keys


def run(table: Table, options: Options, most_rows: int) -> Result:
    by = options.get("by", [])
    names = [str(column) for column in by]
    columns = [table.values(column, f"options.by[{number}]") for number, column in enumerate(by)]
    # Without columns there is one group, of no rows too.
    group_of, groups = _groups(columns) if by else ([0] * len(table.rows), [()])
    rows = []
    aggregates = aggregated(table, group_of, len(groups), options.get("aggregates", [{"op": "count"}]), names)
    for values, reckoned in zip(groups, aggregates, strict=True):
        own = zip(names, values, strict=True)
        rows.append({name: value for name, value in own if value is not MISSING} | reckoned)
    result = Table(rows)
    if "sort" in options:
        rows = ordered(result, options["sort"], "options.sort")
    return Result(value=chosen(rows, result, options), facts={"groups": len(rows)})


def _groups(columns: list[list[Any]]) -> tuple[list[int], list[tuple[Any, ...]]]:
    """The number of each row's group, and the values of each group's first row: 1 stays 1 where 1.0 follows."""
    hashable = [keys(column) for column in columns]
    keys_of_rows: list[Hashable] = list(zip(*hashable, strict=True))
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys_of_rows))}
    group_of = list(map(number_of.__getitem__, keys_of_rows))
    if all(one is other for one, other in zip(hashable, columns, strict=True)):
        return group_of, cast(list[tuple[Any, ...]], list(number_of))  # a dictionary keeps the key that came first
    first: dict[int, tuple[Any, ...]] = {}
    for group, values in zip(group_of, zip(*columns, strict=True), strict=True):
        first.setdefault(group, values)
    return group_of, list(first.values())


ALGORITHM = Algorithm(
    name="group_aggregate",
    summary=(
        "One row for each group of rows that are equal in the columns `by` (none: one for all), in the order of their "
        'first rows. 1 and 1.0 are one group; 1, true, "1", null and a missing column are different ones. sum, mean, '
        "median and stdev want numbers; whole numbers are summed exactly at any size."
    ),
    example={"by": ["region"], "aggregates": [{"op": "sum", "column": "amount", "as": "total"}, {"op": "count"}]},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "by": {
                "type": "array",
                "items": COLUMN,
                "maxItems": 50,
                "description": "columns whose values make a group",
            },
            "aggregates": AGGREGATES,
            "sort": {**BY, "description": "columns of the result to sort it by"},
            "offset": CHOICE["offset"],
            "limit": CHOICE["limit"],
        },
        "additionalProperties": False,
    },
    run=run,
)
