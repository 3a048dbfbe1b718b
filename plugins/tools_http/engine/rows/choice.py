"""Which columns and how many rows of a result are wanted: options that several algorithms take."""

from __future__ import annotations

from typing import Any

from .algorithm import Options
from .table import COLUMN, Table

CHOICE: dict[str, Any] = {
    "columns": {"type": "array", "items": COLUMN, "minItems": 1, "maxItems": 1000, "description": "only these columns"},
    "offset": {"type": "integer", "minimum": 0, "description": "rows to leave out at the start"},
    "limit": {"type": "integer", "minimum": 0, "description": "most rows"},
}


def chosen(rows: list[Any], table: Table, options: Options) -> list[Any]:
    """Of `rows`, some of the table's, those that the options want, with the columns that they want."""
    offset = options.get("offset", 0)
    rows = rows[offset : offset + options["limit"]] if "limit" in options else rows[offset:]
    if "columns" not in options:
        return rows
    columns = [table.known(column, f"options.columns[{number}]") for number, column in enumerate(options["columns"])]
    if table.arrays:
        return [[row[column] if column < len(row) else None for column in columns] for row in rows]
    return [{column: row[column] for column in columns if column in row} for row in rows]
