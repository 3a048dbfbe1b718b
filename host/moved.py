"""A folder that was moved or renamed: its passages are taken along, and nothing of the old place is left.

Vectors are copied, not made again: what was embedded names a file by its path below the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from host.clients import Collection
from host.connect import CallFailed
from host.manifest import Entry, Manifest, chunk_id, chunk_ids
from shared.errors import Code

_COPIED_AT_ONCE = 32  # as many as are embedded at once


def is_gone(root: str) -> bool:
    """Whether there is no such folder any more, or a link in its place."""
    path = Path(root)
    try:
        return path.resolve() != path or not path.is_dir()
    except (OSError, RuntimeError):
        return True


def moved_from(manifest: Manifest, root: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    """The folders that are gone and at least half of whose files stand below `root`, as of `hashes` by their paths."""
    by_hash: dict[str, set[str]] = {}
    for path, sha256 in hashes.items():
        by_hash.setdefault(sha256, set()).add(path)
    for old, files in list(manifest.roots.items()):
        if old == str(root) or not files or not is_gone(old):
            continue
        here = sum(_stands_in(by_hash.get(entry.sha256, set()), path) for path, entry in files.items())
        if 2 * here >= len(files):
            yield old


def doubled(manifest: Manifest, root: Path) -> Iterator[tuple[str, str]]:
    """Pairs of folders, one of them `root`, of which the outer has the inner's files too: (outer, inner below it)."""
    for other in manifest.roots:
        for outer, inner in ((Path(other), root), (root, Path(other))):
            if outer in inner.parents and manifest.roots.get(str(inner)):
                below = inner.relative_to(outer).as_posix()
                if any(path.startswith(f"{below}/") for path in manifest.roots[str(outer)]):
                    yield str(outer), below


def _stands_in(paths: set[str], path: str) -> bool:
    """Whether one of `paths` is `path`, or the one as seen from a folder above or below the other's."""
    some = islice(paths, 100)  # thousands of files can be the same
    return path in paths or any(f"/{other}".endswith(f"/{path}") or f"/{path}".endswith(f"/{other}") for other in some)


def take_along(manifest: Manifest, collection: Collection, old: str, root: Path, hashes: Mapping[str, str]) -> int:
    """Copies what is the same below `root`, then deletes all of `old`. Returns how many passages were copied.

    As everywhere, every id is in the list before it is in the collection. What cannot be copied has no hash in the
    list, and is embedded.
    """
    files, before = manifest.of(root), manifest.roots[old]
    same = {
        path: entry
        for path, entry in before.items()
        if entry.sha256 and hashes.get(path) == entry.sha256 and (path not in files or files[path].sha256 == "")
    }
    for path, entry in same.items():
        files[path] = Entry("", max(entry.chunks, files[path].chunks if path in files else 0))
    manifest.save()
    copied = 0
    try:
        missing = _copy(manifest, collection, old, root, same)
        for path, entry in same.items():
            if path not in missing:
                copied += entry.chunks
                if files[path].chunks == entry.chunks:
                    files[path] = entry
    except CallFailed as error:
        if error.code != Code.UNIMPLEMENTED:
            raise
    manifest.save()
    forget(manifest, collection, old)
    return copied


def forget(manifest: Manifest, collection: Collection, root: str) -> int:
    """Deletes all of a folder; how many passages there were."""
    files = manifest.roots[root]
    deleted = collection.delete([key for path, entry in files.items() for key in chunk_ids(root, path, entry)])
    del manifest.roots[root]
    manifest.save()
    return deleted


def _copy(manifest: Manifest, collection: Collection, old: str, root: Path, files: Mapping[str, Entry]) -> set[str]:
    """Returns those of `files` of which not everything was there to be copied."""
    missing: set[str] = set()
    chunks = iter([(path, entry, number) for path, entry in files.items() for number in range(entry.chunks)])
    while batch := list(islice(chunks, _COPIED_AT_ONCE)):
        stored = collection.get([chunk_id(old, path, number) for path, _, number in batch])
        vectors: dict[str, Sequence[float]] = {}
        metadata: dict[str, Mapping[str, Any]] = {}
        for path, entry, number in batch:
            vector, about = stored.get(chunk_id(old, path, number), ((), {}))
            if manifest.hash_of(about) != entry.sha256:
                missing.add(path)
                continue
            key = chunk_id(root, path, number)
            vectors[key], metadata[key] = vector, {**about, "root": str(root)}
        if vectors:
            collection.upsert(vectors, metadata)
    return missing
