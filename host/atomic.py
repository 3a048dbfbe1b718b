"""The host's own files: written as a whole or not at all, and read only where a plain file of sane size stands."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

from shared.errors import StartError


def write(path: Path, text: str) -> None:
    """`text` into `path`, folder made where missing, readable for this user only. Raises StartError.

    Whoever reads sees the old content or the new. After a crash of the machine, too: the content is on disk before
    the name points to it.
    """
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")  # mode 0600
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read(path: Path, *, at_most: int) -> object:
    """The JSON in `path`. Raises OSError where it is no plain file, ValueError where it has more than `at_most` bytes
    or is no JSON."""
    # Not to wait where it is a pipe that nobody writes to.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a plain file")
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError("larger than anything that was written there")
    try:
        document: object = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document
