"""For people: tables, sizes, how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import hector_plugins_pb2 as pb

from shared.visible import visible_line


class Progress:
    """A line on stderr, written anew every now and then while it goes to a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.count = 0
        self._began = self._shown = time.monotonic()

    def add(self, count: int) -> None:
        self.count += count
        if sys.stderr.isatty() and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            print(f"\r{self._line()} ", end="", file=sys.stderr, flush=True)

    def through(self, vectors: Iterable[pb.Vector]) -> Iterator[pb.Vector]:
        for vector in vectors:
            self.add(1)
            yield vector

    def done(self) -> None:
        print(f"\r{self._line()}" if sys.stderr.isatty() else self._line(), file=sys.stderr)

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self._what} {self.count:,} vectors in {seconds:.1f} s, {self.count / max(seconds, 1e-9):,.0f}/s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[visible_line(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def bytes_of(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
