"""What is asked of a collection, and what is found there."""

from __future__ import annotations

from typing import NamedTuple

from .filters import Filter
from .metric import Floats
from .rows import Row


class Query(NamedTuple):
    """A search: `vector` of shape (dimension,).

    `min_score` keeps hits with at least that score; `ef` is how many candidates the graph keeps (0: the
    collection's); `exact` compares every vector instead; `with_vectors` brings the original vectors along. Hits may
    come without metadata where `with_metadata` is not set.
    """

    vector: Floats
    limit: int = 10
    offset: int = 0
    min_score: float | None = None
    filter: Filter | None = None
    ef: int = 0
    exact: bool = False
    with_vectors: bool = False
    with_metadata: bool = True
    embedding_model: str = ""

    @property
    def kind(self) -> tuple[int | str, ...] | None:
        """What queries of a collection must have in common to go through the graph at once; None: it goes alone."""
        if self.filter or self.exact or self.with_vectors:
            return None
        return self.limit, self.offset, self.ef, len(self.vector), self.embedding_model


class Hit:
    """An item as it is found. `score`, as a float32 holds it, is higher for better; `distance` is lower for nearer and
    orders more finely; `vector` is None unless asked for."""

    __slots__ = ("distance", "item", "score", "vector")

    def __init__(self, item: Row, score: float, distance: float = 0.0, vector: Floats | None = None) -> None:
        self.item = item
        self.score = score
        self.distance = distance
        self.vector = vector

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def metadata(self) -> str:
        """JSON text of an object; "" where it was not asked for and not read."""
        return self.item.metadata


class SearchResult(NamedTuple):
    """`hits`, best first. `exact`: every match was compared. `complete`: no more hits exist within the limit."""

    hits: list[Hit]
    exact: bool
    complete: bool
    sequence: int
