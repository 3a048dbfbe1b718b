"""Compares a query with many vectors, exactly: what is nearer in truth is nearer here, and scores are right to the last
digit of a float32.

Products in 32 bits are quick and lose digits: among vectors that are nearly alike the order gets lost, and a small
product is lost in the rounding of large ones. So they only rule out what cannot be among the nearest, by the largest
error that they can have, and the rest is computed in 64 bits.

A key is what nearness is compared by, lower for nearer: -cosine, -product, squared distance. It orders more finely than
a score of 32 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.vectors.items import Floats

from .metric import Metric

Doubles = npt.NDArray[np.float64]

# Lengths between which products of two numbers are within what a float32 can say.
_SHORTEST, _LONGEST = 1e-10, 1e10
_ROUNDING = 2.0**-24  # of a float32, relative
_SMALLEST = 2.0**-149  # that a float32 can say; each product may be wrong by half of it


def lengths_of(vectors: Floats) -> Doubles:
    lengths: Doubles = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return lengths


def nearest(
    metric: Metric, query: Floats, vectors: Floats, lengths: Doubles, k: int
) -> tuple[npt.NDArray[np.intp], Doubles]:
    """Indexes of the `k` nearest vectors and of all that are as near as the last of them, with their keys, unsorted.

    `vectors` of shape (n, dimension) and `query` are as they came, `lengths` those of `vectors`.
    """
    chosen = np.arange(len(vectors))
    if not len(vectors):
        return chosen, np.empty(0, np.float64)
    if len(vectors) > k:
        chosen = _possible(metric, query, vectors, lengths, k)
    keys = keys_of(metric, query, vectors[chosen], lengths[chosen])
    if len(keys) > k:
        kept = keys <= np.partition(keys, k - 1)[k - 1]
        chosen, keys = chosen[kept], keys[kept]
    return chosen, keys


def keys_of(metric: Metric, query: Floats, vectors: Floats, lengths: Doubles) -> Doubles:
    # Row by row, so that a vector's key does not depend on which others are computed beside it.
    exact, asked = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        exact -= asked
        squares: Doubles = np.einsum("ij,ij->i", exact, exact)
        return squares
    products: Doubles = np.einsum("ij,j->i", exact, asked)
    if metric is Metric.COSINE:
        products /= lengths * np.sqrt(np.einsum("i,i->", asked, asked))
    return -products


def _possible(metric: Metric, query: Floats, vectors: Floats, lengths: Doubles, k: int) -> npt.NDArray[np.intp]:
    """Indexes of all that may be among the `k` nearest."""
    length = float(np.sqrt(np.einsum("i,i->", query, query, dtype=np.float64)))
    shortest, longest = min(length, float(lengths.min())), max(length, float(lengths.max()))
    if metric is Metric.COSINE and not _SHORTEST < shortest <= longest < _LONGEST:
        return np.arange(len(vectors))
    dimension = vectors.shape[1]
    products = vectors @ query
    if metric is Metric.COSINE:
        # One error for all: `lengths` go out of what it is relative to.
        cosines: Doubles = products / (lengths * length)
        least = np.partition(cosines, -k)[-k]
        return np.flatnonzero(cosines >= least - 2 * (dimension + 16) * _ROUNDING)
    rough: Doubles = -products.astype(np.float64)
    error = (dimension + 8) * (_ROUNDING * lengths * length + _SMALLEST)
    if metric is Metric.EUCLIDEAN:
        squares = lengths * lengths + length * length
        rough, error = 2 * rough + squares, 2 * error + 1e-14 * squares
    farthest = np.partition(rough + error, k - 1)[k - 1]
    return np.flatnonzero(rough - error <= farthest)
