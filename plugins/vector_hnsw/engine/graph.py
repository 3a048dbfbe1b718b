"""One hnswlib index, kept away from what kills it.

hnswlib 0.8 dies when it is searched while it grows, answers wrongly when it is searched while it inserts, and
refuses a search that finds fewer than k. Here inserts and deletes come in short turns under a lock that searches
share, growing is one of those turns, and a search that falls short looks further. Equal vectors are one node
(`twins.py`), because many equal nodes hide all others.

Every label goes with the sequence of the write that it stands for, so that the engine can tell an item that was
written since from the one that was scored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import hnswlib

from plugins.vector_hnsw.engine.lock import SharedLock
from plugins.vector_hnsw.engine.metric import Floats, Metric
from plugins.vector_hnsw.engine.twins import Twins
from shared.errors import Overloaded

# What one turn inserts at most: about 10 ms on two cores at any dimension.
_NUMBERS_A_TURN = 50_000


@dataclass(frozen=True)
class Found:
    """Labels with their scores, best first, and the sequence of the write that each score is of."""

    labels: list[int]
    scores: list[float]
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
        self._twins = Twins()
        self._index = self._new_index()
        self._index.init_index(1024, M=m, ef_construction=ef_construction, random_seed=100)

    @property
    def count(self) -> int:
        return len(self._sequences)

    @property
    def tombstones(self) -> float:
        """Which share of the nodes is deleted; those still take part in searches as way-points."""
        nodes = int(self._index.get_current_count())
        return (nodes - self._twins.nodes) / nodes if nodes else 0.0

    def reserve(self, more: int) -> None:
        """Makes room for a `put` of `more` labels. Raises Overloaded when there is no memory for them."""
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

    def put(self, labels: Sequence[int], vectors: Floats, sequences: Sequence[int]) -> int:
        """Adds labels, or moves those that are there (at seven times the cost). `reserve` must have made room.

        A label may come once. Returns how many nodes that made or moved.
        """
        nodes = 0
        for start in range(0, len(labels), self._turn):
            part = slice(start, start + self._turn)
            with self._lock.write():
                nodes += self._place(labels[part], vectors[part])
                self._sequences.update(zip(labels[part], sequences[part], strict=True))
        return nodes

    def touch(self, labels: Iterable[int], sequence: int) -> None:
        """Says that the labels were written at `sequence` without a change to their vectors."""
        with self._lock.write():
            self._sequences.update(dict.fromkeys(labels, sequence))

    def delete(self, labels: Iterable[int]) -> None:
        """Labels that are not there are passed over."""
        with self._lock.write():
            for label in labels:
                if label in self._sequences:
                    self._take_out(label)
                    del self._sequences[label]

    def search(self, query: Floats, k: int, ef: int, wait: bool = True) -> Found | None:
        """The `k` nearest and what shares a vector with the last of them, or all when there are fewer.

        None when the graph cannot reach that many.

        Without `wait` it is None also where it would have to wait for a write or another search, or look further.
        """
        with self._lock.read(wait) as inside:
            if not inside:
                return None
            k = min(k, len(self._sequences))
            if k == 0:
                return Found([], [], [])
            for wider in (1, 4, 16) if wait else (1,):
                # ef is a setting of the whole index, so it must not change under another search.
                if not self._query_lock.acquire(blocking=wait):
                    return None
                try:
                    self._index.set_ef(max(ef * wider, k))
                    nodes, distances = self._index.knn_query(query, k=min(k, self._twins.nodes), num_threads=1)
                except RuntimeError:
                    continue
                finally:
                    self._query_lock.release()
                return self._found(nodes[0].tolist(), distances[0], k)
            return None

    # -- on disk, for cache.py ----------------------------------------------------------------------------------

    def write_file(self, path: str) -> int:
        """Writes the graph while searches go on, and returns how many bytes it must have."""
        with self._lock.read():
            self._index.save_index(path)
            return int(self._index.index_file_size())

    def astray(self) -> list[int]:
        """Labels whose node, if the file has one, stands for others or for nobody."""
        return [label for label in self._index.get_ids_list() if self._twins.is_astray(label)]

    def read_file(self, path: str) -> set[int]:
        """Replaces the graph by the file's and returns the labels in it. The file must be one that was verified."""
        index = self._new_index()
        index.load_index(path)
        self._index = index
        return set(index.get_ids_list())

    def adopt(self, sequences: Mapping[int, int]) -> None:
        """Says which labels of a loaded file stand for themselves, and for which write; the others are deleted."""
        labels = list(sequences)
        for start in range(0, len(labels), 1000):
            part = labels[start : start + 1000]
            for label, vector in zip(part, self._index.get_items(part), strict=True):
                self._twins.add(label, vector)
        self._sequences = dict(sequences)
        for label in self._index.get_ids_list():
            if label not in sequences:
                try:
                    self._index.mark_deleted(label)
                except RuntimeError:  # it was saved as deleted
                    continue

    # -- inside, under the lock ---------------------------------------------------------------------------------

    def _place(self, labels: Sequence[int], vectors: Floats) -> int:
        fresh = []  # rows that make a node, or move their own
        for row, (label, vector) in enumerate(zip(labels, vectors, strict=True)):
            if label in self._sequences:
                self._take_out(label)
            node = self._twins.node_with(vector)
            if node is not None:
                self._twins.join(label, node)
                continue
            self._free_name(label)
            self._twins.add(label, vector)
            fresh.append(row)
        if fresh:
            # A label that was deleted just now comes back to life in its new place: its node is moved.
            self._index.add_items(vectors[fresh], [labels[row] for row in fresh], num_threads=self._threads)
        return len(fresh)

    def _take_out(self, label: int) -> None:
        node = self._twins.node_of(label)
        if self._twins.leave(label, self._index.get_items([node])[0]):
            self._index.mark_deleted(node)

    def _free_name(self, label: int) -> None:
        """When the node that bears this label is others' by now, it gets the name of one of them."""
        if not self._twins.labels_left_at(label):
            return
        heir = self._twins.heir(label)
        self._free_name(heir)
        vector = self._index.get_items([label])
        self._index.add_items(vector, [heir])
        self._twins.rename(label, heir, vector[0])

    def _found(self, nodes: list[int], distances: Floats, k: int) -> Found:
        labels: list[int] = []
        scores: list[float] = []
        for node, score in zip(nodes, self._metric.scores(distances).tolist(), strict=True):
            if len(labels) >= k:
                break
            there = self._twins.labels_at(node)
            labels += there
            scores += [score] * len(there)
        return Found(labels, scores, [self._sequences[label] for label in labels])

    def _new_index(self) -> hnswlib.Index:
        return hnswlib.Index(space=self._metric.space, dim=self._dimension)
