"""The truth: which collections there are, their ids, metadata and original vectors, in one SQLite file.

Each collection has tables of its own, so that a scan of one touches no other:

    items_N    row, id, label, version, digest, metadata (JSON text), text_sum, vector_sum
    vectors_N  row, the vector as it came: little-endian float32

A label is the number by which the graph knows a vector; items with equal vectors share one (`labels.py`). `version`
is the sequence of the write that gave the label its vector: a search compares it with what the graph has scored.
The sums are CRC-32 of id and metadata, and of the vector: what a disk has changed is named, not handed out.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from shared.errors import DataLoss, NotFound, StorageFull, quoted
from shared.vectors.items import Floats, Item

from . import targets
from .change_log import ChangeLog
from .database import Database, MalformedJson
from .fields import FieldIndexes
from .filters import Where
from .metric import Metric

_log = logging.getLogger("hector")

FORMAT = 3
_PART = 1000  # parameters in one statement; SQLite takes 32,766, but every number of them is another statement
_STORE = """
CREATE TABLE collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL,
    metric TEXT NOT NULL, m INTEGER NOT NULL, ef_construction INTEGER NOT NULL, ef_search INTEGER NOT NULL,
    embedding_model TEXT NOT NULL, next_label INTEGER NOT NULL DEFAULT 0, sequence INTEGER NOT NULL DEFAULT 0
) STRICT
"""
TABLES = """
CREATE TABLE {schema}items_{n} (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, label INTEGER NOT NULL, version INTEGER NOT NULL,
    digest BLOB NOT NULL, metadata TEXT NOT NULL, text_sum INTEGER, vector_sum INTEGER
) STRICT;
CREATE INDEX {schema}items_{n}_label ON items_{n} (label);
CREATE TABLE {schema}vectors_{n} (row INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT
"""
# Rows that are removed bit by bit, for want of room; each as the step from the one before.
_REMOVING = "CREATE TABLE IF NOT EXISTS removing (number INTEGER NOT NULL, steps BLOB NOT NULL) STRICT"
_COLUMNS = "number, name, dimension, metric, m, ef_construction, ef_search, embedding_model"


@dataclass(frozen=True)
class Collection:
    """What a collection was created with, or has by now. `number` names its tables and files and is never used again;
    `target_recall` is 0 where `ef_search` is the caller's affair (`tuning.py`)."""

    number: int
    name: str
    dimension: int
    metric: Metric
    m: int
    ef_construction: int
    ef_search: int
    embedding_model: str
    target_recall: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is: its row, and the label, version and digest of its vector."""

    row: int
    label: int
    version: int
    digest: bytes


class Store:
    """Writes come from one thread at a time (the engine sees to it); reads from any."""

    def __init__(self, path: Path, *, max_read: int = 64 * 2**20) -> None:
        """Opens or creates the file. Raises StartError where it is damaged, or not this plugin's.

        A call that reads more than `max_read` bytes of metadata and vectors to hand them out raises TooLarge.
        """
        self._use(Database(path, format=FORMAT, tables=_STORE, upgrade=_add_sums), max_read)
        self.is_removing = True  # whether something may be left to be removed, until `finish_removing` has looked

    def _use(self, database: Database, max_read: int) -> None:
        self.max_read = max_read
        self.database = database
        self.fields = FieldIndexes(database)
        self.log = ChangeLog(database)
        self.close = database.close

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One write: durable when the block ends, undone when it raises. The block tells the log what it touches."""
        with self.database.write() as connection:
            self.log.begin()
            yield connection
            self.log.write(connection, self.sequence + 1)
        self.log.committed()

    @property
    def sequence(self) -> int:
        """Writes that were committed."""
        return self.database.sequence

    # -- collections --------------------------------------------------------------------------------------------

    def collections(self) -> list[Collection]:
        rows = self.database.rows(f"SELECT {_COLUMNS} FROM collections ORDER BY name")
        recalls = targets.read(self.database)
        return [
            replace(Collection(n, name, dimension, Metric(metric), *rest), target_recall=recalls.get(n, 0.0))
            for n, name, dimension, metric, *rest in rows
        ]

    def create(self, connection: sqlite3.Connection, made: Collection) -> Collection:
        """Adds the collection, whose `number` is filled in."""
        columns = (made.name, made.dimension, made.metric, made.m, made.ef_construction, made.ef_search)
        number = connection.execute(
            "INSERT INTO collections"
            " (name, dimension, metric, m, ef_construction, ef_search, embedding_model, sequence)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*columns, made.embedding_model, self.sequence + 1),
        ).lastrowid
        assert number is not None
        self.log.note_catalogue()
        for statement in TABLES.format(n=number, schema="").split(";"):
            connection.execute(statement)
        targets.put(connection, number, made.target_recall)
        return replace(made, number=number)

    def drop(self, connection: sqlite3.Connection, number: int) -> int:
        """Removes the collection and says how many items it had."""
        count = int(connection.execute(f"SELECT count(*) FROM items_{number}").fetchone()[0])
        for table in ("items", "vectors"):
            connection.execute(f"DROP TABLE {table}_{number}")
        connection.execute("DELETE FROM collections WHERE number = ?", (number,))
        targets.put(connection, number, 0)
        self.log.note_catalogue()
        return count

    def rename(self, connection: sqlite3.Connection, number: int, name: str) -> None:
        connection.execute("UPDATE collections SET name = ? WHERE number = ?", (name, number))
        self.log.note_catalogue()

    def set_index(self, connection: sqlite3.Connection, changed: Collection) -> None:
        """Gives a collection the index parameters and the target of `changed`."""
        connection.execute(
            "UPDATE collections SET m = ?, ef_construction = ?, ef_search = ? WHERE number = ?",
            (changed.m, changed.ef_construction, changed.ef_search, changed.number),
        )
        targets.put(connection, changed.number, changed.target_recall)
        self.log.note_catalogue()

    def counters(self, number: int) -> tuple[int, int]:
        """A label that was never used in the collection, nor any above it; and the sequence of its last write."""
        rows = self.database.rows("SELECT next_label, sequence FROM collections WHERE number = ?", number)
        if not rows:
            raise NotFound("the collection was deleted meanwhile", reason="COLLECTION_NOT_FOUND")
        return int(rows[0][0]), int(rows[0][1])

    def bytes_used(self, number: int) -> int:
        """What the collection's ids, metadata and vectors take, without SQLite's own overhead."""
        texts = (
            f"SELECT coalesce(sum(length(CAST(id AS BLOB)) + length(CAST(metadata AS BLOB))), 0) FROM items_{number}"
        )
        vectors = f"SELECT coalesce(sum(length(vector)), 0) FROM vectors_{number}"
        ((used,),) = self.database.rows(f"SELECT ({texts}) + ({vectors})")
        return int(used)

    # -- writing ------------------------------------------------------------------------------------------------

    def put(
        self, connection: sqlite3.Connection, number: int, rows: Sequence[tuple[Item, Place]], next_label: int
    ) -> list[int]:
        """Writes the items to their places (row 0: a new one), keeps `next_label` for the next write, and returns
        the rows that were written."""
        written = [place.row for _, place in rows if place.row]
        new = [(item, place) for item, place in rows if not place.row]
        old = [(item, place) for item, place in rows if place.row]
        for item, place in new:
            blob = _blob(item)
            row = connection.execute(
                f"INSERT INTO items_{number} (id, label, version, digest, metadata, text_sum, vector_sum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (item.id, place.label, place.version, place.digest, item.metadata, *_sums(item, blob)),
            ).lastrowid
            connection.execute(f"INSERT INTO vectors_{number} (row, vector) VALUES (?, ?)", (row, blob))
            written.append(row or 0)
        connection.executemany(
            f"UPDATE items_{number} SET label = ?, version = ?, digest = ?, metadata = ?, text_sum = ?, vector_sum = ?"
            " WHERE row = ?",
            (
                (place.label, place.version, place.digest, item.metadata, *_sums(item, _blob(item)), place.row)
                for item, place in old
            ),
        )
        connection.executemany(
            f"UPDATE vectors_{number} SET vector = ? WHERE row = ?", ((_blob(item), place.row) for item, place in old)
        )
        self._mark(connection, number, next_label)
        return written

    def put_metadata(self, connection: sqlite3.Connection, number: int, rows: Iterable[tuple[int, str, str]]) -> None:
        """Gives items, each (row, id, metadata), other metadata."""
        connection.executemany(
            f"UPDATE items_{number} SET metadata = ?, text_sum = ? WHERE row = ?",
            ((metadata, _text_sum(name, metadata), row) for row, name, metadata in rows),
        )
        self._mark(connection, number)

    def remove(self, connection: sqlite3.Connection, number: int, rows: Iterable[int]) -> None:
        _delete(connection, number, rows)
        self._mark(connection, number)

    def begin_removing(self, connection: sqlite3.Connection, number: int, rows: Sequence[int]) -> None:
        """Decides that these rows are removed, in a few pages: by `finish_removing`, whatever happens in between."""
        self.is_removing = True
        connection.execute(_REMOVING)
        steps = np.diff(np.array(sorted(rows), "<i8"), prepend=0).astype("<i8").tobytes()
        connection.execute("INSERT INTO removing VALUES (?, ?)", (number, zlib.compress(steps)))
        self.log.note_unknown(number)
        self._mark(connection, number)

    def finish_removing(self) -> None:
        """Removes what `begin_removing` has decided, in transactions that a disk which is full has room for.

        Raises StorageFull where it has none for a single row; to be called again then.
        """
        decided = self._decided()
        if not decided:
            self.is_removing = False
            return
        # What is decided may make the file larger; the rest does not, so that the log can always be folded in.
        self.database.fold_in()
        there = {spec.number for spec in self.collections()}
        for number in decided.keys() & there:
            rows, size = decided[number], _PART
            while rows:
                try:
                    with self.database.transaction() as transaction:
                        _delete(transaction, number, rows[:size])
                    del rows[:size]
                except StorageFull:
                    if size == 1:
                        raise
                    size = max(1, size // 4)
                self.database.fold_in()
        with self.database.transaction() as transaction:
            transaction.execute("DROP TABLE removing")
        self.is_removing = False

    def _decided(self) -> dict[int, list[int]]:
        """By collection, the rows that `begin_removing` has decided on."""
        decided: dict[int, list[int]] = {}
        if self.database.rows("SELECT 1 FROM sqlite_schema WHERE name = 'removing'"):
            for number, steps in self.database.rows("SELECT number, steps FROM removing"):
                rows = np.cumsum(np.frombuffer(zlib.decompress(steps), "<i8")).tolist()
                decided.setdefault(number, []).extend(rows)
        return decided

    def _mark(self, connection: sqlite3.Connection, number: int, next_label: int | None = None) -> None:
        connection.execute(
            "UPDATE collections SET sequence = ?, next_label = coalesce(?, next_label) WHERE number = ?",
            (self.sequence + 1, next_label, number),
        )

    # -- reading ------------------------------------------------------------------------------------------------

    def places(self, number: int, ids: Sequence[str]) -> dict[str, Place]:
        """Where each id is that exists."""
        query = f"SELECT id, row, label, version, digest FROM items_{number} WHERE id IN ({{}})"
        return {name: Place(*rest) for name, *rest in self._in_parts(query, ids)}

    def all_labels(self, number: int) -> Iterator[list[tuple[int, int, bytes]]]:
        """(label, version, digest) of every item that is not to be removed, in blocks."""
        decided = set(self._decided().get(number, ()))
        if not decided:
            yield from self.database.blocks(f"SELECT label, version, digest FROM items_{number}", size=10_000)
        else:
            for block in self.database.blocks(f"SELECT label, version, digest, row FROM items_{number}", size=10_000):
                yield [item[:3] for item in block if item[3] not in decided]

    def at_labels(
        self, number: int, labels: Sequence[int], most: int | None = None
    ) -> list[tuple[int, int, int, str, str]]:
        """(label, version, row, id, metadata) of the items that have these labels now.

        Raises TooLarge beyond `most` bytes, or `max_read`.
        """
        query = f"SELECT label, version, row, id, metadata, text_sum FROM items_{number} WHERE label IN ({{}})"
        rows = self._in_parts(query, labels, most=self.max_read if most is None else most)
        return [self._sound(number, *row) for row in rows]

    def names_at_labels(self, number: int, labels: Sequence[int]) -> list[tuple[int, int, int, str]]:
        """(label, version, row, id) of the items that have these labels now."""
        query = f"SELECT label, version, row, id FROM items_{number} WHERE label IN ({{}})"
        return self._in_parts(query, labels)

    def first_rows(self, number: int, labels: Sequence[int]) -> dict[int, int]:
        """Of each of these labels that somebody has, the first row."""
        query = f"SELECT label, min(row) FROM items_{number} WHERE label IN ({{}}) GROUP BY label"
        return dict(self._in_parts(query, labels))

    def at_rows(self, number: int, rows: Sequence[int], most: int | None = None) -> dict[int, tuple[int, str, str]]:
        """(version, id, metadata) of the rows that exist. Raises TooLarge beyond `most` bytes, or `max_read`."""
        query = f"SELECT label, version, row, id, metadata, text_sum FROM items_{number} WHERE row IN ({{}})"
        stored = self._in_parts(query, rows, most=self.max_read if most is None else most)
        sound = [self._sound(number, *columns) for columns in stored]
        return {row: (version, name, metadata) for _, version, row, name, metadata in sound}

    def names_at_rows(self, number: int, rows: Sequence[int]) -> dict[int, tuple[int, str]]:
        """(version, id) of the rows that exist."""
        query = f"SELECT row, version, id FROM items_{number} WHERE row IN ({{}})"
        return {row: (version, name) for row, version, name in self._in_parts(query, rows)}

    def versioned_vectors(self, number: int, rows: Sequence[int]) -> list[tuple[int, int, bytes]]:
        """(row, version, vector) of the rows that exist."""
        tables = f"items_{number} JOIN vectors_{number} USING (row)"
        return self._in_parts(f"SELECT row, version, vector FROM {tables} WHERE row IN ({{}})", rows)

    def vectors(self, number: int, rows: Sequence[int]) -> dict[int, Floats]:
        """The original vectors of these rows. Raises TooLarge beyond `max_read`."""
        tables = f"items_{number} JOIN vectors_{number} USING (row)"
        query = f"SELECT row, id, vector, vector_sum FROM {tables} WHERE row IN ({{}})"
        stored = self._in_parts(query, rows, most=self.max_read)
        return {row: self._sound_vector(number, *columns) for row, *columns in stored}

    def items(self, number: int, ids: Sequence[str], with_vectors: bool, with_metadata: bool = True) -> dict[str, Item]:
        """The items with these ids that exist. Raises TooLarge beyond `max_read`."""
        columns, tables = _item(with_vectors, with_metadata), f"items_{number} {_join(number, with_vectors)}"
        query = f"SELECT {columns} FROM {tables} WHERE id IN ({{}})"
        stored = self._in_parts(query, ids, most=self.max_read)
        return {name: self._item(number, name, *rest) for name, *rest in stored}

    def page(
        self, number: int, after: int, size: int, where: Where | None, with_vectors: bool, with_metadata: bool = True
    ) -> tuple[list[tuple[int, Item]], bool]:
        """The next `size` items that fit, in the order of their rows, each with its row; and whether there are more.

        Those before a damaged one where there are any: the DataLoss comes when it is the first, and has its row.
        """
        extra, values = (f" AND {where.sql}", where.values) if where else ("", ())
        query = (
            f"SELECT items_{number}.row, {_item(with_vectors, with_metadata)}"
            f" FROM items_{number} {_join(number, with_vectors)}"
            f" WHERE items_{number}.row > ?{extra} ORDER BY items_{number}.row LIMIT ?"
        )
        with self._naming(number):
            rows = self.database.rows_within(self.max_read, query, after, *values, size + 1)
        items: list[tuple[int, Item]] = []
        for row, *columns in rows[:size]:
            try:
                items.append((row, self._item(number, *columns)))
            except DataLoss as error:
                if items:
                    break
                error.metadata["row"] = str(row)
                raise
        return items, len(rows) > len(items)

    def count(self, number: int, where: Where | None) -> int:
        sql, values = self.fields.condition(number, where) if where else ("1", ())
        with self._naming(number):
            ((count,),) = self.database.rows(f"SELECT count(*) FROM items_{number} WHERE {sql}", *values)
        return int(count)

    def ids(self, number: int, where: Where) -> list[str]:
        """Of the items that fit."""
        sql, values = self.fields.condition(number, where)
        with self._naming(number):
            rows = self.database.rows(f"SELECT id FROM items_{number} WHERE {sql}", *values)
        return [name for (name,) in rows]

    def fitting(self, number: int, where: Where, rows: Sequence[int] | None = None) -> list[tuple[int, int]]:
        """(row, label) of the items that fit, of all or of these rows."""
        query = f"SELECT row, label FROM items_{number} WHERE "
        with self._naming(number):
            if rows is None:
                sql, values = self.fields.condition(number, where)
                return self.database.rows(query + sql, *values)
            return self._in_parts(f"{query}{where.sql} AND row IN ({{}})", rows, where.values)

    def scan(self, collection: Collection, where: Where | None = None) -> Iterator[tuple[list[Any], Floats]]:
        """(row, label, version, id) of all items that fit, with their original vectors, in blocks, all as they were
        when the first was taken."""
        number, width = collection.number, collection.dimension * 4
        extra, values = (f" WHERE {where.sql}", where.values) if where else ("", ())
        query = f"SELECT row, label, version, id, vector FROM items_{number} JOIN vectors_{number} USING (row){extra}"
        with self._naming(number):
            for block in self.database.blocks(query, *values):
                for row in block:
                    if len(row[4]) != width:
                        raise DataLoss(
                            f"the vector of item {quoted(row[3])} of collection {collection.name} "
                            "has the wrong size; restore a backup"
                        )
                whole = b"".join(row[4] for row in block)
                yield block, np.frombuffer(whole, "<f4").reshape(len(block), collection.dimension)

    # -- damage -------------------------------------------------------------------------------------------------

    def _sound(
        self, number: int, label: int, version: int, row: int, name: str, metadata: str, text_sum: int
    ) -> tuple[int, int, int, str, str]:
        if _text_sum(name, metadata) != text_sum:
            raise self.damaged(number, name, "id or metadata")
        return label, version, row, name, metadata

    def _sound_vector(self, number: int, name: str, vector: bytes, vector_sum: int) -> Floats:
        if crc32(vector) != vector_sum:
            raise self.damaged(number, name, "vector")
        return np.frombuffer(vector, "<f4")

    def _item(
        self, number: int, name: str, metadata: str | None, vector: bytes | None, text_sum: int, vector_sum: int
    ) -> Item:
        if metadata is not None:  # without it the sum of both cannot be told
            self._sound(number, 0, 0, 0, name, metadata, text_sum)
        sound = None if vector is None else self._sound_vector(number, name, vector, vector_sum)
        return Item(name, sound, metadata or "")

    def damaged(self, number: int, name: str, what: str) -> DataLoss:
        """The error that names an item which the disk has changed."""
        names = self.database.rows("SELECT name FROM collections WHERE number = ?", number)
        collection = names[0][0] if names else "that was deleted"
        return DataLoss(
            f"item {quoted(name, 512)} of collection {collection} is damaged in the store ({what}); "
            "write it anew, delete it, or restore a backup",
            reason="ITEM_DAMAGED",
            metadata={"id": name},
        )

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Within, metadata is looked into by SQLite, which does not say whose it is that is no JSON."""
        try:
            yield
        except MalformedJson as error:
            rows = self.database.rows(f"SELECT id FROM items_{number} WHERE NOT json_valid(metadata) LIMIT 1")
            raise (self.damaged(number, rows[0][0], "metadata") if rows else error) from None

    def _in_parts(
        self, query: str, values: Sequence[Any], before: Sequence[object] = (), most: int | None = None
    ) -> list[Any]:
        """The rows of `query`, whose `{}` stands for `values`; `before` are the parameters that come before them.

        Raises TooLarge where there are more than `most` bytes in it.
        """
        rows: list[Any] = []
        for start in range(0, len(values), _PART):
            part = values[start : start + _PART]
            text = query.format(",".join("?" * len(part)))
            if most is None:
                rows += self.database.rows(text, *before, *part)
            else:
                more = self.database.rows_within(most, text, *before, *part)
                most -= sum(len(value) for row in more for value in row if isinstance(value, str | bytes))
                rows += more
        return rows


def _delete(connection: sqlite3.Connection, number: int, rows: Iterable[int]) -> None:
    which = [(row,) for row in rows]
    for table in ("items", "vectors"):
        connection.executemany(f"DELETE FROM {table}_{number} WHERE row = ?", which)


def _blob(item: Item) -> bytes:
    assert item.vector is not None
    return item.vector.astype("<f4", copy=False).tobytes()


def _sums(item: Item, blob: bytes) -> tuple[int, int]:
    return _text_sum(item.id, item.metadata), crc32(blob)


def _text_sum(name: str, metadata: str) -> int:
    # What is no UTF-8 comes as half characters and goes back to the bytes that it was.
    return crc32(f"{name}\0{metadata}".encode("utf-8", "surrogateescape"))


def add_sums(connection: sqlite3.Connection, number: int, schema: str = "main") -> None:
    """Fills in the sums of a collection that was written by a version without them."""
    connection.create_function("text_sum_of", 2, _text_sum, deterministic=True)
    connection.create_function("crc32", 1, crc32, deterministic=True)
    connection.execute(
        f"UPDATE {schema}.items_{number} SET text_sum = text_sum_of(id, metadata), vector_sum = crc32("
        f"(SELECT vector FROM {schema}.vectors_{number} AS v WHERE v.row = items_{number}.row))"
    )


def _add_sums(connection: sqlite3.Connection) -> None:
    """From format 2."""
    for (number,) in connection.execute("SELECT number FROM collections").fetchall():
        for column in ("text_sum", "vector_sum"):
            connection.execute(f"ALTER TABLE items_{number} ADD COLUMN {column} INTEGER")
        add_sums(connection, number)
    _log.info("event=store_upgraded format=%d", FORMAT)


def _item(with_vectors: bool, with_metadata: bool) -> str:
    metadata, vector = "metadata" if with_metadata else "NULL", "vector" if with_vectors else "NULL"
    return f"id, {metadata}, {vector}, text_sum, vector_sum"


def _join(number: int, with_vectors: bool) -> str:
    return f"JOIN vectors_{number} USING (row)" if with_vectors else ""
