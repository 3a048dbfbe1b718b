"""Backups: a folder with all of a store as it was at one moment, made while the plugin runs or not, put back while it
does not.

    store.db        one file, without a log beside it
    graphs/UUID/    older than store.db, or as old, so that they are caught up and not refused
    snapshots/      as they are
    backup.json     what the backup holds, with a checksum of every file; written last

A backup is made aside and renamed when it is whole. Putting it back copies it beside what is there, verifies it, and
then exchanges them, `store.db` last: a kill in between leaves either store, or a folder that refuses to start.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shared.errors import DataLoss, StartError

from .database import begin_run, check, refuse_foreign_log
from .files import checksum, copy_file, make_file, make_folder, move, sync_file, sync_folder
from .snapshots import read_header, seal_of

MANIFEST = "backup.json"
ASIDE = ".restore-backup"  # in a data_dir, while a backup is put back
_PAGES = 2000  # copied at once
_MOVED = ("store.db", "store.db-wal", "store.db-shm", "graphs", "snapshots")  # in this order
_ABOUT = ("sequence", "collections", "created", "bytes")
_TRIES = 5  # for a graph or snapshot that is replaced while it is copied


@dataclass(frozen=True)
class Backup:
    """`sequence` of the store; `created` in seconds of Unix time; `bytes` of all files; `left_out`: damaged snapshots,
    as sentences; `replaced`: where what was there before is now."""

    sequence: int
    collections: int
    created: int
    bytes: int
    left_out: tuple[str, ...] = ()
    replaced: Path | None = None


def make(data_dir: Path, to: Path) -> Backup:
    """Backs up the store to the new folder `to`, while the plugin runs or not. Raises StartError."""
    store = data_dir / "store.db"
    if not store.is_file():
        raise StartError(f"{data_dir} holds no store.db; name the plugin's data_dir")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise StartError(f"{to} is there already; name a folder that is not")
    aside = to.with_name(f".{to.name}.partial")
    with _disk_errors(to), _read_errors(store):
        _refuse_foreign_log_at_rest(data_dir)
        make_folder(to.absolute().parent)
        try:
            aside.mkdir(0o700)
        except FileExistsError:
            raise StartError(
                f"{aside} is of a backup that is under way or was cut off; wait for it, or remove it"
            ) from None
        try:
            with closing(_opened(store)) as source:
                ((uuid,),) = source.execute("SELECT value FROM store WHERE key = 'uuid'").fetchall()
                # Before the store: a graph with writes that the store has not would be refused.
                _copy_graphs(data_dir / "graphs" / uuid, aside / "graphs" / uuid)
                left_out = _copy_snapshots(data_dir / "snapshots", aside / "snapshots")
                sequence, collections = _copy_store(source, aside / "store.db")
            files = _files(aside)
            made = Backup(sequence, collections, int(time.time()), sum(file["size"] for file in files.values()))
            about = {field: value for field, value in asdict(made).items() if field in _ABOUT}
            _write_manifest(aside, {"format": 1, "store": uuid, "files": files} | about)
            move(aside, to)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return replace(made, left_out=tuple(left_out))


def put_back(data_dir: Path, backup: Path, *, instead: bool = False) -> Backup:
    """Puts a backup into data_dir; with `instead`, in the place of the store there, which is moved aside.

    Raises StartError, and then nothing was changed: where the backup is damaged, the plugin runs, or there is a store
    and `instead` is not set.
    """
    manifest = _read_manifest(backup)
    with _disk_errors(data_dir):
        make_folder(data_dir)
        try:
            with FileLock(data_dir / "lock", timeout=0, mode=0o600):
                if (data_dir / "store.db").exists() and not instead:
                    raise StartError(
                        f"{data_dir} holds a store; name another folder, or have it replaced (--replace), "
                        "which moves it aside and deletes nothing"
                    )
                aside = data_dir / ASIDE
                if aside.exists():  # of one that was cut off
                    shutil.rmtree(aside)
                try:
                    _copy_verified(backup, manifest["files"], aside)
                    _give_to_owner(data_dir, [data_dir / "lock", aside, *aside.rglob("*")])
                except BaseException:
                    shutil.rmtree(aside, ignore_errors=True)
                    raise
                replaced = _move_aside(data_dir)
                for name in reversed(_MOVED):
                    if (aside / name).exists():
                        move(aside / name, data_dir / name)
                aside.rmdir()
        except Timeout:
            raise StartError(f"{data_dir} is in use; stop the plugin first") from None
    return replace(_about(manifest), replaced=replaced)


def verify_backup(backup: Path) -> Iterator[str]:
    """As `verify.verify`, of a backup: whether each file is what was backed up."""
    for name, wanted in sorted(_read_manifest(backup)["files"].items()):
        try:
            sound = checksum(backup / name) == wanted["sha256"]
        except OSError as error:
            yield f"damaged  {name}: {error.strerror}"
            continue
        yield f"sound    {name}" if sound else f"damaged  {name}: it is not what was backed up"


# ---------------------------------------------------------------- making one


def _copy_store(source: sqlite3.Connection, to: Path) -> tuple[int, int]:
    """All of the store as it is now, in one file; its sequence, and how many collections. Raises StartError."""
    make_file(to)
    with closing(sqlite3.connect(to, isolation_level=None)) as copy:
        source.execute("BEGIN")  # so that all parts are of one moment, however much is written meanwhile
        ((sequence,),) = source.execute("SELECT value FROM store WHERE key = 'sequence'").fetchall()
        ((collections,),) = source.execute("SELECT count(*) FROM collections").fetchall()
        source.backup(copy, pages=_PAGES, sleep=0)
        source.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        check(copy)
        # A log that is found beside it when it was put back is of another run.
        with copy:
            copy.execute("BEGIN")
            begin_run(copy, {})
    sync_file(to)
    return int(sequence), int(collections)


def _copy_graphs(folder: Path, to: Path) -> None:
    """Graphs can be made anew, so one that is replaced again and again meanwhile is left out."""
    for header in folder.glob("*.json"):
        for _ in range(_TRIES):
            with suppress(FileNotFoundError, ValueError, KeyError):
                content = header.read_bytes()
                name = Path(json.loads(content)["file"]).name
                make_folder(to)
                copy_file(header.with_name(name), to / name)
                make_file(to / header.name)
                (to / header.name).write_bytes(content)
                sync_file(to / header.name)
                break


def _copy_snapshots(folder: Path, to: Path) -> list[str]:
    """What was left out, because it is damaged."""
    left_out = []
    for header in folder.glob("[!.]*/*.json"):
        for _ in range(_TRIES):
            wrong = _copy_snapshot(header, to / header.parent.name)
            if wrong and not header.exists():  # it was deleted meanwhile
                wrong = ""
            if not wrong:
                break
        if wrong:
            left_out.append(wrong)
    return left_out


def _copy_snapshot(header: Path, to: Path) -> str:
    """What is wrong with it; "" where it was copied."""
    name = header.with_suffix(".db").name
    try:
        about = read_header(header)
        make_folder(to)
        sound = copy_file(header.with_suffix(".db"), to / name) == about["sha256"]
        if sound:
            copy_file(header, to / header.name)
            if read_header(to / header.name) == about:
                return ""
            (to / header.name).unlink()
    except (DataLoss, FileNotFoundError, KeyError):
        sound = False
    (to / name).unlink(missing_ok=True)
    return f"snapshot {header.stem} in {header.parent.name} is damaged"


def _refuse_foreign_log_at_rest(data_dir: Path) -> None:
    """A plugin that runs has seen to it when it started."""
    if (data_dir / "lock").exists():
        with suppress(Timeout), FileLock(data_dir / "lock", timeout=0, mode=0o600):
            refuse_foreign_log(data_dir / "store.db")
    else:
        refuse_foreign_log(data_dir / "store.db")


def _opened(store: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{store.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30)


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """By path: size and checksum. Their names are durable then."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            size = path.stat().st_size
            files[path.relative_to(folder).as_posix()] = {"size": size, "sha256": checksum(path)}
    return files


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    make_file(folder / MANIFEST)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"seal": seal_of(manifest)}, indent=1), encoding="utf-8")
    sync_file(folder / MANIFEST)
    sync_folder(folder)


# ---------------------------------------------------------------- putting it back


def _read_manifest(backup: Path) -> dict[str, Any]:
    """Raises StartError."""
    if not (backup / MANIFEST).is_file():
        raise StartError(f"{backup} is not a backup: it has no {MANIFEST}; name a folder that `backup` made")
    try:
        manifest = read_header(backup / MANIFEST)
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in manifest["files"]):
            raise KeyError
        if manifest["format"] != 1:
            raise StartError(f"{backup} is a backup of a later version; put it back with that version")
    except (DataLoss, KeyError):
        raise StartError(f"{backup / MANIFEST} is damaged; take another backup") from None
    return manifest


def _copy_verified(backup: Path, files: dict[str, dict[str, Any]], aside: Path) -> None:
    make_folder(aside)
    for name, wanted in files.items():
        make_folder((aside / name).parent)
        try:
            sha256 = copy_file(backup / name, aside / name)
        except FileNotFoundError:
            sha256 = ""
        if sha256 != wanted["sha256"]:
            raise StartError(
                f"{backup / name} is {'damaged' if sha256 else 'missing'}; take another backup (nothing was changed)"
            )
    for path in [aside, *aside.rglob("*")]:
        if path.is_dir():
            sync_folder(path)


def _give_to_owner(data_dir: Path, paths: Iterable[Path]) -> None:
    """What root has put there belongs to whom the folder belongs to."""
    if os.name == "posix" and os.geteuid() == 0:
        owner = data_dir.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def _move_aside(data_dir: Path) -> Path | None:
    """What is of a store, into a folder of its own; None where there is nothing."""
    there = [name for name in _MOVED if (data_dir / name).exists()]
    if not there:
        return None
    name = time.strftime("replaced-%Y%m%d-%H%M%S")
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    replaced = next(data_dir / name for name in names if not (data_dir / name).exists())
    make_folder(replaced)
    for name in there:
        move(data_dir / name, replaced / name)
    return replaced


def _about(manifest: dict[str, Any]) -> Backup:
    return Backup(*(manifest[field] for field in _ABOUT))


# ---------------------------------------------------------------- errors


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(f"cannot write {folder}: {error.strerror}") from None


@contextmanager
def _read_errors(store: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StartError(f"{store} cannot be backed up: {error}") from None
