"""sort: the rows in order, stable, whatever their columns hold."""

from __future__ import annotations

from typing import Any

from .algorithm import Algorithm, Options, Result
from .choice import CHOICE, chosen
from .table import COLUMN, Table
from .values import is_value, sort_keys

BY: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "description": "columns to sort by, the most important one first",
    "items": {
        "type": "object",
        "properties": {
            "column": COLUMN,
            "descending": {"type": "boolean"},
            "nulls": {"type": "string", "enum": ["last", "first"]},
        },
        "required": ["column"],
        "additionalProperties": False,
    },
}


def run(table: Table, options: Options, most_rows: int) -> Result:
    return Result(value=chosen(ordered(table, options["by"], "options.by"), table, options))


def ordered(table: Table, by: list[dict[str, Any]], option: str) -> list[Any]:
    """The table's rows by an array of the form BY; rows that are equal in all of it stay in their order."""
    order = list(range(len(table.rows)))
    for number, rule in reversed(list(enumerate(by))):
        values = table.values(rule["column"], f"{option}[{number}].column")
        ranks = sort_keys(values)
        present = [row for row in order if is_value(values[row])]
        absent = [row for row in order if not is_value(values[row])]
        present.sort(key=ranks.__getitem__, reverse=rule.get("descending", False))
        order = absent + present if rule.get("nulls") == "first" else present + absent
    return [table.rows[row] for row in order]


ALGORITHM = Algorithm(
    name="sort",
    summary=(
        "Rows in order; equal ones stay in theirs. Mixed kinds: false, true, numbers, texts by code point, arrays, "
        "objects; rows with null or without the column come last, descending or not, unless nulls is first."
    ),
    example={"by": [{"column": "amount", "descending": True}], "limit": 10},
    takes="rows",
    options={
        "type": "object",
        "properties": {"by": BY, **CHOICE},
        "required": ["by"],
        "additionalProperties": False,
    },
    run=run,
)
