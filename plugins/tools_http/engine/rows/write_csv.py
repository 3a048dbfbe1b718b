"""write_csv: rows as CSV text, which parse_csv reads again."""

from __future__ import annotations

import re
from typing import Any

from shared.errors import InvalidArgument, quoted

from .algorithm import Algorithm, Options, Result
from .table import COLUMN, Table
from .values import MISSING, compact

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def run(table: Table, options: Options, most_rows: int) -> Result:
    delimiter, line_end = options.get("delimiter", ","), _LINE_ENDS[options.get("line_end", "lf")]
    if delimiter in '"\r\n':
        raise InvalidArgument(
            f"options.delimiter: {quoted(delimiter)} cannot be one: take another character",
            reason="BAD_ARGUMENTS",
            field="options.delimiter",
        )
    columns = options.get("columns", table.columns())
    cells = [table.values(column, f"options.columns[{number}]") for number, column in enumerate(columns)]
    writer = _Writer(delimiter, options.get("null", ""), options.get("escape_formulas", False))
    lines = [writer.line(map(str, columns))] if options.get("header", not table.arrays) else []
    if columns:
        lines += [writer.line(record) for record in zip(*cells, strict=True)]
    text = "".join(line + line_end for line in lines)
    return Result(text=text, content_type="text/csv", facts={"columns": len(columns), "formula_cells": writer.formulas})


class _Writer:
    def __init__(self, delimiter: str, null: str, escape: bool) -> None:
        self._delimiter = delimiter
        self._needs_quotes = re.compile(f'[\\s\ufeff"{re.escape(delimiter)}]')
        self._null = null
        self._escape = escape
        self.formulas = 0  # texts that a spreadsheet takes for one

    def line(self, values: Any) -> str:
        line = self._delimiter.join(map(self._cell, values))
        return line or '""'  # of one column: a blank line would be no row

    def _cell(self, value: Any) -> str:
        if value is None or value is MISSING:
            return self._null
        text = value if isinstance(value, str) else compact(value)
        if isinstance(value, str) and text.startswith(_FORMULA):
            self.formulas += 1
            text = f"'{text}" if self._escape else text
        if text and not self._needs_quotes.search(text):
            return text
        return '"' + text.replace('"', '""') + '"'


_LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}

ALGORITHM = Algorithm(
    name="write_csv",
    summary=(
        'Rows as CSV text with every column that any row has. Null and missing are empty cells, an empty text is ""; '
        "arrays and objects are written as JSON. A text that begins with = + - or @ is a formula to a spreadsheet: it "
        "is kept as it is, and counted in the metadata, unless escape_formulas puts ' before it."
    ),
    example={"columns": ["id", "name"], "delimiter": ";"},
    takes="rows",
    options={
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": COLUMN, "minItems": 1, "description": "which, and their order"},
            "delimiter": {"type": "string", "minLength": 1, "maxLength": 1},
            "header": {"type": "boolean", "description": "a first line with the names; rows that are arrays have none"},
            "null": {"type": "string", "maxLength": 100, "description": "the text of null and missing"},
            "line_end": {"type": "string", "enum": list(_LINE_ENDS)},
            "escape_formulas": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    run=run,
)
