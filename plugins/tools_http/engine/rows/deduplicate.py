"""deduplicate: of rows that are equal, one."""

from __future__ import annotations

from collections.abc import Hashable

from .algorithm import Algorithm, Options, Result
from .table import COLUMN, Table
from .values import keys


def run(table: Table, options: Options, most_rows: int) -> Result:
    group_of: list[Hashable]
    if "by" in options:
        columns = [table.values(column, f"options.by[{number}]") for number, column in enumerate(options["by"])]
        group_of = list(zip(*map(keys, columns), strict=True))
    else:
        group_of = keys(table.rows)
    numbered = list(zip(group_of, range(len(group_of)), strict=True))
    if options.get("keep", "first") == "first":
        numbered.reverse()
    # What comes later wins; then back into the order of the rows.
    kept = sorted(dict(numbered).values())
    return Result(value=[table.rows[row] for row in kept], facts={"removed_rows": len(table.rows) - len(kept)})


ALGORITHM = Algorithm(
    name="deduplicate",
    summary=(
        "Of rows that are equal in the columns `by` (none given: in all), the first, or the last with keep; in their "
        "order. The order of an object's names does not matter, and null is not equal to a missing column."
    ),
    example={"by": ["email"], "keep": "last"},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "by": {
                "type": "array",
                "items": COLUMN,
                "minItems": 1,
                "maxItems": 50,
                "description": "columns to compare",
            },
            "keep": {"type": "string", "enum": ["first", "last"]},
        },
        "additionalProperties": False,
    },
    run=run,
)
