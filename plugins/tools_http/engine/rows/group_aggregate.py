"""group_aggregate: one row for each group, with counts, sums and the like."""

from __future__ import annotations

from collections.abc import Hashable

from .aggregates import AGGREGATES, aggregated
from .algorithm import Algorithm, Options, Result
from .choice import CHOICE, chosen
from .sort import BY, ordered
from .table import COLUMN, Table
from .values import MISSING, keys


def run(table: Table, options: Options, most_rows: int) -> Result:
    by = options.get("by", [])
    columns = [table.values(column, f"options.by[{number}]") for number, column in enumerate(by)]
    group_of: list[Hashable]
    if len(columns) == 1:
        group_of = keys(columns[0])
    elif columns:
        group_of = list(zip(*map(keys, columns), strict=True))
    else:
        group_of = [()] * len(table.rows)
    groups: list[Hashable] = list(dict.fromkeys(group_of)) if by else [()]
    # As its first row has it, so that 1 stays 1 where 1.0 follows.
    first = dict(zip(reversed(group_of), reversed(range(len(group_of))), strict=True))
    names = list(dict.fromkeys(map(str, by)))
    results = aggregated(table, group_of, groups, options.get("aggregates", [{"op": "count"}]), names)
    rows = []
    for group, aggregates in results.items():
        found = {name: column[first[group]] for name, column in zip(map(str, by), columns, strict=True)}
        rows.append({name: value for name, value in found.items() if value is not MISSING} | aggregates)
    result = Table(rows)
    if "sort" in options:
        rows = ordered(result, options["sort"], "options.sort")
    return Result(value=chosen(rows, result, options), facts={"groups": len(rows)})


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
