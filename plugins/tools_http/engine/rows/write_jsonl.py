"""write_jsonl: rows as JSON Lines."""

from __future__ import annotations

from .algorithm import Algorithm, Options, Result
from .table import Table
from .values import compact


def run(table: Table, options: Options, most_rows: int) -> Result:
    return Result(text="".join(compact(row) + "\n" for row in table.rows), content_type="application/jsonl")


ALGORITHM = Algorithm(
    name="write_jsonl",
    summary="Rows as JSON Lines: one object or array a line.",
    example={},
    takes="rows",
    options={"type": "object", "properties": {}, "additionalProperties": False},
    run=run,
)
