"""CSV as a line a row, each value beside its column's name."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

from host.chunks import Line

_DELIMITERS = ",;\t|"
_HEAD = 65_536  # characters that the delimiter is told by


def table_lines(text: str) -> list[Line]:
    """Rows are numbered as in a spreadsheet, from 1; names in the first stand before the others' values."""
    # Not csv.Sniffer, which takes a time that grows with the square of a quoted text's length.
    head = text[:_HEAD].split("\n", 10)
    counts = Counter({mark: sum(line.count(mark) for line in head[:10]) for mark in _DELIMITERS})
    delimiter = counts.most_common(1)[0][0]
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names: Sequence[str] = ()
    lines: list[Line] = []
    for number, row in enumerate(rows, start=1):
        cells = [" ".join(cell.split()) for cell in row]
        if number == 1 and _are_names(cells):
            names = cells
            shown = "; ".join(cells)
        else:
            named = (f"{names[at]}: {cell}" if at < len(names) else cell for at, cell in enumerate(cells) if cell)
            shown = "; ".join(named)
        if shown:
            lines.append(Line(number, shown, place=f"row {number}"))
    return lines


def _are_names(cells: Sequence[str]) -> bool:
    """Whether a first row is a header: nothing in it twice, empty or a number."""
    return len(cells) > 1 and len(set(cells)) == len(cells) and all(cell and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    return not cell.strip("+-0123456789.,:/%$€ eE")
