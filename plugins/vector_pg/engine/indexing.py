"""The indexes of each collection, of vectors and of metadata, built beside its searches and writes (CREATE INDEX
CONCURRENTLY).

A collection of fewer than `index_from` vectors has none: comparing all of them is quick, and exact. Of several
processes on one database one builds. A build that was broken off is begun again by whoever comes next.

Each row that comes when there is an index, or while one is built, is added to it by itself, which takes many times as
long as building it of all. So what is being loaded is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time

import psycopg

from shared.errors import NotFound

from . import collections
from .database import Connection, Database
from .values import LARGEST_INDEXED, Collection, Settings

_log = logging.getLogger("hector")
_REST = 1.0  # seconds in which a collection that grows by less than _GROWTH of itself is not being loaded
_GROWTH = 0.001
_LONGEST = 300.0  # seconds that the end of a load is waited for
_AT_ONCE = 4  # collections that are seen to, each over a connection of its own; at the start all are


class Indexes:
    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._built: set[int] = set()  # also what has too many dimensions for an index of its vectors

    def see_to(self, collection: Collection, changed: bool = False) -> None:
        """To be called after a write, with the collection as it is now; returns at once."""
        missing = changed or not (collection.indexed or collection.number in self._built)
        if missing and collection.count >= self._settings.index_from and collection.number not in self._tasks:
            task = asyncio.create_task(self._in_turn(collection.name, collection.number))
            self._tasks[collection.number] = task
            task.add_done_callback(lambda _: self._tasks.pop(collection.number, None))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, name: str, number: int) -> None:
        async with self._places:
            await self._build(name, number)

    async def _build(self, name: str, number: int) -> None:
        try:
            connection = await self._database.connect()
            try:
                lock = (f"{self._settings.schema} {number}",)
                got = await connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1))", lock)
                if await got.fetchone() == (True,):
                    until = time.monotonic() + _LONGEST
                    while await self._step(connection, name, number, until):
                        pass
                    self._built.add(number)
            finally:
                await connection.close()
        except (psycopg.Error, NotFound) as error:
            _log.warning("event=index_not_built collection=%s cause=%s", name, getattr(error, "sqlstate", "") or "lost")

    async def _step(self, connection: Connection, name: str, number: int, until: float) -> bool:
        """Builds the indexes that are missing, and drops those of other parameters. Whether there is more to do: the
        parameters have changed meanwhile, or the collection is being loaded, which is waited for `until` then."""
        collection = await collections.read(connection, name)
        if collection.number != number:
            return False
        cursor = await connection.execute(
            "SELECT x.relname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
            "WHERE i.indrelid = %s::regclass AND x.relname ~ '^(hnsw|metadata)_'",
            (collection.table,),
        )
        there, wanted = dict(await cursor.fetchall()), _wanted(collection)
        missing = [index for index in wanted if not there.get(index)]
        if missing and time.monotonic() < until and await _grows(connection, collection):
            return True
        for index in missing:
            if index in there:
                await connection.execute(f"DROP INDEX CONCURRENTLY {index}".encode())
            await connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, FALSE)", (f"{self._settings.index_memory // 1024}kB",)
            )
            _log.info("event=index_building collection=%s index=%s count=%d", name, index, collection.count)
            await connection.execute(
                f"CREATE INDEX CONCURRENTLY {index} ON {collection.table} USING {wanted[index]}".encode()
            )
            _log.info("event=index_built collection=%s index=%s", name, index)
        if collection.index in wanted:
            await connection.execute("UPDATE collections SET indexed = TRUE WHERE number = %s", (number,))
        for other in there.keys() - wanted.keys():
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {other}".encode())
        return (await collections.read(connection, name)).index != collection.index


def _wanted(collection: Collection) -> dict[str, str]:
    """The indexes that it is to have, as CREATE INDEX has them behind USING."""
    wanted = {f"metadata_{collection.number}": "gin (metadata jsonb_path_ops)"}
    if collection.dimension <= LARGEST_INDEXED:
        column, operators = collection.indexed_as("vector")
        parameters = f"m = {collection.m}, ef_construction = {collection.ef_construction}"
        wanted[collection.index] = f"hnsw ({column} {operators}) WITH ({parameters})"
    return wanted


async def _grows(connection: Connection, collection: Collection) -> bool:
    await asyncio.sleep(_REST)
    now = await collections.read(connection, collection.name)
    return now.count > collection.count * (1 + _GROWTH)
