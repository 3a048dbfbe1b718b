"""Rows, which are all objects or all arrays, seen as columns."""

from __future__ import annotations

from itertools import chain
from typing import Any

from shared.errors import InvalidArgument, quoted

from .options import nearest
from .values import MISSING, kind_of

Column = str | int  # a name, or a position in rows that are arrays

COLUMN: dict[str, Any] = {"type": ["string", "integer"]}
"""A column in an options schema."""


class Table:
    """`rows` as they came. A row that lacks a column holds MISSING there, which is not null.

    `field` is what errors call them.
    """

    def __init__(self, rows: list[Any], field: str = "data") -> None:
        """Raises InvalidArgument where a row is neither object nor array, or some are this and some that."""
        kinds = set(map(type, rows))
        if kinds not in (set(), {dict}, {list}):
            raise _bad_row(rows, field)
        self.rows = rows
        self.arrays = kinds == {list}
        self.field = field

    def columns(self) -> list[Column]:
        """Every column that any row has, in the order in which they first appear."""
        if self.arrays:
            return list(range(max(map(len, self.rows))))
        return list(dict.fromkeys(chain.from_iterable(self.rows)))

    def values(self, column: Column, option: str) -> list[Any]:
        """The column's value in each row. Raises InvalidArgument, naming `option`, where no row has it."""
        column = self._column(column, option)
        if isinstance(column, int):
            values = [row[column] if column < len(row) else MISSING for row in self.rows]
        else:
            try:
                return [row[column] for row in self.rows]
            except KeyError:
                values = [row.get(column, MISSING) for row in self.rows]
        if values and values[0] is MISSING and all(value is MISSING for value in values):
            raise self._unknown(column, option)
        return values

    def known(self, column: Column, option: str) -> Any:
        """The column as it stands in rows. Raises InvalidArgument where no row has it."""
        column = self._column(column, option)
        if isinstance(column, int):
            has = any(column < len(row) for row in self.rows)
        else:
            has = any(column in row for row in self.rows)
        if self.rows and not has:
            raise self._unknown(column, option)
        return column

    def _column(self, column: Column, option: str) -> Column:
        """A name where rows are objects, a position where they are arrays; a position may be written as a text."""
        if isinstance(column, float):  # 1.0 is a whole number too
            column = int(column)
        if self.arrays:
            if isinstance(column, str) and column.isascii() and column.isdigit() and len(column) < 10:
                column = int(column)
            if isinstance(column, str) or column < 0:
                raise InvalidArgument(
                    f"{option}: the rows of {self.field} are arrays, so a column is its position, 0 for the first, and "
                    f"not {quoted(str(column))}",
                    reason="UNKNOWN_COLUMN",
                    field=option,
                )
            return column
        return str(column)

    def _unknown(self, column: Column, option: str) -> InvalidArgument:
        names = [str(name) for name in self.columns()]
        return InvalidArgument(
            f"{option}: no row of {self.field} has the column {quoted(str(column))}{nearest(str(column), names)}",
            reason="UNKNOWN_COLUMN",
            field=option,
        )


def _bad_row(rows: list[Any], field: str) -> InvalidArgument:
    number = next(
        number for number, row in enumerate(rows) if type(row) is not type(rows[0]) or type(row) not in (dict, list)
    )
    what = kind_of(rows[number])
    if type(rows[number]) in (dict, list):
        problem = f"is {what}, and the row before it is {kind_of(rows[0])}: write all rows as objects"
    else:
        problem = f'is {what}, and a row is an object or an array: write it as {{"value": …}}'
    where = f"{field}[{number}]"
    return InvalidArgument(f"{where} {problem}", reason="BAD_ROW", field=where)
