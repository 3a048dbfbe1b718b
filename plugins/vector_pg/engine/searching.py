"""A search of one collection, in one statement where the index answers it.

With an index pgvector walks the graph in the order of distance, on and on until the page is full, and ends after
20,000 candidates (`hnsw.max_scan_tuples`). What is still missing then is found by comparing every match. The walk
depends on the query alone, not on the page, so that each match stands on one page, and only there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from shared.errors import InvalidArgument
from shared.off_loop import in_thread
from shared.vectors.checks import LARGEST_METADATA, within
from shared.vectors.items import Floats, Query

from . import checks, wire
from .database import Connection
from .filters import Where, is_large, where
from .values import Collection, Hit, SearchResult

# So few matches are compared one by one rather than looked for along the graph.
_FEW = 2000
# Of a sample that says how much the index finds.
_SAMPLES, _NEAREST, _SEED = 32, 10, 7


async def search(
    connection: Connection, name: str, collection: Collection, query: Query, most: int
) -> SearchResult | None:
    """None where the name is no longer, or not quite, this collection's. Metadata beyond `most` bytes comes as ""."""
    vector = wire.packed(checks.checked_query(collection, query.vector)[None, :])[0]
    fits = await in_thread(where, query.filter) if is_large(query.filter) else where(query.filter)
    run = _Search(connection, name, collection, query, vector, fits, most)
    if collection.indexed and not query.exact and not (query.filter and await run.matches_are_few()):
        await run.keep_candidates(query.ef or collection.ef_search)
        result = await run.page()
        if result is None or result.complete:
            return result
        # The end of the walk, or of the matches. The pages before this one are the walk's.
        walked = await run.walked(query.offset)
        return await run.page(exact=True, without=walked)
    return await run.page(exact=True)


async def sample_recall(connection: Connection, collection: Collection, shares: list[float]) -> None:
    """Appends, for each of some stored vectors that are moved a little, which share of its nearest the index finds; 1.0
    where all are compared."""
    if not collection.indexed or not collection.count:
        shares.append(1.0)
        return
    chance = np.random.default_rng(_SEED)
    for stored in await _sample(connection, collection):
        moved = stored + np.abs(stored).mean() * chance.standard_normal(len(stored)) / 2
        query = Query(moved.astype(np.float32), limit=_NEAREST, with_metadata=False)
        with suppress(InvalidArgument):  # moved too far
            every = await search(connection, collection.name, collection, query._replace(exact=True), 0)
            walked = await search(connection, collection.name, collection, query, 0)
            if every is None or walked is None:
                return  # another collection by now
            # By score, not by id: of equally near ones any is right.
            worst = every.hits[-1].score if every.hits else 0.0
            near = [hit for hit in walked.hits if hit.score >= worst - 1e-5 * max(1.0, abs(worst))]
            shares.append(min(1.0, len(near) / (len(every.hits) or 1)))


async def _sample(connection: Connection, collection: Collection) -> list[Floats]:
    for percent in (min(100.0, 1000.0 * _SAMPLES / collection.count), 100.0):  # by chance, the first has none
        sql = f"SELECT vector FROM {collection.table} TABLESAMPLE SYSTEM ({percent:.6f}) LIMIT {_SAMPLES}"
        if rows := await (await connection.execute(sql.encode(), binary=True)).fetchall():
            return [row[0] for row in rows]
    return []


class _Search:
    def __init__(
        self,
        connection: Connection,
        name: str,
        collection: Collection,
        query: Query,
        vector: wire.Packed,
        fits: Where,
        most: int,
    ) -> None:
        self._connection, self._name, self._collection, self._query = connection, name, collection, query
        self._vector, self._fits, self._most = vector, fits, most
        self._distance = f"vector {collection.metric.operator} %b::vector"
        indexed, _ = collection.indexed_as("vector")
        parameter, _ = collection.indexed_as("%b::vector")
        self._walk = f"{indexed} {collection.metric.operator} {parameter}"

    async def keep_candidates(self, ef: int) -> None:
        if vars(self._connection).get("candidates") != ef:
            await self._connection.execute("SELECT set_config('hnsw.ef_search', %s, FALSE)", (str(ef),))
            vars(self._connection)["candidates"] = ef

    async def matches_are_few(self) -> bool:
        rows = await self._rows(
            f"SELECT count(*) FROM (SELECT FROM {self._collection.table} WHERE {self._fits.sql} LIMIT {_FEW + 1}) i",
            self._fits.values,
        )
        return bool(rows[0][0] <= _FEW)

    async def walked(self, most: int) -> list[str]:
        """The ids of the first `most` hits along the graph, or of as many whole pages before this one as it has."""
        if not most:
            return []
        sql = f"SELECT id FROM {self._collection.table} WHERE {self._fits.sql} ORDER BY {self._walk} LIMIT %s"
        rows = await self._rows(sql, (*self._fits.values, self._vector, most))
        not_whole = -(-(most - len(rows)) // self._query.limit)
        return [row[0] for row in rows[: max(0, most - not_whole * self._query.limit)]]

    async def page(self, exact: bool = False, without: list[str] | None = None) -> SearchResult | None:
        query, table = self._query, self._collection.table
        # An expression that no index has. With the limit as a parameter PostgreSQL would plan anew each time.
        order = f"({self._distance}) + 0.0, id" if exact else self._walk
        metadata = "metadata::text" if query.with_metadata else "'{}'"
        if query.with_metadata and query.limit * LARGEST_METADATA > self._most:
            together = "sum(size) OVER (ROWS UNBOUNDED PRECEDING)"
            metadata = f"CASE WHEN {together} <= {self._most} THEN metadata::text ELSE '' END"
        sql = f"""
            SELECT w.sequence, c.number, c.indexed, c.ef_search, h.* FROM writes w
            LEFT JOIN collections c ON c.number = coalesce(
                (SELECT number FROM collections WHERE name = %s), (SELECT collection FROM aliases WHERE alias = %s))
            LEFT JOIN (
                SELECT id, {self._distance} AS distance, {metadata} AS metadata,
                    {"vector, original" if query.with_vectors else "NULL, NULL"}
                FROM (
                    SELECT * FROM {table} WHERE {self._fits.sql} {"AND id <> ALL(%s::text[])" if without else ""}
                    ORDER BY {order} LIMIT {query.limit:d} OFFSET {query.offset - len(without or ()):d}
                ) i
            ) h ON TRUE"""
        values = [self._name, self._name, self._vector, *self._fits.values]
        values += [wire.texts(without)] if without else []
        values.append(self._vector)
        rows = await self._rows(sql, values)
        sequence, *now = rows[0][:4]
        if now != [self._collection.number, self._collection.indexed, self._collection.ef_search]:
            return None
        hits = [self._hit(*row[4:]) for row in rows if row[4] is not None]
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        complete = exact or len(hits) == query.limit
        if query.min_score is not None:
            hits = [hit for hit in hits if hit.score >= query.min_score]
        return SearchResult(hits, exact and not without, complete, sequence)

    def _hit(self, name: str, distance: float, metadata: str, vector: Floats | None, original: bytes | None) -> Hit:
        return Hit(name, self._collection.metric.score(distance), metadata, sent(vector, original))

    async def _rows(self, sql: str, values: Any) -> list[Any]:
        # A filter's statement is planned for its values, which an index may or may not have many of.
        prepare = None if self._fits.sql == "TRUE" else False
        cursor = await self._connection.execute(sql.encode(), values, prepare=prepare, binary=True)
        return await cursor.fetchall()


def sent(vector: Floats | None, original: bytes | None) -> Floats | None:
    """The vector as it was sent."""
    return vector if original is None else np.frombuffer(original, np.float32)


def check_page(query: Query, max_limit: int) -> None:
    within("limit", query.limit, 1, max_limit)
    if query.ef:
        within("ef_search", query.ef, *checks.INDEX_RANGES["ef_search"])
    if query.offset > 2**31:
        raise InvalidArgument("offset is beyond two billion", reason="OUT_OF_RANGE", field="offset")
