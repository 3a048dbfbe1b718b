"""Cuts a document into passages for retrieval. Pure functions: lines in, chunks out.

A document is first cut into sections (Markdown and HTML: at headings), these into blocks (paragraphs, fenced code,
top-level definitions), and whole blocks are packed into a chunk while they fit. Only a block that is longer than a
chunk is cut inside, at blank lines, then at line ends; only a line that is longer, inside the line, at the end of a
sentence or a word if there is one.

Promises: a chunk has at most `chars` characters and is not blank; it is a run of lines, `line` to `end_line`; every
line that is not blank is in one; within a section a chunk starts with whole lines, up to `overlap` characters, that
the one before ended with. A heading without text goes with the section that follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

Kind = Literal["text", "markdown", "html", "source", "table", "json", "json lines", "notebook", "pdf", "docx"]

_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
_COMMENT = re.compile(r" {0,3}<!--")  # deeper it would be code
_ATX = re.compile(r" {0,3}(#{1,6})(?=\s|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)\s*")

_LONGEST_FRONT_MATTER = 1000  # lines
LONGEST_TITLE = 200  # characters of a heading that are kept, since every chunk below repeats them


class Line(NamedTuple):  # a third of the time that a frozen dataclass takes to make
    """A line of a document, empty where it would be blank. In HTML several may have one number."""

    number: int  # in the file, from 1; or that of its page, row, cell or paragraph
    text: str
    level: int = 0  # 1 to 6: part of a heading
    code: bool = False  # inside of fenced code, where no heading and no paragraph starts
    place: str = ""  # where it stands, where that is no line of the file: "page 3"

    def as_heading(self, level: int) -> Line:
        return Line(self.number, self.text, level, self.code, self.place)  # a third of the time of _replace, too

    def as_code(self) -> Line:
        return Line(self.number, self.text, self.level, True, self.place)


@dataclass(frozen=True)
class Chunk:
    heading: str  # the headings it stands under, outermost first, "Guide > Install"; or empty
    line: int  # number of its first line, from 1
    end_line: int  # number of its last line
    text: str
    place: str = ""  # where it stands, where that is no run of lines: "page 3 to page 4"


def lines_of(text: str) -> list[Line]:
    """The lines as an editor numbers them: they end in \\n, \\r\\n or \\r. Those of blanks alone are empty."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [Line(number, unless_blank(line)) for number, line in enumerate(plain, start=1)]


def unless_blank(text: str) -> str:
    return "" if text.isspace() else text


def chunk(lines: Sequence[Line], kind: Kind, *, chars: int, overlap: int) -> list[Chunk]:
    """`overlap` is at most half of `chars`. HTML comes with headings marked, see `host/readers/html.py`."""
    chunks = []
    for heading, section in _sections(marked(lines) if kind == "markdown" else lines):
        pieces: list[Line] = []
        for line in section:
            if len(line.text) <= chars:
                pieces.append(line)
            else:
                pieces += _pieces(line, chars)
        for start, end in _ranges(pieces, kind, chars, overlap):
            text = "\n".join([line.text for line in pieces[start:end]])
            first, last = pieces[start], pieces[end - 1]
            place = first.place if first.place == last.place else f"{first.place} to {last.place}"
            chunks.append(Chunk(_sound(heading), first.number, last.number, _sound(text), _sound(place)))
    return chunks


def _sound(text: str) -> str:
    """As UTF-8 can have it: JSON and PDF can hold halves of a character."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def marked(lines: Sequence[Line]) -> Iterator[Line]:
    """Markdown, with the lines of headings and of fenced code marked as such."""
    fence = ""
    underlined = 0
    front = _end_of_front_matter(lines)
    in_comment = False
    for at, line in enumerate(lines):
        text = line.text
        first = text.lstrip()[:1]  # which most lines are told by to be nothing but text
        if not text:
            yield line.as_code() if fence else line
        elif at < front or in_comment or (not fence and first == "<" and _COMMENT.match(text)):
            # A `#` there is no heading.
            in_comment = at >= front and "-->" not in text
            yield line
        elif fence:
            yield line.as_code()
            match = _FENCE.fullmatch(text) if first == fence[0] else None
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
        elif first in "`~" and (match := _FENCE.fullmatch(text)) and not (first == "`" and "`" in match[2]):
            fence = match[1]
            yield line
        elif underlined:
            yield line.as_heading(underlined)
            underlined = 0
        elif first == "#" and (atx := _ATX.match(text)):
            yield line.as_heading(len(atx[1]))
        elif underlined := _underlined(lines, at):
            yield line.as_heading(underlined)
        else:
            yield line


def _end_of_front_matter(lines: Sequence[Line]) -> int:
    """How many lines at the beginning are YAML between two lines of three dashes, or TOML between two of pluses."""
    ends = {"---": ("---", "..."), "+++": ("+++",)}.get(lines[0].text.rstrip() if lines else "", ())
    for at in range(1, min(len(lines), _LONGEST_FRONT_MATTER) if ends else 0):
        if lines[at].text.rstrip() in ends:
            return at + 1
    return 0


def _underlined(lines: Sequence[Line], at: int) -> int:
    """The level of a heading that is a line of its own with === or --- below it; else 0."""
    if at + 1 == len(lines) or (at > 0 and lines[at - 1].text):
        return 0
    match = _UNDERLINE.fullmatch(lines[at + 1].text)
    if not match or _UNDERLINE.fullmatch(lines[at].text):
        return 0
    return {"=": 1, "-": 2}[match[1][0]]


def _sections(lines: Sequence[Line] | Iterator[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Each section with the path of its heading, the heading's own line first."""
    path: list[tuple[int, str]] = []  # level and title, outermost first
    section: list[Line] = []
    has_text = False
    for line in lines:
        title = _title(line.text) if line.level else ""
        if title and not _UNDERLINE.fullmatch(line.text):
            if has_text:
                yield " > ".join(above for _, above in path), section
                section, has_text = [], False
            while path and path[-1][0] >= line.level:
                path.pop()
            path.append((line.level, title))
        has_text = has_text or (bool(line.text) and not line.level)
        section.append(line)
    yield " > ".join(above for _, above in path), section


def _title(text: str) -> str:
    """The heading's words, without the marks before and behind them."""
    text = text.strip()
    text = text[len(match[1]) :].lstrip() if (match := _ATX.match(text)) else text
    bare = text.rstrip("#")
    # "C#" ends in no mark, and a heading may be nothing but marks.
    if bare != text and (not bare or bare[-1].isspace()):
        text = bare.rstrip()
    return text if len(text) <= LONGEST_TITLE else text[: LONGEST_TITLE - 1] + "…"


def _pieces(line: Line, chars: int) -> Iterator[Line]:
    """The line in pieces of at most `chars`, each but the last longer than half of that."""
    text = line.text
    start = 0
    while len(text) - start > chars:
        ends = [text.rfind(mark, start + chars // 2, start + chars) + len(mark) for mark in (". ", " ")]
        cut = next((end for end in ends if end > start + chars // 2), start + chars)
        yield line._replace(text=unless_blank(text[start:cut]))
        start = cut
    yield line._replace(text=unless_blank(text[start:]))


def _ranges(lines: Sequence[Line], kind: Kind, chars: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Ranges of `lines`, one section's, that make a chunk each."""
    first, end = 0, len(lines)
    while first < end and not lines[first].text:
        first += 1
    while first < end and not lines[end - 1].text:
        end -= 1
    if sum(len(line.text) + 1 for line in lines[first:end]) - 1 > chars:
        yield from _packed(lines, _blocks(lines, kind), chars, overlap)
    elif first < end:
        yield first, end


def _blocks(lines: Sequence[Line], kind: Kind) -> Iterator[tuple[int, int]]:
    """Ranges of `lines` that belong together, empty lines between them left out."""
    starts = [
        at
        for at, line in enumerate(lines)
        if line.text
        and (at == 0 or not lines[at - 1].text)
        and not line.code
        # In source, what is indented belongs to the definition above.
        and not (kind == "source" and at > 0 and line.text[0].isspace())
    ]
    first = next((at for at, line in enumerate(lines) if line.text), len(lines))
    bounds = sorted({first, *starts, len(lines)})
    for start, end in pairwise(bounds):
        while not lines[end - 1].text:
            end -= 1
        yield start, end


def _packed(
    lines: Sequence[Line], blocks: Iterator[tuple[int, int]], chars: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Ranges of `lines`: as many blocks as fit, or what fits of one."""
    offsets = [0, *accumulate(len(line.text) + 1 for line in lines)]

    def size(start: int, end: int) -> int:
        return offsets[end] - offsets[start] - 1

    def fitting(start: int, end: int) -> Iterator[tuple[int, int]]:
        if size(start, end) <= chars:
            yield start, end
            return
        # Runs of lines between empty ones where such a run fits, else each line.
        first = start
        while first < end:
            if not lines[first].text:
                first += 1
                continue
            last = first
            while last + 1 < end and lines[last + 1].text:
                last += 1
            if size(first, last + 1) <= chars:
                yield first, last + 1
            else:
                yield from ((at, at + 1) for at in range(first, last + 1))
            first = last + 1

    start = end = 0
    for block in blocks:
        for next_start, next_end in fitting(*block):
            if end > start and size(start, next_end) <= chars:
                end = next_end
                continue
            carried = next_start
            if end > start:
                yield start, end
                while (
                    carried - 1 > start
                    and size(carried - 1, next_start) <= overlap
                    and size(carried - 1, next_end) <= chars
                ):
                    carried -= 1
                while not lines[carried].text:
                    carried += 1
            start, end = carried, next_end
    if end > start:
        yield start, end
