"""The list of what a collection holds, kept true whatever befalls list or collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host import config
from host.clients import Collection, Embedder
from host.connect import CallFailed
from host.manifest import Manifest, Settings
from shared.errors import Code, StartError


def resolved(folder: Path) -> Path:
    root = folder.resolve()
    try:
        str(root).encode("utf-8")
    except UnicodeEncodeError:
        raise StartError(f"the name of folder {folder} is not UTF-8; rename it") from None
    return root


def manifest_of(database: config.Database, embedder: Embedder, collection: Collection, state: Path) -> Manifest:
    settings = Settings(
        database.plugin.name, embedder.model, embedder.dimension, database.chunk_chars, database.chunk_overlap
    )
    return Manifest(state / f"index-{collection.name}.json", settings)


@contextmanager
def watched(collection: Collection, manifest: Manifest) -> Iterator[int]:
    """Within, the list is true of the collection, for which so many chunks were deleted; at the end both are noted."""
    before = collection.state()
    removed = 0
    if before is None or before != manifest.store:
        removed = _believe_the_store(collection, manifest)
    manifest.store = None
    yield removed
    after = collection.state()
    if after and after[1] == (collection.written_at or (before or (0, 0))[1]):  # nobody else has written
        manifest.store = after
    manifest.save()


def _believe_the_store(collection: Collection, manifest: Manifest) -> int:
    """Somebody else has written into the collection, or a copy was put back: what is there counts, not the list.

    A file whose chunks are not all there, as of its hash, is embedded again; a chunk of no known file is deleted.
    Returns how many those were.
    """
    try:
        there = {key: str(about.get("sha256", "")) for key, about in collection.stored()}
    except CallFailed as error:
        if error.code == Code.UNIMPLEMENTED:
            return 0
        raise
    return collection.delete(manifest.compare(there))


def create(collection: Collection, dimension: int, manifest: Manifest) -> None:
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
