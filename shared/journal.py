"""Changes that outlive the process: a file of JSON lines that is read back at the start.

    journal = Journal(folder / "journal.jsonl")
    for change in journal.open(): apply(change)
    journal.append({"delete": "docs"})    # once this returns, a kill or a power cut does not undo it

It only grows. For one thread at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import StartError, StorageFull


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_suffix(".lock"))
        self._size = 0  # bytes of the whole lines

    def open(self) -> Iterator[Any]:
        """What was appended so far, in order. The folder is made where it is missing. Raises StartError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._file = self._path.open("a+b", buffering=0)
            _sync_folder(self._path.parent)  # or a power cut could lose the file itself
        except Timeout:
            raise StartError(f"{self._path.parent} is another plugin's; give each a folder of its own") from None
        except OSError as error:
            raise StartError(f"{self._path.parent} cannot be used: {error.strerror}") from None
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # it was being written when the process was killed, and never acknowledged
                try:
                    change = json.loads(line)
                except ValueError:
                    raise StartError(f"{self._path} is damaged behind byte {self._size}") from None
                self._size += len(line)
                yield change
        self._file.truncate(self._size)

    def append(self, change: Any) -> None:
        """Raises StorageFull where the disk refuses; the journal is then as before."""
        line = json.dumps(change).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError("only a part was written")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._size)
            raise StorageFull("nothing was written, since the disk refused it; make room there") from error
        self._size += len(line)

    def close(self) -> None:
        self._file.close()
        self._lock.release()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
