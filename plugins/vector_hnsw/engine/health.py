"""How well a collection's graph still finds: recall on a sample, against comparing with everything."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.give_way import give_way
from shared.vectors.items import Floats

from .collection import OpenCollection
from .flat import Flat
from .graph import Graph
from .store import Store

_SAMPLES = 32
_K = 10
_SEED = 7


class Sample(NamedTuple):
    """Queries as the graph takes them, of shape (n, dimension), and the distances of the 10 nearest to each, of shape
    (n, 10); infinity where there are fewer."""

    queries: Floats
    nearest: Floats

    def recalls(self, graph: Graph, ef: int) -> npt.NDArray[np.float64]:
        """For each query, which share of its nearest a search with this `ef` finds, 0 to 1."""
        return np.array([self._recall(graph, ef, *one) for one in zip(self.queries, self.nearest, strict=True)])

    def _recall(self, graph: Graph, ef: int, query: Floats, nearest: Floats) -> float:
        give_way()
        there = nearest[np.isfinite(nearest)]
        answer = graph.search(query, _K, ef)
        if answer is None or not len(there):
            return float(not len(there))
        # By distance, not by label: of equally near ones any is right.
        farthest = float(there.max())
        farthest += 1e-5 * max(1, abs(farthest))
        return min(1.0, sum(distance <= farthest for distance in answer.distances) / len(there))


def sample(entry: OpenCollection, store: Store, count: int) -> Sample:
    """Of so many stored vectors, or all, a little moved; reads every vector there is."""
    spec = entry.spec
    chance = np.random.default_rng(_SEED)
    labels = list(entry.labels.versions)
    picked = [labels[i] for i in chance.choice(len(labels), min(count, len(labels)), replace=False)] if labels else []
    rows = list(store.first_rows(spec.number, picked).values())
    stored = list(store.vectors(spec.number, rows).values())
    if not stored:
        return Sample(np.empty((0, spec.dimension), np.float32), np.empty((0, _K), np.float32))
    matrix = np.stack(stored)
    spread = np.abs(matrix).mean(axis=1, keepdims=True)
    queries = spec.metric.prepare((matrix + 0.5 * spread * chance.standard_normal(matrix.shape)).astype(np.float32))
    nearest = np.full((len(queries), _K), np.inf, np.float32)
    seen: set[int] = set()
    for found_rows, vectors in store.scan(spec):
        give_way()
        # Of items that share a label, hence a vector, the graph knows one.
        first = {label: index for index, (_, label, *_) in enumerate(found_rows) if label not in seen}
        seen |= first.keys()
        prepared = spec.metric.prepare(vectors[list(first.values())])
        distances = np.stack([spec.metric.distances(query, prepared) for query in queries])
        nearest = np.partition(np.concatenate([nearest, distances], axis=1), _K - 1, axis=1)[:, :_K]
    return Sample(queries, nearest)


def sampled_recall(entry: OpenCollection, store: Store) -> float:
    """recall@10 of a sample; 1.0 where all are compared, 0.0 without a graph."""
    graph = entry.graph
    if graph is None:
        return 0.0
    if isinstance(graph, Flat):
        return 1.0
    recalls = sample(entry, store, _SAMPLES).recalls(graph, entry.spec.ef_search)
    return float(recalls.mean()) if len(recalls) else 1.0
