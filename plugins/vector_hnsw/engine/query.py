"""What is asked of a collection, and what is found there."""

from __future__ import annotations

from typing import NamedTuple

from shared.vectors.items import Floats, Query

from .rows import Row


def batch_key(query: Query) -> tuple[int | str, ...] | None:
    """What queries of a collection must have in common to go through the graph at once; None: it goes alone."""
    if query.filter or query.exact or query.with_vectors:
        return None
    return query.limit, query.offset, query.ef, len(query.vector), query.embedding_model


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
