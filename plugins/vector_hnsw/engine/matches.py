"""Which items a filter fits, remembered between searches and kept up with what is written.

Asking SQLite costs a look at the metadata of every item. So the answer is kept, for the filters that were used last,
and after a write only the rows that it touched are asked about again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.vectors.items import Floats

from .comparing import Doubles, lengths_of
from .filters import Where
from .store import Collection, Store

_MOST_FILTERS = 16
_MOST_BYTES = 32 * 2**20  # of them together, but for the one that was used last
_ROW_BYTES = 240  # of a row that fits, in a dictionary and a set
_LARGEST_FILTER = 100_000  # characters and values; a larger one is not kept
# So few matches are compared one by one, and their vectors kept: 4 MB a filter at most.
_FEW_NUMBERS = 1_000_000
# Rows that were written lately, as far back as a kept answer can be brought up to date.
_MOST_RECENT = 5_000
_NONE, _NO_LENGTHS = np.empty(0, np.int64), np.empty(0, np.float64)


@dataclass(frozen=True)
class Matches:
    """As of write `sequence`: `label_of` each row that fits.

    When they are few: `vectors` as they came, their `lengths` and `versions`, in the order of `rows`; otherwise None
    and empty.
    """

    sequence: int
    label_of: dict[int, int]
    labels: frozenset[int]
    rows: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    vectors: Floats | None
    lengths: Doubles

    @property
    def count(self) -> int:
        return len(self.label_of)

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        return _ROW_BYTES * len(self.label_of) + (self.vectors.nbytes if self.vectors is not None else 0)


class MatchCache:
    """Of one collection. Told of every write by the one thread that writes; asked by any."""

    def __init__(self, store: Store, spec: Collection) -> None:
        self._store = store
        self._spec = spec
        self._sequence = store.sequence
        self._kept: OrderedDict[Where, Matches] = OrderedDict()
        self._recent: deque[tuple[int, Sequence[int]]] = deque()  # (sequence, rows) of the last writes
        self._recent_rows = 0
        self._forgotten = store.sequence  # writes up to this one are not in `_recent`
        self._lock = threading.Lock()

    def changed(self, sequence: int, rows: Sequence[int]) -> None:
        """The write `sequence` touched these rows."""
        with self._lock:
            self._recent.append((sequence, rows))
            self._recent_rows += len(rows)
            while self._recent_rows > _MOST_RECENT:
                self._forgotten, gone = self._recent.popleft()
                self._recent_rows -= len(gone)
            self._sequence = sequence

    def get(self, where: Where, wait: bool = True) -> Matches | None:
        """What fits now. Without `wait`, None where that would have to be found out."""
        with self._lock:
            kept, now, forgotten = self._kept.get(where), self._sequence, self._forgotten
            touched = {row for at, rows in self._recent if kept and at > kept.sequence for row in rows}
            if kept is not None:
                self._kept.move_to_end(where)
        if kept is not None and kept.sequence == now:
            return kept
        if not wait:
            return None
        if kept is not None and kept.sequence >= forgotten:
            matches = self._brought_up(kept, where, touched, now)
        else:
            matches = self._made(dict(self._store.fitting(self._spec.number, where)), where, now)
        self._keep(where, matches)
        return matches

    def _keep(self, where: Where, matches: Matches) -> None:
        if sum(len(value) if isinstance(value, str) else 1 for value in where.values) > _LARGEST_FILTER:
            return
        with self._lock:
            self._kept[where] = matches
            size = sum(each.bytes for each in self._kept.values())
            while len(self._kept) > _MOST_FILTERS or (size > _MOST_BYTES and len(self._kept) > 1):
                size -= self._kept.popitem(last=False)[1].bytes

    def _brought_up(self, kept: Matches, where: Where, touched: set[int], now: int) -> Matches:
        again = dict(self._store.fitting(self._spec.number, where, sorted(touched)))
        if not again and not touched & kept.label_of.keys():
            return replace(kept, sequence=now)
        label_of = {row: label for row, label in kept.label_of.items() if row not in touched} | again
        return self._made(label_of, where, now)

    def _made(self, label_of: dict[int, int], where: Where, now: int) -> Matches:
        labels = frozenset(label_of.values())
        if len(label_of) * self._spec.dimension > _FEW_NUMBERS:
            return Matches(now, label_of, labels, _NONE, _NONE, None, _NO_LENGTHS)
        stored = self._store.versioned_vectors(self._spec.number, list(label_of))
        matrix = np.frombuffer(b"".join(vector for *_, vector in stored), "<f4").reshape(-1, self._spec.dimension)
        rows, versions = np.array([(row, version) for row, version, _ in stored], np.int64).reshape(-1, 2).T
        return Matches(now, label_of, labels, rows, versions, matrix, lengths_of(matrix))
