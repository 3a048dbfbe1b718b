"""The truth: one SQLite file that holds every collection, its ids, metadata and original vectors.

A commit here is what "acknowledged" means: the write-ahead log is synced before it returns, so it survives a kill
and a power cut. Each collection has tables of its own, so that a scan of one touches no other:

    items_N    label, id, sequence of its last write, metadata (JSON text)
    vectors_N  label, the vector as it came: little-endian float32
    changes_N  labels written or deleted since the graph was last saved, by sequence

A label is the number by which the graph knows an item. An update keeps it; it is never given out twice.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plugins.vector_hnsw.engine.metric import Floats, Metric
from shared.errors import DataLoss, NotFound, StartError, StorageFull, Unavailable

_FORMAT = 1
_ROWS = 1000  # rows that a scan holds in memory at a time
_TABLES = """
CREATE TABLE items_{n} (
    label INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, metadata TEXT NOT NULL
) STRICT;
CREATE TABLE vectors_{n} (label INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;
CREATE TABLE changes_{n} (sequence INTEGER NOT NULL, label INTEGER NOT NULL, PRIMARY KEY (sequence, label))
    STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Collection:
    """What a collection was created with. `number` names its tables and files and is never used again."""

    number: int
    name: str
    dimension: int
    metric: Metric
    m: int
    ef_construction: int
    ef_search: int
    embedding_model: str


@dataclass(frozen=True)
class Row:
    """An item as it is written: `vector` is float32 bytes, `metadata` JSON text."""

    label: int
    id: str
    vector: bytes
    metadata: str


@dataclass(frozen=True)
class Hit:
    """An item as it is found. `score` is higher for better; `vector` is None unless asked for."""

    id: str
    score: float
    metadata: str
    vector: Floats | None


@dataclass(frozen=True)
class Stored:
    """An item as it is read back. `sequence` is that of its last write."""

    id: str
    sequence: int
    metadata: str


class Store:
    """Writes come from one thread at a time (the engine sees to it); reads from any, each with its own connection."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises StartError where it is damaged, or not this plugin's."""
        self.path = path
        self._idle: list[sqlite3.Connection] = []  # for reading
        self._idle_lock = threading.Lock()
        self._closed = False
        try:
            if not path.exists():
                _create(path)
            self._writer = self._connect()
            try:
                self.uuid, self.sequence = self._verify()
            except BaseException:
                self._writer.close()
                raise
        except sqlite3.DatabaseError as error:
            if _is_full(error):
                raise StartError(f"the disk of {path} is full") from None
            raise StartError(_damaged(path, str(error))) from None

    def close(self) -> None:
        """Ends writing and reading; the log is folded into the file by the last connection.

        A read that is under way ends in peace: a connection must not be closed while another thread uses it.
        """
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        self._writer.close()

    # -- writing ------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that counts as one write: durable when the block ends, undone when it raises."""
        self._refuse_closed()
        with _as_plugin_errors(self.path), self._writer as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE store SET value = ? WHERE key = 'sequence'", (str(self.sequence + 1),))
            yield connection
        self.sequence += 1

    def create(self, connection: sqlite3.Connection, made: Collection) -> Collection:
        """Adds the collection, whose `number` is filled in."""
        columns = (made.name, made.dimension, made.metric, made.m, made.ef_construction, made.ef_search)
        number = connection.execute(
            "INSERT INTO collections (name, dimension, metric, m, ef_construction, ef_search, embedding_model)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*columns, made.embedding_model),
        ).lastrowid
        assert number is not None
        for statement in _TABLES.format(n=number).split(";"):
            connection.execute(statement)
        return Collection(number, *columns, made.embedding_model)

    def drop(self, connection: sqlite3.Connection, number: int) -> int:
        """Removes the collection and says how many items it had."""
        count = int(connection.execute(f"SELECT count(*) FROM items_{number}").fetchone()[0])
        for table in ("items", "vectors", "changes"):
            connection.execute(f"DROP TABLE {table}_{number}")
        connection.execute("DELETE FROM collections WHERE number = ?", (number,))
        return count

    def put(self, connection: sqlite3.Connection, number: int, rows: Sequence[Row], next_label: int) -> None:
        """Writes the rows, new or not, and keeps `next_label` for the next write."""
        sequence = self.sequence + 1
        connection.executemany(
            f"INSERT OR REPLACE INTO items_{number} (label, id, sequence, metadata) VALUES (?, ?, ?, ?)",
            [(row.label, row.id, sequence, row.metadata) for row in rows],
        )
        connection.executemany(
            f"INSERT OR REPLACE INTO vectors_{number} (label, vector) VALUES (?, ?)",
            [(row.label, row.vector) for row in rows],
        )
        connection.execute("UPDATE collections SET next_label = ? WHERE number = ?", (next_label, number))
        self._note(connection, number, [row.label for row in rows])

    def remove(self, connection: sqlite3.Connection, number: int, labels: Sequence[int]) -> None:
        for table in ("items", "vectors"):
            connection.executemany(f"DELETE FROM {table}_{number} WHERE label = ?", [(label,) for label in labels])
        self._note(connection, number, labels)

    def forget_changes(self, number: int, sequence: int) -> None:
        """The graph is saved as of `sequence`, so what changed until then need not be known any more."""
        self._refuse_closed()
        with _as_plugin_errors(self.path), self._writer as connection:
            connection.execute(f"DELETE FROM changes_{number} WHERE sequence <= ?", (sequence,))

    def _note(self, connection: sqlite3.Connection, number: int, labels: Iterable[int]) -> None:
        sequence = self.sequence + 1
        connection.executemany(
            f"INSERT INTO changes_{number} (sequence, label) VALUES (?, ?)", [(sequence, label) for label in labels]
        )

    # -- reading ------------------------------------------------------------------------------------------------

    def collections(self) -> list[Collection]:
        query = (
            "SELECT number, name, dimension, metric, m, ef_construction, ef_search, embedding_model FROM collections"
        )
        return [
            Collection(number, name, dimension, Metric(metric), *rest)
            for number, name, dimension, metric, *rest in self._rows(query)
        ]

    def next_label(self, number: int) -> int:
        """A label that was never used in the collection, nor any above it."""
        return int(self._rows("SELECT next_label FROM collections WHERE number = ?", number)[0][0])

    def labels_of(self, number: int, ids: Sequence[str]) -> dict[str, int]:
        """The label of each id that exists."""
        found: dict[str, int] = {}
        for part in _parts(ids):
            marks = ",".join("?" * len(part))
            found.update(self._rows(f"SELECT id, label FROM items_{number} WHERE id IN ({marks})", *part))
        return found

    def items(self, number: int, labels: Sequence[int]) -> dict[int, Stored]:
        """The items that these labels have now; fewer than asked for where some were deleted."""
        found: dict[int, Stored] = {}
        for part in _parts(labels):
            marks = ",".join("?" * len(part))
            query = f"SELECT label, id, sequence, metadata FROM items_{number} WHERE label IN ({marks})"
            found.update({label: Stored(*rest) for label, *rest in self._rows(query, *part)})
        return found

    def vectors(self, number: int, labels: Sequence[int]) -> dict[int, Floats]:
        """The original vectors that these labels have now."""
        found: dict[int, Floats] = {}
        for part in _parts(labels):
            marks = ",".join("?" * len(part))
            query = f"SELECT label, vector FROM vectors_{number} WHERE label IN ({marks})"
            found.update({label: np.frombuffer(vector, "<f4") for label, vector in self._rows(query, *part)})
        return found

    def scan(self, collection: Collection) -> Iterator[tuple[list[int], list[int], Floats]]:
        """All labels with the sequence of their last write and their original vectors, in blocks, as they were when
        the first was taken."""
        number, width = collection.number, collection.dimension * 4
        query = f"SELECT label, sequence, vector FROM vectors_{number} JOIN items_{number} USING (label)"
        with _as_plugin_errors(self.path), self._reading() as connection, closing(connection.execute(query)) as cursor:
            while block := cursor.fetchmany(_ROWS):
                labels, sequences, vectors = zip(*block, strict=True)
                whole = b"".join(vectors)
                if len(whole) != len(block) * width:
                    raise DataLoss(f"a vector of collection {collection.name} has the wrong size; restore a backup")
                matrix = np.frombuffer(whole, "<f4").reshape(len(block), collection.dimension)
                yield list(labels), list(sequences), matrix

    def sequences(self, number: int) -> dict[int, int]:
        """For every label there is, the sequence of its last write."""
        return dict(self._rows(f"SELECT label, sequence FROM items_{number}"))

    def changed_since(self, number: int, sequence: int) -> set[int]:
        return {label for (label,) in self._rows(f"SELECT label FROM changes_{number} WHERE sequence > ?", sequence)}

    # -- connections --------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else has meanwhile."""
        self._refuse_closed()
        with self._idle_lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        try:
            yield connection
        finally:
            with self._idle_lock:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _rows(self, query: str, *values: object) -> list[Any]:
        with _as_plugin_errors(self.path), self._reading() as connection:
            return connection.execute(query, values).fetchall()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unavailable("the vector store is closed: the plugin is shutting down", reason="SHUTTING_DOWN")

    def _verify(self) -> tuple[str, int]:
        """The store's uuid and sequence."""
        (verdict,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        try:
            about = dict(self._writer.execute("SELECT key, value FROM store").fetchall())
        except sqlite3.OperationalError:
            about = {}
        if not about.keys() >= {"format", "uuid", "sequence"}:
            raise StartError(f"{self.path} is an SQLite file, but not this plugin's; choose another data_dir")
        if about["format"] != str(_FORMAT):
            raise StartError(
                f"{self.path} has format {about['format']}, this version reads {_FORMAT}; "
                "use the plugin's version that wrote it"
            )
        # A file that was restored with `.recover` has lost this.
        self._writer.execute("PRAGMA journal_mode = WAL")
        # A large log costs nothing until it is folded in, and folding in rarely is cheaper.
        self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
        return str(about["uuid"]), int(about["sequence"])


def _create(path: Path) -> None:
    """Makes an empty store, aside until it is whole: so a kill meanwhile leaves nothing that looks damaged."""
    log = path.with_name(path.name + "-wal")
    if log.exists():
        raise StartError(
            f"{path} is missing, but {log.name} beside it has writes of it: put back both, or move away both"
        )
    aside = path.with_name(path.name + ".new")
    for left in (aside, aside.with_name(aside.name + "-journal")):
        left.unlink(missing_ok=True)
    with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
            connection.execute(
                "CREATE TABLE collections ("
                " number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL,"
                " metric TEXT NOT NULL, m INTEGER NOT NULL, ef_construction INTEGER NOT NULL,"
                " ef_search INTEGER NOT NULL, embedding_model TEXT NOT NULL, next_label INTEGER NOT NULL DEFAULT 0"
                ") STRICT"
            )
            first = {"format": _FORMAT, "uuid": uuid.uuid4(), "sequence": 0}
            connection.executemany("INSERT INTO store VALUES (?, ?)", [(k, str(v)) for k, v in first.items()])
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable, as a file's own sync does not."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_plugin_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is_full(error):
            raise StorageFull(
                "the disk of the vector store is full; free some space and send the write again"
            ) from error
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DataLoss(f"the vector store's file {path.name} is damaged; stop the plugin and restore it") from error
        if "no such table" in str(error):
            raise NotFound("the collection was deleted meanwhile", reason="COLLECTION_NOT_FOUND") from error
        raise


def _is_full(error: sqlite3.DatabaseError) -> bool:
    # A file that may not grow (a quota, a size limit) shows as an I/O error in writing.
    full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
    return getattr(error, "sqlite_errorcode", 0) in full


def _damaged(path: Path, found: str) -> str:
    return (
        f"{path} is damaged ({found}): restore it from a backup, or save what can be read with "
        f"`sqlite3 {path} .recover`, or move it (and its -wal) away to start empty"
    )


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """SQLite takes 32,766 parameters in a statement; fewer keep the statement cache small."""
    for start in range(0, len(values), _ROWS):
        yield values[start : start + _ROWS]
