"""How a search will be made, as a value: by which way, and from how many candidates.

| way | for | cost |
|---|---|---|
| SMALL | few vectors, which have no graph | compares all in memory, or those that match |
| MATCHES | a filter that few items fit, whose vectors are remembered | compares those in memory |
| GRAPH | the rest | asks for candidates, four times as many where they do not do, then as SCAN |
| SCAN | `exact`, no graph, or a page too far behind for the graph | reads and compares all that matches |
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import NamedTuple

from shared.vectors.items import Query

from .flat import Flat
from .graph import Graph
from .matches import Matches

# Results beyond these take longer than the search.
_QUICK_K = 100
# More neighbours than these are not worth asking the graph for; nor is a quarter of the collection.
_MOST_FROM_GRAPH = 10_000


class Way(Enum):
    SMALL = auto()
    MATCHES = auto()
    GRAPH = auto()
    SCAN = auto()


class Plan(NamedTuple):
    """`candidates` are how many neighbours the graph is asked for first, and `most` beyond how many it is not worth
    asking; `ef` is how many it keeps at least."""

    way: Way
    candidates: int = 0
    most: int = 0
    ef: int = 0

    @property
    def is_worth_asking(self) -> bool:
        """Whether the graph is to be asked at all."""
        return self.candidates <= self.most


def plan(query: Query, graph: Flat | Graph | None, matches: Matches | None, ef_search: int) -> Plan:
    """How a search with these matches (None: all) will be made.

    The same for every page of a search: what is on one page follows from what is on those before.
    """
    if query.exact or graph is None:
        return Plan(Way.SCAN if matches is None or matches.vectors is None else Way.MATCHES)
    if isinstance(graph, Flat):
        return Plan(Way.SMALL)
    if matches is not None and matches.vectors is not None:
        return Plan(Way.MATCHES)
    ef = query.ef or ef_search
    most = min(_MOST_FROM_GRAPH, max(1000, graph.count // 4))
    candidates = max(query.limit, min(ef, most))
    if matches is not None:
        # So many that, were matches spread evenly, `limit` of them would be among these; more when they are not.
        candidates = max(candidates, math.ceil(1.3 * query.limit * graph.count / max(1, matches.count)) + 16)
    return Plan(Way.GRAPH, candidates, most, ef)


def is_quick(query: Query, graph: Flat | Graph | None, ef_search: int) -> bool:
    """Whether it is quick (`pace.py`), as far as can be told before it is known what matches."""
    if graph is None or query.exact or query.offset + query.limit > _QUICK_K:
        return False
    looked_at = graph.count if isinstance(graph, Flat) else max(query.ef or ef_search, query.offset + query.limit)
    return graph.pace.is_quick(looked_at)
