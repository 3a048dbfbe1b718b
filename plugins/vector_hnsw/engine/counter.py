"""Whether a store has moved since one looked, for processes that read beside the one that writes; in 3 µs.

SQLite keeps the head of its write-ahead log's index in a file that all connections share as memory (`store.db-shm`,
https://www.sqlite.org/walformat.html#walidxfmt). A commit becomes visible in the moment in which that head changes, and
is acknowledged after that. It holds how many frames of the log count and a checksum over all of them. So as long as it
is the same, the store is; whoever is killed in the midst of a commit, there is no moment in which the two differ; and
the writer has nothing to do for it. `PRAGMA data_version` says the same from the same bytes, in 4.8 µs where this takes
0.1; the rest goes into a look at the file's name.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

AWAY = b""  # what `look` returns where another store has taken the place of this one, or none
_HEAD = 96  # bytes: twice the same 48, the second written first

# A process that closes a file loses all its locks on it, those of SQLite too. So these are never closed; there is one
# for each time that the store was opened, at the start and after each backup that was put back.
_open: list[tuple[int, mmap.mmap]] = []


class Counter:
    def __init__(self, store: Path) -> None:
        """To be made while a connection that has read is open, and to be let go of before it is closed: a file that
        nobody uses may be cut off, and looking at it would end the process. Raises OSError."""
        self._path = f"{store}-shm"
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._shared = mmap.mmap(file, _HEAD, access=mmap.ACCESS_READ)
        _open.append((file, self._shared))
        about = os.fstat(file)
        self._file = about.st_dev, about.st_ino
        self._closed = False

    def look(self) -> bytes:
        """Equal as long as nothing was committed; AWAY where this store is not in its place any more."""
        try:
            there = os.stat(self._path)
        except OSError:
            return AWAY
        if self._closed or (there.st_dev, there.st_ino) != self._file:
            return AWAY
        return self._shared[:_HEAD]

    def close(self) -> None:
        """From here on it is AWAY."""
        self._closed = True
