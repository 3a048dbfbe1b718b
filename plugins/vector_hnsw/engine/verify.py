"""Reads everything that is stored, while no plugin uses it, and says what is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from shared.errors import DataLoss, PluginError, StartError

from .backup import MANIFEST, verify_backup
from .cache import GraphCache
from .graph import Graph
from .snapshots import Snapshots
from .store import Collection, Store


def verify(data_dir: Path) -> Iterator[str]:
    """A line for each thing that was read, which begins with "sound" or "damaged"; of a backup, one for each file.

    Raises StartError.
    """
    if (data_dir / MANIFEST).is_file():
        yield from verify_backup(data_dir)
        return
    if not (data_dir / "store.db").is_file():
        raise StartError(f"{data_dir} holds no store.db; name the plugin's data_dir")
    try:
        with FileLock(data_dir / "lock", timeout=0, mode=0o600):
            store = Store(data_dir / "store.db")
            try:
                yield "sound    store.db, as SQLite sees it"
                for spec in store.collections():
                    yield _verify_collection(store, spec)
                    yield _verify_graph(store, data_dir, spec)
                yield from _verify_snapshots(store, data_dir)
            finally:
                store.close()
    except Timeout:
        raise StartError(f"{data_dir} is in use; stop the plugin first") from None


def _verify_collection(store: Store, spec: Collection) -> str:
    count = 0
    try:
        for block, vectors in store.scan(spec):
            rows = [row for row, *_ in block]
            store.vectors(spec.number, rows)
            for _, _, metadata in store.at_rows(spec.number, rows).values():
                json.loads(metadata)
            count += len(vectors)
    except (PluginError, ValueError) as error:
        return f"damaged  collection {spec.name}: {error}"
    return f"sound    collection {spec.name}: {count:,} vectors"


def _verify_graph(store: Store, data_dir: Path, spec: Collection) -> str:
    cache = GraphCache(data_dir / "graphs", store.database.uuid)
    if not cache.has(spec):
        return f"sound    graph of {spec.name}: not saved, it will be built"
    spec = cache.as_saved(spec)
    cause = cache.why_not(spec, store.sequence)
    if cause:
        return f"damaged  graph of {spec.name}: {cause}; it will be built anew at the next start"
    loaded = cache.load(Graph(spec.metric, spec.dimension, spec.m, spec.ef_construction, 1), spec, store.sequence)
    assert loaded is not None
    return f"sound    graph of {spec.name}: {len(loaded[1]):,} nodes"


def _verify_snapshots(store: Store, data_dir: Path) -> Iterator[str]:
    snapshots = Snapshots(data_dir / "snapshots", store.database.uuid)
    for header in snapshots.headers():
        if isinstance(header, DataLoss):
            yield f"damaged  {header}"
            continue
        try:
            with snapshots.opened(header.collection, header.name):
                yield f"sound    snapshot {header.name} of {header.collection}"
        except PluginError as error:
            yield f"damaged  {error}"
