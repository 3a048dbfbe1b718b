"""One hnswlib index, kept away from what kills it.

hnswlib 0.8 dies when it is searched while it grows, answers wrongly when it is searched while it inserts, and
refuses a search that finds fewer than k. Here inserts and deletes come in short turns under a lock that searches
share, growing is one of those turns, and a search that falls short looks further. It knows labels, each with one
vector; that equal vectors share a label is `labels.py`'s affair.

Every label goes with its version, the sequence of the write that gave it its vector, so that the collection can tell
an item whose vector was changed since from the one that was scored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import hnswlib
import numpy as np
import numpy.typing as npt

from shared.errors import Overloaded
from shared.vectors.items import Floats

from .lock import SharedLock
from .metric import Metric
from .pace import Pace
from .saving import save

# What one turn inserts at most: about 10 ms on two cores at any dimension.
_NUMBERS_A_TURN = 50_000
# Nodes, or bytes of vectors, that an empty graph has room for.
_FIRST_SIZE, _FIRST_BYTES = 1024, 4 * 2**20


def graph_bytes(dimension: int, m: int, nodes: int) -> int:
    """What so many nodes take in memory: vectors, links in the lowest layer, and what hnswlib keeps beside them."""
    return nodes * (4 * dimension + 8 * m + 80)


class Neighbours(NamedTuple):
    """Labels with their distances, nearest first, and the version that each distance is of."""

    labels: list[int]
    distances: list[float]
    versions: list[int]


class Graph:
    """Holds vectors as `Metric.prepare` makes them. One thread writes; any may search."""

    def __init__(self, metric: Metric, dimension: int, m: int, ef_construction: int, threads: int = 0) -> None:
        """`threads` that insert; 0 for one a core. Raises Overloaded when there is no memory for it."""
        self._metric, self._dimension, self.m, self.ef_construction = metric, dimension, m, ef_construction
        self.threads = threads or os.cpu_count() or 1
        self._turn = max(8, min(256, _NUMBERS_A_TURN // dimension))
        self.pace = Pace(dimension)
        self._lock = SharedLock()
        self._versions: dict[int, int] = {}
        self._moves = 0
        self._node_bytes = graph_bytes(dimension, m, 1)
        self._index = self._new_index()
        size = max(16, min(_FIRST_SIZE, _FIRST_BYTES // (4 * dimension)))
        try:
            self._index.init_index(size, M=m, ef_construction=ef_construction, random_seed=100)
            # hnswlib keeps max(ef, k) candidates. As many as are wanted are asked for, and so the setting, which is
            # the whole index's, is left alone, and searches with any ef go on beside each other.
            self._index.set_ef(1)
        except (MemoryError, RuntimeError) as error:
            raise no_memory(f"a graph of dimension {dimension} with m of {m}") from error

    @property
    def count(self) -> int:
        """Labels that a search can find."""
        return len(self._versions)

    @property
    def versions(self) -> dict[int, int]:
        """Of every label that a search can find. The graph's own: for others to read."""
        return self._versions

    @property
    def nodes(self) -> int:
        """Labels and tombstones: what was deleted still takes part in searches as a way-point."""
        return int(self._index.get_current_count())

    @property
    def tombstone_ratio(self) -> float:
        """Which share of the nodes is deleted."""
        return (self.nodes - len(self._versions)) / self.nodes if self.nodes else 0.0

    @property
    def wear(self) -> float:
        """Nodes that were deleted or moved, as a share of all: hnswlib's links get worse by either."""
        return self.tombstone_ratio + (self._moves / self.nodes if self.nodes else 0.0)

    @property
    def bytes(self) -> int:
        """What the index takes in memory, room for vectors to come included."""
        return int(self._index.get_max_elements()) * self._node_bytes

    def bytes_with(self, more: int) -> int:
        """`bytes` with just so much room that `more` new labels fit."""
        return max(self.bytes, (self.nodes + more) * self._node_bytes)

    def reserve(self, more: int, most_bytes: int = 0) -> None:
        """Makes room for a `put` of `more` new labels, and for others as far as `most_bytes` (0: no bound) allow.

        Raises Overloaded when there is no memory for them.
        """
        needed = int(self._index.get_current_count()) + more
        if needed <= self._index.get_max_elements():
            return
        size = max(needed, int(self._index.get_max_elements() * 1.5))
        if most_bytes:
            size = max(needed, min(size, most_bytes // self._node_bytes))
        with self._lock.write():
            try:
                self._index.resize_index(size)
            except (MemoryError, RuntimeError) as error:
                raise no_memory(f"{needed} vectors in this collection") from error

    def put(self, labels: Sequence[int], vectors: Floats, versions: Sequence[int]) -> None:
        """Adds labels, or moves those that are there (at seven times the cost). `reserve` must have made room.

        `vectors` are as they came.
        """
        vectors = self._metric.prepare(vectors)
        for start in range(0, len(labels), self._turn):
            part = slice(start, start + self._turn)
            with self._lock.write():
                self._moves += sum(label in self._versions for label in labels[part])
                self._index.add_items(vectors[part], labels[part], num_threads=self.threads)
                self._versions.update(zip(labels[part], versions[part], strict=True))

    def delete(self, labels: Iterable[int]) -> None:
        """Labels that are not there are passed over."""
        with self._lock.write():
            for label in labels:
                if self._versions.pop(label, None) is not None:
                    with suppress(RuntimeError):  # it was saved as deleted
                        self._index.mark_deleted(label)

    def search(self, query: Floats, k: int, ef: int, wait: bool = True) -> Neighbours | None:
        """The first `k` of the nearest `ef` labels, or all when there are fewer. None when it cannot reach that many.

        `query` is prepared. With one `ef` the first `k` are among the first `k + 1`, ties included. So all are asked
        for, which costs no more: of equally near ones hnswlib gives others when it is asked for fewer. Without `wait`
        it is None also where it would have to wait for a write, or look further.
        """
        if not self._lock.enter(wait):
            return None
        try:
            asked = min(max(k, ef), len(self._versions))
            if asked == 0:
                return Neighbours([], [], [])
            answer = self._query(query, asked, 1)
            if answer is not None:
                return self._neighbours(*answer, k)[0]
        finally:
            self._lock.leave()
        return self._look_further(query, k, ef) if wait else None

    def search_many(self, queries: Floats, k: int, ef: int, wait: bool = True) -> list[Neighbours] | None:
        """As `search`, for each row of `queries`, on all threads at once. None when one of them cannot be answered.

        Without `wait` on this thread alone, and None where it would have to wait.
        """
        if not self._lock.enter(wait):
            return None
        try:
            asked = min(max(k, ef), len(self._versions))
            if asked == 0:
                return [Neighbours([], [], [])] * len(queries)
            answer = self._query(queries, asked, self.threads if wait else 1)
            return None if answer is None else self._neighbours(*answer, k)
        finally:
            self._lock.leave()

    def _look_further(self, query: Floats, k: int, ef: int) -> Neighbours | None:
        """`search`, where not so many labels can be reached from among `ef`, with more of them."""
        # ef is a setting of the whole index, so nobody else may search meanwhile.
        with self._lock.write():
            asked = min(max(k, ef), len(self._versions))
            try:
                for wider in (4, 16):
                    self._index.set_ef(ef * wider)
                    answer = self._query(query, asked, 1)
                    if answer is not None:
                        return self._neighbours(*answer, k)[0]
            finally:
                self._index.set_ef(1)
        return None

    def _neighbours(self, labels: npt.NDArray[np.uint64], distances: Floats, k: int) -> list[Neighbours]:
        versions = self._versions
        return [
            Neighbours(near, far, [versions[label] for label in near])
            for near, far in zip(labels[:, :k].tolist(), distances[:, :k].tolist(), strict=True)
        ]

    # -- on disk, for cache.py ----------------------------------------------------------------------------------

    def write_file(self, path: str) -> int:
        """Writes the graph while searches go on, and returns how many bytes it must have."""
        with self._lock.read():
            size = int(self._index.index_file_size())
            save(self._index.save_index, path, size)
            return size

    def read_file(self, path: str) -> npt.NDArray[np.int64]:
        """Replaces the graph by the file's and returns the labels in it. The file must be one that was verified."""
        index = self._new_index()
        index.load_index(path)
        index.set_ef(1)
        self._index = index
        return np.array(index.get_ids_list(), dtype=np.int64)

    def adopt(self, labels: npt.NDArray[np.int64], versions: dict[int, int]) -> None:
        """Says what the labels of a loaded file stand for; those without a version are deleted."""
        self._versions = {label: versions[label] for label in labels.tolist() if label in versions}
        for label in labels.tolist():
            if label not in versions:
                try:
                    self._index.mark_deleted(label)
                except RuntimeError:  # it was saved as deleted
                    continue

    def _query(self, queries: Floats, k: int, threads: int) -> tuple[npt.NDArray[np.uint64], Floats] | None:
        try:
            began = time.thread_time()
            labels, distances = self._index.knn_query(queries, k=k, num_threads=threads)
            if threads == 1:  # this one, whose time it was
                self.pace.took(labels.size, time.thread_time() - began)
            return labels, distances
        except RuntimeError:  # fewer can be reached
            return None

    def _new_index(self) -> hnswlib.Index:
        return hnswlib.Index(space=self._metric.space, dim=self._dimension)


def no_memory(what: str) -> Overloaded:
    return Overloaded(
        f"the server has no memory for {what}; delete something, or give it more memory", reason="OUT_OF_MEMORY"
    )
