"""Brings tables into the only form that Markdown has: rows of equally many cells, each on one line.

Cells that span rows are repeated, so that every row can be read by itself; those that span columns are followed by
empty ones. A table that only lays out a page becomes its cells' content, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from turbohtml import Element, Node, Text

from .tree import select_each

_ROOM = 10_000  # cells that may be added to a table, and four times as many as it has
_MOST_SPAN = 1_000  # as in HTML for columns
_LONGEST_REPEATED = 200  # characters of a cell that is repeated
_BLOCKS = "table, h1, h2, h3, h4, h5, h6, pre, article, section, form, hr, blockquote"
_ODD = (
    "table[role]", "table [colspan]", "table [rowspan]", "table:has(table)",
    *(f"{part}:only-child > tr:only-child > {cell}:only-child" for part in ("tbody", "thead") for cell in ("td", "th")),
    *(f"table {block}" for block in _BLOCKS.split(", ")),
)  # fmt: skip
_MARKS = tuple(f"{cell} {mark}" for cell in ("td", "th") for mark in "b strong i em cite dfn var s strike del".split())


def tidy(root: Node) -> None:
    """Those that can be told to need it by a look at all of the page; `make_square` finds the rest."""
    odd = dict.fromkeys(table for cell in select_each(root, _ODD) if (table := cell.closest("table")) is not None)
    for table in odd:
        _tidy(table)
    _plain_cells(root)
    _out_of_lists(root)


def _plain_cells(root: Node) -> None:
    """Takes marks out of cells: turbohtml 1.15.4 can lose all but the first letter of marked text that a cell begins
    with, where anywhere before a line break stands beside a mark."""
    if root.select_one("table") is not None:
        for mark in select_each(root, _MARKS):
            mark.unwrap()


def _out_of_lists(root: Node) -> None:
    """A list with a table in an item becomes plain blocks: the library sets no empty line behind one there, and what
    follows would be read as its next row."""
    seen: set[Node] = set()
    lists: dict[Element, None] = {}
    for table in root.select("li table"):
        for above in table.ancestors:
            if above in seen:
                break
            seen.add(above)
            if isinstance(above, Element) and above.tag == "li" and isinstance(above.parent, Element):
                lists[above.parent] = None
    for group in lists:
        number = 0
        for item in list(group):
            if isinstance(item, Element) and item.tag == "li":
                number += 1
                if group.tag == "ol":
                    item.insert(0, Text(f"{number}. "))
                item.tag = "div"
        group.tag = "div"


def make_square(root: Node) -> None:
    """Every table, whatever it looks like."""
    for table in root.select("table"):
        _tidy(table)


def _tidy(table: Element) -> None:
    rows = list(_rows(table))
    if _is_layout(table, rows) or not _square(rows):
        _dissolve(table)


def _rows(table: Element) -> Iterator[list[Element]]:
    for part in list(table):
        if not isinstance(part, Element):
            continue
        for row in list(part) if part.tag in ("thead", "tbody", "tfoot") else [part]:
            if isinstance(row, Element) and row.tag == "tr":
                cells = [cell for cell in row if isinstance(cell, Element) and cell.tag in ("td", "th")]
                if cells:
                    yield cells
                else:
                    row.decompose()


def _is_layout(table: Element, rows: list[list[Element]]) -> bool:
    if str(table.attr("role")) in ("presentation", "none") or not rows:
        return True
    if len(rows) == 1 and len(rows[0]) == 1:
        return True
    return table.select_one(_BLOCKS) is not None


def _square(rows: list[list[Element]]) -> bool:
    """Gives every row the same number of cells; False where that would be far more than there are."""
    room = _ROOM + 4 * sum(map(len, rows))
    above: dict[int, tuple[int, str]] = {}  # column → further rows that a cell from above spans, and its text
    widths = []
    for cells in rows:
        column = 0
        spans: dict[int, tuple[int, str]] = {}
        for cell in cells:
            while column in above:
                left, text = above.pop(column)
                cell.insert_before(_cell(text))
                room -= 1
                if left > 1:
                    spans[column] = left - 1, text
                column += 1
            width, height = _span(cell, "colspan"), _span(cell, "rowspan")
            room -= width
            if room < 0:
                return False
            for _ in range(width - 1):
                cell.insert_after(_cell(""))
            if height > 1:
                text = " ".join(cell.text.split())
                spans |= {column + i: (height - 1, text if not i and len(text) <= _LONGEST_REPEATED else "")
                          for i in range(width)}  # fmt: skip
            column += width
        last = cells[-1]
        row = last.parent
        for further in sorted(above):
            assert isinstance(row, Element)
            left, text = above[further]
            while column < further:
                row.append(_cell(""))
                column += 1
            row.append(_cell(text))
            room -= 1
            if left > 1:
                spans[further] = left - 1, text
            column += 1
        if room < 0:
            return False
        above = spans
        widths.append(column)
    most = max(widths)
    if most * len(rows) - sum(widths) > room:
        return False
    for cells, width in zip(rows, widths, strict=True):
        row = cells[-1].parent
        assert isinstance(row, Element)
        for _ in range(most - width):
            row.append(_cell(""))
    return True


def _span(cell: Element, name: str) -> int:
    """Taken off the cell; 1 where there is none."""
    text = cell.attr(name)
    if text is None:
        return 1
    del cell.attrs[name]
    digits = str(text).strip()[:6]
    return max(1, min(int(digits), _MOST_SPAN)) if digits.isascii() and digits.isdigit() else 1


def _cell(text: str) -> Element:
    cell = Element("td")
    if text:
        cell.append(Text(text))
    return cell


def _dissolve(table: Element) -> None:
    """The table's own parts become plain blocks; tables in it stay."""
    for part in list(table):
        if not isinstance(part, Element):
            continue
        for row in list(part) if part.tag in ("thead", "tbody", "tfoot") else [part]:
            if isinstance(row, Element) and row.tag == "tr":
                for cell in list(row):
                    if isinstance(cell, Element) and cell.tag in ("td", "th"):
                        cell.tag = "div"
                row.tag = "div"
        if part.tag in ("thead", "tbody", "tfoot", "caption"):
            part.tag = "div"
        elif part.tag in ("colgroup", "col"):
            part.decompose()
    table.tag = "div"
