"""Finds the passages of a collection that answer a question best."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from host.clients import Collection, Embedder

_EXCERPT_LINES = 8
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True)
class Passage:
    rank: int  # from 1
    score: float  # cosine, -1 to 1
    path: str  # below root
    root: str
    line: int  # of the first line, from 1; where `position` is not empty, of the page, row, cell or paragraph
    end_line: int
    heading: str
    text: str
    position: str = ""  # where it stands in what has no lines: "page 3 to page 4", "row 17", "users[3].name"

    @property
    def place(self) -> str:
        """`FILE:LINE` or `FILE, page 3`, relative where it is below the current folder."""
        file = Path(self.root, self.path)
        here = Path.cwd()
        shown = os.path.relpath(file, here) if file.is_relative_to(here) else str(file)
        return f"{shown}, {self.position}" if self.position else f"{shown}:{self.line}"

    @property
    def span(self) -> str:
        """What of the file it is: "lines 3 to 7", "page 3 to page 4"."""
        return self.position or f"lines {self.line} to {self.end_line}"

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def search(question: str, limit: int, embedder: Embedder, collection: Collection) -> Iterator[Passage]:
    """The best first, at most `limit`. Raises CallFailed."""
    for rank, hit in enumerate(collection.search(embedder.query(question), limit), start=1):
        about = hit.metadata
        yield Passage(
            rank,
            hit.score,
            str(about.get("path", hit.id)),
            str(about.get("root", "")),
            _number(about.get("line")),
            _number(about.get("end_line")),
            str(about.get("heading", "")),
            str(about.get("text", "")),
            str(about.get("position", "")),
        )


def _number(value: object) -> int:
    """0 where it is none: others may write into a collection too."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def excerpt(text: str, question: str) -> str:
    """The lines of a long passage that have most of the question's words, "…" standing for the others."""
    lines = text.split("\n")
    if len(lines) <= _EXCERPT_LINES:
        return text
    words = {word.lower() for word in _WORD.findall(question)}

    def matches(start: int) -> int:
        window = " ".join(lines[start : start + _EXCERPT_LINES])
        return len(words & {word.lower() for word in _WORD.findall(window)})

    # The earliest of the best.
    start = max(range(len(lines) - _EXCERPT_LINES + 1), key=matches)
    shown = lines[start : start + _EXCERPT_LINES]
    before, after = start > 0, start + _EXCERPT_LINES < len(lines)
    return "\n".join([*(["…"] if before else []), *shown, *(["…"] if after else [])])
