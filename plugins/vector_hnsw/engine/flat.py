"""The vectors of a small collection, in memory and compared one by one: quicker than a graph where there are few, and
nothing in it can rot. It stands where a `Graph` does and takes the same writes."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence

import numpy as np

from shared.vectors.items import Floats

from .comparing import lengths_of, nearest
from .graph import Graph, Neighbours, no_memory
from .lock import SharedLock
from .metric import Metric
from .pace import Pace
from .store import Collection

# So many vectors, or so many bytes of them, are few.
MOST, MOST_BYTES = 1000, 16 * 2**20


def most_of(dimension: int) -> int:
    """How many vectors of this dimension a `Flat` is for."""
    return min(MOST, max(1, MOST_BYTES // (4 * dimension)))


def index_for(spec: Collection, count: int, threads: int) -> Flat | Graph:
    """An empty index for so many vectors. Raises Overloaded when there is no memory for it."""
    if count <= most_of(spec.dimension):
        return Flat(spec.metric, spec.dimension, threads)
    return Graph(spec.metric, spec.dimension, spec.m, spec.ef_construction, threads)


class Flat:
    """Holds vectors as they came, by label. One thread writes; any may search."""

    tombstone_ratio = wear = 0.0

    def __init__(self, metric: Metric, dimension: int, threads: int = 0) -> None:
        """`threads` for the graph that takes its place once there are many."""
        self.threads = threads
        self.pace = Pace(dimension)
        self._metric = metric
        self._lock = SharedLock()
        self._versions: dict[int, int] = {}
        self._row_of: dict[int, int] = {}
        self._labels = np.empty(0, np.int64)  # by row, as what follows
        self._vectors = np.empty((0, dimension), np.float32)
        self._lengths = np.empty(0, np.float64)

    @property
    def count(self) -> int:
        """Labels that a search can find."""
        return len(self._versions)

    @property
    def versions(self) -> dict[int, int]:
        """Of every label. Its own: for others to read."""
        return self._versions

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self._vectors.nbytes

    def bytes_with(self, more: int) -> int:
        """`bytes` with room for `more` new labels."""
        return self._size(more) * self._vectors.shape[1] * 4

    def reserve(self, more: int, most_bytes: int = 0) -> None:
        """Makes room for a `put` of `more` new labels. Raises Overloaded when there is no memory for them."""
        size = self._size(more)
        if size == len(self._vectors):
            return
        try:
            vectors = np.empty((size, self._vectors.shape[1]), np.float32)
            labels, lengths = np.empty(size, np.int64), np.empty(size, np.float64)
        except MemoryError as error:
            raise no_memory(f"{self.count + more} vectors in this collection") from error
        for new, old in ((vectors, self._vectors), (labels, self._labels), (lengths, self._lengths)):
            new[: self.count] = old[: self.count]
        with self._lock.write():
            self._vectors, self._labels, self._lengths = vectors, labels, lengths

    def contents(self) -> tuple[list[int], Floats, list[int]]:
        """Labels, their vectors and versions, for the thread that writes."""
        labels = self._labels[: self.count].tolist()
        return labels, self._vectors[: self.count], [self._versions[label] for label in labels]

    def put(self, labels: Sequence[int], vectors: Floats, versions: Sequence[int]) -> None:
        """Adds labels, or gives those that are there another vector. `reserve` must have made room."""
        with self._lock.write():
            for label in labels:
                self._row_of.setdefault(label, len(self._row_of))
            rows = [self._row_of[label] for label in labels]
            self._labels[rows], self._vectors[rows], self._lengths[rows] = labels, vectors, lengths_of(vectors)
            self._versions.update(zip(labels, versions, strict=True))

    def delete(self, labels: Iterable[int]) -> None:
        """Labels that are not there are passed over."""
        with self._lock.write():
            for label in labels:
                if self._versions.pop(label, None) is None:
                    continue
                # The last row takes the place of the one that goes.
                row, last = self._row_of.pop(label), len(self._row_of)
                if row != last:
                    moved = int(self._labels[last])
                    self._row_of[moved] = row
                    for column in (self._labels, self._vectors, self._lengths):
                        column[row] = column[last]

    def search(
        self, query: Floats, k: int, among: Container[int] | None = None, wait: bool = True
    ) -> Neighbours | None:
        """The `k` nearest labels, with keys (`comparing.py`) for distances, and all as near as the last of them.

        `query` is as it came. With `among`, only these labels. Without `wait` it is None where it would have to wait.
        """
        if not self._lock.enter(wait):
            return None
        try:
            began = time.thread_time()
            rows = slice(0, self.count)
            labels, vectors, lengths = self._labels[rows], self._vectors[rows], self._lengths[rows]
            if among is not None:
                kept = [row for row, label in enumerate(labels.tolist()) if label in among]
                labels, vectors, lengths = labels[kept], vectors[kept], lengths[kept]
            if not len(labels):
                return Neighbours([], [], [])
            chosen, keys = nearest(self._metric, query, vectors, lengths, k)
            order = np.argsort(keys, kind="stable")
            wanted = labels[chosen[order]].tolist()
            self.pace.took(self.count, time.thread_time() - began)
            return Neighbours(wanted, keys[order].tolist(), [self._versions[label] for label in wanted])
        finally:
            self._lock.leave()

    def _size(self, more: int) -> int:
        """Rows that there must be, and are or will be."""
        needed, there = self.count + more, len(self._vectors)
        return there if needed <= there else max(needed, 8, there * 2)
