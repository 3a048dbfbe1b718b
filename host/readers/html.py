"""HTML as the lines that a reader sees, with the numbers of the source lines.

turbohtml builds the tree that browsers build, whatever is missing or wrong in the source, and says where its tags
stand; a text stands behind the tag before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import turbohtml
from turbohtml import Comment, Element, Node, Text

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
_SPACE = re.compile(r"[ \t\n\f]*+")
# What a document may begin with of which the tree has nothing, or not where: end tags that end nothing, comments.
_BEFORE = re.compile(r"(?:[ \t\n\f]|</[A-Za-z][^>]*+>|<!--(?:>|->|.*?(?:-->|--!>|\Z))|<[!?][^>]*+>)*+", re.DOTALL)
_LINE_ENDS = re.compile(r"&(?:#0*+1[03]|#[xX]0*+[aAdD]|NewLine)(?![0-9A-Za-z]);?")


def html_lines(text: str) -> list[Line]:
    """Visible text only. Block elements are set apart by a blank line; headings carry their level."""
    # A reference to a line end is none of the source.
    text = _LINE_ENDS.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = _Lines()
    at = _BEFORE.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    # Line and offset of what comes next, as far as they are known; end of the last tag.
    number, last, has_begun = 1 + text.count("\n", 0, at), 0, False
    for node, ends in _walk(turbohtml.parse(text, source_locations=True, allow_declarative_shadow_roots=False)):
        if isinstance(node, Text):
            # Blanks are dropped where the tree has no place for them.
            spaces = _SPACE.match(text, at)
            dropped = spaces[0].count("\n") if spaces else 0
            kept = _SPACE.match(node.data)
            number += max(0, dropped - (kept[0].count("\n") if kept else 0))
            lines.add(node.data, number)
            number += node.data.count("\n")
            at = len(text)  # unknown until the next tag
            has_begun = True
        elif isinstance(node, Comment):
            number += node.data.count("\n") if has_begun else 0
        elif isinstance(node, Element):
            location = node.source_location
            tag = location and (location.end_tag if ends else location.start_tag)
            if tag and tag.end_offset >= last:  # of what a browser moves, the tag may stand far above
                number, at, last, has_begun = tag.end_line, tag.end_offset, tag.end_offset, True
            if ends:
                lines.end_tag(node.tag)
                continue
            hidden = node.tag in _HIDDEN and bool(node.tag in _NO_TEXT or (location and location.end_tag))
            lines.start_tag(node.tag, hidden)
            if node.tag == "img" and isinstance(alt := node.attrs.get("alt"), str) and alt.strip():
                lines.add(" ".join(alt.split()), number)
    lines.end_line()
    return lines.lines


def _walk(root: Node) -> Iterator[tuple[Node, bool]]:
    """Each node, and each element once more where it ends. Not recursive: nesting has no end."""
    open_: list[tuple[Node | None, Iterator[Node]]] = [(None, iter(root.children))]
    while open_:
        parent, children = open_[-1]
        node = next(children, None)
        if node is None:
            open_.pop()
            if parent is not None:
                yield parent, True
        else:
            yield node, False
            if isinstance(node, Element):
                open_.append((node, iter(node.children)))


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

    def start_tag(self, name: str, hidden: bool) -> None:
        self._depth += 1
        if hidden and not self._hidden:
            self._hidden = self._depth
        self._set_apart(name)
        if name in _HEADINGS:
            self._level = _HEADINGS[name]
        self._pre += name in _PRE

    def end_tag(self, name: str) -> None:
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
        for offset, text in enumerate([source.replace("\n", " ")] if self._level else source.split("\n")):
            if offset:
                self.end_line()
            if not self._has_text:
                self._number = number + offset
                self._has_text = bool(text.strip())
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
            self.end_line()
            if self.lines and self.lines[-1].text:
                self.lines.append(Line(self._number, ""))
        elif name in _LINES and not self._level:
            self.end_line()
        elif (name in _SPACES or name in _LINES) and not self._hidden:
            self._parts.append(" ")
