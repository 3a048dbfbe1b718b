"""Snapshots: copies of one collection, each a file of its own below `snapshots/`, known by name.

A copy is made from one moment of the store while writes go on, written aside, synced, and counts once its header,
which has its checksum, is renamed into place. It outlives its collection, so that a deleted one can be restored.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, StorageFull, quoted

from .database import as_plugin_errors, check
from .files import checksum, make_file, make_folder, sync_file, sync_folder
from .metric import Metric
from .store import TABLES, Collection, Store, add_sums

_log = logging.getLogger("hector")

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_ASIDE = ("snapshot.db.tmp", "snapshot.json.tmp")  # while they are made


@dataclass(frozen=True)
class Snapshot:
    """`sequence` of the store when it was taken; `created` in milliseconds of Unix time; `sha256` of its file."""

    name: str
    collection: str
    sequence: int
    size: int
    sha256: str
    created: int


class Snapshots:
    def __init__(self, folder: Path, store: str) -> None:
        """Finishes or removes what a kill left half made. `store` is the store's uuid: a folder of this name is its
        own."""
        self._folder = folder
        self._aside = folder / f".{store}"  # no collection's folder begins with a dot
        self._finish()
        self._remove_half_made()

    def create(self, store: Store, spec: Collection, name: str) -> Snapshot:
        """Raises AlreadyExists, InvalidArgument, StorageFull."""
        file = self._file(spec.name, name)
        if file.with_suffix(".json").exists():
            raise AlreadyExists(
                f"collection {spec.name} has a snapshot {name}; delete it first, or take another name",
                reason="SNAPSHOT_EXISTS",
                field="name",
            )
        make_folder(file.parent)
        make_folder(self._aside)
        aside, header_aside = (self._aside / name for name in _ASIDE)
        try:
            make_file(aside)
            sequence = _copy_out(store, spec, aside)
            header = asdict(spec) | {"next_label": store.counters(spec.number)[0]}
            header |= asdict(
                Snapshot(name, spec.name, sequence, aside.stat().st_size, checksum(aside), int(time.time() * 1000))
            )
            header["seal"] = seal_of(header)
            make_file(header_aside)
            header_aside.write_text(json.dumps(header), encoding="utf-8")
            for made in (aside, header_aside):
                sync_file(made)
            sync_folder(self._aside)
            aside.replace(file)
            sync_folder(file.parent)
            header_aside.replace(file.with_suffix(".json"))
            sync_folder(file.parent)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull("the disk of the vector store is full; no snapshot was made") from None
            raise
        finally:
            self._remove_half_made()
        return _snapshot(header)

    def list(self, collection: str = "") -> list[Snapshot]:
        """Of one collection, or of all; by collection and name. One whose header is damaged is logged instead.

        Raises InvalidArgument.
        """
        snapshots = []
        for header in self.headers(collection):
            if isinstance(header, Snapshot):
                snapshots.append(header)
            else:
                _log.warning("event=snapshot_damaged cause=%r", header.message)
        return sorted(snapshots, key=lambda snapshot: (snapshot.collection, snapshot.name))

    def headers(self, collection: str = "") -> Iterator[Snapshot | DataLoss]:
        """What each header says, or what is wrong with it. Raises InvalidArgument."""
        pattern = f"{_folder_name(collection, 'collection')}/*.json" if collection else "*/*.json"
        for path in self._folder.glob(pattern):
            try:
                yield _snapshot(read_header(path))
            except DataLoss as error:
                yield error

    def delete(self, collection: str, name: str) -> None:
        """Raises NotFound."""
        file = self._find(collection, name)
        # Without its header a file counts for nothing.
        file.with_suffix(".json").unlink()
        file.unlink(missing_ok=True)
        sync_folder(file.parent)

    @contextmanager
    def opened(self, collection: str, name: str) -> Iterator[tuple[Path, Collection, int]]:
        """The file, verified, its collection (number 0), and its next label. Raises NotFound, DataLoss."""
        file = self._find(collection, name)
        header = read_header(file.with_suffix(".json"))
        try:
            sound = file.stat().st_size == header["size"] and checksum(file) == header["sha256"]
            if sound:
                with closing(sqlite3.connect(file.absolute().as_uri() + "?mode=ro", uri=True)) as connection:
                    check(connection)
        except (OSError, sqlite3.DatabaseError):
            sound = False
        if not sound:
            raise DataLoss(f"snapshot {name} of collection {collection} is damaged; nothing was changed")
        fields = {key: header[key] for key in Collection.__dataclass_fields__ if key in header}
        spec = Collection(**(fields | {"number": 0, "name": collection, "metric": Metric(header["metric"])}))
        yield file, spec, header["next_label"]

    def _finish(self) -> None:
        """A kill between the two renames left a file without its header, which is whole and waits beside."""
        aside, header_aside = (self._aside / name for name in _ASIDE)
        if header_aside.exists() and not aside.exists():
            with suppress(DataLoss, KeyError, InvalidArgument):
                header = read_header(header_aside)
                file = self._file(header["collection"], header["name"])
                if file.exists():
                    header_aside.replace(file.with_suffix(".json"))

    def _remove_half_made(self) -> None:
        for name in _ASIDE:
            (self._aside / name).unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or somebody has put something into it
            self._aside.rmdir()

    def _find(self, collection: str, name: str) -> Path:
        file = self._file(collection, name)
        if not file.with_suffix(".json").exists():
            raise NotFound(
                f"collection {quoted(collection)} has no snapshot {quoted(name)}",
                reason="SNAPSHOT_NOT_FOUND",
                field="name",
            )
        return file

    def _file(self, collection: str, name: str) -> Path:
        return self._folder / _folder_name(collection, "collection") / f"{_folder_name(name, 'name')}.db"


def copy_in(store: Store, file: Path, spec: Collection, next_label: int, hidden: str) -> Collection:
    """Brings a snapshot's items into new tables, as a collection of the name `hidden`. One write."""
    with store.database.attached(file, "snapshot"), store.write() as transaction:
        made = store.create(transaction, Collection(**(asdict(spec) | {"name": hidden})))
        known: set[str] = set()
        for table in ("items", "vectors"):
            there = [column for _, column, *_ in transaction.execute(f"PRAGMA snapshot.table_info({table}_0)")]
            columns = ", ".join(there)
            transaction.execute(
                f"INSERT INTO {table}_{made.number} ({columns}) SELECT {columns} FROM snapshot.{table}_0"
            )
            known.update(there)
        if "text_sum" not in known:  # a snapshot of an earlier version
            add_sums(transaction, made.number)
        transaction.execute("UPDATE collections SET next_label = ? WHERE number = ?", (next_label, made.number))
    return made


def _copy_out(store: Store, spec: Collection, aside: Path) -> int:
    with as_plugin_errors(aside), closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("ATTACH ? AS store", (str(store.database.path),))
        for statement in TABLES.format(n=0, schema="main.").split(";"):
            connection.execute(statement)
        connection.execute("BEGIN")
        ((sequence,),) = connection.execute("SELECT value FROM store.store WHERE key = 'sequence'").fetchall()
        for table in ("items", "vectors"):
            connection.execute(f"INSERT INTO main.{table}_0 SELECT * FROM store.{table}_{spec.number}")
        connection.execute("COMMIT")
    return int(sequence)


def _folder_name(name: str, field: str) -> str:
    """A file system may take `Notes` and `notes` for one, so which letters are capitals stands behind.

    Raises InvalidArgument.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field} {quoted(name)} must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with a dot",
            reason="BAD_NAME",
            field=field,
        )
    capitals = sum(1 << index for index, letter in enumerate(name) if letter.isupper())
    return f"{name.lower()}^{capitals:x}" if capitals else name


def read_header(path: Path) -> dict[str, Any]:
    """Raises DataLoss."""
    try:
        header: dict[str, Any] = json.loads(path.read_bytes())
        if header.pop("seal") != seal_of(header):
            raise ValueError
        return header
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise DataLoss(f"the header of snapshot {path.stem} is damaged; delete the snapshot") from None


def seal_of(header: dict[str, Any]) -> str:
    """The checksum that a header has of itself."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _snapshot(header: dict[str, Any]) -> Snapshot:
    return Snapshot(
        name=header["name"],
        collection=header["collection"],
        sequence=header["sequence"],
        size=header["size"],
        sha256=header["sha256"],
        created=header["created"],
    )
