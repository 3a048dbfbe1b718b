"""Files and folders that only their owner may read, whatever the umask; and names in folders made durable."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_FILE, _FOLDER = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Makes it, and every missing one above it, durably. One that is there is left as it is."""
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        try:
            folder.mkdir(mode=_FOLDER)
        except FileExistsError:
            if not folder.is_dir():
                raise
            return
        folder.chmod(_FOLDER)  # `mkdir` heeds the umask
        sync_folder(folder.parent)


def make_file(path: Path) -> None:
    """Makes an empty file for others to fill. Raises FileExistsError where there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE)
    os.close(handle)
    path.chmod(_FILE)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable, as a file's own sync does not."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(file: Path) -> str:
    """SHA-256, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def copy_file(source: Path, to: Path) -> str:
    """A copy in a new file, durable but for its name; and the checksum of what was read. Raises FileExistsError."""
    digest = hashlib.sha256()
    with source.open("rb") as content:
        make_file(to)
        with to.open("wb") as copy:
            while block := content.read(2**20):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
    return digest.hexdigest()


def move(path: Path, to: Path) -> None:
    """Durably, within one file system."""
    path.replace(to)
    for parent in {path.parent, to.parent}:
        sync_folder(parent)
