"""Whether the write-ahead log beside a store's file is of that file.

SQLite replays any log that it finds beside a file. Where a backup was put back and the log of the file that it
replaced was left, that undoes the backup without a word, or mixes pages of both. So the table `store` says in every
commit which run of the plugin wrote it (`run`, and `run_before`), how many commits there were (`commits`), and the
file's own number for its tables (`schema`), which SQLite gives a copy anew. Before SQLite opens the file, that is
compared with what the log's first frames would make of it.
"""

from __future__ import annotations

import sqlite3
import struct
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

# https://www.sqlite.org/walformat.html
_HEADER = struct.Struct(">8xI4x8s8x")  # page size, salts
_FRAME = struct.Struct(">I4x8s8x")  # page, salts
_INDEX_SALTS, _ATTEMPTED, _INDEX_SIZE = slice(32, 40), slice(128, 132), 136
Rows = dict[str, str]


def new_run() -> str:
    """Of no other run, and of this boot of the machine."""
    return f"{uuid.uuid4()} {_boot()}"


def is_foreign(file: Path) -> bool:
    """Whether the log beside the file was written for another file, or for a later state of this one.

    To be asked while nobody uses the file. False where it cannot be told.
    """
    log, index = (file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))
    try:
        root, schema, there = _in_file(file)
        with log.open("rb") as frames:
            page_size, salts = _HEADER.unpack(frames.read(_HEADER.size))
            positions = list(_positions(frames, page_size, salts, root))
            if not positions:
                return False
            first = _in_page(frames, positions[0][1], page_size)
            if not {"uuid", "sequence"} <= first.keys():  # half of a frame, as a power cut leaves it
                return False
            if there["uuid"] != first["uuid"] or _is_another(there, schema, first):
                return True
            folded = _frames_folded_in(index, salts, first)
            if folded is None:
                return False
            known = [at for number, at in positions if number <= folded]
            latest = _commits(_in_page(frames, known[-1], page_size)) if known else _commits(first) - 1
            return _commits(there) > latest
    except (OSError, sqlite3.DatabaseError, struct.error, KeyError, ValueError):
        return False


def _is_another(there: Rows, schema: str, first: Rows) -> bool:
    """Whether commits are missing between the file and the log, they are of different runs, or the file is a copy."""
    missing = _commits(first) - _commits(there) - 1
    run = there.get("run", "")
    if run == first.get("run", ""):
        return missing > 0 or there.get("schema", schema) != schema
    # The first commit of a run says what was before.
    return missing != 0 or run != first.get("run_before", "")


def _in_file(file: Path) -> tuple[int, str, Rows]:
    """The page that holds the table `store`, the number for all tables, and the rows of it, without the log."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'store'").fetchall()
        ((schema,),) = connection.execute("PRAGMA schema_version").fetchall()
        return root, str(schema), dict(connection.execute("SELECT key, value FROM store").fetchall())


def _positions(frames: IO[bytes], page_size: int, salts: bytes, wanted: int) -> Iterator[tuple[int, int]]:
    """The number, from 1, of each frame with the wanted page, and where in the log that page stands."""
    number, at = 1, _HEADER.size
    while len(head := frames.read(_FRAME.size)) == _FRAME.size:
        page, of = _FRAME.unpack(head)
        if of != salts:  # it is of the log before, which this one has begun to overwrite
            return
        if page == wanted:
            yield number, at + _FRAME.size
        number, at = number + 1, at + _FRAME.size + page_size
        frames.seek(at)


def _in_page(frames: IO[bytes], at: int, page_size: int) -> Rows:
    """The rows in a page of the table `store`, which is small enough for one."""
    frames.seek(at)
    page = frames.read(page_size)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        scratch.execute(f"PRAGMA page_size = {page_size}")
        scratch.execute("CREATE TABLE store (key TEXT, value TEXT)")
        scratch.deserialize(scratch.serialize()[:page_size] + page)
        try:
            return dict(scratch.execute("SELECT key, value FROM store").fetchall())
        except sqlite3.DatabaseError:
            return {}


def _frames_folded_in(index: Path, salts: bytes, first: Rows) -> int | None:
    """How many frames of the log may be in the file already; None where nobody knows.

    SQLite keeps that in the log's index, in shared memory: true after a kill, but not once the machine was down.
    """
    boot = first.get("run", "").partition(" ")[2]
    if not boot or boot != _boot():
        return None
    content = index.read_bytes()[:_INDEX_SIZE] if index.exists() else b""
    if len(content) < _INDEX_SIZE or content[_INDEX_SALTS] != salts or content[:48] != content[48:96]:
        return None
    return int(struct.unpack("=I", content[_ATTEMPTED])[0])


def _commits(rows: Rows) -> int:
    return int(rows.get("commits", 0))


def _boot() -> str:
    """Which start of the machine this is; "" where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
