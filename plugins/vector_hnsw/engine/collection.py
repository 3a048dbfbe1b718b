"""One collection in use: its writes, in the order store → graph → acknowledged, and its searches beside them.

The store is the truth. Labels and graph are in memory and can be made from it at any time; a search compares the
version of what it found with the store's, and is done again when something was written in between.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.vector_hnsw.engine.checks import LARGEST_EF, check_model, within
from plugins.vector_hnsw.engine.filters import Filter, Where, where
from plugins.vector_hnsw.engine.graph import Found, Graph
from plugins.vector_hnsw.engine.labels import Labels, Plan, digests
from plugins.vector_hnsw.engine.matches import MatchCache, Matches
from plugins.vector_hnsw.engine.metric import Floats, check_dimension, check_query
from plugins.vector_hnsw.engine.rows import Row, RowCache, Rows
from plugins.vector_hnsw.engine.store import Collection, Item, Place, Store
from shared.errors import InvalidArgument, TooLarge

_log = logging.getLogger("hector")

# A search beyond either of these takes longer than a millisecond: results, and candidates times dimension.
_INLINE_K = 100
_INLINE_WORK = 400_000
# So does reading more metadata than this, in bytes, or the hits of a vector that more items share.
_INLINE_BYTES = 128 * 1024
_INLINE_SHARED = 500
# More neighbours than these are not worth asking the graph for; nor is a quarter of the collection.
_MOST_FROM_GRAPH = 10_000


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


class Hit:
    """An item as it is found. `score` is higher for better; `vector` is None unless asked for."""

    __slots__ = ("item", "score", "vector")

    def __init__(self, item: Row, score: float, vector: Floats | None = None) -> None:
        self.item = item
        self.score = score
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


class OpenCollection:
    """Written by one thread at a time (the engine sees to it), searched by any.

    Without a graph (it failed, and could not be built anew) every search compares all vectors.
    """

    def __init__(self, spec: Collection, store: Store, labels: Labels, graph: Graph, max_limit: int) -> None:
        self.spec = spec
        self.labels = labels
        self.graph: Graph | None = None
        self.graphs = 0  # how many it has had
        self.use(graph)
        self.unsaved = 0
        self.describing = threading.Lock()  # for what follows
        self.sampled_recall = 0.0
        self.sampled_at = (-1, 0)  # the sequence and graph that it is of
        self.bytes_used = 0
        self.measured_at = -1
        self.rebuilding = False
        self._store = store
        self._before: int | None = None  # while a write is under way, the sequence before it
        self._max_limit = max_limit
        self._matches = MatchCache(store, spec)
        self._rows = RowCache(store, spec.number)

    def use(self, graph: Graph) -> None:
        """Searches go to this graph from here on. It has every label, as they are now."""
        self.graph = graph
        self.graphs += 1
        self.labels.follow(graph.versions)

    @property
    def sequence(self) -> int:
        """Of the store's last write that every search sees."""
        now, before = self._store.sequence, self._before
        return now if before is None else before

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, items: Sequence[Item], known: dict[str, Place]) -> None:
        """Writes items, whose ids differ, durably; `known` is where some of them are."""
        store, number = self._store, self.spec.number
        prepared = self.spec.metric.prepare(np.stack([item.vector for item in items if item.vector is not None]))
        version = store.sequence + 1
        plan = self.labels.plan_put([known.get(item.id) for item in items], digests(prepared), version)
        # Before the commit: what there is no memory for must be refused, not accepted and then lost.
        if self.graph is not None:
            self.graph.reserve(len(plan.put))
        touched = {place.label for place in [*known.values(), *plan.places]}
        with self._write(touched) as transaction:
            rows = store.put(transaction, number, list(zip(items, plan.places, strict=True)), plan.next_label)
        indexes = list(plan.put.values())

        def change(graph: Graph) -> None:
            graph.put(list(plan.put), prepared[indexes], [version] * len(indexes))
            graph.delete(plan.delete)

        self._apply(plan, change, rows, len(items))

    def delete(self, places: Sequence[Place]) -> None:
        """Deletes the items at these places, durably."""
        plan = self.labels.plan_delete(places)
        touched = {place.label for place in places}
        with self._write(touched) as transaction:
            self._store.remove(transaction, self.spec.number, [place.row for place in places])
        self._apply(plan, lambda graph: graph.delete(plan.delete), [place.row for place in places], len(places))

    @contextmanager
    def _write(self, touched: set[int]) -> Iterator[sqlite3.Connection]:
        """One write of items with these labels, durable when the block ends; searches see it after `_apply`."""
        self._before = self._store.sequence
        try:
            with self._rows.changing(touched), self._store.write() as transaction:
                yield transaction
        except BaseException:
            self._before = None
            raise

    def _apply(self, plan: Plan, change: Callable[[Graph], None], rows: list[int], count: int) -> None:
        """Brings memory up to the store, where `count` items were changed.

        The write is durable whatever becomes of the graph, so it is the graph that gives way.
        """
        sequence = self._store.sequence
        try:
            if self.graph is not None:
                change(self.graph)
        except Exception:
            _log.exception("event=graph_lost collection=%s", self.spec.name)
            self.graph = None
            self.graphs += 1
        self.labels.apply(plan, sequence)
        self.unsaved += count
        self._matches.changed(sequence, rows)
        self._before = None

    # -- searching ----------------------------------------------------------------------------------------------

    def search(self, query: Query, wait: bool = True) -> SearchResult | None:
        """None when something that was found has been written since, so that it must be looked for again.

        Without `wait` it is also None where it would have to wait or take more than about a millisecond.
        Raises TooLarge when the hits' metadata and vectors are beyond the store's `max_read`.
        """
        sequence, count, generation = self.sequence, self.labels.count, self._rows.generation
        vector = self._checked(query)
        k, ef = query.offset + query.limit, query.ef or self.spec.ef_search
        if not wait and (query.exact or k > _INLINE_K or max(ef, k) * self.spec.dimension > _INLINE_WORK):
            return None
        fits = where(query.filter) if query.filter else None
        matches = None
        if fits is not None:
            matches = self._matches.get(fits, wait)
            if matches is None:
                return None
            count = matches.count
        found = None if query.exact else self._from_graph(vector, k, ef, matches, wait)
        if found is None and not wait and (matches is None or matches.vectors is None):
            return None
        try:
            if found is None:
                hits = self._exact(vector, query, fits, matches, wait)
            else:
                hits = self._rank(found, self._rows_of(found.labels, wait), query, matches, wait)
            if hits is None:
                return None
            complete = found is None or len(hits) >= min(query.limit, max(0, count - query.offset))
            kept = hits if query.min_score is None else [hit for hit in hits if hit.score >= query.min_score]
            if not self._bring_along(kept, query):
                return None
        except TooLarge:
            if wait:
                raise
            return None
        if (matches or query.with_vectors) and (generation % 2 or generation != self._rows.generation):
            # With a write in between, an item may fit the filter no more, or a vector be newer than its metadata.
            return None
        return SearchResult(kept, found is None, complete, sequence)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult | None]:
        """As `search`, for queries that the graph answers together; None for those that it does not.

        Raises TooLarge also where each of them alone could be answered.
        """
        sequence, count, graph = self.sequence, self.labels.count, self.graph
        k, ef = (
            max(query.offset + query.limit for query in queries),
            max(query.ef or self.spec.ef_search for query in queries),
        )
        alone = any(query.exact or query.with_vectors or query.filter is not None for query in queries)
        if graph is None or alone or k > max(1000, count // 4):
            return [None] * len(queries)
        found = graph.search_many(np.stack([self._checked(query) for query in queries]), k, ef)
        if found is None:
            return [None] * len(queries)
        rows = self._rows.at_labels(list({label for one in found for label in one.labels}))
        results: list[SearchResult | None] = []
        for one, query in zip(found, queries, strict=True):
            hits = self._rank(one, rows, query, None, wait=True)
            if hits is None:
                results.append(None)
                continue
            complete = len(hits) >= min(query.limit, max(0, count - query.offset))
            if query.min_score is not None:
                hits = [hit for hit in hits if hit.score >= query.min_score]
            results.append(SearchResult(hits, False, complete, sequence))
        return results

    def _checked(self, query: Query) -> Floats:
        """Its vector, prepared."""
        check_model(self.spec, query.embedding_model)
        within("limit", query.limit, 1, self._max_limit)
        within("ef_search", query.ef, 0, LARGEST_EF)
        if query.min_score is not None and math.isnan(query.min_score):
            raise InvalidArgument("min_score must be a number, not NaN", reason="OUT_OF_RANGE", field="min_score")
        check_dimension(query.vector, self.spec.dimension, "vector")
        return check_query(self.spec.metric, query.vector)

    def _from_graph(self, vector: Floats, k: int, ef: int, matches: Matches | None, wait: bool) -> Found | None:
        """The `k` nearest that match, or all the graph can reach; None where comparing is better, or waiting needed."""
        graph = self.graph
        if graph is None or (matches is not None and matches.vectors is not None):
            return None
        most = min(_MOST_FROM_GRAPH, max(1000, graph.count // 4))
        if matches is None:
            return graph.search(vector, k, ef, wait) if k <= most else None
        # Neighbours enough that, were matches spread evenly, `k` of them would match; more when they are not.
        asked = math.ceil(1.3 * k * graph.count / matches.count) + 16
        while asked <= most:
            if not wait and asked * self.spec.dimension > _INLINE_WORK:
                return None
            found = graph.search(vector, asked, max(ef, asked), wait)
            if found is None:
                return None
            fitting = [i for i, label in enumerate(found.labels) if label in matches.labels][:k]
            if len(fitting) >= min(k, len(matches.labels)):
                labels, versions = [found.labels[i] for i in fitting], [found.versions[i] for i in fitting]
                return Found(labels, found.distances[fitting], versions)
            if not wait:
                return None
            asked *= 4
        return None

    def _rows_of(self, labels: Sequence[int], wait: bool) -> Rows:
        """The items; without their metadata when it is too much: it may be that few of it are handed out."""
        if not wait:
            return self._rows.at_labels(labels, _INLINE_BYTES)
        try:
            return self._rows.at_labels(labels)
        except TooLarge:
            return self._rows.without_metadata(labels)

    def _rank(self, found: Found, rows: Rows, query: Query, matches: Matches | None, wait: bool) -> list[Hit] | None:
        """The page of what was found that is asked for; None when some of it is not any more what was scored."""
        hits: list[Hit] = []
        scores = self.spec.metric.scores_of(found.distances)
        for label, score, version in zip(found.labels, scores, found.versions, strict=True):
            there = rows.get(label)
            if there is None or there[0].version != version or (not wait and len(there) > _INLINE_SHARED):
                return None
            for row in there:
                if matches is None or row.row in matches.label_of:
                    hits.append(Hit(row, score))
        if len(set(scores)) < len(hits):
            hits.sort(key=_best_first)
        return self._page(hits, query)

    def _exact(
        self, vector: Floats, query: Query, fits: Where | None, matches: Matches | None, wait: bool
    ) -> list[Hit] | None:
        """The page that is asked for, by comparing with everything that matches; None as `_rank`."""
        metric, k = self.spec.metric, query.offset + query.limit
        if matches is not None and matches.vectors is not None:
            scores = metric.scores(metric.distances(vector, matches.vectors))
            return self._compared(_best([_Scored(matches.rows, matches.versions, scores)], k), query, wait)
        blocks, waiting = [_NOTHING], 0
        for found, vectors in self._store.scan(self.spec, fits):
            scores = metric.scores(metric.distances(vector, metric.prepare(vectors)))
            if not (finite := np.isfinite(scores)).all():  # none was stored that has such a score
                raise self._store.damaged(self.spec.number, found[int(np.argmin(finite))][3], "vector")
            rows, _, versions, _ = zip(*(one[:4] for one in found), strict=True)
            blocks.append(_Scored(np.array(rows), np.array(versions), scores))
            waiting += len(found)
            if waiting > k + 10_000:
                blocks, waiting = [_best(blocks, k)], 0
        return self._compared(_best(blocks, k), query, wait)

    def _compared(self, best: _Scored, query: Query, wait: bool) -> list[Hit] | None:
        number, rows = self.spec.number, best.rows.tolist()
        there: dict[int, tuple[int, str, str]]
        try:
            there = self._store.at_rows(number, rows, None if wait else _INLINE_BYTES)
        except TooLarge:
            if not wait:
                raise
            there = {row: (*found, "") for row, found in self._store.names_at_rows(number, rows).items()}
        hits = []
        for row, version, score in zip(rows, best.versions.tolist(), best.scores.tolist(), strict=True):
            if row not in there or there[row][0] != version:
                return None
            hits.append(Hit(Row(row, *there[row]), score))
        hits.sort(key=_best_first)
        return self._page(hits, query)

    def _page(self, hits: list[Hit], query: Query) -> list[Hit]:
        """Of hits in their order, the part that is asked for."""
        return hits[query.offset : query.offset + query.limit]

    def _bring_along(self, hits: list[Hit], query: Query) -> bool:
        """Reads what is handed out and was not read before. False when some of it is not there any more."""
        unread = [hit for hit in hits if not hit.item.metadata] if query.with_metadata else []
        if unread:
            there = self._store.at_rows(self.spec.number, [hit.item.row for hit in unread])
            for hit in unread:
                row = hit.item.row
                if row not in there or there[row][0] != hit.item.version:
                    return False
                hit.item = Row(row, *there[row])
        if query.with_vectors:
            vectors = self._store.vectors(self.spec.number, [hit.item.row for hit in hits])
            if len(vectors) != len(hits):
                return False
            for hit in hits:
                hit.vector = vectors[hit.item.row]
        return True


def _best_first(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.item.id


@dataclass(frozen=True, slots=True)
class _Scored:
    rows: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    scores: Floats


_NOTHING = _Scored(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _best(blocks: Sequence[_Scored], k: int) -> _Scored:
    """Those with the `k` best scores, and those with the score of the last of them."""
    rows = np.concatenate([block.rows for block in blocks])
    versions = np.concatenate([block.versions for block in blocks])
    scores = np.concatenate([block.scores for block in blocks])
    if len(scores) <= k:
        return _Scored(rows, versions, scores)
    kept = scores >= -np.partition(-scores, k - 1)[k - 1]
    return _Scored(rows[kept], versions[kept], scores[kept])
