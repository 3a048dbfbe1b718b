"""The list of what a collection holds, compared with the collection where somebody else may have written into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host import config
from host.clients import Collection, Embedder
from host.connect import CallFailed
from host.log_files import file_name
from host.manifest import Manifest, Settings
from shared.errors import Code, StartError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def resolved(folder: Path) -> Path:
    root = folder.resolve()
    try:
        str(root).encode("utf-8")
    except UnicodeEncodeError:
        raise StartError(f"the name of folder {folder} is not UTF-8; rename it") from None
    return root


@contextmanager
def reconciled(
    database: config.Database, embedder: Embedder, collection: Collection, state: Path, root: Path | None
) -> Iterator[tuple[Manifest, int]]:
    """Within, the list is true of the collection, for which so many chunks were deleted, and no other run changes it.

    With `root` the collection is made where it is missing, and the list has that folder. Raises StartError.
    """
    path = state / f"index-{file_name(database.plugin.name)}-{collection.name}.json"
    settings = Settings(embedder.model, embedder.dimension, database.chunk_chars, database.chunk_overlap)
    with _locked(path.with_suffix(".lock"), collection):
        manifest = Manifest(path, settings)
        if root:
            _create(collection, embedder.dimension, manifest)
            manifest.of(root)
        before = collection.state()
        removed = 0
        if before is None or before != manifest.store:
            removed = _believe_the_store(collection, manifest)
        manifest.store = None
        yield manifest, removed
        manifest.store = collection.state_if_alone(before)
        manifest.save()


@contextmanager
def _locked(path: Path, collection: Collection) -> Iterator[None]:
    """The kernel takes the lock back however the run ends. On Windows there is none."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StartError(f"another `index` is at work on collection {collection.name}; wait until it is done") from None
    finally:
        os.close(lock)


def _create(collection: Collection, dimension: int, manifest: Manifest) -> None:
    """Makes the collection where it is missing, and then forgets what an earlier one of this name held."""
    if manifest.whole:
        # Should this run die before it knows whether the collection is new, the next trusts no hash.
        manifest.save(whole=False)
    try:
        created = collection.create(dimension)
    except CallFailed as error:
        if manifest.whole and error.answered:
            manifest.save()
        raise
    if created:
        manifest.clear()
    manifest.save()


def _believe_the_store(collection: Collection, manifest: Manifest) -> int:
    """Somebody else has written into the collection, or a copy was put back: what is there counts, not the list.

    Returns how many chunks were deleted that no file can have.
    """
    try:
        stored = {key: manifest.hash_of(metadata) for key, metadata in collection.stored()}
    except CallFailed as error:
        if error.code == Code.UNIMPLEMENTED:
            return 0
        raise
    return collection.delete(manifest.compare(stored))
