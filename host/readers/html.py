"""HTML as the lines that a reader sees, with the numbers of the source lines.

turbohtml builds the tree that browsers build, whatever is missing or wrong in the source, and says where its tags
stand; a text stands behind the tag before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import turbohtml
from turbohtml import Comment, Element, Node, SourceLocation, SourceSpan, Text

from host.chunks import Line

# Not of the text. What has no end tag would take the rest of the page with it, and is read.
_HIDDEN = frozenset(("script", "style", "nav", "template", "svg", "noscript", "iframe", "noembed", "noframes"))
_NO_TEXT = frozenset(("script", "style", "template", "iframe"))  # and these even then
_HEADINGS = {"title": 1} | {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "head", "header", "hr", "html", "legend", "li", "main", "nav",
    "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul", "xmp", *_HEADINGS,
))
# fmt: on
_LINES = frozenset(("br", "option", "optgroup"))
_SPACES = frozenset(("button", "img", "input", "label", "select", "td", "textarea", "th"))
_PRE = frozenset(("pre", "xmp", "listing"))
_MEANT = _BLOCKS | _LINES | _SPACES | _PRE | _HIDDEN  # the others say nothing here
_SPACE = re.compile(r"[ \t\n\f]*+")
# What a document may begin with of which the tree has nothing, or not where: end tags that end nothing, comments.
_BEFORE = re.compile(r"(?:[ \t\n\f]|</[A-Za-z][^>]*+>|<!--(?:>|->|.*?(?:-->|--!>|\Z))|<[!?][^>]*+>)*+", re.DOTALL)
_LINE_ENDS = re.compile(r"&(?:#0*+1[03]|#[xX]0*+[aAdD]|NewLine)(?![0-9A-Za-z]);?")


def html_lines(text: str) -> list[Line]:
    """Visible text only. Block elements are set apart by a blank line; headings carry their level."""
    # A reference to a line end is none of the source.
    text = _LINE_ENDS.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    lines, source = _Lines(), _Source(text)
    document = turbohtml.parse(text, source_locations=True, allow_declarative_shadow_roots=False)
    # Of the elements that are open, the children that are still to come. Not recursive: nesting has no end.
    pending: list[tuple[str, SourceLocation | None, Iterator[Node]]] = [("", None, iter(document.children))]
    while pending:
        name, location, children = pending[-1]
        node = next(children, None)
        if isinstance(node, Element):
            name, location = node.tag, node.source_location
            source.skip_tag(location and location.start_tag)
            has_end = bool(location and location.end_tag)
            lines.start_tag(name, hidden=name in _HIDDEN and (has_end or name in _NO_TEXT))
            if name == "img" and isinstance(alt := node.attrs.get("alt"), str) and alt.strip():
                lines.add(" ".join(alt.split()), source.number)
            pending.append((name, location, iter(node.children)))
        elif isinstance(node, Text):
            data = node.data
            lines.add(data, source.skip_text(data))
        elif isinstance(node, Comment):
            source.skip_comment(node.data)
        elif node is None:
            pending.pop()
            if pending:
                source.skip_tag(location and location.end_tag)
                lines.end_tag(name)
    lines.end_line()
    return lines.lines


class _Source:
    """Where in the source the tree's next node begins, as far as that is known."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = _BEFORE.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
        self.number = 1 + text.count("\n", 0, self._at)  # of the line
        self._end_of_tag = 0  # of the last one
        self._has_begun = False

    def skip_tag(self, tag: SourceSpan | None) -> None:
        if tag and tag.end_offset >= self._end_of_tag:  # of what a browser moves, the tag may stand far above
            self.number, self._at, self._has_begun = tag.end_line, tag.end_offset, True
            self._end_of_tag = self._at

    def skip_text(self, data: str) -> int:
        """The number of the line in which it begins."""
        # Blanks are dropped where the tree has no place for them.
        if (spaces := _SPACE.match(self._text, self._at)) and (dropped := spaces[0].count("\n")):
            kept = _SPACE.match(data)
            self.number += max(0, dropped - (kept[0].count("\n") if kept else 0))
        number = self.number
        self.number += data.count("\n")
        self._at = len(self._text)  # unknown until the next tag
        self._has_begun = True
        return number

    def skip_comment(self, data: str) -> None:
        self.number += data.count("\n") if self._has_begun else 0


class _Lines:
    """Gathers the text between tags as lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._parts: list[str] = []  # of the line that is gathered
        self._has_text = False
        self._number = 1
        self._depth = 0  # of elements
        self._hidden = 0  # the depth of the outermost hidden one; 0: none
        self._level = 0
        self._pre = 0

    def start_tag(self, name: str, *, hidden: bool) -> None:
        self._depth += 1
        if name not in _MEANT:
            return
        if hidden and not self._hidden:
            self._hidden = self._depth
        self._set_apart(name)
        self._level = _HEADINGS.get(name, self._level)
        self._pre += name in _PRE

    def end_tag(self, name: str) -> None:
        if name in _MEANT:
            self._set_apart(name)
            if name in _HEADINGS:
                self._level = 0
            self._pre -= name in _PRE
            if self._hidden == self._depth:
                self._hidden = 0
        self._depth -= 1

    def add(self, source: str, number: int) -> None:
        """Text that begins in the line `number`."""
        if self._hidden:
            return
        # A heading stays one line.
        texts = source.split("\n") if "\n" in source and not self._level else (source.replace("\n", " "),)
        for offset, text in enumerate(texts):
            if offset:
                self.end_line()
            if not self._has_text:
                self._number = number + offset
                self._has_text = bool(text) and not text.isspace()
            self._parts.append(text)

    def end_line(self) -> None:
        text = "".join(self._parts)
        text = text.rstrip() if self._pre else " ".join(text.split())
        # Outside of <pre> a blank line of the source means nothing.
        if text or (self._pre and not self._hidden):
            self.lines.append(Line(self._number, text, 0 if self._pre else self._level, code=bool(self._pre)))
        self._parts, self._has_text = [], False

    def _set_apart(self, name: str) -> None:
        if name in _BLOCKS:
            if self._parts or self._pre:
                self.end_line()
            if self.lines and self.lines[-1].text:
                self.lines.append(Line(self._number, ""))
        elif name in _LINES and not self._level:
            self.end_line()
        elif (name in _SPACES or name in _LINES) and not self._hidden:
            self._parts.append(" ")
