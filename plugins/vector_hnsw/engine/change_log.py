"""What each write touched, in a table of the store, so that readers (`reader.py`) need not look through all of it.

    changes    sequence, number of the collection (0: its name, parameters or aliases), labels, rows

An entry is written in the transaction that it is of. It names what was touched and not what became of it: that is in
the store. So reading one twice does no harm, and where one is missing (the log was pruned, or a version wrote that
keeps none) a reader looks through the collections that were written since.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from shared.errors import NotFound

from .database import Database

# Beyond either the older half goes.
MOST_ENTRIES, MOST_BYTES = 4000, 2 * 2**20
_FEW = 64  # numbers that are not worth compressing
_MANY = 2000  # labels

# Made with the first write, so that a store of an earlier version is brought up to it.
_TABLE = """
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY, number INTEGER NOT NULL, labels BLOB, rows BLOB
) STRICT
"""


@dataclass
class Changes:
    """Of several writes: whether collections or aliases were made, changed or dropped; by collection the labels and
    rows that were touched; and the collections of which that is not known."""

    catalogue: bool = False
    touched: dict[int, tuple[set[int], set[int]]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)

    @property
    def is_large(self) -> bool:
        """Whether to bring memory up to them may take more than some tenths of a second."""
        count = sum(len(labels) for labels, _ in self.touched.values())
        return self.catalogue or bool(self.unknown) or count > _MANY


class ChangeLog:
    """Written by the thread that writes the store; read by any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entry: tuple[int, bytes | None, bytes | None] | None = None
        # (sequence, bytes) of each entry, once something was written; and what they are after the next commit.
        self._kept: deque[tuple[int, int]] | None = None
        self._bytes = 0
        self._written: tuple[deque[tuple[int, int]], tuple[int, int] | None, int] | None = None

    def begin(self) -> None:
        """A write begins. Unless it notes what it touches, readers look through everything after it."""
        self._entry = self._written = None

    def note(self, number: int, labels: Iterable[int], rows: Iterable[int]) -> None:
        """The write touches these rows of a collection; they have these labels before or after it."""
        self._entry = number, packed(labels), packed(rows)

    def note_unknown(self, number: int) -> None:
        """The write touches a collection, and there is no room to say where."""
        self._entry = number, None, None

    def note_catalogue(self) -> None:
        """The write makes, changes or drops collections or aliases, and touches no item of those that stay."""
        self._entry = 0, b"", b""

    def write(self, connection: sqlite3.Connection, sequence: int) -> None:
        """Within the transaction, which becomes the write `sequence`."""
        kept, size = self._kept, self._bytes
        if kept is None:
            connection.execute(_TABLE)
            lengths = "SELECT sequence, coalesce(length(labels) + length(rows), 0) FROM changes ORDER BY sequence"
            kept = deque(connection.execute(lengths).fetchall())
            size = sum(each for _, each in kept)
        new = None
        if self._entry is not None:
            number, labels, rows = self._entry
            connection.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?)", (sequence, number, labels, rows))
            new = sequence, len(labels or b"") + len(rows or b"")
        go = 0
        if len(kept) >= MOST_ENTRIES or size > MOST_BYTES:
            go = (len(kept) + 1) // 2
            connection.execute("DELETE FROM changes WHERE sequence <= ?", (kept[go - 1][0],))
        self._written = kept, new, go

    def committed(self) -> None:
        """The transaction is durable. Not called where it was undone."""
        if self._written is None:
            return
        kept, new, go = self._written
        for _ in range(go):
            kept.popleft()
        if new is not None:
            kept.append(new)
        if go or self._kept is None:
            self._bytes = sum(each for _, each in kept)
        elif new is not None:
            self._bytes += new[1]
        self._kept = kept

    def since(self, before: int, now: int) -> Changes | None:
        """What the writes behind `before` up to `now`, the last of the store, touched; None where that is not known."""
        query = "SELECT sequence, number, labels, rows FROM changes WHERE sequence > ? ORDER BY sequence"
        try:
            entries = self._database.rows(query, before)
        except NotFound:  # there is no such table yet
            return Changes() if before == now else None
        if [sequence for sequence, *_ in entries] != list(range(before + 1, now + 1)):
            return None
        changes = Changes()
        for _, number, labels, rows in entries:
            if not number:
                changes.catalogue = True
            elif labels is None or rows is None:
                changes.unknown.add(number)
            else:
                there = changes.touched.setdefault(number, (set(), set()))
                there[0].update(unpacked(labels))
                there[1].update(unpacked(rows))
        return changes


def packed(numbers: Iterable[int]) -> bytes:
    """Whole numbers, of which each counts once; `unpacked` gives them back in order."""
    ordered = sorted(numbers)
    if len(ordered) <= _FEW:
        return b"\0" + struct.pack(f"<{len(ordered)}q", *ordered)
    steps = np.diff(np.array(ordered, "<i8"), prepend=0).astype("<i8")
    return b"\1" + zlib.compress(steps.tobytes(), 1)


def unpacked(blob: bytes) -> list[int]:
    numbers = blob[1:]
    if blob[:1] == b"\0":
        return list(struct.unpack(f"<{len(numbers) // 8}q", numbers))
    whole: list[int] = np.cumsum(np.frombuffer(zlib.decompress(numbers), "<i8")).tolist()
    return whole
