"""What goes into the engine and comes out of it, and how a distance becomes a score (higher is better).

| metric | pgvector's operator | score | range |
|---|---|---|---|
| COSINE | `<=>`, 1 - cos | 1 - distance | [-1, 1], clamped |
| DOT | `<#>`, the negative product | -distance | any |
| EUCLIDEAN | `<->` | 1 / (1 + distance) | (0, 1] |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from shared.vectors.items import Floats

LARGEST_INDEXED = 4000  # dimensions: what an index of halfvec takes
_LARGEST_VECTOR = 2000  # what one of vector takes


class Metric(StrEnum):
    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"

    @property
    def operator(self) -> str:
        return {"cosine": "<=>", "dot": "<#>", "euclidean": "<->"}[self]

    @property
    def operators(self) -> str:
        """The name of the operators' class, behind `vector_` or `halfvec_`."""
        return {"cosine": "cosine_ops", "dot": "ip_ops", "euclidean": "l2_ops"}[self]

    def score(self, distance: float) -> float:
        """As a float32 holds it, which is what a reply shows."""
        if self is Metric.EUCLIDEAN:
            score = 1 / (1 + max(0.0, distance))
        else:
            score = -distance if self is Metric.DOT else max(-1.0, min(1.0, 1 - distance))
        return float(np.float32(score))


@dataclass(frozen=True)
class Settings:
    """`timeout` in seconds, 0 for none, bounds a statement, and `patience` the wait for a database that went away, or
    for another in its place; `max_read` the bytes of metadata that one call may read;
    `index` are the parameters of collections that name none."""

    schema: str = "hector"
    pool_size: int = 16
    timeout: float = 60
    patience: float = 10
    max_limit: int = 1000
    max_collections: int = 1000
    max_read: int = 64 * 2**20
    index_from: int = 1000
    index_memory: int = 256 * 2**20
    index: Mapping[str, int] = field(default_factory=lambda: {"m": 16, "ef_construction": 64, "ef_search": 100})


@dataclass(frozen=True)
class Collection:
    """As a row of `collections` has it. `indexed`: there is an index of some parameters, and searches use it."""

    number: int
    name: str
    dimension: int
    metric: Metric
    m: int
    ef_construction: int
    ef_search: int
    embedding_model: str
    count: int = 0
    sequence: int = 0
    indexed: bool = False

    @property
    def table(self) -> str:
        return f"items_{self.number}"

    @property
    def index(self) -> str:
        """The name of the index that its parameters ask for."""
        return f"hnsw_{self.number}_{self.m}_{self.ef_construction}"

    def indexed_as(self, vector: str) -> tuple[str, str]:
        """What is indexed of the column or parameter `vector`, and the operators' class."""
        if self.dimension <= _LARGEST_VECTOR:
            return vector, f"vector_{self.metric.operators}"
        # Half a float has nothing below 6e-8, and a unit vector's numbers are seldom there.
        unit = f"l2_normalize({vector})" if self.metric is Metric.COSINE else vector
        return f"({unit}::halfvec({self.dimension}))", f"halfvec_{self.metric.operators}"


class Hit(NamedTuple):
    id: str
    score: float
    metadata: str
    vector: Floats | None


class SearchResult(NamedTuple):
    """`hits`, best first. `exact`: every match was compared. `complete`: no more hits exist within the limit.
    `sequence`: of the last write that was seen."""

    hits: list[Hit]
    exact: bool
    complete: bool
    sequence: int


class Description(NamedTuple):
    spec: Collection
    bytes_on_disk: int
    tombstone_ratio: float
    rebuilding: bool
    rebuild_progress: float
    aliases: tuple[str, ...]
    sampled_recall: float = 0.0  # 0: not measured
