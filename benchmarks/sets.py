"""Vectors to search in, with queries that are not among them and the exact answers to those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.sentences import embeddings

Floats = npt.NDArray[np.float32]

DIMENSION, QUERIES, K = 384, 960, 10
RECALL = 0.99


@dataclass(frozen=True)
class VectorSet:
    """Unit vectors, `vectors` of shape (n, 384) and `queries` of (960, 384). `nearest`: the 10 best, by number."""

    name: str
    vectors: Floats
    queries: Floats
    nearest: npt.NDArray[np.int64]

    def recall(self, found: Callable[[Floats], Sequence[int]]) -> float:
        """Which share of the exact answers `found` finds, over all queries."""
        answers = zip(self.queries, self.nearest, strict=True)
        hits = sum(len({*found(query)} & {*nearest.tolist()}) for query, nearest in answers)
        return float(hits / self.nearest.size)


def sentences(count: int) -> VectorSet:
    """Sentences of the installed packages' documentation, embedded by embed_st."""
    both = embeddings(count + QUERIES)
    return _set("sentence embeddings", both[:count], both[count:])


def mixture(count: int) -> VectorSet:
    return _set("synthetic mixture", mixed(count, 1), mixed(QUERIES, 2))


def mixed(count: int, seed: int) -> Floats:
    """Unit vectors around 200 centres, which the seed does not move."""
    centres = np.random.default_rng(0).normal(size=(200, DIMENSION))
    chance = np.random.default_rng(seed)
    blocks = []
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        vectors = centres[chance.integers(0, 200, size)] + 0.6 * chance.normal(size=(size, DIMENSION))
        blocks.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(blocks)


def _set(name: str, vectors: Floats, queries: Floats) -> VectorSet:
    return VectorSet(name, vectors, queries, exact(vectors, queries))


def least_ef(recall: Callable[[int], float]) -> int:
    """The least ef, in steps of about a twelfth, whose recall reaches 0.99."""
    ef = 10
    while ef <= 1000:
        if recall(ef) >= RECALL:
            return ef
        ef += max(2, ef // 12)
    raise SystemExit(f"recall {RECALL} is not reached at ef 1000")


def exact(vectors: Floats, queries: Floats) -> npt.NDArray[np.int64]:
    """The numbers of the 10 vectors nearest to each query, nearest first."""
    return np.concatenate([_nearest(-(block @ vectors.T)) for block in np.array_split(queries, 32)])


def _nearest(distances: Floats) -> npt.NDArray[np.int64]:
    some = np.argpartition(distances, K, axis=1)[:, :K]
    order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1)
    return np.take_along_axis(some, order, axis=1)
