"""HTML as the lines that a reader sees, with the numbers of the source lines. Standard library only."""

from __future__ import annotations

import html
from html.parser import HTMLParser

from host.chunks import Line

_HIDDEN = frozenset(("script", "style", "nav", "template", "svg", "title", "noscript"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "head", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section", "summary",
    "table", "tbody", "tfoot", "thead", "tr", "ul", *_HEADINGS,
))
# fmt: on
_SPACES = frozenset(("br", "td", "th"))


def html_lines(text: str) -> list[Line]:
    """Visible text only. Block elements are set apart by a blank line; headings carry their level."""
    parser = _Parser()
    parser.feed(text.replace("\r\n", "\n").replace("\r", "\n"))
    parser.close()
    return parser.finish()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        # References are converted here, since an expanded &#10; would shift the line numbers.
        super().__init__(convert_charrefs=False)
        self._lines: list[Line] = []
        self._text = ""
        self._number = 1
        self._hidden = 0
        self._level = 0
        self._pre = 0

    def finish(self) -> list[Line]:
        self._end_line()
        return self._lines

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _BLOCKS:
            self._end_block()
            self._level = _HEADINGS.get(tag, 0)
            self._pre += tag == "pre"
        elif tag == "br" and not self._level:
            self._end_line()
        elif tag in _SPACES:
            self._add(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self._end_block()
            self._level = 0
            self._pre = max(0, self._pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        # A heading stays one line.
        first, *others = [data] if self._level else data.split("\n")
        self._add(first)
        for offset, text in enumerate(others, start=1):
            self._end_line()
            self._add(text, offset)

    def handle_entityref(self, name: str) -> None:
        self._add(html.unescape(f"&{name};").replace("\n", " "))

    def handle_charref(self, name: str) -> None:
        self._add(html.unescape(f"&#{name};").replace("\n", " ").replace("\r", " "))

    def _add(self, text: str, offset: int = 0) -> None:
        if self._hidden:
            return
        if not self._text.strip():
            self._number = self.getpos()[0] + offset
        self._text += text

    def _end_line(self) -> None:
        text = self._text.rstrip() if self._pre else " ".join(self._text.split())
        # Outside of <pre> a blank line of the source means nothing.
        if text or (self._pre and not self._hidden):
            self._lines.append(Line(self._number, text, 0 if self._pre else self._level, code=bool(self._pre)))
        self._text = ""

    def _end_block(self) -> None:
        self._end_line()
        if self._lines and self._lines[-1].text:
            self._lines.append(Line(self._number, ""))
