"""Collections of vectors: what may be asked, and in which order truth (store) and graph change.

A write is checked as a whole, then committed to the store, then applied to the graph, then acknowledged. A kill
between the last two loses nothing: the store knows what the graph has not got. Writes come one after another;
searches go on beside them.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from plugins.vector_hnsw.engine.cache import GraphCache
from plugins.vector_hnsw.engine.graph import Found, Graph
from plugins.vector_hnsw.engine.metric import Floats, Metric, check_query
from plugins.vector_hnsw.engine.store import Collection, Hit, Row, Store, sync_folder
from shared.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PluginError,
    StartError,
    quoted,
)

_log = logging.getLogger("hector")

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
LARGEST_DIMENSION = 16_384
LARGEST_EF = 4096
# A graph is saved when this many items changed since the last time, or half of it, whichever is more.
_SAVE_AFTER = 10_000
# Past this share of tombstones a graph is built anew when it is opened.
_MOST_TOMBSTONES = 0.3
_INLINE_K = 100


@dataclass(frozen=True)
class Item:
    """What an upsert brings: `vector` of shape (dimension,), `metadata` as JSON text of an object."""

    id: str
    vector: Floats
    metadata: str = "{}"


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
    """A collection in use: its description, its graph, and how much of it is not saved."""

    def __init__(self, collection: Collection, graph: Graph) -> None:
        self.collection = collection
        self.graph = graph
        self.unsaved = 0


class Engine:
    """Thread-safe. `open` before anything else, `close` at the end; a kill instead of `close` loses nothing."""

    def __init__(self, data_dir: Path, *, max_limit: int = 1000, threads: int = 0) -> None:
        """Takes the folder, which no other process may use meanwhile. Raises StartError."""
        self._data_dir = data_dir
        self._max_limit = max_limit
        self._threads = threads
        self._writing = threading.Lock()
        self._collections: dict[str, _Open] = {}
        self._lock = FileLock(data_dir / "lock")
        try:
            if not data_dir.is_dir():
                data_dir.mkdir(parents=True)
                sync_folder(data_dir.parent)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StartError(f"{data_dir} is in use by another process; stop it, or choose another data_dir") from None
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from None

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Verifies the database, loads or builds every graph. Raises StartError."""
        try:
            self._store = Store(self._data_dir / "store.db")
            self._cache = GraphCache(self._data_dir / "graphs", self._store.uuid)
        except OSError as error:
            raise StartError(f"cannot use data_dir {self._data_dir}: {error.strerror}") from None
        found = self._store.collections()
        self._cache.remove_all_but({collection.number for collection in found})
        for collection in found:
            self._collections[collection.name] = self._open(collection)

    def close(self) -> None:
        """Saves the graphs, so that the next start need not catch up, and lets go of the folder."""
        with self._writing:
            for entry in self._collections.values():
                if entry.unsaved:
                    self._save(entry)
            self._collections.clear()
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
            name=_checked_name(name),
            dimension=_within("dimension", dimension, 1, LARGEST_DIMENSION),
            metric=metric,
            m=_within("index.m", m or 16, 2, 128),
            ef_construction=_within("index.ef_construction", ef_construction or 200, 4, 4096),
            ef_search=_within("index.ef_search", ef_search or 100, 1, LARGEST_EF),
            embedding_model=embedding_model,
        )
        with self._writing:
            there = self._collections.get(name)
            if there is not None:
                if if_not_exists and replace(there.collection, number=0) == wanted:
                    return False
                raise AlreadyExists(_already(there.collection, wanted, if_not_exists), reason="COLLECTION_EXISTS")
            with self._store.write() as transaction:
                collection = self._store.create(transaction, wanted)
            self._collections[name] = _Open(collection, self._new_graph(collection))
        return True

    def delete(self, name: str) -> int:
        """Removes the collection with everything in it and returns how many vectors that were. Raises NotFound."""
        with self._writing:
            collection = self._find(name).collection
            with self._store.write() as transaction:
                count = self._store.drop(transaction, collection.number)
            del self._collections[name]
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
        _check_model(collection, embedding_model)
        _check_items(collection, items)
        latest = list({item.id: item for item in items}.values())
        with self._writing:
            entry = self._find(name)
            if entry.collection != collection:
                raise NotFound(f"collection {name} was replaced meanwhile", reason="COLLECTION_NOT_FOUND")
            if latest:
                self._write(entry, latest)
            return len(latest), self._store.sequence

    def delete_vectors(self, name: str, ids: Sequence[str]) -> tuple[int, int]:
        """Deletes what there is of `ids`, durably: how many that were, and the store's sequence. Raises NotFound."""
        with self._writing:
            entry = self._find(name)
            labels = list(self._store.labels_of(entry.collection.number, list(dict.fromkeys(ids))).values())
            if labels:
                with self._store.write() as transaction:
                    self._store.remove(transaction, entry.collection.number, labels)
                entry.graph.delete(labels)
                self._changed(entry, len(labels))
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
        entry = self._find(name)
        if query.exact or query.offset + query.limit > _INLINE_K or entry.graph.busy:
            return None
        return self._search(name, query)

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

    def _search(self, name: str, query: Query) -> SearchResult | None:
        """None when something that was found has been written since, so that it must be looked for again."""
        entry = self._find(name)
        collection, graph, count = entry.collection, entry.graph, entry.graph.count
        _check_model(collection, query.embedding_model)
        vector = check_query(collection.metric, collection.dimension, query.vector)
        _within("limit", query.limit, 1, self._max_limit)
        _within("ef_search", query.ef, 0, LARGEST_EF)
        k = query.offset + query.limit
        found = None
        if not query.exact and k <= max(1000, count // 4):
            found = graph.search(vector, k, query.ef or collection.ef_search)
        scanned = found is None
        hits = self._hits(collection, found or self._scan(collection, vector, k), query.with_vectors)
        if hits is None:
            return None
        complete = scanned or len(hits) >= min(k, count)
        kept = [hit for hit in hits if query.min_score is None or hit.score >= query.min_score]
        return SearchResult(kept[query.offset :], scanned, complete, self._store.sequence)

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
        entry.graph.reserve(len(items) - len(known))
        with store.write() as transaction:
            store.put(transaction, number, rows, next_label)
        try:
            entry.graph.touch(set(labels).difference(labels[index] for index in moved), store.sequence)
            entry.graph.put([labels[index] for index in moved], prepared, [store.sequence] * len(moved))
        except Exception:
            # The write is durable whatever became of the graph, so it is the graph that gives way.
            _log.exception("event=graph_rebuilt collection=%s", collection.name)
            entry.graph = self._build(collection)
        self._changed(entry, len(items))

    def _changed(self, entry: _Open, count: int) -> None:
        entry.unsaved += count
        if entry.unsaved >= max(_SAVE_AFTER, entry.graph.count // 2):
            self._save(entry)

    def _hits(self, collection: Collection, found: Found, with_vectors: bool) -> list[Hit] | None:
        """The items behind what was found, or None when one of them is not any more what was scored."""
        number = collection.number
        vectors = self._store.vectors(number, found.labels) if with_vectors else {}
        items = self._store.items(number, found.labels)
        hits = []
        scores = collection.metric.scores(found.distances).tolist()
        for label, score, sequence in zip(found.labels, scores, found.sequences, strict=True):
            item = items.get(label)
            if item is None or item.sequence != sequence or (with_vectors and label not in vectors):
                return None
            hits.append(Hit(item.id, score, item.metadata, vectors.get(label)))
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits

    def _scan(self, collection: Collection, query: Floats, k: int) -> Found:
        """The `k` nearest by comparing every vector."""
        best_labels: npt.NDArray[np.int64] = np.empty(0, np.int64)
        best: Floats = np.empty(0, np.float32)
        sequences = self._store.sequences(collection.number)
        for labels, vectors in self._store.scan(collection):
            distances = collection.metric.distances(query, collection.metric.prepare(vectors))
            best_labels, best = np.concatenate([best_labels, labels]), np.concatenate([best, distances])
            if len(best) > k:
                nearest = np.argpartition(best, k - 1)[:k]
                best_labels, best = best_labels[nearest], best[nearest]
        order = np.lexsort((best_labels, best))
        found = best_labels[order].tolist()
        return Found(found, best[order], [sequences.get(label, -1) for label in found])

    # -- graphs -------------------------------------------------------------------------------------------------

    def _new_graph(self, collection: Collection) -> Graph:
        return Graph(collection.metric, collection.dimension, collection.m, collection.ef_construction, self._threads)

    def _open(self, collection: Collection) -> _Open:
        """The collection with its graph: loaded and caught up, or built from the store."""
        graph = self._new_graph(collection)
        loaded = self._cache.load(graph, collection, self._store.sequence)
        if loaded is None:
            graph = self._build(collection)
            entry = _Open(collection, graph)
            entry.unsaved = graph.count
        else:
            saved_at, in_file = loaded
            current = self._store.sequences(collection.number)
            graph.adopt(in_file, current)
            missing = (current.keys() - set(in_file.tolist())) | self._store.changed_since(collection.number, saved_at)
            entry = _Open(collection, graph)
            entry.unsaved = self._catch_up(collection, graph, sorted(missing & current.keys()), current)
            if graph.tombstones > _MOST_TOMBSTONES * (graph.count + graph.tombstones):
                _log.info("event=graph_rebuilt collection=%s cause=tombstones", collection.name)
                entry.graph = self._build(collection)
                entry.unsaved = entry.graph.count
        if entry.unsaved:
            self._save(entry)
        return entry

    def _catch_up(self, collection: Collection, graph: Graph, labels: list[int], sequences: dict[int, int]) -> int:
        graph.reserve(len(labels))
        for start in range(0, len(labels), 1000):
            part = labels[start : start + 1000]
            vectors = self._store.vectors(collection.number, part)
            prepared = collection.metric.prepare(np.stack([vectors[label] for label in part]))
            graph.put(part, prepared, [sequences[label] for label in part])
        return len(labels)

    def _build(self, collection: Collection) -> Graph:
        graph = self._new_graph(collection)
        sequences = self._store.sequences(collection.number)
        graph.reserve(len(sequences))
        for labels, vectors in self._store.scan(collection):
            part = labels.tolist()
            graph.put(part, collection.metric.prepare(vectors), [sequences[label] for label in part])
        return graph

    def _save(self, entry: _Open) -> None:
        if self._cache.save(entry.graph, entry.collection, self._store.sequence):
            try:
                self._store.forget_changes(entry.collection.number, self._store.sequence)
            except PluginError as error:
                _log.warning("event=changes_kept collection=%s cause=%r", entry.collection.name, error.message)
        entry.unsaved = 0


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"collection name {quoted(name)} must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with a dot",
            reason="BAD_NAME",
            field="name",
        )
    return name


def _within(what: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidArgument(f"{what} must be {least} to {most}, not {value}", reason="OUT_OF_RANGE", field=what)
    return value


def _already(there: Collection, wanted: Collection, if_not_exists: bool) -> str:
    if not if_not_exists:
        return f"collection {there.name} exists; delete it first, or set if_not_exists"
    parameters = ("dimension", "metric", "m", "ef_construction", "ef_search", "embedding_model")
    for name in parameters:
        have, want = getattr(there, name), getattr(wanted, name)
        if have != want:
            return (
                f"collection {there.name} exists with {name} {have}, not {want}; delete it first, or take another name"
            )
    raise AssertionError("equal collections")


def _check_model(collection: Collection, named: str) -> None:
    if named and collection.embedding_model and named != collection.embedding_model:
        raise FailedPrecondition(
            f"collection {collection.name} holds vectors of {collection.embedding_model}; "
            f"those of {quoted(named, 200)} cannot be compared with them",
            reason="OTHER_EMBEDDING_MODEL",
            metadata={"expected": collection.embedding_model, "got": named},
        )


def _check_items(collection: Collection, items: Sequence[Item]) -> None:
    """Raises InvalidArgument that names every item at fault."""
    wrong: list[tuple[str, str]] = []
    for index, item in enumerate(items):
        size = len(item.id.encode())
        if not 1 <= size <= 512:
            wrong.append((f"vectors[{index}].id", f"must be of 1 to 512 bytes, has {size}"))
        if len(item.vector) != collection.dimension:
            message = f"has {len(item.vector)} numbers, the collection's dimension is {collection.dimension}"
            wrong.append((f"vectors[{index}].vector", message))
    if not wrong and items:
        verdicts = collection.metric.check(np.stack([item.vector for item in items]))
        if verdicts is not None:
            wrong = [(f"vectors[{i}].vector", str(text)) for i, text in enumerate(verdicts) if text]
    if wrong:
        field, text = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InvalidArgument(f"{field} {text}{more}; nothing was written", reason="BAD_VECTOR", violations=wrong)
