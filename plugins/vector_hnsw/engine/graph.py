"""One hnswlib index, kept away from what kills it.

hnswlib 0.8 dies when it is searched while it grows, answers wrongly when it is searched while it inserts, and
refuses a search that finds fewer than k. Here inserts and deletes come in short turns under a lock that searches
share, growing is one of those turns, and a search that falls short looks further.

Every label goes with the sequence of the write that it stands for, so that the engine can tell an item that was
written since from the one that was scored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import hnswlib
import numpy as np
import numpy.typing as npt

from plugins.vector_hnsw.engine.lock import SharedLock
from plugins.vector_hnsw.engine.metric import Floats, Metric
from shared.errors import Overloaded

# What one turn inserts at most: about 10 ms on two cores at any dimension.
_NUMBERS_A_TURN = 50_000


@dataclass(frozen=True)
class Found:
    """Labels with their distances, nearest first, and the sequence of each label's last write in the graph."""

    labels: list[int]
    distances: Floats
    sequences: list[int]


class Graph:
    """Holds prepared vectors (`Metric.prepare`). One thread writes; any may search."""

    def __init__(self, metric: Metric, dimension: int, m: int, ef_construction: int, threads: int = 0) -> None:
        """`threads` that insert; 0 for one a core."""
        self._metric, self._dimension, self._m, self._ef_construction = metric, dimension, m, ef_construction
        self._threads = threads or os.cpu_count() or 1
        self._turn = max(8, min(256, _NUMBERS_A_TURN // dimension))
        self._lock = SharedLock()
        self._query_lock = threading.Lock()
        self._sequences: dict[int, int] = {}
        self._index = self._new_index()
        self._index.init_index(1024, M=m, ef_construction=ef_construction, random_seed=100)

    @property
    def count(self) -> int:
        return len(self._sequences)

    @property
    def tombstones(self) -> int:
        """Deleted items that still take part in searches as way-points."""
        return int(self._index.get_current_count()) - len(self._sequences)

    @property
    def busy(self) -> bool:
        """Whether a search may have to wait for a turn of writing."""
        return self._lock.writing

    def reserve(self, more: int) -> None:
        """Makes room for `more` new labels. Raises Overloaded when there is no memory for them."""
        needed = int(self._index.get_current_count()) + more
        if needed <= self._index.get_max_elements():
            return
        with self._lock.write():
            try:
                self._index.resize_index(max(needed, int(self._index.get_max_elements() * 1.5)))
            except (MemoryError, RuntimeError) as error:
                raise Overloaded(
                    f"no memory for {needed} vectors in this collection", reason="OUT_OF_MEMORY"
                ) from error

    def put(self, labels: Sequence[int], vectors: Floats, sequences: Sequence[int]) -> None:
        """Adds labels, or moves those that are there (at seven times the cost). `reserve` must have made room."""
        for start in range(0, len(labels), self._turn):
            part = slice(start, start + self._turn)
            with self._lock.write():
                self._index.add_items(vectors[part], labels[part], num_threads=self._threads)
                self._sequences.update(zip(labels[part], sequences[part], strict=True))

    def touch(self, labels: Iterable[int], sequence: int) -> None:
        """Says that the labels were written at `sequence` without a change to their vectors."""
        with self._lock.write():
            self._sequences.update(dict.fromkeys(labels, sequence))

    def delete(self, labels: Iterable[int]) -> None:
        """Labels that are not there are passed over."""
        with self._lock.write():
            for label in labels:
                if self._sequences.pop(label, None) is not None:
                    self._index.mark_deleted(label)

    def search(self, query: Floats, k: int, ef: int) -> Found | None:
        """The `k` nearest, or all when there are fewer. None when the graph cannot reach that many."""
        with self._lock.read():
            k = min(k, len(self._sequences))
            if k == 0:
                return Found([], np.empty(0, np.float32), [])
            for wider in (1, 4, 16):
                # ef is a setting of the whole index, so it must not change under another search.
                with self._query_lock:
                    self._index.set_ef(max(ef * wider, k))
                    try:
                        labels, distances = self._index.knn_query(query, k=k, num_threads=1)
                    except RuntimeError:
                        continue
                found = labels[0].tolist()
                return Found(found, distances[0], [self._sequences[label] for label in found])
            return None

    # -- on disk, for cache.py ----------------------------------------------------------------------------------

    def write_file(self, path: str) -> int:
        """Writes the graph while searches go on, and returns how many bytes it must have."""
        with self._lock.read():
            self._index.save_index(path)
            return int(self._index.index_file_size())

    def read_file(self, path: str) -> npt.NDArray[np.int64]:
        """Replaces the graph by the file's and returns the labels in it. The file must be one that was verified."""
        index = self._new_index()
        index.load_index(path)
        self._index = index
        return np.array(index.get_ids_list(), dtype=np.int64)

    def adopt(self, loaded: npt.NDArray[np.int64], sequences: dict[int, int]) -> None:
        """Says what the labels of a loaded file stand for; those without a sequence are deleted."""
        self._sequences = {label: sequences[label] for label in loaded.tolist() if label in sequences}
        for label in loaded.tolist():
            if label not in sequences:
                try:
                    self._index.mark_deleted(label)
                except RuntimeError:  # it was saved as deleted
                    continue

    def _new_index(self) -> hnswlib.Index:
        return hnswlib.Index(space=self._metric.space, dim=self._dimension)
