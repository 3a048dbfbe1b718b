"""time_bucket: rows grouped by the hours, days, weeks and so on of a time zone's clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.errors import InvalidArgument

from .aggregates import AGGREGATES, aggregated
from .algorithm import Algorithm, Options, Result
from .table import COLUMN, Table
from .times import DIVIDED_BY, EPOCH_UNITS, Buckets, zone
from .values import is_value


def run(table: Table, options: Options, most_rows: int) -> Result:
    unit, size = options["unit"], options.get("size", 1)
    if DIVIDED_BY[unit] % size:
        raise InvalidArgument(
            f"options.size: {size} does not divide {DIVIDED_BY[unit]}, as a size in {unit}s must",
            reason="BAD_ARGUMENTS",
            field="options.size",
        )
    clock = zone(options.get("timezone", "UTC"), "options.timezone")
    buckets = Buckets(clock, unit, size, options.get("epoch_unit", "s"))
    times = table.values(options["column"], "options.column")
    starts = [buckets.start(time, f"data[{number}]") if is_value(time) else None for number, time in enumerate(times)]
    # By what they say, not as texts: the offset may change in between.
    in_order = sorted({start for start in starts if start is not None}, key=datetime.fromisoformat)
    groups: list[str | None] = [*in_order, None] if None in starts else [*in_order]
    number_of = {start: number for number, start in enumerate(groups)}
    names = ["bucket", "iso_week"] if unit == "week" else ["bucket"]
    group_of = [number_of[start] for start in starts]
    wanted = options.get("aggregates", [{"op": "count"}])
    aggregates = aggregated(table, group_of, len(groups), wanted, names)
    rows = [
        {"bucket": start, **_week(start, unit), **reckoned} for start, reckoned in zip(groups, aggregates, strict=True)
    ]
    return Result(value=rows, facts={"buckets": len(rows)})


def _week(start: str | None, unit: str) -> dict[str, Any]:
    if unit != "week":
        return {}
    if start is None:
        return {"iso_week": None}
    year, week, _ = datetime.fromisoformat(start).isocalendar()
    return {"iso_week": f"{year:04}-W{week:02}"}


ALGORITHM = Algorithm(
    name="time_bucket",
    summary=(
        "One row for each stretch of time in which there are rows, in order: bucket, its start in ISO 8601 with the "
        "offset (of weeks, which begin on Monday, also iso_week), and aggregates as in group_aggregate; rows without a "
        "time come last, under null. Buckets follow the clock of timezone, so a day may have 23 or 25 hours; times are "
        "ISO 8601, without an offset on that clock, or numbers since 1970."
    ),
    example={"column": "created", "unit": "day", "timezone": "Europe/Berlin", "aggregates": [{"op": "count"}]},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "column": {**COLUMN, "description": "the column with the times"},
            "unit": {"type": "string", "enum": list(DIVIDED_BY)},
            "size": {
                "type": "integer",
                "minimum": 1,
                "maximum": 60,
                "description": "such as 15 (minutes); 1 if left out",
            },
            "timezone": {"type": "string", "description": "such as Europe/Berlin; UTC when left out"},
            "epoch_unit": {"type": "string", "enum": list(EPOCH_UNITS), "description": "of numbers; s when left out"},
            "aggregates": AGGREGATES,
        },
        "required": ["column", "unit"],
        "additionalProperties": False,
    },
    run=run,
)
