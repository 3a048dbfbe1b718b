"""One collection in use: its writes, in the order store → graph → acknowledged, and its searches beside them.

The store is the truth. Labels and graph are in memory and can be made from it at any time; a search compares the
version of what it found with the store's, and is done again when something was written in between.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidArgument, StorageFull, TooLarge

from .checks import LARGEST_EF, check_model, within
from .comparing import Doubles, keys_of, lengths_of, nearest
from .filters import Filter, Where, where
from .flat import Flat, index_for, most_of
from .graph import Found, Graph, graph_bytes
from .labels import Labels, Plan, digests
from .matches import MatchCache, Matches
from .metric import Floats, Metric, check_dimension, check_query
from .rows import Row, RowCache, Rows
from .store import Collection, Item, Place, Store

_log = logging.getLogger("hector")

# A search beyond either of these takes longer than a millisecond: results, and candidates times dimension.
_INLINE_K = 100
_INLINE_WORK = 400_000
# So does reading more metadata than this, in bytes, or the hits of a vector that more items share.
_INLINE_BYTES = 128 * 1024
_INLINE_SHARED = 500
# Of an item whose vector more have than these, only its own row is read.
_FEW_SHARED = 20
# More neighbours than these are not worth asking the graph for; nor is a quarter of the collection.
_MOST_FROM_GRAPH = 10_000
# A product of this size has lost four of the digits of a float32, 24 bits, in hnswlib's 1 - product.
_SMALL = 2.0**-4
# Items whose metadata is changed at a time: of the largest that there is 32 MiB are in memory.
_CHANGED_AT_ONCE = 32


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


class OpenCollection:
    """Written by one thread at a time (the engine sees to it), searched by any.

    Without a graph (it failed, and could not be built anew) every search compares all vectors.
    """

    def __init__(self, spec: Collection, store: Store, labels: Labels, graph: Flat | Graph, max_limit: int) -> None:
        self.spec = spec
        self.labels = labels
        self.graph: Flat | Graph | None = None
        self.graphs = 0  # how many it has had
        self.use(graph)
        self.unsaved = 0
        self.describing = threading.Lock()  # for what follows
        self.sampled_recall = 0.0
        self.sampled_at = (-1, 0, 0)  # the sequence, graph and ef_search that it is of
        self.bytes_used = 0
        self.measured_at = -1
        self.rebuilding = False
        self.rebuild_progress = 0.0
        self._store = store
        self._before: int | None = None  # while a write is under way, the sequence before it
        self._changing: Container[int] = ()  # and from before its commit on, the rows that it changes
        self._max_limit = max_limit
        self._matches = MatchCache(store, spec)
        self._rows = RowCache(store, spec.number)

    def use(self, graph: Flat | Graph) -> None:
        """Searches go to this graph from here on. It has every label, as they are now."""
        self.graph = graph
        self.graphs += 1
        self.labels.follow(graph.versions)

    def bytes_with(self, more: int) -> int:
        """What the graph takes in memory with `more` vectors that are new."""
        if isinstance(self.graph, Flat) and self.graph.count + more > most_of(self.spec.dimension):
            return graph_bytes(self.spec.dimension, self.spec.m, self.graph.count + more)
        return self.graph.bytes_with(more) if self.graph else 0

    @property
    def sequence(self) -> int:
        """Of the store's last write that every search sees."""
        now, before = self._store.sequence, self._before
        return now if before is None else before

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, items: Sequence[Item], known: dict[str, Place], most_bytes: int = 0) -> None:
        """Writes items, whose ids differ, durably; `known` is where some of them are. The graph makes room for others
        only as far as `most_bytes` (0: no bound) allow."""
        store, number = self._store, self.spec.number
        vectors = np.stack([item.vector for item in items if item.vector is not None])
        prepared = self.spec.metric.prepare(vectors)
        version = store.sequence + 1
        plan = self.labels.plan_put([known.get(item.id) for item in items], digests(prepared), version)
        # Before the commit: what there is no memory for must be refused, not accepted and then lost.
        # A label that gets another vector needs no room.
        self._reserve(sum(label not in self.labels.versions for label in plan.put), most_bytes)
        touched = {place.label for place in [*known.values(), *plan.places]}
        with self._write(touched, {place.row for place in known.values()}) as transaction:
            rows = store.put(transaction, number, list(zip(items, plan.places, strict=True)), plan.next_label)
        indexes = list(plan.put.values())

        def change(graph: Flat | Graph) -> None:
            if isinstance(graph, Flat):
                # All of them, which costs nothing: where the disk had changed a vector, it is whole again.
                graph.put([at.label for at in plan.places], vectors, [at.version for at in plan.places])
            else:
                graph.put(list(plan.put), vectors[indexes], [version] * len(indexes))
            graph.delete(plan.delete)

        self._apply(plan, change, rows, len(items))

    def delete(self, places: Sequence[Place]) -> None:
        """Deletes the items at these places, durably."""
        plan = self.labels.plan_delete(places)
        rows = [place.row for place in places]
        with self._write({place.label for place in places}, set(rows)) as transaction:
            self._store.remove(transaction, self.spec.number, rows)
        self._apply(plan, lambda graph: graph.delete(plan.delete), rows, len(places))

    def delete_in_parts(self, places: Sequence[Place]) -> None:
        """As `delete`, on a disk that has room for a little only: decided at once, and done bit by bit.

        Raises StorageFull also where it is decided and will be done once there is room.
        """
        plan = self.labels.plan_delete(places)
        rows = [place.row for place in places]
        full: StorageFull | None = None
        with self._rows.changing({place.label for place in places}):  # no search is answered from the midst of it
            self._before, self._changing = self._store.sequence, set(rows)
            try:
                with self._store.write() as transaction:
                    self._store.begin_removing(transaction, self.spec.number, rows)
            except BaseException:
                self._before, self._changing = None, ()
                raise
            try:
                self._store.finish_removing()
            except StorageFull as error:
                full = error
        self._apply(plan, lambda graph: graph.delete(plan.delete), rows, len(places))
        if full:
            raise full

    def change_metadata(
        self, label_of: Mapping[int, int], change: Callable[[int, str, str], str | None], *, reading: bool
    ) -> None:
        """Gives the items in these rows, which have these labels, other metadata, durably.

        `change` makes it of row, id and the metadata there is ("" unless `reading`), or leaves it with None; what it
        raises undoes all.
        """
        rows, number, store = sorted(label_of), self.spec.number, self._store
        self._before = store.sequence
        try:
            with ExitStack() as stack, store.write() as transaction:
                for start in range(0, len(rows), _CHANGED_AT_ONCE):
                    part = rows[start : start + _CHANGED_AT_ONCE]
                    if reading:
                        texts = {row: found[1:] for row, found in store.at_rows(number, part).items()}
                    else:
                        texts = {row: (name, "") for row, (_, name) in store.names_at_rows(number, part).items()}
                    new = ((row, texts[row][0], change(row, *texts[row])) for row in part)
                    there = [(row, name, text) for row, name, text in new if text is not None]
                    store.put_metadata(transaction, number, there)
                # From here to the commit only, so that searches need not wait for the changes of many items.
                self._changing = label_of.keys()
                stack.enter_context(self._rows.changing(set(label_of.values())))
        except BaseException:
            self._before, self._changing = None, ()
            raise
        self._matches.changed(store.sequence, rows)
        self._before, self._changing = None, ()

    def matching(self, filter: Filter) -> Mapping[int, int]:
        """The rows of the items that fit, with their labels, for the thread that writes."""
        matches = self._matches.get(where(filter))
        return matches.label_of if matches else {}

    def _reserve(self, more: int, most_bytes: int) -> None:
        """Makes room for `more` labels; where they are few no longer, in a graph. Raises Overloaded."""
        if isinstance(self.graph, Flat):
            larger = index_for(self.spec, self.graph.count + more, self.graph.threads)
            if isinstance(larger, Graph):
                larger.reserve(self.graph.count + more, most_bytes)
                larger.put(*self.graph.contents())
                self.use(larger)
        if self.graph is not None:
            self.graph.reserve(more, most_bytes)

    @contextmanager
    def _write(self, labels: set[int], rows: set[int]) -> Iterator[sqlite3.Connection]:
        """One write of items with these labels, in these rows, durable when the block ends; searches see it after
        `_apply`."""
        self._before, self._changing = self._store.sequence, rows
        try:
            with self._rows.changing(labels), self._store.write() as transaction:
                yield transaction
        except BaseException:
            self._before, self._changing = None, ()
            raise

    def _apply(self, plan: Plan, change: Callable[[Flat | Graph], None], rows: list[int], count: int) -> None:
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
        self._before, self._changing = None, ()

    # -- searching ----------------------------------------------------------------------------------------------

    def search(self, query: Query, wait: bool = True) -> SearchResult | None:
        """None when something that was found has been written since, so that it must be looked for again.

        Without `wait` it is also None where it would have to wait or take more than about a millisecond.
        Raises TooLarge when the hits' metadata and vectors are beyond the store's `max_read`.
        """
        sequence, count = self.sequence, self.labels.count
        generation, changing = self._rows.generation, self._changing
        vector = self._checked(query)
        if not wait and (query.exact or query.offset + query.limit > _INLINE_K or self._work(query) > _INLINE_WORK):
            return None
        fits = where(query.filter) if query.filter else None
        matches = None
        if fits is not None:
            matches = self._matches.get(fits, wait)
            if matches is None:
                return None
            count = matches.count
        try:
            near = None if query.exact else self._near(vector, query, matches, wait)
            if near is None and not wait and (matches is None or matches.vectors is None):
                return None
            if near is None:
                hits = self._exact(query, fits, matches, wait)
            else:
                hits = self._ranked(near, query, fits, matches, wait)
            if hits is None:
                return None
            complete = len(hits) >= min(query.limit, max(0, count - query.offset))
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
        if matches and changing and any(hit.item.row in changing for hit in kept):
            return None  # it is committed, perhaps, and what fits is not known yet
        return SearchResult(kept, near is None or near.is_exact, complete, sequence)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult | None]:
        """As `search`, for queries that the graph answers together; None for those that it does not.

        Raises TooLarge also where each of them alone could be answered.
        """
        sequence, count, graph = self.sequence, self.labels.count, self.graph
        alone = any(query.exact or query.with_vectors or query.filter is not None for query in queries)
        same = len({(query.offset, query.limit, query.ef) for query in queries}) == 1
        if not isinstance(graph, Graph) or alone or not same:
            return [None] * len(queries)
        candidates, most = self._candidates(queries[0], graph, None)
        k, ef = queries[0].offset + queries[0].limit, queries[0].ef or self.spec.ef_search
        if k > candidates or candidates > most:
            return [None] * len(queries)
        found = graph.search_many(np.stack([self._checked(query) for query in queries]), k, max(ef, candidates))
        if found is None:
            return [None] * len(queries)
        rows = self._rows.at_labels(list({label for one in found for label in one.labels}))
        results: list[SearchResult | None] = []
        for one, query in zip(found, queries, strict=True):
            scores = self.spec.metric.scores_of(one.distances)
            hits = self._hits(one, scores, rows, None, wait=True)
            if hits is not None:
                hits = self._page(hits, query)
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

    def _work(self, query: Query) -> int:
        """About how many numbers a search without a filter looks at."""
        if isinstance(self.graph, Flat):
            return self.graph.count * self.spec.dimension
        return max(query.ef or self.spec.ef_search, query.offset + query.limit) * self.spec.dimension

    def _candidates(self, query: Query, graph: Graph, matches: Matches | None) -> tuple[int, int]:
        """How many neighbours the graph is asked for first, and beyond how many it is not worth asking.

        The same for every page of a search: what is on one page follows from what is on those before.
        """
        most = min(_MOST_FROM_GRAPH, max(1000, graph.count // 4))
        candidates = max(query.limit, min(query.ef or self.spec.ef_search, most))
        if matches is not None:
            # So many that, were matches spread evenly, `limit` of them would be among these; more when they are not.
            candidates = max(candidates, math.ceil(1.3 * query.limit * graph.count / max(1, matches.count)) + 16)
        return candidates, most

    def _near(self, vector: Floats, query: Query, matches: Matches | None, wait: bool) -> _Near | None:
        """What matches and is near, nearest first, as far as the page's end; None where comparing is better, or waiting
        needed.

        A page is a part of one order that all pages share: the matches among the first candidates of the graph, then
        those among four times as many that were not among the first, and so on; then all others, compared.
        """
        graph = self.graph
        end = query.offset + query.limit
        if isinstance(graph, Flat):
            flat = graph.search(query.vector, end, matches.labels if matches else None, wait)
            return flat and _Near(flat, self.spec.metric.scores_of_keys(flat.distances), is_exact=True, is_all=True)
        if graph is None or (matches is not None and matches.vectors is not None):
            return None
        candidates, most = self._candidates(query, graph, matches)
        there = graph.count if matches is None else len(matches.labels)
        near = Found([], [], [])
        while candidates <= most and len(near.labels) < min(end, there):
            if not wait and candidates * self.spec.dimension > _INLINE_WORK:
                return None
            ef = max(query.ef or self.spec.ef_search, candidates)
            is_first_page = matches is None and end <= candidates
            found = graph.search(vector, end if is_first_page else candidates, ef, wait)
            if found is None:
                return None
            if matches is not None or near.labels:
                found = _those(found, matches.labels if matches else None, set(near.labels))
            if near.labels or len(found.labels) >= min(query.limit, there):
                near = _joined(near, found)
            if not wait and len(near.labels) < min(end, there):
                return None
            candidates *= 4
        if not near.labels:
            return None
        is_all = len(near.labels) >= there
        near = Found(near.labels[:end], near.distances[:end], near.versions[:end])  # each has an item at least
        return _Near(near, self.spec.metric.scores_of(near.distances), is_exact=False, is_all=is_all)

    def _rows_of(self, labels: Sequence[int], wait: bool) -> Rows:
        """The items; without their metadata when it is too much: it may be that few of it are handed out."""
        if not wait:
            return self._rows.at_labels(labels, _INLINE_BYTES)
        try:
            return self._rows.at_labels(labels)
        except TooLarge:
            return self._rows.without_metadata(labels)

    def _ranked(
        self, near: _Near, query: Query, fits: Where | None, matches: Matches | None, wait: bool
    ) -> list[Hit] | None:
        """The page that is asked for, of what is near and, behind it, of the rest; None when some of it is not any more
        what was scored."""
        end = query.offset + query.limit
        hits = self._hits(near.found, near.scores, self._rows_of(near.found.labels, wait), matches, wait)
        if hits is None:
            return None
        if near.is_exact:
            hits.sort(key=_nearest_first)
        elif not near.is_all and len(hits) < end:
            begin = max(0, query.offset - len(hits))
            beyond = query._replace(offset=begin, limit=end - max(len(hits), query.offset))
            rest = self._exact(beyond, fits, matches, wait, without=set(near.found.labels))
            if rest is None:
                return None
            return _best_first(hits[query.offset : end] + rest)
        return self._page(hits, query, wait)

    def _hits(
        self, found: Found, scores: list[float], rows: Rows, matches: Matches | None, wait: bool
    ) -> list[Hit] | None:
        """The items that have these labels, in their order; None as `_ranked`."""
        hits: list[Hit] = []
        for label, distance, score, version in zip(found.labels, found.distances, scores, found.versions, strict=True):
            there = rows.get(label)
            if there is None or there[0].version != version or (not wait and len(there) > _INLINE_SHARED):
                return None
            if len(there) > 1:
                there = tuple(sorted(there, key=_id))
            for row in there:
                if matches is None or row.row in matches.label_of:
                    hits.append(Hit(row, score, distance))
        return hits

    def _page(self, hits: list[Hit], query: Query, wait: bool = True) -> list[Hit] | None:
        """Of hits in their order, the part that is asked for, best first; None when it must be looked for again."""
        page = hits[query.offset : query.offset + query.limit]
        is_small = self.spec.metric is Metric.DOT and any(-_SMALL < hit.score < _SMALL for hit in page)
        if is_small and isinstance(self.graph, Graph) and not query.exact:
            # hnswlib's 1 - product has lost the digits of small products.
            if not wait:
                return None
            rows = [hit.item.row for hit in page]
            there = {row: (at, vector) for row, at, vector in self._store.versioned_vectors(self.spec.number, rows)}
            if any(there.get(hit.item.row, (None,))[0] != hit.item.version for hit in page):
                return None
            vectors = np.stack([np.frombuffer(there[row][1], "<f4") for row in rows])
            keys = keys_of(self.spec.metric, query.vector, vectors, lengths_of(vectors)).tolist()
            for hit, score in zip(page, self.spec.metric.scores_of_keys(keys), strict=True):
                hit.score = score
        return _best_first(page)

    def _exact(
        self, query: Query, fits: Where | None, matches: Matches | None, wait: bool, without: Container[int] = ()
    ) -> list[Hit] | None:
        """The page that is asked for, by comparing with everything that matches, but not with the labels `without`;
        None as `_ranked`."""
        metric, k = self.spec.metric, query.offset + query.limit
        if matches is not None and matches.vectors is not None:
            chosen, keys = nearest(metric, query.vector, matches.vectors, matches.lengths, k)
            return self._compared(_Compared(matches.rows[chosen], matches.versions[chosen], keys), query, matches, wait)
        best = _NOTHING
        for found, vectors in self._store.scan(self.spec, fits):
            lengths = lengths_of(vectors)
            if not (sound := np.isfinite(lengths)).all():  # none was stored that has such a length
                raise self._store.damaged(self.spec.number, found[int(np.argmin(sound))][3], "vector")
            at = np.array([(row, version, label not in without) for row, label, version, *_ in found], np.int64)
            if without:
                kept = at[:, 2].astype(bool)
                at, vectors, lengths = at[kept], vectors[kept], lengths[kept]
            chosen, keys = nearest(metric, query.vector, vectors, lengths, k)
            best = _best(best, _Compared(at[chosen, 0], at[chosen, 1], keys), k)
        return self._compared(best, query, None, wait)

    def _compared(self, best: _Compared, query: Query, matches: Matches | None, wait: bool) -> list[Hit] | None:
        rows, keys = best.rows.tolist(), best.keys.tolist()
        there = self._at_rows(rows, matches, wait)
        hits = []
        scores = self.spec.metric.scores_of_keys(keys)
        for row, version, key, score in zip(rows, best.versions.tolist(), keys, scores, strict=True):
            item = there.get(row)
            if item is None or item.version != version:
                return None
            hits.append(Hit(item, score, key))
        hits.sort(key=_nearest_first)
        return _best_first(hits[query.offset : query.offset + query.limit])

    def _at_rows(self, rows: Sequence[int], matches: Matches | None, wait: bool) -> dict[int, Row]:
        """The items in these rows; without their metadata when it is too much."""
        if matches is not None:
            labels = {matches.label_of[row] for row in rows}
            if all(self.labels.sharing(label) <= _FEW_SHARED for label in labels):
                # By label, since those that were found lately are in memory so.
                return {row.row: row for there in self._rows_of(list(labels), wait).values() for row in there}
        number = self.spec.number
        found: dict[int, tuple[int, str, str]]
        try:
            found = self._store.at_rows(number, rows, None if wait else _INLINE_BYTES)
        except TooLarge:
            if not wait:
                raise
            found = {row: (*there, "") for row, there in self._store.names_at_rows(number, rows).items()}
        return {row: Row(row, *there) for row, there in found.items()}

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


def _id(row: Row) -> str:
    return row.id


def _nearest_first(hit: Hit) -> tuple[float, str]:
    return hit.distance, hit.item.id


def _best_first(page: list[Hit]) -> list[Hit]:
    """By score, and where that is equal by id. It orders less finely than distances, so it must not choose the page."""
    if any(before.score <= after.score for before, after in pairwise(page)):
        page.sort(key=lambda hit: (-hit.score, hit.item.id))
    return page


class _Near(NamedTuple):
    """Labels in the order in which pages have them, with their scores. `is_exact`: all that matches was compared;
    `is_all`: nothing else matches."""

    found: Found
    scores: list[float]
    is_exact: bool
    is_all: bool


def _those(found: Found, among: Container[int] | None, without: Container[int]) -> Found:
    kept = [
        index for index, label in enumerate(found.labels) if (among is None or label in among) and label not in without
    ]
    return Found(
        [found.labels[index] for index in kept],
        [found.distances[index] for index in kept],
        [found.versions[index] for index in kept],
    )


def _joined(before: Found, after: Found) -> Found:
    return Found(before.labels + after.labels, before.distances + after.distances, before.versions + after.versions)


@dataclass(frozen=True, slots=True)
class _Compared:
    rows: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    keys: Doubles


_NOTHING = _Compared(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


def _best(these: _Compared, those: _Compared, k: int) -> _Compared:
    """Of both, the `k` nearest and all that are as near as the last of them."""
    rows = np.concatenate([these.rows, those.rows])
    versions = np.concatenate([these.versions, those.versions])
    keys = np.concatenate([these.keys, those.keys])
    if len(keys) <= k:
        return _Compared(rows, versions, keys)
    kept = keys <= np.partition(keys, k - 1)[k - 1]
    return _Compared(rows[kept], versions[kept], keys[kept])
