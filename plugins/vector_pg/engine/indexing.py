"""The index of each collection, built beside its searches and writes (CREATE INDEX CONCURRENTLY).

A collection of fewer than `index_from` vectors has none: comparing all of them is quick, and exact. Of several
processes on one database one builds. A build that was broken off is begun again by whoever comes next.

Each vector that comes while an index is built is added to it by itself in the end, which takes many times as long as
building it of all. So what is being loaded is waited for.
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

    def see_to(self, collection: Collection, count: int, changed: bool = False) -> None:
        """To be called after a write; returns at once."""
        enough = count >= self._settings.index_from and collection.dimension <= LARGEST_INDEXED
        if enough and (changed or not collection.indexed) and collection.number not in self._tasks:
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
            finally:
                await connection.close()
        except (psycopg.Error, NotFound) as error:
            _log.warning("event=index_not_built collection=%s cause=%s", name, getattr(error, "sqlstate", "") or "lost")

    async def _step(self, connection: Connection, name: str, number: int, until: float) -> bool:
        """Builds the index that the parameters ask for, and drops others. Whether there is more to do: they have
        changed meanwhile, or the collection is being loaded, which is waited for `until` then."""
        collection = await collections.read(connection, name)
        if collection.number != number:
            return False
        cursor = await connection.execute(
            "SELECT x.relname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
            "WHERE i.indrelid = %s::regclass AND x.relname LIKE 'hnsw\\_%%'",
            (collection.table,),
        )
        there = dict(await cursor.fetchall())
        if not there.get(collection.index):
            if time.monotonic() < until and await _grows(connection, collection):
                return True
            if collection.index in there:
                await connection.execute(f"DROP INDEX CONCURRENTLY {collection.index}".encode())
            await connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, FALSE)", (f"{self._settings.index_memory // 1024}kB",)
            )
            column, operators = collection.indexed_as("vector")
            _log.info("event=index_building collection=%s count=%d", collection.name, collection.count)
            await connection.execute(
                f"CREATE INDEX CONCURRENTLY {collection.index} ON {collection.table} USING hnsw ({column} {operators}) "
                f"WITH (m = {collection.m}, ef_construction = {collection.ef_construction})".encode()
            )
            _log.info("event=index_built collection=%s", collection.name)
        await connection.execute("UPDATE collections SET indexed = TRUE WHERE number = %s", (number,))
        for other in there.keys() - {collection.index}:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {other}".encode())
        return (await collections.read(connection, name)).index != collection.index


async def _grows(connection: Connection, collection: Collection) -> bool:
    await asyncio.sleep(_REST)
    now = await collections.read(connection, collection.name)
    return now.count > collection.count * (1 + _GROWTH)
