"""Collections of vectors in PostgreSQL. Every method is one transaction; what it returns is durable and seen by the
next call of every process on the database."""

from __future__ import annotations

import asyncio
import base64
import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from psycopg import errors

from shared.errors import CallerError, InvalidArgument, NotFound, TooLarge, quoted
from shared.off_loop import in_thread
from shared.vectors.changes import Change, Dump, MetadataMode
from shared.vectors.checks import check_model, check_wrong, within
from shared.vectors.filters import Filter, check_restricts
from shared.vectors.items import Item, Mode, Query, Written

from . import checks, collections, indexing, searching, wire, writing
from .database import Connection, Database, time_left
from .filters import Where, is_large, where
from .values import Collection, Description, Metric, SearchResult, Settings

Result = TypeVar("Result")
_LARGE = 100_000  # numbers of a request that are looked at in a thread, where an item counts as a hundred more
_MANY = 1000  # ids that are
_PAGE, _LARGEST_PAGE = 100, 1000
_TRIES = 10  # to find the collection that a name stands for
_MEASURING = 1.0  # seconds, most, that recall is measured for


class _Moved(Exception):
    """The name stands for another collection than it did when the call began."""


class Engine:
    def __init__(self, url: str, replica_url: str = "", settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._database = Database(url, replica_url, self._settings)
        self._indexes = indexing.Indexes(self._database, self._settings)
        # What names stood for when they were last asked for; each statement says whether they still do.
        self._known: dict[str, Collection] = {}
        # By number, what was measured, and of the collection in which state.
        self._recalls: dict[int, tuple[Collection | None, float]] = {}
        self._measuring = asyncio.Lock()

    async def open(self) -> None:
        """Raises StartError."""
        await self._database.open()
        for collection in await self._database.read(collections.read_all, primary=True):
            self._indexes.see_to(collection, changed=True)

    async def close(self) -> None:
        await self._indexes.close()
        await self._database.close()

    # -- collections --------------------------------------------------------------------------------------------

    async def create(
        self,
        name: str,
        dimension: int,
        *,
        metric: Metric = Metric.COSINE,
        index: Mapping[str, int] | None = None,
        embedding_model: str = "",
        if_not_exists: bool = False,
    ) -> bool:
        """Makes a collection and returns True; False when an equal one was there and `if_not_exists` is set.

        Raises InvalidArgument, AlreadyExists, LimitReached.
        """
        named = {key: value for key, value in (index or {}).items() if value}
        wanted = collections.wanted(name, dimension, metric, named, embedding_model, self._settings)
        most = self._settings.max_collections
        return await self._database.write(
            lambda connection: collections.create(connection, wanted, set(named), if_not_exists, most)
        )

    async def delete(self, name: str) -> int:
        """The number of vectors that went with it. Raises NotFound, FailedPrecondition."""
        return await self._database.write(lambda connection: collections.delete(connection, name))

    async def describe(self, name: str) -> Description:
        """With the recall on a sample, which is measured once for each state of the collection."""

        async def work(connection: Connection) -> Description:
            return await collections.describe(connection, await collections.read(connection, name))

        description = await self._database.read(work)
        return description._replace(sampled_recall=await self._recall(description.spec))

    async def describe_all(self) -> list[Description]:
        """By name, with the recall that was measured last."""

        async def work(connection: Connection) -> list[Description]:
            return [
                await collections.describe(connection, collection)
                for collection in await collections.read_all(connection)
            ]

        recalls = {number: recall for number, (_, recall) in self._recalls.items()}
        descriptions = await self._database.read(work)
        return [each._replace(sampled_recall=recalls.get(each.spec.number, 0.0)) for each in descriptions]

    async def _recall(self, collection: Collection) -> float:
        """1.0 where all vectors are compared; 0.0 where even one comparison with all takes longer than it may."""
        async with self._measuring:  # whoever asks meanwhile for the same gets the same
            state, recall = self._recalls.get(collection.number, (None, 0.0))
            if state != collection:
                shares: list[float] = []
                with suppress(TimeoutError, errors.UndefinedTable):  # it was deleted meanwhile
                    async with asyncio.timeout(min(_MEASURING, (time_left.get() or math.inf) / 2)):
                        await self._database.read(
                            lambda connection: searching.sample_recall(connection, collection, shares)
                        )
                recall = sum(shares) / (len(shares) or 1)
                if len(self._recalls) > 2 * self._settings.max_collections:
                    self._recalls.clear()
                self._recalls[collection.number] = collection, recall
            return recall

    async def update_index(self, name: str, index: Mapping[str, int]) -> Description:
        """Raises NotFound, InvalidArgument. The index is built in the background."""

        async def work(connection: Connection) -> Description:
            changed = await collections.update(connection, name, dict(index))
            return await collections.describe(connection, await collections.read(connection, changed.name))

        description = await self._database.write(work, again=True)
        self._indexes.see_to(description.spec, changed=True)
        return description

    async def set_alias(self, alias: str, collection: str, expected: str | None) -> str:
        most = self._settings.max_collections
        return await self._database.write(
            lambda connection: collections.set_alias(connection, alias, collection, expected, most)
        )

    async def delete_alias(self, alias: str) -> str:
        return await self._database.write(lambda connection: collections.delete_alias(connection, alias))

    async def list_aliases(self, collection: str) -> list[tuple[str, str]]:
        async def work(connection: Connection) -> list[tuple[str, str]]:
            name = (await collections.read(connection, collection)).name if collection else ""
            return await collections.list_aliases(connection, name)

        return await self._database.read(work)

    # -- vectors ------------------------------------------------------------------------------------------------

    async def upsert(
        self,
        name: str,
        items: Sequence[Item],
        *,
        embedding_model: str = "",
        mode: Mode = Mode.UPSERT,
        partial: bool = False,
        wrong: Mapping[int, CallerError] | None = None,
    ) -> Written:
        """`wrong`: by index, what is already known not to be writable. Raises CallerError."""
        prepared = await self.prepare(name, items, wrong)
        return await self.put(name, prepared, embedding_model=embedding_model, mode=mode, partial=partial)

    async def prepare(
        self, name: str, items: Sequence[Item], wrong: Mapping[int, CallerError] | None = None
    ) -> writing.Prepared:
        """What `put` writes. Asks the database only what it does not know of the collection. Raises NotFound."""
        collection = self._known.get(name)
        if collection is None:
            collection = await self._database.read(lambda connection: self._read(connection, name), primary=True)
        large = len(items) * (collection.dimension + 100) > _LARGE
        work = functools.partial(writing.prepared, collection, items, wrong or {})
        return await in_thread(work) if large else work()

    async def put(
        self,
        name: str,
        prepared: writing.Prepared,
        *,
        embedding_model: str = "",
        mode: Mode = Mode.UPSERT,
        partial: bool = False,
    ) -> Written:
        """As `upsert`."""
        copy = True

        async def work(connection: Connection) -> tuple[Written, Collection]:
            nonlocal copy
            there = await self._locked(connection, name)
            if there.number != prepared.collection.number:
                raise _Moved
            check_model(there, embedding_model)
            check_wrong(prepared.bad, partial, "vectors")
            by_copy, copy = copy, False
            return await writing.write(connection, there, prepared, mode, partial, by_copy)

        for _ in range(_TRIES):
            try:
                written, there = await self._database.write(work, again=mode is Mode.UPSERT)
            except _Moved:
                self._known.pop(name, None)
                prepared = await self.prepare(name, prepared.items, prepared.wrong)
            else:
                self._indexes.see_to(there)
                return written
        raise _always_moved(name)

    async def update_metadata(
        self,
        name: str,
        changes: Sequence[Change],
        dump: Dump,
        *,
        mode: MetadataMode = MetadataMode.MERGE,
        partial: bool = False,
        wrong: Mapping[int, CallerError] | None = None,
    ) -> Written:
        async def work(connection: Connection) -> Written:
            there = await self._locked(connection, name)
            return await writing.change(connection, there, changes, dump, mode, partial, wrong or {})

        return await self._database.write(work, again=True)

    async def update_matching(
        self, name: str, filter: Filter, change: Change, dump: Dump, *, mode: MetadataMode
    ) -> Written:
        check_restricts(filter, "changed")
        fits = await _where(filter)

        async def work(connection: Connection) -> Written:
            there = await self._locked(connection, name)
            return await writing.change_matching(connection, there, fits, change, dump, mode)

        return await self._database.write(work)

    async def delete_vectors(
        self, name: str, ids: Sequence[str], filter: Filter | None, *, dry_run: bool = False
    ) -> tuple[int, int]:
        """How many were, or would be, deleted, and the sequence."""
        if not ids and filter is None:
            raise InvalidArgument(
                "neither ids nor a filter is set; name what to delete", reason="NOTHING_NAMED", field="ids"
            )
        if filter is not None and not ids:
            check_restricts(filter, "deleted", "name a condition, or delete the collection")
        checks.check_ids(ids)
        fits = await _where(filter)

        async def work(connection: Connection) -> tuple[int, int]:
            there = await self._locked(connection, name)
            count, sequence = await writing.delete(connection, there, ids, fits, dry_run)
            return count, there.sequence if sequence is None else sequence

        return await self._database.write(work)

    async def search(self, name: str, query: Query) -> SearchResult:
        """Raises InvalidArgument, NotFound, FailedPrecondition; TooLarge when the hits' metadata is beyond
        `max_read`."""
        searching.check_page(query, self._settings.max_limit)

        async def work(connection: Connection, collection: Collection) -> SearchResult | None:
            check_model(collection, query.embedding_model)
            return await searching.search(connection, name, collection, query, self._settings.max_read)

        result = await self._of(name, work)
        if not all(hit.metadata for hit in result.hits):
            raise TooLarge("the hits' metadata is too large", reason="REPLY_TOO_LARGE")
        return result

    async def get(self, name: str, ids: Sequence[str], *, with_vectors: bool, with_metadata: bool) -> dict[str, Item]:
        """Those that exist, by id. Raises TooLarge."""
        checks.check_ids(ids)
        named = await in_thread(wire.texts, ids) if len(ids) > _MANY else wire.texts(ids)

        async def work(connection: Connection, there: Collection) -> list[Item]:
            columns = _columns(there, with_vectors, with_metadata, self._settings.max_read)
            sql = f"SELECT {columns} FROM (SELECT * FROM {there.table} WHERE id = ANY(%s)) i"
            return await _items(connection, sql, (named,))

        return {item.id: item for item in await self._read_of(name, work)}

    async def page(
        self,
        name: str,
        *,
        token: str,
        size: int,
        filter: Filter | None,
        with_vectors: bool,
        with_metadata: bool,
    ) -> tuple[list[Item], str]:
        """The items, by id, and the next page's token, "" for none. Raises InvalidArgument, NotFound, TooLarge."""
        size = within("page_size", size or _PAGE, 1, _LARGEST_PAGE)
        fits = await _where(filter)

        async def work(connection: Connection, there: Collection) -> tuple[list[Item], str]:
            columns = _columns(there, with_vectors, with_metadata, self._settings.max_read)
            sql = (
                f"SELECT {columns} FROM (SELECT * FROM {there.table} WHERE id > %s AND {fits.sql} "
                "ORDER BY id LIMIT %s) i"
            )
            values = (_last_id(token, there.number), *fits.values, size)
            items = await _items(connection, sql, values)
            return items, _token(there.number, items[-1].id) if len(items) == size else ""

        return await self._read_of(name, work)

    async def count(self, name: str, filter: Filter | None = None) -> int:
        fits = await _where(filter)

        async def work(connection: Connection, there: Collection) -> int:
            if filter is None:
                return there.count
            sql = f"SELECT count(*) FROM {there.table} WHERE {fits.sql}"
            row = await (await connection.execute(sql.encode(), fits.values, prepare=False)).fetchone()
            return int(row[0]) if row else 0

        return await self._read_of(name, work)

    # -- which collection ---------------------------------------------------------------------------------------

    async def _read(self, connection: Connection, name: str) -> Collection:
        if len(self._known) > 2 * self._settings.max_collections:
            self._known.clear()
        collection = self._known[name] = await collections.read(connection, name)
        return collection

    async def _of(self, name: str, work: Callable[[Connection, Collection], Awaitable[Result | None]]) -> Result:
        """What `work` makes of the collection as it is known; of one that is read anew where that says None."""

        async def attempt(connection: Connection) -> Result:
            if collection := self._known.get(name):
                with suppress(errors.UndefinedTable, CallerError):  # of one that is gone, perhaps
                    if (result := await work(connection, collection)) is not None:
                        return result
            for _ in range(_TRIES):
                collection = await self._read(connection, name)
                with suppress(errors.UndefinedTable):
                    if (result := await work(connection, collection)) is not None:
                        return result
            raise _always_moved(name)

        return await self._database.read(attempt)

    async def _read_of(self, name: str, work: Callable[[Connection, Collection], Awaitable[Result]]) -> Result:
        """What `work` makes of the collection; it is done again where that is deleted meanwhile. Raises NotFound."""

        async def attempt(connection: Connection) -> Result:
            for _ in range(_TRIES):
                with suppress(errors.UndefinedTable):
                    return await work(connection, await collections.read(connection, name))
            raise _always_moved(name)

        return await self._database.read(attempt)

    async def _locked(self, connection: Connection, name: str) -> Collection:
        """The collection, which is not deleted until the transaction ends. Raises NotFound."""
        return await collections.read(connection, name, "FOR KEY SHARE")


def _always_moved(name: str) -> NotFound:
    return NotFound(f"collection {quoted(name)} is being replaced all the time; try again", reason="CONFLICT")


async def _where(filter: Filter | None) -> Where:
    return await in_thread(where, filter) if is_large(filter) else where(filter)


async def _items(connection: Connection, sql: str, values: Sequence[object]) -> list[Item]:
    cursor = await connection.execute(sql.encode(), values, prepare=False, binary=True)
    items = []
    for name, metadata, vector, original in await cursor.fetchall():
        if not metadata:
            raise TooLarge("the items are too large", reason="REPLY_TOO_LARGE")
        items.append(Item(name, searching.sent(vector, original), metadata))
    return items


def _columns(collection: Collection, with_vectors: bool, with_metadata: bool, most: int) -> str:
    """An item's, its metadata as "" once what is asked of it and of those before it has more than `most` bytes."""
    size = f"{'size' if with_metadata else 0} + {4 * collection.dimension if with_vectors else 0}"
    fits = f"CASE WHEN sum({size}) OVER (ROWS UNBOUNDED PRECEDING) <= {most} THEN"
    metadata = "metadata::text" if with_metadata else "'{}'"
    vector = f"{fits} vector END, {fits} original END" if with_vectors else "NULL, NULL"
    return f"id, {fits} {metadata} ELSE '' END, {vector}"


def _token(number: int, last: str) -> str:
    return base64.urlsafe_b64encode(f"{number}.{last}".encode()).decode()


def _last_id(token: str, number: int) -> str:
    """The id that a page token of the collection names; "" for the first page."""
    if not token:
        return ""
    try:
        collection, _, last = base64.urlsafe_b64decode(token[:2000]).decode().partition(".")
        if collection == str(number) and last and "\0" not in last and _token(number, last) == token:
            return last
    except ValueError:
        pass
    raise InvalidArgument(
        "page_token is not one of this collection's; start again without it",
        reason="BAD_PAGE_TOKEN",
        field="page_token",
    )
