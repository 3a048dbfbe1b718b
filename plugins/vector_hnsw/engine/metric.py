"""How vectors are checked, prepared for the graph, and how a distance becomes a score (higher is better).

| metric | graph space | score | range |
|---|---|---|---|
| COSINE | `l2` on unit vectors, where it is 2 - 2 cos | 1 - distance / 2 | [-1, 1], clamped |
| DOT | `ip` | 1 - distance | any |
| EUCLIDEAN | `l2`, whose distance is squared | 1 / (1 + √distance) | (0, 1] |

hnswlib's own `cosine` space is not used: it accepts zero vectors, and 1 - cos in 32 bits is 0 for all vectors that are
nearly alike. Among hundreds of those its links then lead nowhere else, and what is near them is lost to searches;
their `l2` distances differ.
"""

from __future__ import annotations

import math
from array import array
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidArgument
from shared.vectors.items import Floats

# Sums of squares up to four times this fit into a float32, so no distance overflows.
# A square of a vector's length that is well inside of what a float32 can say.
_PLAIN_SQUARES = (1e-20, 1e20)
_LARGEST_SQUARE = float(np.finfo(np.float32).max) / 4


class Metric(StrEnum):
    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"

    @property
    def space(self) -> str:
        """hnswlib's name of the space."""
        return "ip" if self is Metric.DOT else "l2"

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
        products: Floats = vectors @ query
        return np.float32(1) - products if self is Metric.DOT else np.float32(2) - np.float32(2) * products

    def scores_of(self, distances: list[float]) -> list[float]:
        """Scores, as a float32 holds them, for distances in ascending order as the graph gives them.

        Of few: numpy takes longer to begin than this to end.
        """
        if self is Metric.EUCLIDEAN:
            return _as_shown([1 / (1 + math.sqrt(distance)) if distance > 0 else 1.0 for distance in distances])
        if self is Metric.DOT:
            return _as_shown([1 - distance for distance in distances])
        if distances and (distances[0] < 0 or distances[-1] > 4):  # rounding
            distances = [max(0.0, min(4.0, distance)) for distance in distances]
        return _as_shown([1 - distance / 2 for distance in distances])

    def scores_of_keys(self, keys: list[float]) -> list[float]:
        """Scores, as a float32 holds them, for the keys of `comparing.py`."""
        if self is Metric.EUCLIDEAN:
            return _as_shown([1 / (1 + math.sqrt(key)) for key in keys])
        if self is Metric.COSINE:
            return _as_shown([max(-1.0, min(1.0, -key)) for key in keys])
        return _as_shown([-key for key in keys])


def _as_shown(scores: list[float]) -> list[float]:
    # What a reply shows is what is compared with a caller's `min_score`, and what ties are told by.
    return array("f", scores).tolist()


def check_query(metric: Metric, vector: Floats) -> Floats:
    """The query, prepared. Raises InvalidArgument, naming what is wrong."""
    square = float(np.vdot(vector, vector))
    if not _PLAIN_SQUARES[0] < square < _PLAIN_SQUARES[1]:
        # Zero, not a number, or so long or short that 32 bits do not tell.
        wrong = metric.check(vector[None, :])
        if wrong is not None:
            raise InvalidArgument(f"the query vector {wrong[0]}", reason="BAD_VECTOR", field="vector")
        prepared: Floats = metric.prepare(vector[None, :])[0]
        return prepared
    if metric is not Metric.COSINE:
        return vector
    # As `prepare` does it, so that a stored vector is found at distance 0.
    exact = vector.astype(np.float64)
    unit: Floats = (exact / math.sqrt(np.einsum("i,i->", exact, exact))).astype(np.float32)
    return unit


def check_queries(metric: Metric, vectors: Floats) -> Floats:
    """`check_query` of each row, in one go where all are plain."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if ((squares > _PLAIN_SQUARES[0]) & (squares < _PLAIN_SQUARES[1])).all():
        return metric.prepare(vectors)
    return np.stack([check_query(metric, vector) for vector in vectors])


def check_dimension(vector: Floats, dimension: int, field: str) -> None:
    if len(vector) != dimension:
        raise InvalidArgument(
            f"{field} has {len(vector)} numbers, the collection's dimension is {dimension}; "
            "was it made by another embedding model?",
            reason="WRONG_DIMENSION",
            field=field,
            metadata={"expected": str(dimension), "got": str(len(vector))},
        )
