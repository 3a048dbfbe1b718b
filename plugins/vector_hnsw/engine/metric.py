"""How vectors are checked, prepared for the graph, and how a distance becomes a score (higher is better).

| metric | graph space | score | range |
|---|---|---|---|
| COSINE | `ip` on unit vectors | 1 - distance | [-1, 1], clamped |
| DOT | `ip` | 1 - distance | any |
| EUCLIDEAN | `l2`, whose distance is squared | 1 / (1 + √distance) | (0, 1] |

hnswlib's own `cosine` space is not used: it accepts zero vectors and loads an `l2` file without a word.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidArgument

Floats = npt.NDArray[np.float32]

# Sums of squares up to four times this fit into a float32, so no distance overflows.
_LARGEST_SQUARE = float(np.finfo(np.float32).max) / 4


class Metric(StrEnum):
    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"

    @property
    def space(self) -> str:
        """hnswlib's name of the space."""
        return "l2" if self is Metric.EUCLIDEAN else "ip"

    def check(self, vectors: Floats) -> npt.NDArray[np.str_] | None:
        """What is wrong with each row of (n, dimension), "" for nothing; None when nothing is wrong at all."""
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        if self is Metric.COSINE:
            wrong = ~(squares > 0)
            reason = "has length zero, which has no direction: COSINE cannot compare it"
        else:
            wrong = squares > _LARGEST_SQUARE
            reason = "is too long: squares of its numbers do not fit into 32-bit floats"
        infinite = ~np.isfinite(squares)
        if not (wrong.any() or infinite.any()):
            return None
        verdicts: npt.NDArray[np.str_] = np.where(infinite, "holds NaN or infinity", np.where(wrong, reason, ""))
        return verdicts

    def prepare(self, vectors: Floats) -> Floats:
        """The rows as the graph takes them: of length 1 under COSINE, untouched otherwise."""
        if self is not Metric.COSINE:
            return vectors
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        units: Floats = (vectors / lengths[:, None]).astype(np.float32)
        return units

    def distances(self, query: Floats, vectors: Floats) -> Floats:
        """Distances as hnswlib would give them, of one prepared query to prepared rows."""
        if self is Metric.EUCLIDEAN:
            difference = vectors - query
            squares: Floats = np.einsum("ij,ij->i", difference, difference)
            return squares
        return np.float32(1) - vectors @ query

    def scores(self, distances: Floats) -> Floats:
        if self is Metric.EUCLIDEAN:
            return (1 / (1 + np.sqrt(np.maximum(distances, 0)))).astype(np.float32)
        scores: Floats = np.float32(1) - distances
        return np.clip(scores, np.float32(-1), np.float32(1)) if self is Metric.COSINE else scores


def check_query(metric: Metric, dimension: int, vector: Floats) -> Floats:
    """The query, prepared. Raises InvalidArgument, naming what is wrong."""
    check_dimension(vector, dimension, "vector")
    wrong = metric.check(vector[None, :])
    if wrong is not None:
        raise InvalidArgument(f"the query vector {wrong[0]}", reason="BAD_VECTOR", field="vector")
    prepared: Floats = metric.prepare(vector[None, :])[0]
    return prepared


def check_dimension(vector: Floats, dimension: int, field: str) -> None:
    if len(vector) != dimension:
        raise InvalidArgument(
            f"{field} has {len(vector)} numbers, the collection's dimension is {dimension}; "
            "was it made by another embedding model?",
            reason="WRONG_DIMENSION",
            field=field,
            metadata={"expected": str(dimension), "got": str(len(vector))},
        )
