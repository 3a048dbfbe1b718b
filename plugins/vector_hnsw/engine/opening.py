"""How a collection gets its labels and its graph: loaded and caught up, or built from the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from shared.errors import StartError

from .backup import ASIDE, MANIFEST
from .cache import GraphCache
from .flat import Flat, index_for
from .graph import Graph
from .labels import Labels
from .store import Collection, Store

_log = logging.getLogger("hector")

# Past this share of nodes that were deleted or moved a graph is built anew, or given up where few vectors are left.
_MOST_WEAR = 0.3


def refuse_wrong_folder(data_dir: Path) -> None:
    """Raises StartError where the folder is a backup, or holds what is left of a store, but not the store."""
    if (data_dir / MANIFEST).exists():
        raise StartError(
            f"{data_dir} is a backup, which using it would spoil: "
            "put it into a folder of its own with `admin restore-backup`"
        )
    if (data_dir / "store.db").exists():
        return
    if (data_dir / ASIDE).exists():
        raise StartError(f"{data_dir} is where a restore-backup was cut off: run it again")
    patterns = ("graphs/*/*.hnsw", "graphs/*.hnsw", "snapshots/*/*.db")
    if any(path.is_file() for pattern in patterns for path in data_dir.glob(pattern)):
        raise StartError(
            f"{data_dir} has graphs or snapshots, but store.db, which they are of, is missing: put it back from a "
            "backup, or move graphs and snapshots away to start empty"
        )


def open_graph(store: Store, cache: GraphCache, spec: Collection, threads: int) -> tuple[Labels, Flat | Graph, int]:
    """The labels, the graph, and how many of its labels the file on disk has not got.

    A graph that was saved before the index parameters were changed still has the earlier ones.
    """
    labels = Labels(store.counters(spec.number)[0])
    for block in store.all_labels(spec.number):
        labels.load(block)
    saved = load_saved(store, cache, spec, labels.versions, threads)
    if saved is not None:
        return labels, *saved
    graph = build(store, spec, labels.versions, threads)
    return labels, graph, graph.count if isinstance(graph, Graph) else 0


def load_saved(
    store: Store, cache: GraphCache, spec: Collection, versions: Mapping[int, int], threads: int
) -> tuple[Graph, int] | None:
    """The graph on disk, caught up, and how many labels it had not got; None where one is to be built."""
    saved = cache.as_saved(spec)
    graph = index_for(saved, len(versions), threads)
    if isinstance(graph, Flat):
        cache.remove(spec.number)
        return None
    loaded = cache.load(graph, saved, store.sequence)
    if loaded is None:
        return None
    saved_at, in_file = loaded
    there = set(in_file.tolist())
    graph.adopt(in_file, {label: version for label, version in versions.items() if label in there})
    missing = [label for label, version in versions.items() if version > saved_at or label not in there]
    bring_up(graph, store, spec, missing, versions)
    if not is_worn(graph):
        return graph, len(missing)
    _log.info("event=graph_rebuilt collection=%s cause=wear", spec.name)
    return None


def is_worn(graph: Flat | Graph) -> bool:
    """Whether so much was deleted and moved that recall or speed suffers."""
    return graph.wear > _MOST_WEAR


def build(
    store: Store,
    spec: Collection,
    versions: Mapping[int, int],
    threads: int,
    watch: Callable[[int], None] = lambda count: None,
) -> Flat | Graph:
    """A graph of every label there is, from the store. `watch` is told now and then how many it has."""
    graph = index_for(spec, len(versions), threads)
    done: set[int] = set()
    for rows, vectors in store.scan(spec):
        part: dict[int, int] = {}  # label → index of the row that brings its vector
        for index, (_, label, version, _, _) in enumerate(rows):
            if label not in done and versions.get(label) == version:
                part.setdefault(label, index)
        done.update(part)
        indexes = list(part.values())
        graph.reserve(len(part))
        graph.put(list(part), vectors[indexes], [rows[index][2] for index in indexes])
        watch(graph.count)
    return graph


def bring_up(
    graph: Flat | Graph, store: Store, spec: Collection, labels: Iterable[int], versions: Mapping[int, int]
) -> None:
    """Gives the graph these labels' vectors as the store has them."""
    wanted = list(labels)
    graph.reserve(len(wanted))
    for start in range(0, len(wanted), 1000):
        part = wanted[start : start + 1000]
        row_of = store.first_rows(spec.number, part)
        vectors = store.vectors(spec.number, list(row_of.values()))
        there = [label for label in part if row_of.get(label) in vectors]
        if there:
            matrix = np.stack([vectors[row_of[label]] for label in there])
            graph.put(there, matrix, [versions[label] for label in there])
