"""Has hnswlib write a file without the whole process waiting for the disk.

hnswlib 0.8 holds the interpreter lock for as long as it writes. A disk that others keep busy can take half a second
over a small file, and health and every call wait with it. So hnswlib writes to memory, and from there the kernel copies
to the disk while Python goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

# A larger file is written straight to the disk: a second copy in memory could be the one that is too many.
MOST_IN_MEMORY = 256 * 2**20
_PIECE = 2**24


def save(write: Callable[[str], None], path: str, size: int) -> None:
    """`write(path)`, for a file of about `size` bytes that exists already. Raises OSError."""
    if size > MOST_IN_MEMORY or not hasattr(os, "memfd_create"):
        write(path)
        return
    with _closing(os.memfd_create("graph")) as memory, _closing(os.open(path, os.O_WRONLY | os.O_TRUNC)) as file:
        write(f"/proc/self/fd/{memory}")
        offset, end = 0, os.fstat(memory).st_size
        while offset < end:
            offset += os.sendfile(file, memory, offset, min(_PIECE, end - offset))


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
