"""All collections of one folder: what may be asked of them, who waits for whom, and the folder's life.

A write is checked as a whole, then committed to the store, then applied to the graph, then acknowledged. A kill
between the last two loses nothing: the store knows what the graph has not got. Writes come one after another;
searches go on beside them.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from shared.errors import (
    AlreadyExists,
    CallerError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    LimitReached,
    NotFound,
    PluginError,
    StartError,
    StorageFull,
    quoted,
)

from . import checks, health, opening
from .aliases import Aliases
from .cache import GraphCache
from .changes import Batch, Change, Dump, MetadataMode, changed, check_change
from .collection import OpenCollection
from .files import make_folder
from .filters import Filter, refused, unrestricted, where
from .flat import Flat, index_for
from .graph import Graph
from .labels import Labels
from .metric import Metric
from .query import Query, SearchResult
from .rebuilding import cause_to_rebuild, rebuild_aside
from .searching import Changed, TakesLong
from .snapshots import Snapshot, Snapshots, copy_in
from .store import Collection, Item, Store

_log = logging.getLogger("hector")

# A graph is saved when this many items changed since the last time, or half of it, whichever is more.
_SAVE_AFTER = 10_000
_HIDDEN = ".restoring"  # no client can name it: what a restore that was cut off leaves behind
_LARGEST_PAGE = 1000
# Free pages of the file, of 8 KiB each: fewer are kept for what comes; so many go back at once; and seconds in between.
_FEW_PAGES, _PAGES_A_TURN, _PAUSE = 32, 256, 0.01
_AGAIN = 1.0  # seconds until it is tried again to remove what there was no room to remove
_PAGE = 100
Result = TypeVar("Result")


class Mode(Enum):
    """What an upsert does with ids that exist, and with those that do not."""

    UPSERT = auto()
    INSERT_ONLY = auto()
    UPDATE_ONLY = auto()


@dataclass(frozen=True)
class Written:
    """`count` different ids were written; `wrong` says, by index, which items were not and why."""

    count: int
    sequence: int
    wrong: dict[int, CallerError] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A collection as it is now. `bytes_on_disk` are its ids, metadata, vectors and graph."""

    spec: Collection
    count: int
    sequence: int
    bytes_on_disk: int
    sampled_recall: float
    tombstone_ratio: float
    rebuilding: bool
    rebuild_progress: float
    aliases: tuple[str, ...] = ()


class Engine:
    """Thread-safe. `open` before anything else, `close` at the end; a kill instead of `close` loses nothing."""

    def __init__(
        self,
        data_dir: Path,
        *,
        max_limit: int = 1000,
        max_collections: int = 1000,
        max_memory: int = 0,
        max_read: int = 64 * 2**20,
        threads: int = 0,
    ) -> None:
        """Takes the folder, which no other process may use meanwhile. Raises StartError.

        `max_memory` bounds what the graphs take, in bytes; 0 does not. A call that hands out more than `max_read`
        bytes of metadata and vectors raises TooLarge.
        """
        self._data_dir = data_dir
        self._max_limit = max_limit
        self._max_collections = max_collections
        self._max_memory = max_memory
        self._max_read = max_read
        self._threads = threads
        self._writing = threading.Lock()
        self._snapshotting = threading.Lock()
        self._collections: dict[str, OpenCollection] = {}
        self._giving_back = self._is_full = False
        # Whichever thread closes lets go of it.
        self._lock = FileLock(data_dir / "lock", mode=0o600, thread_local=False)
        try:
            make_folder(data_dir)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StartError(f"{data_dir} is in use by another process; stop it, or choose another data_dir") from None
        except OSError as error:
            raise StartError(f"cannot use data_dir {data_dir}: {error.strerror}") from None

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Verifies the database, loads or builds every graph. Raises StartError, and lets go of the folder then."""
        try:
            opening.refuse_wrong_folder(self._data_dir)
            self._store = Store(self._data_dir / "store.db", max_read=self._max_read)
            self._store.fields.on_wanted = self._index_field
            try:
                self._open_all()
                self._store.database.keep_reserve()
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

        0 for `m`, `ef_construction`, `ef_search` means 16, 200, 100, or what the equal one has. Raises
        InvalidArgument, AlreadyExists, LimitReached, Overloaded.
        """
        named = checks.index_parameters(m=m, ef_construction=ef_construction, ef_search=ef_search)
        wanted = Collection(
            number=0,
            name=checks.checked_name(name),
            dimension=checks.within("dimension", dimension, 1, checks.LARGEST_DIMENSION),
            metric=metric,
            embedding_model=checks.checked_model_name(embedding_model),
            **{**checks.INDEX_DEFAULTS, **named},
        )
        with self._writing:
            there = self._collections.get(self._name_of(name))
            if there is not None:
                if not if_not_exists:
                    raise AlreadyExists(checks.taken(name, there.spec), reason="COLLECTION_EXISTS")
                # Index parameters may have been changed since; those that are not named need not be equal.
                unnamed = {key: getattr(there.spec, key) for key in checks.INDEX_DEFAULTS if key not in named}
                if other := checks.difference(there.spec, replace(wanted, **unnamed)):
                    raise AlreadyExists(other, reason="COLLECTION_EXISTS")
                return False
            self._check_number()
            graph = index_for(wanted, 0, self._threads)

            def store() -> Collection:
                with self._store.write() as transaction:
                    return self._store.create(transaction, wanted)

            spec = self._when_full_too(store, deletes=False)
            self._collections[name] = OpenCollection(spec, self._store, Labels(0), graph, self._max_limit)
        return True

    def update_index(self, name: str, *, m: int = 0, ef_construction: int = 0, ef_search: int = 0) -> str:
        """Changes the index parameters that are not 0, durably, and returns the collection's name. Where the graph was
        made with others a new one is built while the old one is searched, also after a kill.

        Raises NotFound, InvalidArgument, LimitReached (for a moment there are two graphs).
        """
        named = checks.index_parameters(m=m, ef_construction=ef_construction, ef_search=ef_search)
        if not named:
            raise InvalidArgument(
                "index names nothing to change; set m, ef_construction or ef_search",
                reason="NOTHING_NAMED",
                field="index",
            )
        with self._writing:
            entry = self._find(name, "name")
            spec = replace(entry.spec, **named)
            if spec == entry.spec:
                return spec.name
            if isinstance(entry.graph, Graph) and cause_to_rebuild(entry.graph, spec) == "parameters":
                count = entry.graph.count
                self._check_memory(index_for(spec, count, self._threads).bytes_with(count))

            def store() -> None:
                with self._store.write() as transaction:
                    self._store.set_index(transaction, spec)

            self._when_full_too(store, deletes=False)
            entry.spec = spec
            self._after(entry)
            return spec.name

    def delete(self, name: str) -> int:
        """Removes the collection with everything in it and returns how many vectors that were. Raises NotFound."""
        with self._writing:
            spec = self._find(name, "name").spec
            if aliases := self._aliases.of(spec.name):
                raise FailedPrecondition(
                    f"collection {spec.name} has the alias {aliases[0][0]}"
                    + (f" and {len(aliases) - 1} more" if len(aliases) > 1 else "")
                    + "; move it to another collection, or delete it first",
                    reason="COLLECTION_HAS_ALIASES",
                    field="name",
                )

            def drop() -> int:
                with self._store.write() as transaction:
                    return self._store.drop(transaction, spec.number)

            count = self._when_full_too(drop, deletes=True)
            del self._collections[spec.name]
            with suppress(OSError):  # the next start removes what is left
                self._cache.remove(spec.number)
            self._give_back()
        return count

    def describe_all(self) -> list[Description]:
        """By name, with the recall that was measured last."""
        found: list[Description] = []
        for name in sorted(self._collections):
            with suppress(NotFound):  # it was deleted meanwhile
                found.append(self.describe(name, sample=False))
        return found

    def describe(self, name: str, *, sample: bool = True) -> Description:
        """`sample`: measures recall, which reads every vector; once for each state of the collection.

        Raises NotFound.
        """

        def read(entry: OpenCollection) -> Description:
            with entry.describing:  # whoever asks meanwhile for the same gets the same
                sequence = self._store.counters(entry.spec.number)[1]
                if sample and entry.sampled_at != (state := (sequence, entry.graphs, entry.spec.ef_search)):
                    entry.sampled_recall = health.sampled_recall(entry, self._store)
                    entry.sampled_at = state
                if entry.measured_at != sequence:
                    entry.bytes_used = self._store.bytes_used(entry.spec.number)
                    entry.measured_at = sequence
            return Description(
                entry.spec,
                entry.labels.count,
                sequence,
                entry.bytes_used + self._cache.size(entry.spec.number),
                entry.sampled_recall,
                entry.graph.tombstone_ratio if entry.graph else 0.0,
                entry.rebuilding,
                entry.rebuild_progress,
                tuple(alias for alias, _ in self._aliases.of(entry.spec.name)),
            )

        return self._read(name, read, "name")

    # -- aliases ------------------------------------------------------------------------------------------------

    def set_alias(self, alias: str, collection: str, *, expected: str | None = None) -> str:
        """Has `alias` name the collection, durably and at one moment; returns what it named until now, "" for nothing.

        `expected` is what it must have named. Raises InvalidArgument, NotFound, AlreadyExists, LimitReached,
        FailedPrecondition.
        """
        checks.checked_name(alias, "alias", "alias")
        with self._writing:
            if alias in self._collections:
                raise AlreadyExists(
                    f"{alias} is a collection; take another name for the alias",
                    reason="COLLECTION_EXISTS",
                    field="alias",
                )
            target = self._find(collection).spec.name
            before = self._aliases.check_move(alias, expected, self._max_collections)
            if before != target:
                self._when_full_too(lambda: self._aliases.set(alias, target), deletes=False)
            return before

    def delete_alias(self, alias: str) -> str:
        """Durably; returns what it named. Raises NotFound."""
        with self._writing:
            if not (target := self._aliases.target(alias)):
                raise NotFound(
                    f"there is no alias {quoted(alias)}; list the aliases to see which there are",
                    reason="ALIAS_NOT_FOUND",
                    field="alias",
                )
            self._when_full_too(lambda: self._aliases.delete(alias), deletes=True)
            return target

    def list_aliases(self, collection: str = "") -> list[tuple[str, str]]:
        """(alias, collection) of one collection or of all, by alias. Raises NotFound."""
        return self._aliases.of(self._find(collection).spec.name if collection else "")

    # -- writing ------------------------------------------------------------------------------------------------

    def upsert(
        self,
        name: str,
        items: Sequence[Item],
        *,
        embedding_model: str = "",
        mode: Mode = Mode.UPSERT,
        partial: bool = False,
        wrong: dict[int, CallerError] | None = None,
    ) -> Written:
        """Writes all items or none, durably; with `partial`, those with nothing wrong.

        An id that exists gets the new vector and metadata. Of an id twice in `items` the last counts. `wrong` are
        items that the caller already knows to be bad. Raises NotFound, InvalidArgument, AlreadyExists (naming
        items and fields), FailedPrecondition, StorageFull, LimitReached.
        """
        spec = self._find(name).spec
        checks.check_model(spec, embedding_model)
        unfit = checks.bad_items(spec, items)
        with self._writing_items():
            entry = self._find(name)
            if entry.spec != spec:  # it was restored, or an alias moved; what fitted may fit no more
                spec = entry.spec
                checks.check_model(spec, embedding_model)
                unfit = checks.bad_items(spec, items)
            wrong = {**unfit, **(wrong or {})}
            known = self._store.places(spec.number, list({item.id for item in items}))
            wrong.update(checks.wrong_for_mode(items, known, mode.name, wrong))
            if not partial:
                checks.refuse_all(wrong)
            checks.check_wrong(wrong)
            latest = {item.id: item for index, item in enumerate(items) if index not in wrong}
            if latest:
                room = self._check_memory(entry.bytes_with(len(latest.keys() - known.keys())), entry)
                self._when_full_too(lambda: entry.put(list(latest.values()), known, room), deletes=False)
                self._after(entry)
            return Written(len(latest), self._store.sequence, wrong)

    def delete_vectors(
        self, name: str, ids: Sequence[str] = (), filter: Filter | None = None, *, dry_run: bool = False
    ) -> tuple[int, int]:
        """Deletes, durably, the items with these ids that fit the filter; without ids, all that fit.

        Returns how many that were, or would be with `dry_run`, and the store's sequence. Raises NotFound,
        InvalidArgument (also when there is neither an id nor a filter that restricts anything), StorageFull.
        """
        if not ids and filter is None:
            raise InvalidArgument(
                "name ids or a filter; to delete all, delete the collection", reason="NOTHING_NAMED", field="ids"
            )
        checks.check_ids(ids)
        fits = where(filter) if filter is not None else None
        if not ids and filter is not None and (at := unrestricted(filter)):
            raise refused(
                at, "restricts nothing, so everything would be deleted; name a condition, or delete the collection"
            )
        with self._writing_items():
            entry = self._find(name)
            number = entry.spec.number
            wanted = list(dict.fromkeys(ids))
            if fits is not None:
                fitting = dict.fromkeys(self._store.ids(number, fits))
                wanted = [one for one in wanted if one in fitting] if ids else list(fitting)
            places = list(self._store.places(number, wanted).values())
            if places and not dry_run:
                self._when_full_too(
                    lambda: entry.delete(places), deletes=True, in_parts=lambda: entry.delete_in_parts(places)
                )
                self._after(entry)
                self._give_back()
            return len(places), self._store.sequence

    def update_metadata(
        self,
        name: str,
        changes: Sequence[Change],
        dump: Dump,
        *,
        mode: MetadataMode = MetadataMode.MERGE,
        partial: bool = False,
        wrong: dict[int, CallerError] | None = None,
    ) -> Written:
        """Makes all changes or none, durably; with `partial`, those with nothing wrong. Vectors stay as they are.

        Of an id twice in `changes` each is made, in order. `wrong` are changes that the caller already knows to be bad.
        Raises NotFound, InvalidArgument (naming changes and fields), StorageFull.
        """
        checks.check_batch("updates", len(changes))
        batch = Batch(changes, mode, dump, partial, wrong or {})
        with self._writing_items():
            entry = self._find(name)
            known = self._store.places(entry.spec.number, list({change.id for change in changes}))
            if label_of := batch.find(known):
                batch.dimension = entry.spec.dimension
                self._change_metadata(entry, label_of, batch.made, mode)
            return Written(batch.count, self._store.sequence, batch.wrong)

    def update_matching(
        self, name: str, filter: Filter, change: Change, dump: Dump, *, mode: MetadataMode = MetadataMode.MERGE
    ) -> Written:
        """Makes the change, whose id counts for nothing, in every item that fits, or in none, durably.

        Raises NotFound, InvalidArgument (also where the filter restricts nothing), StorageFull.
        """
        check_change(change, mode, "updates[0]")
        if at := unrestricted(filter):
            raise refused(at, "restricts nothing, so everything would be changed; name a condition")
        with self._writing_items():
            entry = self._find(name)
            dimension = entry.spec.dimension

            def made(_: int, id: str, metadata: str) -> str:
                return changed(metadata, replace(change, id=id), mode, dimension, dump, "updates[0]")

            if label_of := entry.matching(filter):
                self._change_metadata(entry, label_of, made, mode)
            return Written(len(label_of), self._store.sequence)

    # -- reading ------------------------------------------------------------------------------------------------

    def search(self, name: str, query: Query) -> SearchResult:
        """The `limit` best after the `offset` best; ties break on id. May wait for a write that is under way.

        Raises NotFound, InvalidArgument, FailedPrecondition.
        """
        entry = self._find(name)
        with suppress(NotFound, Changed):  # restored from a snapshot meanwhile, perhaps
            return entry.search(query)
        try:
            with self._writing:
                return self._find(name).search(query)
        except Changed:  # nothing was written, yet what was found is gone
            raise DataLoss(
                f"the store and the graph of collection {name} do not agree; stop the plugin, run "
                "`admin verify`, and restore a backup"
            ) from None

    def search_now(self, name: str, query: Query) -> SearchResult | None:
        """Like `search`, but None where it would have to wait or take more than about a millisecond."""
        entry = self._find(name)
        with suppress(NotFound, Changed, TakesLong):
            return entry.search(query, wait=False)
        return None

    def search_many(self, name: str, queries: Sequence[Query]) -> list[SearchResult]:
        """`search` for several queries, together where the graph can answer them so."""
        entry = self._find(name)
        results: list[SearchResult | None] = [None] * len(queries)
        with suppress(NotFound):
            results = entry.search_many(queries)
        return [result or self.search(name, query) for result, query in zip(results, queries, strict=True)]

    def get(
        self, name: str, ids: Sequence[str], *, with_vectors: bool = False, with_metadata: bool = True
    ) -> dict[str, Item]:
        """The items with these ids that exist. Raises NotFound, InvalidArgument."""
        checks.check_ids(ids, "read")
        wanted = list(dict.fromkeys(ids))
        return self._read(name, lambda entry: self._store.items(entry.spec.number, wanted, with_vectors, with_metadata))

    def page(
        self,
        name: str,
        *,
        token: str = "",
        size: int = 0,
        filter: Filter | None = None,
        with_vectors: bool = False,
        with_metadata: bool = True,
    ) -> tuple[list[Item], str]:
        """The items after the page that came with `token`, and the token for the next; "" when this is the last.

        Rows are given out in the order of inserts and never again, so an item that is there throughout comes once.
        Raises NotFound, InvalidArgument; DataLoss where the next item is damaged, with the token for what comes after
        it in `metadata["page_token"]`.
        """
        size = checks.within("page_size", size or _PAGE, 1, _LARGEST_PAGE)
        fits = where(filter) if filter else None

        def read(entry: OpenCollection) -> tuple[list[Item], str]:
            number = entry.spec.number
            try:
                after = checks.row_after(token, number)
                found, more = self._store.page(number, after, size, fits, with_vectors, with_metadata)
            except DataLoss as error:
                if row := error.metadata.pop("row", ""):
                    error.metadata["page_token"] = checks.page_token(number, int(row))
                raise
            return [item for _, item in found], checks.page_token(number, found[-1][0]) if more else ""

        return self._read(name, read)

    def count(self, name: str, filter: Filter | None = None) -> int:
        """Raises NotFound, InvalidArgument."""
        if filter is None:
            return self._find(name).labels.count
        fits = where(filter)
        return self._read(name, lambda entry: self._store.count(entry.spec.number, fits))

    # -- snapshots ----------------------------------------------------------------------------------------------

    def create_snapshot(self, collection: str, name: str) -> Snapshot:
        """Copies the collection as it is now, while writes go on. Raises NotFound, AlreadyExists, StorageFull."""
        with self._snapshotting:
            if self._store.is_removing:  # and would be a part of the snapshot for ever
                with self._writing_items():
                    pass
            return self._snapshots.create(self._store, self._find(collection).spec, name)

    def list_snapshots(self, collection: str = "") -> list[Snapshot]:
        """Of one collection or of all, those of deleted collections too."""
        return self._snapshots.list(self._name_of(collection))

    def delete_snapshot(self, collection: str, name: str) -> None:
        """Raises NotFound."""
        with self._snapshotting:
            self._snapshots.delete(self._name_of(collection), name)

    def restore_snapshot(self, collection: str, name: str) -> None:
        """Puts the collection back to what the snapshot holds, at one moment; until then the old one is searched.

        Raises NotFound, LimitReached, DataLoss, StorageFull, and then nothing has changed.
        """
        collection = self._name_of(collection)
        with self._snapshotting, self._snapshots.opened(collection, name) as (file, spec, next_label):
            with self._writing:
                self._drop_hidden()
                made = self._when_full_too(lambda: copy_in(self._store, file, spec, next_label, _HIDDEN), deletes=False)
            try:
                # The old one is in memory beside it until they are exchanged.
                count = self._store.count(made.number, None)
                index = index_for(spec, count, self._threads)
                self._check_memory(index.bytes_with(count))
                entry = self._opened(replace(made, name=collection))
                with self._writing:
                    old = self._collections.get(collection)
                    if old is None:
                        self._check_number()
                        if self._aliases.target(collection):
                            raise AlreadyExists(
                                f"{collection} has become an alias; delete the alias first", reason="ALIAS_EXISTS"
                            )

                    def exchange() -> None:
                        with self._store.write() as transaction:
                            if old is not None:
                                self._store.drop(transaction, old.spec.number)
                            self._store.rename(transaction, made.number, collection)

                    self._when_full_too(exchange, deletes=True)
                    self._collections[collection] = entry
            except BaseException:
                with suppress(PluginError), self._writing:  # else the next restore, or the next start, does it
                    self._drop_hidden()
                raise
            if old is not None:
                with suppress(OSError):  # the next start removes what is left
                    self._cache.remove(old.spec.number)

    # -- inside -------------------------------------------------------------------------------------------------

    def _find(self, name: str, field: str = "collection") -> OpenCollection:
        entry = self._collections.get(name)
        while entry is None:
            target = self._aliases.target(name)
            entry = self._collections.get(target)
            # An alias may be moved, and the collection that it named deleted, between the two looks.
            if entry is None and self._aliases.target(name) == target:
                raise NotFound(
                    f"there is no collection {quoted(name)}; create it first",
                    reason="COLLECTION_NOT_FOUND",
                    field=field,
                )
        return entry

    def _name_of(self, name: str) -> str:
        """Of an alias the collection that it names; any other name as it is."""
        return name if name in self._collections else self._aliases.target(name) or name

    @contextmanager
    def _writing_items(self) -> Iterator[None]:
        """The lock that every write holds. What was deleted, and is in the store still for want of room, goes first:
        an item that is written now must not take its place, and go with it. Raises StorageFull.
        """
        with self._writing:
            if self._store.is_removing:
                self._when_full_too(self._store.finish_removing, deletes=True)
            yield

    def _finish_removing_later(self) -> None:
        """As soon as there is room, in a thread."""

        def work() -> None:
            try:
                while self._store.is_removing:
                    time.sleep(_AGAIN)
                    with suppress(StorageFull), self._writing_items():
                        pass
            except (PluginError, sqlite3.Error) as error:  # the store was closed; the next start does it
                _log.warning("event=not_removed_yet cause=%r", str(error))

        threading.Thread(target=work, name="remove", daemon=True).start()

    def _drop_hidden(self) -> None:
        """Removes what a restore left that came to no end."""

        def drop(number: int) -> int:
            with self._store.write() as transaction:
                return self._store.drop(transaction, number)

        for spec in self._store.collections():
            if spec.name == _HIDDEN:
                self._when_full_too(functools.partial(drop, spec.number), deletes=True)

    def _change_metadata(
        self,
        entry: OpenCollection,
        label_of: Mapping[int, int],
        make: Callable[[int, str, str], str | None],
        mode: MetadataMode,
    ) -> None:
        reading = mode is MetadataMode.MERGE
        self._when_full_too(lambda: entry.change_metadata(label_of, make, reading=reading), deletes=False)
        self._after(entry)

    def _read(self, name: str, read: Callable[[OpenCollection], Result], field: str = "collection") -> Result:
        """What `read` returns, of the collection that took this one's place if a restore came in between."""
        entry = self._find(name, field)
        try:
            return read(entry)
        except NotFound:
            with self._writing:
                return read(self._find(name, field))

    def _when_full_too(
        self, write: Callable[[], Result], *, deletes: bool, in_parts: Callable[[], Result] | None = None
    ) -> Result:
        """What `write` returns. On a full disk it is tried again with the log folded in and, where it deletes, with all
        given back to the disk that can be: deleting needs room before it can give any back; `in_parts` needs little.

        Where the disk has changed an item, indexes of fields may be in the way of its being written or deleted, and
        are given up."""
        self._store.database.keep_foldable()
        ways: list[Callable[[], object]] = [lambda: None]
        if deletes:
            ways += [self._store.database.use_reserve, self._give_up_saved_graphs]
        for make_room in ways:
            try:
                return write()
            except StorageFull:
                self._is_full = True
                with suppress(PluginError, sqlite3.Error, OSError):
                    make_room()
                    self._store.database.fold_in()
                    self._store.finish_removing()
            except DataLoss:
                if not self._store.fields.drop_all():
                    raise
        try:
            return write()
        except StorageFull:
            if in_parts is None:
                raise
            self._store.database.fold_in()  # the log still holds what there was no room for
            try:
                return in_parts()
            except StorageFull:
                if self._store.is_removing:
                    self._finish_removing_later()
                raise

    def _give_up_saved_graphs(self) -> None:
        for entry in self._collections.values():
            self._cache.remove(entry.spec.number)
            entry.unsaved = entry.labels.count

    def _index_field(self, number: int, path: str) -> None:
        """Makes an index of a field, in a thread; writes wait meanwhile, searches do not."""

        def work() -> None:
            try:
                with self._writing:
                    self._store.fields.create(number, path)
            except PluginError as error:  # the disk is full, the collection deleted, the store closed
                _log.warning("event=field_not_indexed collection=%d cause=%r", number, error.message)

        threading.Thread(target=work, name="index field", daemon=True).start()

    def _give_back(self) -> None:
        """Has the file shrink, little by little and in a thread, where much of it holds nothing. Call it while
        writing."""
        free, pages = self._store.database.free_pages()
        if self._giving_back or not (self._is_full or (free >= _FEW_PAGES and free * 20 >= pages)):
            return
        self._giving_back, self._is_full = True, False

        def work() -> None:
            database = self._store.database
            try:
                left, turn = free, _PAGES_A_TURN
                while left:
                    with self._writing:
                        database.keep_foldable()
                        try:
                            database.give_back(turn)
                            turn = min(_PAGES_A_TURN, 2 * turn)
                        except StorageFull:
                            turn //= 4
                            if not turn:
                                raise
                            database.fold_in()
                        left = database.free_pages()[0]
                    time.sleep(_PAUSE)
                with self._writing:
                    database.fold_in()
                    database.keep_reserve()
            except (PluginError, sqlite3.Error) as error:
                # The store was closed, or the disk is too full even for this: after the next delete it goes on.
                _log.warning("event=space_not_given_back cause=%r", str(error))
            finally:
                self._giving_back = False

        threading.Thread(target=work, name="give back", daemon=True).start()

    def _check_number(self) -> None:
        if len(self._collections) >= self._max_collections:
            raise LimitReached(
                f"there are {len(self._collections)} collections, which is max_collections; "
                "delete one, or raise the setting",
                reason="TOO_MANY_COLLECTIONS",
            )

    def _check_memory(self, wanted: int, instead_of: OpenCollection | None = None) -> int:
        """How many bytes a graph may have that needs so many, instead of this collection's; 0 for any number.

        Raises LimitReached.
        """
        if not self._max_memory:
            return 0
        others = [one.graph for one in [*self._collections.values()] if one is not instead_of]
        used = sum(graph.bytes for graph in others if graph)
        needed = used + wanted
        if needed > self._max_memory:
            raise LimitReached(
                f"the graphs would take {needed} bytes, more than max_memory of {self._max_memory}; "
                "delete something, or raise the setting",
                reason="MEMORY_LIMIT",
            )
        return self._max_memory - used

    def _after(self, entry: OpenCollection) -> None:
        """What a write leaves to be done, some of it only now and then."""
        if entry.graph is None:
            with suppress(Exception):
                entry.use(opening.build(self._store, entry.spec, entry.labels.versions, self._threads))
        self._rebuild_where_needed(entry)
        if entry.graph is not None and entry.unsaved >= max(_SAVE_AFTER, entry.graph.count // 2):
            self._save(entry)

    def _rebuild_where_needed(self, entry: OpenCollection) -> None:
        graph = entry.graph
        if graph is not None and not entry.rebuilding and cause_to_rebuild(graph, entry.spec):
            rebuild_aside(entry, self._store, graph.threads, self._writing, self._save)

    def _save(self, entry: OpenCollection) -> None:
        """Saves the graph. A failure is logged and costs only time at the next start."""
        if isinstance(entry.graph, Flat):
            with suppress(OSError):
                self._cache.remove(entry.spec.number)
            entry.unsaved = 0
        elif entry.graph is not None:
            self._cache.save(entry.graph, entry.spec, self._store.sequence)
            entry.unsaved = 0

    def _opened(self, spec: Collection) -> OpenCollection:
        labels, graph, unsaved = opening.open_graph(self._store, self._cache, spec, self._threads)
        entry = OpenCollection(spec, self._store, labels, graph, self._max_limit)
        entry.unsaved = unsaved
        return entry

    def _open_all(self) -> None:
        self._cache = GraphCache(self._data_dir / "graphs", self._store.database.uuid)
        self._snapshots = Snapshots(self._data_dir / "snapshots", self._store.database.uuid)
        try:
            self._when_full_too(self._store.finish_removing, deletes=True)
        except StorageFull:
            self._finish_removing_later()
        with suppress(StorageFull):
            self._drop_hidden()
        found = [spec for spec in self._store.collections() if spec.name != _HIDDEN]
        self._aliases = Aliases(self._store, {spec.name for spec in found})
        self._cache.remove_all_but({spec.number for spec in found})
        for spec in found:
            entry = self._collections[spec.name] = self._opened(spec)
            if entry.graph is not None and entry.unsaved >= max(_SAVE_AFTER, entry.graph.count // 2):
                self._save(entry)
            with self._writing:
                self._rebuild_where_needed(entry)
