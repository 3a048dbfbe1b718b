"""Searches that ask for the same go through the graph at once, which costs each of them less. Leave it out
(`search_many` may return nothing but None) and all works, slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.errors import TooLarge
from shared.vectors.items import Query

from .ahead import ahead
from .graph import Graph, Neighbours
from .metric import check_queries
from .planning import is_quick, plan
from .query import SearchResult, batch_key
from .ranking import cut
from .searching import QUICK_BYTES, Changed, Searchable, TakesLong

# So many queries are searched in two halves.
_HALVED = 16


class Batched(Searchable):
    def search_many(self, queries: Sequence[Query], wait: bool = True) -> list[SearchResult | None]:
        """As `search`, for queries that the graph answers together; None for those that it does not, and without `wait`
        for those that would make it long.

        Raises TooLarge, or without `wait` TakesLong, also where each of them alone could be answered.
        """
        sequence, count, graph = self.sequence, self.labels.count, self.graph
        kinds = {batch_key(query) for query in queries}
        if not isinstance(graph, Graph) or None in kinds or len(kinds) > 1:
            return [None] * len(queries)
        if not wait and not is_quick(queries[0], graph, self.spec.ef_search):
            raise TakesLong
        planned = plan(queries[0], graph, None, self.spec.ef_search)
        k = queries[0].offset + queries[0].limit
        if k > planned.candidates or not planned.is_worth_asking:
            return [None] * len(queries)
        for query in queries:
            self._check(query)
        asked, candidates = len(queries), max(planned.ef, planned.candidates)
        if not wait:
            queries = queries[: graph.pace.most_at_once(candidates)]
        vectors = check_queries(self.spec.metric, np.stack([query.vector for query in queries]))
        half = len(queries) // 2
        parts = [slice(half), slice(half, None)] if wait and len(queries) >= _HALVED else [slice(None)]
        found = ahead(lambda part: graph.search_many(vectors[part], k, candidates, wait), parts)
        results: list[SearchResult | None] = []
        for part, answers in zip(parts, found, strict=True):
            results += self._all_ranked(queries[part], answers, count, sequence, wait)
        return results + [None] * (asked - len(queries))

    def _all_ranked(
        self, queries: Sequence[Query], answers: list[Neighbours] | None, count: int, sequence: int, wait: bool
    ) -> list[SearchResult | None]:
        if answers is None:
            return [None] * len(queries)
        labels = list({label for neighbours in answers for label in neighbours.labels})
        try:
            rows = self.rows.at_labels(labels, None if wait else QUICK_BYTES)
        except TooLarge:
            if wait:
                raise
            raise TakesLong from None
        results: list[SearchResult | None] = []
        for neighbours, query in zip(answers, queries, strict=True):
            scores = self.spec.metric.scores_of(neighbours.distances)
            try:
                hits = self._scored_anew(cut(self._hits(neighbours, scores, rows, None, wait), query), query, wait)
            except (Changed, TakesLong):
                results.append(None)
                continue
            complete = len(hits) >= min(query.limit, max(0, count - query.offset))
            if query.min_score is not None:
                hits = [hit for hit in hits if hit.score >= query.min_score]
            results.append(SearchResult(hits, False, complete, sequence))
        return results
