"""Takes out of a collection what belongs to files and folders that are not there any more."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from host import config
from host.clients import Collection, Embedder
from host.connect import CallFailed
from host.manifest import Manifest, chunk_ids
from host.moved import forget, is_gone
from host.reconcile import reconciled, resolved
from shared.errors import Code


@dataclass
class Pruned:
    """Passages, by folder."""

    of_folders: Counter[str] = field(default_factory=Counter)  # removed: the folder is gone
    of_files: Counter[str] = field(default_factory=Counter)  # removed: files of the folder are gone
    unknown: Counter[str] = field(default_factory=Counter)  # left: not indexed from here, and not to be found here


def prune(
    folder: Path | None, database: config.Database, embedder: Embedder, collection: Collection, state: Path
) -> Pruned:
    """Of the folders that are in the list, and of `folder` whether or not it is. Raises StartError.

    A folder that the list does not have may be another machine's, and is left.
    """
    with reconciled(database, embedder, collection, state, None) as (manifest, _):
        return _pruned(manifest, collection, str(resolved(folder)) if folder else "")


def _pruned(manifest: Manifest, collection: Collection, named: str) -> Pruned:
    pruned = Pruned()
    for root, files in list(manifest.roots.items()):
        if is_gone(root):
            pruned.of_folders[root] += forget(manifest, collection, root)
            continue
        gone = [path for path in files if not os.path.lexists(Path(root, path))]
        pruned.of_files[root] += collection.delete([key for path in gone for key in chunk_ids(root, path, files[path])])
        for path in gone:
            del files[path]
        manifest.save()
    for root, ids in _strangers(manifest, collection).items():
        if root == named:
            pruned.of_folders[root] += collection.delete(ids)
        else:
            pruned.unknown[root] += len(ids)
    return pruned


def _strangers(manifest: Manifest, collection: Collection) -> dict[str, list[str]]:
    """What the store has of folders that are neither in the list nor here: ids by folder."""
    ids: dict[str, list[str]] = {}
    try:
        for key, about in collection.stored():
            root = str(about.get("root", ""))
            if root and root not in manifest.roots and is_gone(root):
                ids.setdefault(root, []).append(key)
    except CallFailed as error:
        if error.code != Code.UNIMPLEMENTED:
            raise
    return ids
