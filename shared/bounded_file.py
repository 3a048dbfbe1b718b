"""Reading a file that somebody named in the settings: neither an endless one nor a silent pipe holds a start up."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

_LONGEST_WAIT = 30.0  # seconds for all of a pipe


def read_bounded(path: Path, at_most: int, *, only_files: bool = False) -> bytes:
    """All of a file of `at_most` bytes, or, unless `only_files`, of a pipe such as a shell's `<(…)`.

    Raises OSError, whose `strerror` says what is wrong, also where it is too large or silent for too long.
    """
    # Without O_NONBLOCK opening a FIFO waits for somebody who writes.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with open(descriptor, "rb", buffering=0) as file:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if only_files and not is_file:
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = bytearray()
        until = time.monotonic() + _LONGEST_WAIT
        while len(content) <= at_most:
            if not is_file and not select.select([file], [], [], max(0.0, until - time.monotonic()))[0]:
                raise OSError(errno.ETIMEDOUT, f"its end did not come within {_LONGEST_WAIT:g} s")
            data = file.read(at_most + 1)
            if not data:
                return bytes(content)
            content += data
    raise OSError(errno.EFBIG, f"it has more than {at_most // 2**10} KiB")
