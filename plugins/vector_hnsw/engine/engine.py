"""Collections of vectors: what may be asked, and in which order truth (store) and graph change.

A write is checked as a whole, then committed to the store, then applied to the graph, then acknowledged. A kill
between the last two loses nothing: the store knows what the graph has not got. Writes come one after another;
searches go on beside them.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from plugins.vector_hnsw.engine.cache import GraphCache
from plugins.vector_hnsw.engine.checks import (
    LARGEST_DIMENSION,
    LARGEST_EF,
    Item,
    already,
    check_ids,
    check_items,
    check_model,
    checked_model_name,
    checked_name,
    within,
)
from plugins.vector_hnsw.engine.graph import Found, Graph
from plugins.vector_hnsw.engine.metric import Floats, Metric, check_query
from plugins.vector_hnsw.engine.store import Collection, Hit, Row, Store, sync_folder
from shared.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PluginError,
    StartError,
    quoted,
)

_log = logging.getLogger("hector")

# A graph is saved when this many items changed since the last time, or half of it, whichever is more.
_SAVE_AFTER = 10_000
# Past this share of tombstones a graph is built anew when it is opened.
_MOST_TOMBSTONES = 0.3
# A search beyond either of these takes longer than a millisecond: results, and candidates times dimension.
_INLINE_K = 100
_INLINE_WORK = 400_000


@dataclass(frozen=True)
class Query:
    """A search: `vector` of shape (dimension,).

    `min_score` keeps hits with at least that score; `ef` is how many candidates the graph keeps (0: the
    collection's); `exact` compares every vector instead; `with_vectors` brings the original vectors along.
    """

    vector: Floats
    limit: int = 10
    offset: int = 0
    min_score: float | None = None
    ef: int = 0
    exact: bool = False
    with_vectors: bool = False
    embedding_model: str = ""


@dataclass(frozen=True)
class SearchResult:
    """`hits`, best first. `exact`: every vector was compared. `complete`: no more hits exist within the limit."""

    hits: list[Hit]
    exact: bool
    complete: bool
    sequence: int


class _Open:
    """A collection in use: its description, its graph, and how much of it is not saved.

    Without a graph (it failed, and could not be built anew) every search compares all vectors.
    """

    def __init__(self, collection: Collection, graph: Graph) -> None:
        self.collection = collection
        self.graph: Graph | None = graph
        self.unsaved = 0
        self.save_at = _SAVE_AFTER


class Engine:
    """Thread-safe. `open` before anything else, `close` at the end; a kill instead of `close` loses nothing."""

    def __init__(self, data_dir: Path, *, max_limit: int = 1000, threads: int = 0) -> None:
        """Takes the folder, which no other process may use meanwhile. Raises StartError."""
        self._data_dir = data_dir
        self._max_limit = max_limit
        self._threads = threads
        self._writing = threading.Lock()
        self._collections: dict[str, _Open] = {}
        self._sequence = 0  # of the last write that every search sees
        # Whichever thread closes lets go of it.
        self._lock = FileLock(data_dir / "lock", thread_local=False)
        try:
            _make_folder(data_dir)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StartError(f"{data_dir} is in use by another process; stop it, or choose another data_dir") from None
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from None

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Verifies the database, loads or builds every graph. Raises StartError, and lets go of the folder then."""
        try:
            self._store = Store(self._data_dir / "store.db")
            try:
                self._open_all()
            except BaseException:
                self._store.close()
                raise
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise StartError(f"cannot use data_dir {self._data_dir}: {error.strerror}") from None
            if isinstance(error, PluginError):
                raise StartError(f"cannot open data_dir {self._data_dir}: {error.message}") from None
            raise

    def close(self) -> None:
        """Saves the graphs, so that the next start need not catch up, and lets go of the folder.

        What is called afterwards raises Unavailable.
        """
        with self._writing:
            for entry in self._collections.values():
                if entry.unsaved:
                    self._save(entry)
            self._store.close()
            self._lock.release()

    # -- collections --------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        dimension: int,
        *,
        metric: Metric = Metric.COSINE,
        m: int = 0,
        ef_construction: int = 0,
        ef_search: int = 0,
        embedding_model: str = "",
        if_not_exists: bool = False,
    ) -> bool:
        """Makes a collection and returns True; False when an equal one was there and `if_not_exists` is set.

        0 for `m`, `ef_construction`, `ef_search` means 16, 200, 100. Raises InvalidArgument or AlreadyExists.
        """
        wanted = Collection(
            number=0,
            name=checked_name(name),
            dimension=within("dimension", dimension, 1, LARGEST_DIMENSION),
            metric=metric,
            m=within("index.m", m or 16, 2, 128),
            ef_construction=within("index.ef_construction", ef_construction or 200, 4, 4096),
            ef_search=within("index.ef_search", ef_search or 100, 1, LARGEST_EF),
            embedding_model=checked_model_name(embedding_model),
        )
        with self._changing():
            there = self._collections.get(name)
            if there is not None:
                if if_not_exists and replace(there.collection, number=0) == wanted:
                    return False
                raise AlreadyExists(already(there.collection, wanted, if_not_exists), reason="COLLECTION_EXISTS")
            graph = self._new_graph(wanted)
            with self._store.write() as transaction:
                collection = self._store.create(transaction, wanted)
            self._collections[name] = _Open(collection, graph)
        return True

    def delete(self, name: str) -> int:
        """Removes the collection with everything in it and returns how many vectors that were. Raises NotFound."""
        with self._changing():
            collection = self._find(name).collection
            with self._store.write() as transaction:
                count = self._store.drop(transaction, collection.number)
            del self._collections[name]
            with suppress(OSError):  # the next start removes what is left
                self._cache.remove(collection.number)
        return count

    def describe(self, name: str) -> Collection:
        """Raises NotFound."""
        return self._find(name).collection

    # -- vectors ------------------------------------------------------------------------------------------------

    def upsert(self, name: str, items: Sequence[Item], *, embedding_model: str = "") -> tuple[int, int]:
        """Writes all items or none, durably: how many different ids, and the store's sequence afterwards.

        An id that exists gets the new vector and metadata. Of an id twice in `items` the last counts. Raises
        NotFound, InvalidArgument (naming items and fields), FailedPrecondition, StorageFull.
        """
        collection = self._find(name).collection
        check_model(collection, embedding_model)
        check_items(collection, items)
        latest = list({item.id: item for item in items}.values())
        with self._changing():
            entry = self._find(name)
            if entry.collection != collection:
                raise NotFound(f"collection {name} was replaced meanwhile", reason="COLLECTION_NOT_FOUND")
            if latest:
                self._write(entry, latest)
            return len(latest), self._store.sequence

    def delete_vectors(self, name: str, ids: Sequence[str]) -> tuple[int, int]:
        """Deletes what there is of `ids`, durably: how many that were, and the store's sequence.

        Raises NotFound, InvalidArgument (naming ids), StorageFull.
        """
        check_ids(ids)
        with self._changing():
            entry = self._find(name)
            labels = list(self._store.labels_of(entry.collection.number, list(dict.fromkeys(ids))).values())
            if labels:
                with self._store.write() as transaction:
                    self._store.remove(transaction, entry.collection.number, labels)
                self._apply(entry, lambda graph: graph.delete(labels), len(labels))
            return len(labels), self._store.sequence

    def search(self, name: str, query: Query) -> SearchResult:
        """The `limit` best after the `offset` best; ties break on id. May wait for a write that is under way.

        Raises NotFound, InvalidArgument, FailedPrecondition.
        """
        result = self._search(name, query)
        if result is None:
            with self._writing:
                result = self._search(name, query)
            assert result is not None, "nothing was written, yet what was found is gone"
        return result

    def search_now(self, name: str, query: Query) -> SearchResult | None:
        """Like `search`, but None where it would have to wait or take more than about a millisecond."""
        collection, k = self._find(name).collection, query.offset + query.limit
        work = max(query.ef or collection.ef_search, k) * collection.dimension
        if query.exact or k > _INLINE_K or work > _INLINE_WORK:
            return None
        return self._search(name, query, wait=False)

    # -- inside -------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> _Open:
        entry = self._collections.get(name)
        if entry is None:
            raise NotFound(
                f"there is no collection {quoted(name)}; create it first",
                reason="COLLECTION_NOT_FOUND",
                field="collection",
            )
        return entry

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One write: alone, and part of what searches see when it is over."""
        with self._writing:
            yield
            self._sequence = self._store.sequence

    def _search(self, name: str, query: Query, wait: bool = True) -> SearchResult | None:
        """None when something that was found has been written since, so that it must be looked for again.

        Without `wait` it is also None where it would take long.
        """
        sequence, entry = self._sequence, self._find(name)
        collection, graph = entry.collection, entry.graph
        check_model(collection, query.embedding_model)
        vector = check_query(collection.metric, collection.dimension, query.vector)
        within("limit", query.limit, 1, self._max_limit)
        within("ef_search", query.ef, 0, LARGEST_EF)
        if query.min_score is not None and math.isnan(query.min_score):
            raise InvalidArgument("min_score must be a number, not NaN", reason="OUT_OF_RANGE", field="min_score")
        k = query.offset + query.limit
        found, count = None, 0
        if graph is not None and not query.exact and k <= max(1000, graph.count // 4):
            count = graph.count
            found = graph.search(vector, k, query.ef or collection.ef_search, wait)
            if found is not None and not wait and len(found.labels) > 2 * _INLINE_K:
                return None
        scanned = found is None
        if found is None:
            if not wait:
                return None
            found = self._scan(collection, vector, k)
        hits = self._hits(collection, found, query)
        if hits is None:
            return None
        complete = scanned or len(found.labels) >= min(k, count)
        kept = [hit for hit in hits if query.min_score is None or hit.score >= query.min_score]
        return SearchResult(kept, scanned, complete, sequence)

    def _write(self, entry: _Open, items: list[Item]) -> None:
        collection, store, number = entry.collection, self._store, entry.collection.number
        matrix = np.stack([item.vector for item in items]).astype("<f4", copy=False)
        known = store.labels_of(number, [item.id for item in items])
        old = store.vectors(number, list(known.values()))
        next_label = store.next_label(number)
        labels: list[int] = []
        moved: list[int] = []  # rows whose vector the graph has not got
        rows = []
        for index, item in enumerate(items):
            label = known.get(item.id)
            vector = matrix[index].tobytes()
            if label is None:
                label, next_label = next_label, next_label + 1
            if label not in old or old[label].tobytes() != vector:
                moved.append(index)
            labels.append(label)
            rows.append(Row(label, item.id, vector, item.metadata))
        prepared = collection.metric.prepare(matrix[moved])
        # Before the commit: what there is no memory for must be refused, not accepted and then lost.
        if entry.graph is not None:
            entry.graph.reserve(len(moved))
        with store.write() as transaction:
            store.put(transaction, number, rows, next_label)
        moved_labels = [labels[index] for index in moved]
        stayed = set(labels).difference(moved_labels)

        def change(graph: Graph) -> None:
            graph.touch(stayed, store.sequence)
            graph.put(moved_labels, prepared, [store.sequence] * len(moved))

        self._apply(entry, change, len(items))

    def _apply(self, entry: _Open, change: Callable[[Graph], object], count: int) -> None:
        """Brings the graph up to the store, where `count` items were changed.

        The write is durable whatever becomes of the graph, so it is the graph that gives way.
        """
        name = entry.collection.name
        try:
            if entry.graph is not None:
                change(entry.graph)
        except Exception:
            _log.exception("event=graph_rebuilt collection=%s", name)
            entry.graph = None
        try:
            entry.graph = entry.graph or self._build(entry.collection)
        except Exception:
            _log.exception(
                "event=graph_missing collection=%s remedy=%r", name, "searches are exact and slow until then"
            )
        entry.unsaved += count
        if entry.unsaved >= entry.save_at:
            self._save(entry)

    def _hits(self, collection: Collection, found: Found, query: Query) -> list[Hit] | None:
        """The page that is asked for of what was found, or None when some of it is not any more what was scored."""
        start, end = query.offset, min(query.offset + query.limit, len(found.scores))
        if start >= end:
            return []
        # From the first to the last with a score of this page: their ids decide which of them are on it.
        first = found.scores.index(found.scores[start])
        last = end
        while last < len(found.scores) and found.scores[last] == found.scores[end - 1]:
            last += 1
        labels = found.labels[first:last]
        vectors = self._store.vectors(collection.number, labels) if query.with_vectors else {}
        items = self._store.items(collection.number, labels)
        hits = []
        for label, score, sequence in zip(labels, found.scores[first:last], found.sequences[first:last], strict=True):
            item = items.get(label)
            if item is None or item.sequence != sequence or (query.with_vectors and label not in vectors):
                return None
            hits.append(Hit(item.id, score, item.metadata, vectors.get(label)))
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[start - first : end - first]

    def _scan(self, collection: Collection, query: Floats, k: int) -> Found:
        """The `k` best of all vectors, and what has the score of the last of them."""
        metric = collection.metric
        blocks, waiting = [np.empty((3, 0))], 0
        for labels, sequences, vectors in self._store.scan(collection):
            scores = metric.scores(metric.distances(query, metric.prepare(vectors)))
            blocks.append(np.array([labels, sequences, scores]))
            waiting += len(labels)
            if waiting > k + 10_000:
                blocks, waiting = [_best(blocks, k)], 0
        labels_, sequences_, scores_ = _best(blocks, k)
        return Found(labels_.astype(int).tolist(), scores_.tolist(), sequences_.astype(int).tolist())

    # -- graphs -------------------------------------------------------------------------------------------------

    def _new_graph(self, collection: Collection) -> Graph:
        return Graph(collection.metric, collection.dimension, collection.m, collection.ef_construction, self._threads)

    def _open_all(self) -> None:
        self._cache = GraphCache(self._data_dir / "graphs", self._store.uuid)
        found = self._store.collections()
        self._cache.remove_all_but({collection.number for collection in found})
        for collection in found:
            self._collections[collection.name] = self._open(collection)
        self._sequence = self._store.sequence

    def _open(self, collection: Collection) -> _Open:
        """The collection with its graph: loaded and caught up, or built from the store."""
        graph = self._new_graph(collection)
        loaded = self._cache.load(graph, collection, self._store.sequence)
        if loaded is not None:
            saved_at, in_file = loaded
            current = self._store.sequences(collection.number)
            graph.adopt({label: current[label] for label in in_file & current.keys()})
            missing = (current.keys() - in_file) | self._store.changed_since(collection.number, saved_at)
            entry = _Open(collection, graph)
            entry.unsaved = self._catch_up(collection, graph, sorted(missing & current.keys()), current)
            if graph.tombstones <= _MOST_TOMBSTONES:
                if entry.unsaved >= entry.save_at:
                    self._save(entry)
                return entry
            _log.info("event=graph_rebuilt collection=%s cause=tombstones", collection.name)
        entry = _Open(collection, self._build(collection))
        self._save(entry)
        return entry

    def _catch_up(self, collection: Collection, graph: Graph, labels: list[int], sequences: dict[int, int]) -> int:
        """Brings these labels into the graph; how much that changed it."""
        changed = 0
        graph.reserve(len(labels))
        for start in range(0, len(labels), 1000):
            part = labels[start : start + 1000]
            vectors = self._store.vectors(collection.number, part)
            prepared = collection.metric.prepare(np.stack([vectors[label] for label in part]))
            changed += graph.put(part, prepared, [sequences[label] for label in part])
        return changed

    def _build(self, collection: Collection) -> Graph:
        graph = self._new_graph(collection)
        for labels, sequences, vectors in self._store.scan(collection):
            graph.reserve(len(labels))
            graph.put(labels, collection.metric.prepare(vectors), sequences)
        return graph

    def _save(self, entry: _Open) -> None:
        """Saves the graph and forgets what it has got. A failure is logged and costs only time at the next start."""
        if entry.graph is None:
            return
        if self._cache.save(entry.graph, entry.collection, self._store.sequence):
            entry.unsaved = 0
            try:
                self._store.forget_changes(entry.collection.number, self._store.sequence)
            except PluginError as error:
                _log.warning("event=changes_kept collection=%s cause=%r", entry.collection.name, error.message)
        entry.save_at = entry.unsaved + max(_SAVE_AFTER, entry.graph.count // 2)


def _make_folder(folder: Path) -> None:
    """Makes it, and every missing one above it, durably."""
    if not folder.is_dir():
        if folder.parent != folder:
            _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _best(blocks: list[npt.NDArray[np.float64]], k: int) -> npt.NDArray[np.float64]:
    """Of columns (label, sequence, score) the `k` best in order, and those with the score of the last."""
    whole = np.concatenate(blocks, axis=1)
    if whole.shape[1] > k:
        least = -np.partition(-whole[2], k - 1)[k - 1]
        whole = whole[:, whole[2] >= least]
    return whole[:, np.lexsort((whole[0], -whole[2]))]
