"""A search of one collection: planned, found by label or row, and made into a page of items.

What is found is what was in memory; the items come from the store, perhaps a moment later. So the version of each is
compared, and a search whose items were written in between is not answered but made again.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import numpy as np

from shared.errors import InvalidArgument, TooLarge
from shared.vectors.checks import check_model, within
from shared.vectors.items import Floats, Query

from .checks import LARGEST_EF
from .comparing import keys_of, lengths_of, nearest
from .filters import Where, where
from .flat import Flat
from .graph import Graph, Neighbours
from .labels import Labels
from .matches import MatchCache, Matches
from .metric import Metric, check_dimension, check_query
from .planning import Plan, Way, is_quick, plan
from .query import Hit, SearchResult
from .ranking import NOTHING, Compared, Near, best, best_first, by_id, cut, joined, nearest_first, only
from .rows import Row, RowCache, Rows
from .store import Collection, Store

# Reading more metadata than this, in bytes, takes longer than a millisecond, or the hits of a vector that more share.
QUICK_BYTES = 128 * 1024
_QUICK_SHARED = 500
# Of an item whose vector more have than these, only its own row is read.
_FEW_SHARED = 20
# A product of this size has lost four of the digits of a float32, 24 bits, in hnswlib's 1 - product.
_SMALL = 2.0**-4


class Changed(Exception):
    """Something that was found has been written since, so that it must be looked for again."""


class TakesLong(Exception):
    """The search would have to wait, or take more than about a millisecond."""


class Searchable:
    """What is in memory of one collection, for any thread to search; who writes keeps it up (`collection.py`).

    Without a graph (it failed, and could not be built anew) every search compares all vectors.
    """

    def __init__(self, spec: Collection, store: Store, labels: Labels, max_limit: int) -> None:
        self.spec = spec
        self.store = store
        self.labels = labels
        self.graph: Flat | Graph | None = None
        self.matches = MatchCache(store, spec)
        self.rows = RowCache(store, spec.number)
        # While a write is under way: the sequence before it, and from before its commit on the rows that it changes.
        self.before: int | None = None
        self.changing: Container[int] = ()
        self._max_limit = max_limit

    @property
    def sequence(self) -> int:
        """Of the store's last write that every search sees."""
        now, before = self.store.sequence, self.before
        return now if before is None else before

    def search(self, query: Query, wait: bool = True) -> SearchResult:
        """Raises Changed; without `wait` TakesLong; and TooLarge when the hits' metadata and vectors are beyond the
        store's `max_read`."""
        sequence, count = self.sequence, self.labels.count
        generation, changing = self.rows.generation, self.changing
        self._check(query)
        vector = check_query(self.spec.metric, query.vector)
        if not wait and not is_quick(query, self.graph, self.spec.ef_search):
            raise TakesLong
        fits = where(query.filter) if query.filter else None
        matches = None
        if fits is not None:
            matches = self.matches.get(fits, wait)
            if matches is None:
                raise TakesLong
            count = matches.count
        try:
            hits, exact = self._page(vector, query, fits, matches, wait)
            complete = len(hits) >= min(query.limit, max(0, count - query.offset))
            if query.min_score is not None:
                hits = [hit for hit in hits if hit.score >= query.min_score]
            self._bring_along(hits, query)
        except TooLarge:
            if wait:
                raise
            raise TakesLong from None
        if (matches or query.with_vectors) and (generation % 2 or generation != self.rows.generation):
            # With a write in between, an item may fit the filter no more, or a vector be newer than its metadata.
            raise Changed
        if matches and changing and any(hit.item.row in changing for hit in hits):
            raise Changed  # it is committed, perhaps, and what fits is not known yet
        return SearchResult(hits, exact, complete, sequence)

    def _check(self, query: Query) -> None:
        """All but the vector's numbers."""
        check_model(self.spec, query.embedding_model)
        within("limit", query.limit, 1, self._max_limit)
        within("ef_search", query.ef, 0, LARGEST_EF)
        if query.min_score is not None and math.isnan(query.min_score):
            raise InvalidArgument("min_score must be a number, not NaN", reason="OUT_OF_RANGE", field="min_score")
        check_dimension(query.vector, self.spec.dimension, "vector")

    def _page(
        self, vector: Floats, query: Query, fits: Where | None, matches: Matches | None, wait: bool
    ) -> tuple[list[Hit], bool]:
        """The page that is asked for, and whether all that matches was compared for it."""
        graph = self.graph
        planned = plan(query, graph, matches, self.spec.ef_search)
        near = None
        if planned.way is Way.SMALL:
            assert isinstance(graph, Flat)
            near = self._near_in_memory(graph, query, matches, wait)
        elif planned.way is Way.GRAPH:
            assert isinstance(graph, Graph)
            near = self._near_in_graph(graph, vector, query, planned, matches, wait)
        if near is not None:
            return self._ranked(near, query, fits, matches, wait), near.is_exact
        if planned.way is Way.MATCHES:
            assert matches is not None
            return self._of_matches(query, matches, wait), True
        if not wait:
            raise TakesLong
        return self._of_all(query, fits), True

    # -- near, by label -----------------------------------------------------------------------------------------

    def _near_in_memory(self, flat: Flat, query: Query, matches: Matches | None, wait: bool) -> Near:
        end = query.offset + query.limit
        neighbours = flat.search(query.vector, end, matches.labels if matches else None, wait)
        if neighbours is None:
            raise TakesLong
        return Near(neighbours, self.spec.metric.scores_of_keys(neighbours.distances), is_exact=True, is_all=True)

    def _near_in_graph(
        self, graph: Graph, vector: Floats, query: Query, planned: Plan, matches: Matches | None, wait: bool
    ) -> Near | None:
        """What matches and is near, nearest first, as far as the page's end; None where comparing is better, or the
        graph takes long.

        A page is a part of one order that all pages share: the matches among the first candidates of the graph, then
        those among four times as many that were not among the first, and so on; then all others, compared.
        """
        end = query.offset + query.limit
        there = graph.count if matches is None else len(matches.labels)
        candidates = planned.candidates
        near = Neighbours([], [], [])
        while candidates <= planned.most and len(near.labels) < min(end, there):
            if not wait and not graph.pace.is_quick(candidates):
                return None
            is_first_page = matches is None and end <= candidates
            neighbours = graph.search(vector, end if is_first_page else candidates, max(planned.ef, candidates), wait)
            if neighbours is None:
                return None
            if matches is not None or near.labels:
                neighbours = only(neighbours, matches.labels if matches else None, set(near.labels))
            if near.labels or len(neighbours.labels) >= min(query.limit, there):
                near = joined(near, neighbours)
            if not wait and len(near.labels) < min(end, there):
                return None
            candidates *= 4
        if not near.labels:
            return None
        is_all = len(near.labels) >= there
        # Each label has an item at least.
        near = Neighbours(near.labels[:end], near.distances[:end], near.versions[:end])
        return Near(near, self.spec.metric.scores_of(near.distances), is_exact=False, is_all=is_all)

    def _ranked(self, near: Near, query: Query, fits: Where | None, matches: Matches | None, wait: bool) -> list[Hit]:
        """The page that is asked for, of what is near and, behind it, of the rest."""
        end = query.offset + query.limit
        rows = self._rows_of(near.neighbours.labels, wait)
        hits = self._hits(near.neighbours, near.scores, rows, matches, wait)
        if near.is_exact:
            hits.sort(key=nearest_first)
        elif not near.is_all and len(hits) < end:
            if not wait:
                raise TakesLong
            begin = max(0, query.offset - len(hits))
            beyond = query._replace(offset=begin, limit=end - max(len(hits), query.offset))
            rest = self._of_all(beyond, fits, without=set(near.neighbours.labels))
            return best_first(hits[query.offset : end] + rest)
        return self._scored_anew(cut(hits, query), query, wait)

    def _hits(
        self, neighbours: Neighbours, scores: list[float], rows: Rows, matches: Matches | None, wait: bool
    ) -> list[Hit]:
        """The items that have these labels, in their order."""
        try:
            rows_at = [rows[label] for label in neighbours.labels]
        except KeyError:
            raise Changed from None
        if [there[0].version for there in rows_at] != neighbours.versions:
            raise Changed
        if matches is None and len(rows_alone := [there[0] for there in rows_at if len(there) == 1]) == len(rows_at):
            return list(map(Hit, rows_alone, scores, neighbours.distances))
        hits: list[Hit] = []
        for there, score, distance in zip(rows_at, scores, neighbours.distances, strict=True):
            if len(there) > 1:
                if not wait and len(there) > _QUICK_SHARED:
                    raise TakesLong
                there = tuple(sorted(there, key=by_id))
            for row in there:
                if matches is None or row.row in matches.label_of:
                    hits.append(Hit(row, score, distance))
        return hits

    def _scored_anew(self, page: list[Hit], query: Query, wait: bool = True) -> list[Hit]:
        """The page, best first, with scores that hnswlib has not rounded away."""
        is_small = self.spec.metric is Metric.DOT and any(-_SMALL < hit.score < _SMALL for hit in page)
        if is_small and isinstance(self.graph, Graph) and not query.exact:
            # hnswlib's 1 - product has lost the digits of small products.
            if not wait:
                raise TakesLong
            rows = [hit.item.row for hit in page]
            there = {row: (at, vector) for row, at, vector in self.store.versioned_vectors(self.spec.number, rows)}
            if any(there.get(hit.item.row, (None,))[0] != hit.item.version for hit in page):
                raise Changed
            vectors = np.stack([np.frombuffer(there[row][1], "<f4") for row in rows])
            keys = keys_of(self.spec.metric, query.vector, vectors, lengths_of(vectors)).tolist()
            for hit, score in zip(page, self.spec.metric.scores_of_keys(keys), strict=True):
                hit.score = score
        return best_first(page)

    # -- compared, by row ---------------------------------------------------------------------------------------

    def _of_matches(self, query: Query, matches: Matches, wait: bool) -> list[Hit]:
        """The page that is asked for, by comparing with the vectors of few matches."""
        assert matches.vectors is not None
        k = query.offset + query.limit
        chosen, keys = nearest(self.spec.metric, query.vector, matches.vectors, matches.lengths, k)
        compared = Compared(matches.rows[chosen], matches.versions[chosen], keys)
        return self._compared(compared, query, self._at_rows(compared.rows.tolist(), matches, wait))

    def _of_all(self, query: Query, fits: Where | None, without: Container[int] = ()) -> list[Hit]:
        """The page that is asked for, by comparing with everything that fits, but not with the labels `without`."""
        k = query.offset + query.limit
        compared = NOTHING
        for items, vectors in self.store.scan(self.spec, fits):
            lengths = lengths_of(vectors)
            if not (sound := np.isfinite(lengths)).all():  # none was stored that has such a length
                raise self.store.damaged(self.spec.number, items[int(np.argmin(sound))][3], "vector")
            at = np.array([(row, version, label not in without) for row, label, version, *_ in items], np.int64)
            if without:
                kept = at[:, 2].astype(bool)
                at, vectors, lengths = at[kept], vectors[kept], lengths[kept]
            chosen, keys = nearest(self.spec.metric, query.vector, vectors, lengths, k)
            compared = best(compared, Compared(at[chosen, 0], at[chosen, 1], keys), k)
        return self._compared(compared, query, self._at_rows(compared.rows.tolist(), None, wait=True))

    def _compared(self, compared: Compared, query: Query, there: dict[int, Row]) -> list[Hit]:
        rows, versions, keys = compared.rows.tolist(), compared.versions.tolist(), compared.keys.tolist()
        hits = []
        for row, version, key, score in zip(rows, versions, keys, self.spec.metric.scores_of_keys(keys), strict=True):
            item = there.get(row)
            if item is None or item.version != version:
                raise Changed
            hits.append(Hit(item, score, key))
        hits.sort(key=nearest_first)
        return best_first(cut(hits, query))

    # -- the items ----------------------------------------------------------------------------------------------

    def _rows_of(self, labels: Sequence[int], wait: bool) -> Rows:
        """The items; without their metadata when it is too much: it may be that few of it are handed out."""
        if not wait:
            return self.rows.at_labels(labels, QUICK_BYTES)
        try:
            return self.rows.at_labels(labels)
        except TooLarge:
            return self.rows.without_metadata(labels)

    def _at_rows(self, rows: Sequence[int], matches: Matches | None, wait: bool) -> dict[int, Row]:
        """The items in these rows; without their metadata when it is too much."""
        if matches is not None:
            labels = {matches.label_of[row] for row in rows}
            if all(self.labels.sharing(label) <= _FEW_SHARED for label in labels):
                # By label, since those that were found lately are in memory so.
                return {row.row: row for there in self._rows_of(list(labels), wait).values() for row in there}
        items: dict[int, tuple[int, str, str]]
        try:
            items = self.store.at_rows(self.spec.number, rows, None if wait else QUICK_BYTES)
        except TooLarge:
            if not wait:
                raise
            items = {row: (*there, "") for row, there in self.store.names_at_rows(self.spec.number, rows).items()}
        return {row: Row(row, *there) for row, there in items.items()}

    def _bring_along(self, hits: list[Hit], query: Query) -> None:
        """Reads what is handed out and was not read before."""
        unread = [hit for hit in hits if not hit.item.metadata] if query.with_metadata else []
        if unread:
            there = self.store.at_rows(self.spec.number, [hit.item.row for hit in unread])
            for hit in unread:
                row = hit.item.row
                if row not in there or there[row][0] != hit.item.version:
                    raise Changed
                hit.item = Row(row, *there[row])
        if query.with_vectors:
            vectors = self.store.vectors(self.spec.number, [hit.item.row for hit in hits])
            if len(vectors) != len(hits):
                raise Changed
            for hit in hits:
                hit.vector = vectors[hit.item.row]
