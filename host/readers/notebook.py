"""Jupyter notebooks: the cells as they are written, and what they printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from host.chunks import Line, lines_of, marked
from host.readers.unreadable import Unreadable

_MOST_OUTPUT = 2_000  # characters of what one cell printed


def notebook_lines(content: bytes) -> list[Line]:
    """Cells are numbered from 1, in the order of the notebook. Raises Unreadable."""
    try:
        document = json.loads(content)
        # Before version 4 there were worksheets.
        cells = document["cells"] if "cells" in document else document["worksheets"][0]["cells"]
        return [line._replace(number=number, place=f"cell {number}") for number, line in _numbered(cells)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
        raise Unreadable("damaged notebook") from None


def _numbered(cells: list[dict[str, Any]]) -> Iterator[tuple[int, Line]]:
    for number, cell in enumerate(cells, start=1):
        for line in _of_cell(cell):
            yield number, line
        yield number, Line(0, "")


def _of_cell(cell: dict[str, Any]) -> Iterator[Line]:
    lines = lines_of(_text(cell.get("source", cell.get("input", ""))))
    if cell.get("cell_type") == "markdown":
        yield from marked(lines)
    elif cell.get("cell_type") == "heading":  # before version 4
        level = min(max(int(cell.get("level", 1)), 1), 6)
        yield from (line._replace(level=level) for line in lines)
    else:
        yield from _together(lines)
        printed = "".join(_printed(cell.get("outputs") or [])).strip("\n")
        if printed.strip():
            yield Line(0, "")
            yield from _together(lines_of(printed[:_MOST_OUTPUT]))


def _together(lines: list[Line]) -> Iterator[Line]:
    """One block, whatever blank lines are in it."""
    begun = False
    for line in lines:
        yield line._replace(code=begun)
        begun = begun or bool(line.text.strip())


def _printed(outputs: list[dict[str, Any]]) -> Iterator[str]:
    """Only text: images and HTML are there as text too where that says anything."""
    for output in outputs:
        if output.get("output_type") == "error":
            yield f"{output.get('ename')}: {output.get('evalue')}\n"
        elif "text" in output:
            yield _text(output["text"]) + "\n"
        else:
            yield _text((output.get("data") or {}).get("text/plain", "")) + "\n"


def _text(source: Any) -> str:
    """In a file texts may be lists of lines."""
    return source if isinstance(source, str) else "".join(source)
