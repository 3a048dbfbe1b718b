"""HTML as the lines that a reader sees, with the numbers of the source lines.

A tokenizer of its own that reads every character once, as browsers do: a tag or comment that never ends takes the rest
of the document with it. Python's html.parser needs minutes for 60 kB of `<a <a <a …` (it looks for the end again from
every `<`), and other parsers do not say in which line a text stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from host.chunks import Line

_HIDDEN = frozenset(("script", "style", "nav", "template", "svg", "title", "noscript", "iframe", "noembed", "noframes"))
_RAW = frozenset(("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"))  # no tags inside
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "head", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section", "summary",
    "table", "tbody", "tfoot", "thead", "tr", "ul", *_HEADINGS,
))
# fmt: on
_SPACES = frozenset(("br", "td", "th"))

# What there is. A group that never gives back what it took (`*+`) makes a search that fails linear too.
_TEXT = re.compile(r"(?:[^<]++|<(?![A-Za-z/!?]))*+")
_NAME = re.compile(r"</?([A-Za-z][^\s/>]*+)")
_ATTRIBUTES = re.compile(r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])))*+>""")
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW}
_LONG_REFERENCE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9A-Fa-f]{9,});?")  # to no character; html.unescape may refuse it


@dataclass(frozen=True, slots=True)
class _Tag:
    name: str
    ends: bool  # </name>


def html_lines(text: str) -> list[Line]:
    """Visible text only. Block elements are set apart by a blank line; headings carry their level."""
    lines = _Lines()
    number = 1
    for source, token in _tokens(text.replace("\r\n", "\n").replace("\r", "\n")):
        if isinstance(token, str):
            lines.add(token, number)
        elif token is not None:
            lines.end_tag(token.name) if token.ends else lines.start_tag(token.name)
        number += source.count("\n")
    lines.end_line()
    return lines.lines


def _tokens(text: str) -> Iterator[tuple[str, str | _Tag | None]]:
    """The source in pieces, and what each is: text, a tag, or nothing that is seen. References stay as they are."""
    at = 0
    while at < len(text):
        plain = _TEXT.match(text, at)
        if plain and plain[0]:
            yield plain[0], plain[0]
            at = plain.end()
        elif name := _NAME.match(text, at):
            end = _ATTRIBUTES.match(text, name.end())
            if end is None:
                return
            tag = _Tag(name[1].lower(), ends=text[at + 1] == "/")
            yield text[at : end.end()], tag
            at = end.end()
            if tag.name in _RAW and not tag.ends:
                closing = _RAW_END[tag.name].search(text, at)
                end_of_raw = closing.start() if closing else len(text)
                yield text[at:end_of_raw], text[at:end_of_raw]
                at = end_of_raw
        else:  # a comment, a doctype, or what browsers take for a comment
            mark = "-->" if text.startswith("<!--", at) else ">"
            end_of_comment = text.find(mark, at + 2)
            if end_of_comment < 0:
                return
            yield text[at : end_of_comment + len(mark)], None
            at = end_of_comment + len(mark)


class _Lines:
    """Gathers the text between tags as lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._parts: list[str] = []  # of the line that is gathered
        self._has_text = False
        self._number = 1
        self._hidden = 0
        self._level = 0
        self._pre = 0

    def start_tag(self, name: str) -> None:
        if name in _HIDDEN:
            self._hidden += 1
        elif name in _BLOCKS:
            self._end_block()
            self._level = _HEADINGS.get(name, 0)
            self._pre += name == "pre"
        elif name == "br" and not self._level:
            self.end_line()
        elif name in _SPACES and not self._hidden:
            self._parts.append(" ")

    def end_tag(self, name: str) -> None:
        if name in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif name in _BLOCKS:
            self._end_block()
            self._level = 0
            self._pre = max(0, self._pre - (name == "pre"))

    def add(self, source: str, number: int) -> None:
        """Text that begins in the line `number`."""
        if self._hidden:
            return
        # A heading stays one line.
        for offset, text in enumerate([source] if self._level else source.split("\n")):
            if offset:
                self.end_line()
            # Converted line by line: an expanded &#10; would shift the line numbers.
            self._add(_unescaped(text), number + offset)

    def end_line(self) -> None:
        text = "".join(self._parts)
        text = text.rstrip() if self._pre else " ".join(text.split())
        # Outside of <pre> a blank line of the source means nothing.
        if text or (self._pre and not self._hidden):
            self.lines.append(Line(self._number, text, 0 if self._pre else self._level, code=bool(self._pre)))
        self._parts, self._has_text = [], False

    def _add(self, text: str, number: int) -> None:
        if not self._has_text:
            self._number = number
            self._has_text = bool(text.strip())
        self._parts.append(text)

    def _end_block(self) -> None:
        self.end_line()
        if self.lines and self.lines[-1].text:
            self.lines.append(Line(self._number, ""))


def _unescaped(text: str) -> str:
    if "&" not in text:
        return text
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)).replace("\n", " ").replace("\r", " ")
