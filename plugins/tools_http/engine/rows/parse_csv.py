"""parse_csv: CSV text as rows. Every cell is the text that it was, unless `types` or `nulls` say otherwise."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from shared.errors import InvalidArgument, LimitReached, quoted

from .algorithm import Algorithm, Options, Result, too_many_rows
from .options import nearest

Convert = Callable[[str], Any]  # raises ValueError

_GUESSED = ",;\t|"  # what `auto` tries
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,4000}(?:\.[0-9]{0,4000})?|\.[0-9]{1,4000})(?:[eE][+-]?[0-9]{1,9})?")
_MOST_COLUMNS = 20_000
_LONGEST_LINE = 100_000  # characters that are looked at for another delimiter


def run(text: str, options: Options, most_rows: int) -> Result:
    text = text.removeprefix("\ufeff")
    delimiter, quote = _dialect(text, options)
    records = _records(text, delimiter, quote, options)
    facts: dict[str, Any] = {"delimiter": delimiter}
    if "delimiter" not in options and (others := _other_delimiters(text)):
        facts["hint"] = (
            f"there is one column only, and its first line has {' and '.join(map(quoted, others))}: where that divides "
            "cells give it as options.delimiter, or auto"
        )
    header = options.get("header", True)
    names: list[str] = []
    if header:
        names, renamed = _names(next(records, (1, []))[1])
        facts |= {"renamed_columns": renamed} if renamed else {}
    rows: list[Any] = []
    nulls, converts = set(options.get("nulls", ())), _Converts(options.get("types", {}), names if header else None)
    for line, record in records:
        if len(rows) == most_rows:
            raise too_many_rows(most_rows + 1, most_rows, "the text has at least")
        if header and len(record) != len(names):
            if options.get("ragged", "error") == "error":
                raise _ragged(line, len(record), len(names))
            names += _more_names(names, len(record))
        cells: list[Any] = record
        if nulls or converts:
            cells = [
                None if cell in nulls else converts.convert(cell, names[place] if header else str(place), line)
                for place, cell in enumerate(record)
            ]
        rows.append(dict(zip(names, cells, strict=False)) if header else cells)
    return Result(value=rows, facts=facts)


def _dialect(text: str, options: Options) -> tuple[str, str]:
    delimiter, quote = options.get("delimiter", ","), options.get("quote", '"')
    if delimiter == "auto":
        counts = {each: len(next(_records(text, each, quote, {}), (1, []))[1]) for each in _GUESSED if each != quote}
        delimiter = max(counts, key=counts.__getitem__)
    marks = {"delimiter": delimiter, "quote": quote, "escape": options.get("escape", "\\")}
    for name, mark in marks.items():
        one = len(mark) == 1 and mark not in "\r\n\ufeff" and (name == "quote" or mark != quote)
        if not one and (name, mark) != ("quote", ""):
            raise InvalidArgument(
                f"options.{name}: {quoted(mark)} cannot be the {name}: take one character that is no line end and not "
                "the quote",
                reason="BAD_ARGUMENTS",
                field=f"options.{name}",
            )
    return delimiter, quote


def _other_delimiters(text: str) -> list[str]:
    """What may divide the cells of a text that has no comma in its first line."""
    line = next(iter(text[:_LONGEST_LINE].strip().splitlines()), "")
    return [] if "," in line else [mark for mark in _GUESSED if mark in line]


def _records(text: str, delimiter: str, quote: str, options: Options) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record and the line that it ends on; blank lines are no records."""
    csv.field_size_limit(len(text) + 1)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=options.get("escape"),
        skipinitialspace=options.get("skip_initial_space", False),
        strict=True,
    )
    try:
        for record in reader:
            if len(record) > _MOST_COLUMNS:
                raise LimitReached(
                    f"line {reader.line_num} has {len(record)} cells, and {_MOST_COLUMNS} are allowed: is the "
                    "delimiter right?",
                    reason="TOO_MANY_COLUMNS",
                )
            if record:
                yield reader.line_num, record
    except csv.Error as error:
        raise InvalidArgument(
            f"data is no CSV with the delimiter {quoted(delimiter)}: {error}, line {reader.line_num}: see the options "
            "delimiter, quote and escape",
            reason="BAD_CSV",
            field="data",
        ) from None


def _names(header: list[str]) -> tuple[list[str], dict[str, str]]:
    """A name of its own for each column, and those that the header did not have."""
    names: list[str] = []
    used: dict[str, int] = {}  # and how many have asked for it
    renamed = {}
    for place, written in enumerate(header, start=1):
        name = base = written or f"column_{place}"
        while name in used:
            used[base] += 1
            name = f"{base}_{used[base]}"
        used[name] = 1
        names.append(name)
        if name != written:
            renamed[name] = written
    return names, renamed


def _more_names(names: list[str], count: int) -> list[str]:
    return _names([*names, *[""] * (count - len(names))])[0][len(names) :]


class _Converts:
    """What `types` asks for, by column. `names`: those of the header, if there is one."""

    def __init__(self, types: dict[str, str], names: list[str] | None) -> None:
        for name in types:
            if names is not None and name not in names:
                raise InvalidArgument(
                    f"options.types: the header has no column {quoted(name)}{nearest(name, names)}",
                    reason="UNKNOWN_COLUMN",
                    field=f"options.types.{name}",
                )
        self._types = types

    def __bool__(self) -> bool:
        return bool(self._types)

    def convert(self, cell: str, name: str, line: int) -> Any:
        kind = self._types.get(name)
        if kind is None:
            return cell
        try:
            return _TYPES[kind](cell.strip()) if cell.strip() else None
        except ValueError:
            raise InvalidArgument(
                f"data: line {line} has {quoted(cell)} in the column {quoted(name)}, which is no {kind}: leave the "
                "column out of types, or name such texts in nulls",
                reason="BAD_CELL",
                field=f"options.types.{name}",
            ) from None


def _integer(cell: str) -> int:
    if not _INTEGER.fullmatch(cell):
        raise ValueError
    return int(cell)


def _number(cell: str) -> int | float:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if not _NUMBER.fullmatch(cell) or not math.isfinite(number := float(cell)):
        raise ValueError
    return number


def _boolean(cell: str) -> bool:
    if cell.lower() not in ("true", "false"):
        raise ValueError
    return cell.lower() == "true"


_TYPES: dict[str, Convert] = {"integer": _integer, "number": _number, "boolean": _boolean}


def _ragged(line: int, cells: int, columns: int) -> InvalidArgument:
    return InvalidArgument(
        f"data: line {line} has {cells} cells and the header {columns}: is the delimiter right? With ragged set to "
        "fill, missing cells are left out and further ones named column_N",
        reason="RAGGED_ROW",
        field="data",
    )


_MARK: dict[str, Any] = {"type": "string", "maxLength": 4}

ALGORITHM = Algorithm(
    name="parse_csv",
    summary=(
        "CSV text (data is a text) as rows that are objects, or arrays with header false. Cells stay the text that "
        "they are, 00123, NA and 1e5 too; types make numbers or booleans of a column, where an empty cell becomes "
        "null; nulls are texts that become null. Blank lines are skipped. Equal names of columns get _2, _3."
    ),
    example={"delimiter": ";", "types": {"price": "number"}, "nulls": ["NA"]},
    takes="text",
    options={
        "type": "object",
        "properties": {
            "delimiter": {
                **_MARK,
                "description": "a character, or auto: what of , ; tab | divides the first line most",
            },
            "quote": {**_MARK, "description": "a character; empty: none"},
            "escape": {
                **_MARK,
                "minLength": 1,
                "description": "a character before one that is meant as it is; none if left out",
            },
            "skip_initial_space": {"type": "boolean", "description": "leave out blanks after a delimiter"},
            "header": {"type": "boolean", "description": "the first line holds the names; true when left out"},
            "types": {
                "type": "object",
                "additionalProperties": {"type": "string", "enum": list(_TYPES)},
                "description": "by column",
            },
            "nulls": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
            "ragged": {"type": "string", "enum": ["error", "fill"], "description": "of lines with fewer or more cells"},
        },
        "additionalProperties": False,
    },
    run=run,
)
