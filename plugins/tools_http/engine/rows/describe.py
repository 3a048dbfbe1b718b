"""describe: which columns there are, and what they hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from . import arithmetic
from .algorithm import Algorithm, Options, Result
from .table import COLUMN, Table
from .values import MISSING, NUMBERS, is_value, keys

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "text", list: "array", dict: "object"}
_MOST_COLUMNS = 1_000


def run(table: Table, options: Options, most_rows: int) -> Result:
    wanted = options.get("columns", table.columns()[:_MOST_COLUMNS])
    columns = {
        str(column): _described(table.values(column, f"options.columns[{number}]"), options.get("top", 3))
        for number, column in enumerate(wanted)
    }
    return Result(value={"rows": len(table.rows), "columns": [str(name) for name in table.columns()], "about": columns})


def _described(values: list[Any], top: int) -> dict[str, Any]:
    present = [value for value in values if is_value(value)]
    types = Counter(map(type, present))
    about: dict[str, Any] = {
        "count": len(present),
        "null": sum(value is None for value in values),
        "missing": sum(value is MISSING for value in values),
        "types": {_TYPES[kind]: count for kind, count in types.items()},
    }
    counts = Counter(keys(present))
    about["distinct"] = len(counts)
    if types.keys() <= NUMBERS or types.keys() <= {str}:
        about |= {"min": min(present), "max": max(present)} if present else {}
    if present and types.keys() <= NUMBERS:
        option = "data"
        about |= {
            "sum": arithmetic.total(present, option),
            "mean": arithmetic.mean(present, option),
            "median": arithmetic.median(present, option),
            "stdev": arithmetic.deviation(present, option),
        }
    if top and len(counts) < len(present):
        shown = dict(zip(reversed(keys(present)), reversed(present), strict=True))
        about["most_common"] = [{"value": shown[each], "count": count} for each, count in counts.most_common(top)]
    return about


ALGORITHM = Algorithm(
    name="describe",
    summary=(
        "Every column that any row has, and about each: how many values (count), nulls and rows without it, types, "
        "distinct values, the most common ones, least and most; of numbers also sum, mean, median and stdev (of n - 1)."
        " Begin with this where the data is not known."
    ),
    example={},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": COLUMN, "description": "about these only"},
            "top": {
                "type": "integer",
                "minimum": 0,
                "maximum": 100,
                "description": "most common values; 3 when left out",
            },
        },
        "additionalProperties": False,
    },
    run=run,
)
