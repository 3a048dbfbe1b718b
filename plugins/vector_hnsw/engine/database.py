"""One SQLite file: opened safely, written by one, read by many, its failures told apart.

A commit is what "acknowledged" means: the write-ahead log is synced before it returns, so it survives a kill and a
power cut. Which tables there are is `store.py`'s.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from shared.errors import DataLoss, NotFound, PluginError, StartError, StorageFull, TooLarge, Unavailable

from . import wal
from .files import make_file, sync_folder
from .filters import member

# Bytes: as much as the store has, for a delete writes each of its pages at most, and not more than this: the log is
# folded in from 32 MiB on, and with so much the file can grow by it, and deletes have a log again.
_LEAST_RESERVED, _MOST_RESERVED = 2**20, 48 * 2**20
_ROOM = 64 * 2**20  # bytes: what a write takes at most, nearly always
_COUNTS = ("freelist_count", "page_count")
# What every commit says in the table `store`, for wal.py.
_COUNT = """
UPDATE store
SET value = CASE key WHEN 'schema' THEN (SELECT schema_version FROM pragma_schema_version) ELSE value + 1 END
WHERE key IN ('commits', 'schema', ?)
"""


class Database:
    """Writes come from one thread at a time (the engine sees to it); reads from any, each with its own connection."""

    is_read_only = False

    def __init__(self, path: Path, *, format: int, tables: str, upgrade: Callable[[sqlite3.Connection], None]) -> None:
        """Opens the file, or creates it with `tables` (SQL). `upgrade` makes of the format before what it is now.

        Raises StartError where it is damaged or another's.
        """
        self.path = path
        self._idle: list[sqlite3.Connection] = []  # for reading
        self._idle_lock = threading.Lock()
        self._closed = False
        self._reserve = path.with_name("reserve")
        self._reserved = 0  # bytes
        self._log = path.with_name(path.name + "-wal")
        try:
            if not path.exists():
                _create(path, format, tables)
            refuse_foreign_log(path)
            self._writer = self._connect()
            try:
                self.uuid, self.sequence = self._verify_when_full_too(format, upgrade)
                # So that the file itself, and not only its log, says which run it is of.
                with suppress(StorageFull):
                    self.fold_in()
            except BaseException:
                self._writer.close()
                raise
        except sqlite3.DatabaseError as error:
            raise StartError(_why_not_opened(path, error)) from None

    def close(self) -> None:
        """Ends writing and reading; the log is folded into the file, by the last connection at the latest.

        A read that is under way ends in peace: a connection must not be closed while another thread uses it.
        """
        with suppress(PluginError, sqlite3.Error):  # where readers stay, this one is not the last
            self.fold_in()
        self._close_idle()
        self._writer.close()

    def _close_idle(self) -> None:
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that counts as one write: durable when the block ends, undone when it raises."""
        with self.transaction("sequence") as connection:
            yield connection
        self.sequence += 1

    @contextmanager
    def transaction(self, counter: str = "") -> Iterator[sqlite3.Connection]:
        """One transaction that does not count as a write of the store."""
        self._refuse_closed()
        with as_plugin_errors(self.path), self._writer as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute(_COUNT, (counter,))

    def free_pages(self) -> tuple[int, int]:
        """Pages of the file that hold nothing, and all of them."""
        with as_plugin_errors(self.path):
            free, pages = (self._writer.execute(f"PRAGMA {what}").fetchone()[0] for what in _COUNTS)
        return free, pages

    def give_back(self, pages: int) -> None:
        """Shortens the file by so many free pages; on disk at the next checkpoint."""
        with self.transaction() as connection:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def fold_in(self) -> None:
        """The log is folded into the file and emptied, unless somebody reads for so long that it has to wait."""
        self._refuse_closed()
        with as_plugin_errors(self.path):
            self._writer.execute("PRAGMA busy_timeout = 1000")
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._writer.execute("PRAGMA busy_timeout = 30000")

    def keep_reserve(self) -> None:
        """Takes some of the disk that is free, so that deleting works once it is full: as much as the store has, within
        bounds. Without room it does without."""
        try:
            there = self._reserve.stat().st_size if self._reserve.exists() else 0
            free = shutil.disk_usage(self._reserve.parent).free
            size = self.path.stat().st_size + (self._log.stat().st_size if self._log.exists() else 0)
            size = max(1, min(_MOST_RESERVED, max(_LEAST_RESERVED, size), (free + there) // 8))
            if not self._reserve.exists():
                make_file(self._reserve)
            with self._reserve.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                except OSError:
                    size = there
                file.truncate(size)
            self._reserved = size
        except OSError:
            self._reserved = 0

    def use_reserve(self) -> None:
        """Gives the reserve back to the disk, and what is deleted from here on is not overwritten, which takes room."""
        self._reserve.unlink(missing_ok=True)
        self._reserved = 0
        self._writer.execute("PRAGMA secure_delete = FAST").fetchall()

    def keep_foldable(self) -> None:
        """Before a write: folds the log in where the disk may soon have no room for that any more; where it has plenty,
        the reserve grows with the store."""
        with suppress(OSError, StorageFull):
            log = self._log.stat().st_size
            if not log:
                return
            free = shutil.disk_usage(self.path.parent).free
            if free < 2 * log + _ROOM:
                self.fold_in()
            if self._reserved < _MOST_RESERVED // 2:
                wanted = min(_MOST_RESERVED, self.path.stat().st_size + log)
                if wanted > 2 * self._reserved and free > 4 * wanted:
                    self.keep_reserve()

    @contextmanager
    def attached(self, file: Path, name: str) -> Iterator[None]:
        """Within, writes can read the tables of another file as `name`.table."""
        self._refuse_closed()
        with as_plugin_errors(self.path):
            self._writer.execute(f"ATTACH ? AS {name}", (file.absolute().as_uri() + "?mode=ro",))
        try:
            yield
        finally:
            self._writer.execute(f"DETACH {name}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
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

    def rows(self, query: str, *values: object) -> list[Any]:
        with as_plugin_errors(self.path), self.reading() as connection:
            return connection.execute(query, values).fetchall()

    def rows_within(self, most: int, query: str, *values: object) -> list[Any]:
        """As `rows`. Raises TooLarge as soon as their texts and blobs, and a hundred bytes a row, are beyond `most`."""
        rows, size = [], 0
        with as_plugin_errors(self.path), self.reading() as connection:
            for row in connection.execute(query, values):
                size += 100
                for value in row:
                    if type(value) is str or type(value) is bytes:
                        size += len(value)
                if size > most:
                    raise TooLarge(
                        f"this call would read more than {most} bytes of metadata and vectors; ask for less at once",
                        reason="REPLY_TOO_LARGE",
                    )
                rows.append(row)
        return rows

    def blocks(self, query: str, *values: object, size: int = 1000) -> Iterator[list[Any]]:
        """The rows in blocks of `size`, all as they were when the first was taken."""
        with (
            as_plugin_errors(self.path),
            self.reading() as connection,
            closing(connection.execute(query, values)) as cursor,
        ):
            while block := cursor.fetchmany(size):
                yield block

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri(), uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        connection.text_factory = _text
        connection.create_function("json_member", 2, member, deterministic=True)
        return connection

    def _uri(self) -> str:
        return self.path.absolute().as_uri()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unavailable("the vector store is closed: the plugin is shutting down", reason="SHUTTING_DOWN")

    def _verify_when_full_too(self, format: int, upgrade: Callable[[sqlite3.Connection], None]) -> tuple[str, int]:
        try:
            return self._verify(format, upgrade)
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
        # Whoever cannot start on a full disk cannot delete anything either.
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        self.use_reserve()
        return self._verify(format, upgrade)

    def _verify(self, format: int, upgrade: Callable[[sqlite3.Connection], None]) -> tuple[str, int]:
        """The store's uuid and sequence."""
        check(self._writer)
        try:
            about = dict(self._writer.execute("SELECT key, value FROM store").fetchall())
        except sqlite3.OperationalError:
            about = {}
        if not about.keys() >= {"format", "uuid", "sequence"}:
            raise StartError(f"{self.path} is an SQLite file, but not this plugin's; choose another data_dir")
        if about["format"] not in (str(format), str(format - 1)):
            raise StartError(
                f"{self.path} has format {about['format']}, this version reads {format}; "
                "use the plugin's version that wrote it"
            )
        # A file that was restored with `.recover` has lost this.
        self._writer.execute("PRAGMA journal_mode = WAL").fetchall()
        # What cannot be written is found out now, not at the first write.
        self._writer.execute("BEGIN IMMEDIATE")
        if about["format"] != str(format):
            upgrade(self._writer)
        begin_run(self._writer, {"format": str(format), "run_before": about.get("run", "")})
        self._writer.execute("COMMIT")
        # A large log costs nothing until it is folded in, and folding in rarely is cheaper.
        self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
        self._writer.execute("PRAGMA journal_size_limit = 33554432")
        return str(about["uuid"]), int(about["sequence"])


class MalformedJson(DataLoss):
    """A query looked into metadata that is no JSON."""


def begin_run(connection: sqlite3.Connection, also: dict[str, str]) -> None:
    """Says in the table `store`, beside what else it is to say, that from here on it is another that writes it."""
    connection.executemany("INSERT OR REPLACE INTO store VALUES (?, ?)", [*also.items(), ("run", wal.new_run())])
    connection.execute("INSERT OR IGNORE INTO store VALUES ('commits', '0'), ('schema', '')")
    connection.execute(_COUNT, ("",))


def refuse_foreign_log(path: Path) -> None:
    """Raises StartError where the log beside the file is not of it. To be asked while nobody uses the file."""
    if wal.is_foreign(path):
        log, index = (f"{path.name}-{end}" for end in ("wal", "shm"))
        raise StartError(
            f"{log} beside {path} is not of this {path.name}: was a backup put back? Together they would undo it; "
            f"move {log} and {index} away, and it starts as {path.name} is, without the writes that are only in the log"
        )


def _text(raw: bytes) -> str:
    # Where a disk has changed a text it may be none any more; whoever reads it finds out by its checksum.
    return raw.decode("utf-8", "surrogateescape")


def check(connection: sqlite3.Connection) -> None:
    """Reads the whole file. Raises sqlite3.DatabaseError where its structure is damaged."""
    ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()  # to its end, or it keeps a lock
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _create(path: Path, format: int, tables: str) -> None:
    """Makes an empty store, aside until it is whole: so a kill meanwhile leaves nothing that looks damaged."""
    log = path.with_name(path.name + "-wal")
    if log.exists():
        raise StartError(
            f"{path} is missing, but {log.name} beside it has writes of it: put back both, or move away both"
        )
    aside = path.with_name(path.name + ".new")
    if aside.exists() and not _is_empty(aside):
        raise StartError(f"{path} is missing and {aside.name} beside it holds something: rename it, or move it away")
    for left in (aside, aside.with_name(aside.name + "-journal")):
        left.unlink(missing_ok=True)
    make_file(aside)  # what SQLite makes beside a file gets the file's permissions
    with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
            for statement in tables.split(";"):
                connection.execute(statement)
            begin_run(connection, {"format": str(format), "uuid": str(uuid.uuid4()), "sequence": "0"})
    aside.replace(path)
    sync_folder(path.parent)


def _is_empty(aside: Path) -> bool:
    """Whether it is what a kill left of an empty store, and not a store that somebody has put there."""
    try:
        with closing(sqlite3.connect(aside)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            ours = {"store", "collections", "sqlite_sequence"}
            return not tables or (
                tables == ours
                and not connection.execute("SELECT 1 FROM sqlite_sequence UNION SELECT 1 FROM collections").fetchall()
            )
    except sqlite3.DatabaseError:
        return False


@contextmanager
def as_plugin_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "malformed JSON" in str(error) or "user-defined function raised" in str(error):
            raise MalformedJson(f"the vector store's file {path.name} is damaged; restore a backup") from error
        if _is_full(error):
            raise StorageFull(
                "the disk of the vector store is full; free some space and send the write again"
            ) from error
        if _is_damage(error):
            raise DataLoss(f"the vector store's file {path.name} is damaged; stop the plugin and restore it") from error
        if _code(error) & 0xFF in _NO_ACCESS:
            raise Unavailable(
                f"the vector store's file {path.name} cannot be written any more; see to its permissions",
                reason="STORAGE_READ_ONLY",
            ) from error
        if "no such table" in str(error):
            raise NotFound("the collection was deleted meanwhile", reason="COLLECTION_NOT_FOUND") from error
        raise


_NO_ACCESS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def _code(error: sqlite3.DatabaseError) -> int:
    # Absent where Python itself raised it, such as for a text that is not UTF-8.
    return getattr(error, "sqlite_errorcode", 0)


def _is_full(error: sqlite3.DatabaseError) -> bool:
    # A file that may not grow (a quota, a size limit) shows as an I/O error in writing.
    return _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    known = _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    # What `quick_check` says has no code; nor has a text that is not UTF-8, and all that was written was.
    return known or (_code(error) == 0 and type(error) is not sqlite3.ProgrammingError)


def _why_not_opened(path: Path, error: sqlite3.DatabaseError) -> str:
    if _is_full(error):
        return f"the disk of {path} is full"
    if _code(error) & 0xFF in _NO_ACCESS:
        return f"cannot write {path} ({error}); see to the permissions of the file and its folder"
    if _is_damage(error):
        return (
            f"{path} is damaged ({error}): restore it from a backup, or save what can be read with "
            f"`sqlite3 {path} .recover`, or move it (and its -wal) away to start empty"
        )
    return f"cannot use {path}: {error}"
