"""The items behind labels, kept in memory for labels that were found lately.

SQLite lets go of the interpreter for every row it reads, and getting it back beside a busy event loop costs more than
the search itself. What is kept is dropped before a write of it is acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .store import Store

_MOST_BYTES = 8 * 2**20
_ROW_BYTES = 400  # of a row besides its texts


class Row:
    """An item as the store had it. `memo` is for whoever presents it: kept as long as the row is.

    `metadata` is "", which is no JSON, where it was not read.
    """

    __slots__ = ("id", "memo", "metadata", "row", "version")

    def __init__(self, row: int, version: int, id: str, metadata: str) -> None:
        self.row = row
        self.version = version
        self.id = id
        self.metadata = metadata
        self.memo: Any = None


Rows = dict[int, tuple[Row, ...]]  # by label


class RowCache:
    """Of one collection. Many threads read; the one that writes wraps its commits in `changing`."""

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self._number = number
        self._kept: Rows = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self.generation = 0  # odd while a commit is under way

    def at_labels(self, labels: Sequence[int], most: int | None = None) -> Rows:
        """The items that these labels have; a label that nobody has any more is left out.

        Raises TooLarge beyond `most` bytes of metadata, or the store's `max_read`.
        """
        kept, generation = self._kept, self.generation
        rows_of: Rows = {}
        missing = []
        for label in labels:
            rows = kept.get(label)
            if rows is None:
                missing.append(label)
            else:
                rows_of[label] = rows
        if missing:
            read: dict[int, list[Row]] = {}
            for label, version, row, name, metadata in self._store.at_labels(self._number, missing, most):
                read.setdefault(label, []).append(Row(row, version, name, metadata))
            new = {label: tuple(rows) for label, rows in read.items()}
            rows_of |= new
            self._keep(new, generation)
        return rows_of

    def without_metadata(self, labels: Sequence[int]) -> Rows:
        read: dict[int, list[Row]] = {}
        for label, version, row, name in self._store.names_at_labels(self._number, labels):
            read.setdefault(label, []).append(Row(row, version, name, ""))
        return {label: tuple(rows) for label, rows in read.items()}

    @contextmanager
    def changing(self, labels: Collection[int]) -> Iterator[None]:
        """Within, the store is changed where items have these labels, before or after."""
        with self._lock:
            self.generation += 1
        try:
            yield
        finally:
            with self._lock:
                for label in labels:
                    self._bytes -= _size(self._kept.pop(label, ()))
                self.generation += 1

    def _keep(self, rows: Rows, generation: int) -> None:
        with self._lock:
            # What was read while something was written may be older than what was dropped.
            if generation % 2 or generation != self.generation:
                return
            # Another thread may have read the same meanwhile.
            new = {label: found for label, found in rows.items() if label not in self._kept}
            self._kept |= new
            self._bytes += sum(map(_size, new.values()))
            while self._bytes > _MOST_BYTES:
                self._bytes -= _size(self._kept.pop(next(iter(self._kept))))


def _size(rows: tuple[Row, ...]) -> int:
    # Twice the metadata: the memo is about as large.
    return sum(_ROW_BYTES + 2 * len(row.metadata) + len(row.id) for row in rows)
