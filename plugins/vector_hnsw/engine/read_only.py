"""What another process writes, for one that only reads beside it: the store, saved graphs, snapshots. Nothing here
makes, changes or removes a file, but for the two that SQLite keeps beside a store that is open.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy.typing as npt
from numpy import int64

from shared.errors import StartError, Unavailable

from .cache import GraphCache
from .counter import Counter
from .database import Database, refuse_foreign_log
from .graph import Graph
from .snapshots import Snapshots
from .store import FORMAT, Collection, Store


class AtLabel(NamedTuple):
    """What has a label: since which write, in which row (the first), and how many items."""

    version: int
    row: int
    items: int


class ReadOnlyDatabase(Database):
    """A file that another process writes. Within `pinned` a thread reads all of it as it was at one moment.

    `sequence` is of the last write that memory has, and `seen` what the counter was before memory was brought up to it;
    whoever brings it up sets both.
    """

    is_read_only = True
    seen: bytes | None = None

    def __init__(self, path: Path) -> None:
        """Raises StartError."""
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False
        self._pins = threading.local()
        try:
            if not _has_log(path):
                raise StartError(
                    f"{path} was put back, and nobody has written it since; start the plugin that writes it"
                )
            _refuse_foreign_log(path)
            before = _identity(path)
            # As long as one connection is open, no other process is the last, which would clear away the log.
            self._keeper = self._connect()
            try:
                about = self._about(self._keeper)
                if about.get("format") != str(FORMAT):
                    raise StartError(_other_format(about))
                self.uuid, self.sequence = about["uuid"], int(about["sequence"])
                self.counter = Counter(path)
                self.identity = _identity(path)
                if self.identity != before:
                    raise StartError(f"{path} was replaced just now; start again")
            except BaseException:
                self._keeper.close()
                raise
        except (sqlite3.DatabaseError, OSError, KeyError) as error:
            raise StartError(f"cannot read {path}: {error}; see to its permissions, or restore a backup") from None

    def close(self) -> None:
        self.counter.close()
        self._close_idle()
        self._keeper.close()

    @property
    def is_in_its_place(self) -> bool:
        """Whether the file is still the one by that name."""
        try:
            return _identity(self.path) == self.identity
        except OSError:
            return False

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Within, this thread sees what was committed when it reads first, and nothing later."""
        with super().reading() as connection:
            connection.execute("BEGIN")
            self._pins.connection = connection
            try:
                yield
            finally:
                self._pins.connection = None
                connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        connection: sqlite3.Connection | None = getattr(self._pins, "connection", None)
        if connection is not None:
            yield connection
        else:
            with super().reading() as connection:
                yield connection

    @property
    def is_as_in_memory(self) -> bool:
        """Whether what this thread has just read is nothing newer than what memory has."""
        return getattr(self._pins, "connection", None) is not None or self.counter.look() == self.seen

    def last_write(self) -> int:
        """The store's sequence. Raises Unavailable where a later version of the plugin has taken it over."""
        about = dict(self.rows("SELECT key, value FROM store"))
        if about["format"] != str(FORMAT):
            raise Unavailable(_other_format(about), reason="OTHER_FORMAT")
        return int(about["sequence"])

    @property
    def is_removing(self) -> bool:
        """Whether items that were deleted, on a disk that is full, are in the tables still."""
        return bool(self.rows("SELECT 1 FROM sqlite_schema WHERE name = 'removing'"))

    def _about(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT key, value FROM store").fetchall())

    def _uri(self) -> str:
        return super()._uri() + "?mode=ro"


class ReadOnlyStore(Store):
    database: ReadOnlyDatabase

    def __init__(self, path: Path, *, max_read: int) -> None:
        """Raises StartError."""
        self._use(ReadOnlyDatabase(path), max_read)
        self.is_removing = False

    def labels_now(self, number: int, labels: Sequence[int]) -> dict[int, AtLabel]:
        """What has these labels now."""
        query = f"SELECT label, version, min(row), count(*) FROM items_{number} WHERE label IN ({{}}) GROUP BY label"
        return {label: AtLabel(*rest) for label, *rest in self._in_parts(query, labels)}


class SavedGraphs(GraphCache):
    """Graphs that the writer has saved: loaded, and else left alone."""

    def __init__(self, folder: Path, database: ReadOnlyDatabase) -> None:
        self._folder = folder / database.uuid
        self._store = database.uuid
        self._last_write = database.last_write

    def load(self, graph: Graph, collection: Collection, newest: int) -> tuple[int, npt.NDArray[int64]] | None:
        # One that was saved since this thread has pinned the store has vectors that are not of then, and does not say
        # which. And it may be replaced while it is read: then there is another.
        newest = self._last_write()
        return super().load(graph, collection, newest) or super().load(graph, collection, newest)

    def save(self, graph: Graph, collection: Collection, sequence: int) -> bool:
        """Does nothing."""
        return True

    def remove(self, number: int) -> None:
        """Does nothing."""


class MadeSnapshots(Snapshots):
    """Snapshots that the writer has made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder


def _refuse_foreign_log(path: Path) -> None:
    """Raises StartError. Beside a plugin that writes a look may be between two states of file and log, so it is not
    the last word."""
    for _ in range(3):
        try:
            return refuse_foreign_log(path)
        except StartError as error:
            refused = error
            time.sleep(0.1)
    raise refused


def _has_log(path: Path) -> bool:
    """Whether it is written through a log beside it, as a backup is not until a plugin has opened it. SQLite is not
    asked: whoever has the file open keeps the plugin from changing that."""
    with path.open("rb") as file:
        return file.read(20)[18:20] == b"\2\2"


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _other_format(about: dict[str, str]) -> str:
    there = about.get("format", "0")
    if int(there) < FORMAT:
        return f"the store has format {there}, a reader takes {FORMAT}; start the plugin that writes it once"
    return f"the store has format {there}, this version reads {FORMAT}; start the reader with the writer's version"
