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
    try:
        root, schema, there = _in_file(file)
        with file.with_name(file.name + "-wal").open("rb") as frames:
            log = _Log(frames, root)
            if not log.positions or not {"uuid", "sequence"} <= log.rows(0).keys():  # as a power cut leaves it
                return False
            first = log.rows(0)
            if there["uuid"] != first["uuid"]:
                return True
            if _is_of_another_run(there, first):
                # Where somebody read when a run began, its commits stand behind those of the run before.
                its = (index for index in range(len(log.positions)) if log.rows(index).get("run") == there.get("run"))
                first = log.rows(next(its, 0))
                if _is_of_another_run(there, first):
                    return True
            if there.get("run") == first.get("run") and there.get("schema", schema) != schema:
                # A copy; or a kill in the midst of folding in left the one from before, the other from behind.
                return all(log.rows(index).get("schema") != schema for index in range(len(log.positions)))
            folded = _frames_folded_in(file.with_name(file.name + "-shm"), log.salts, first)
            if folded is None:
                return False
            known = [index for index, (number, _) in enumerate(log.positions) if number <= folded]
            return _commits(there) > (_commits(log.rows(known[-1])) if known else _commits(first) - 1)
    except (OSError, sqlite3.DatabaseError, struct.error, KeyError, ValueError):
        return False


def _is_of_another_run(there: Rows, first: Rows) -> bool:
    """Whether the log's first commit cannot come after what is in the file."""
    missing = _commits(first) - _commits(there) - 1
    if there.get("run", "") == first.get("run", ""):
        return missing > 0
    # The first commit of a run says what was before.
    return missing != 0 or there.get("run", "") != first.get("run_before", "")


class _Log:
    """`positions`: of each frame with the page `wanted`, its number, from 1, and where the page stands."""

    def __init__(self, frames: IO[bytes], wanted: int) -> None:
        self._frames = frames
        self._page_size, self.salts = _HEADER.unpack(frames.read(_HEADER.size))
        self.positions: list[tuple[int, int]] = []
        number, at = 1, _HEADER.size
        while len(head := frames.read(_FRAME.size)) == _FRAME.size:
            page, salts = _FRAME.unpack(head)
            if salts != self.salts:  # it is of the log before, which this one has begun to overwrite
                return
            if page == wanted:
                self.positions.append((number, at + _FRAME.size))
            number, at = number + 1, at + _FRAME.size + self._page_size
            frames.seek(at)

    def rows(self, index: int) -> Rows:
        """What the table `store` holds in that frame; it is small enough for one page."""
        self._frames.seek(self.positions[index][1])
        page = self._frames.read(self._page_size)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
            scratch.execute(f"PRAGMA page_size = {self._page_size}")
            scratch.execute("CREATE TABLE store (key TEXT, value TEXT)")
            scratch.deserialize(scratch.serialize()[: self._page_size] + page)
            try:
                return dict(scratch.execute("SELECT key, value FROM store").fetchall())
            except sqlite3.DatabaseError:
                return {}


def _in_file(file: Path) -> tuple[int, str, Rows]:
    """The page that holds the table `store`, the number for all tables, and the rows of it, without the log."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'store'").fetchall()
        ((schema,),) = connection.execute("PRAGMA schema_version").fetchall()
        return root, str(schema), dict(connection.execute("SELECT key, value FROM store").fetchall())


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
