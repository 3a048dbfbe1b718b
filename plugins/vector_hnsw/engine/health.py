"""How well a collection's graph still finds: recall on a sample, against comparing with everything."""

from __future__ import annotations

import numpy as np

from .collection import OpenCollection
from .flat import Flat
from .store import Store

_SAMPLES = 32
_K = 10
_SEED = 7


def sampled_recall(entry: OpenCollection, store: Store) -> float:
    """recall@10 of stored vectors, a little moved, as queries; 1.0 where all are compared, 0.0 without a graph."""
    spec, graph = entry.spec, entry.graph
    if graph is None:
        return 0.0
    if isinstance(graph, Flat):
        return 1.0
    chance = np.random.default_rng(_SEED)
    labels = list(entry.labels.versions)
    if not labels:
        return 1.0
    picked = [labels[i] for i in chance.choice(len(labels), min(_SAMPLES, len(labels)), replace=False)]
    rows = [row for _, _, row, *_ in store.at_labels(spec.number, picked)]
    stored = list(store.vectors(spec.number, rows[:_SAMPLES]).values())
    if not stored:
        return 1.0
    matrix = np.stack(stored)
    spread = np.abs(matrix).mean(axis=1, keepdims=True)
    queries = spec.metric.prepare((matrix + 0.5 * spread * chance.standard_normal(matrix.shape)).astype(np.float32))
    best = np.full((len(queries), _K), np.inf, np.float32)
    seen: set[int] = set()
    for found_rows, vectors in store.scan(spec):
        # Of items that share a label, hence a vector, the graph knows one.
        first = {label: index for index, (_, label, *_) in enumerate(found_rows) if label not in seen}
        seen |= first.keys()
        prepared = spec.metric.prepare(vectors[list(first.values())])
        distances = np.stack([spec.metric.distances(query, prepared) for query in queries])
        best = np.sort(np.concatenate([best, distances], axis=1), axis=1)[:, :_K]
    hits, wanted = 0, int(np.isfinite(best).sum())
    if not wanted:
        return 1.0
    for query, nearest in zip(queries, best, strict=True):
        answer = graph.search(query, _K, spec.ef_search)
        if answer is not None:
            # By distance, not by label: of equally near ones any is right.
            worst = nearest[np.isfinite(nearest)][-1]
            hits += sum(distance <= worst + 1e-5 * max(1, abs(worst)) for distance in answer.distances)
    return min(1.0, hits / wanted)
