"""A new graph is built aside, while the old one is searched: when that is worn, or made with other parameters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from . import opening
from .collection import OpenCollection
from .flat import Flat
from .graph import Graph
from .store import Collection, Store

_log = logging.getLogger("hector")


class _Outdated(Exception):
    """The parameters were changed once more."""


def cause_to_rebuild(graph: Flat | Graph, spec: Collection) -> str:
    """What is wrong with the graph; "" for nothing."""
    if isinstance(graph, Graph) and (graph.m, graph.ef_construction) != (spec.m, spec.ef_construction):
        return "parameters"
    return "wear" if opening.is_worn(graph) else ""


def rebuild_aside(
    entry: OpenCollection,
    store: Store,
    threads: int,
    writing: AbstractContextManager[object],
    save: Callable[[OpenCollection], None],
) -> None:
    """Puts a new graph in the place of the collection's, in a thread, while searches and writes go on, and saves it.

    Call it while holding `writing`, the lock that every write holds, and not while `entry.rebuilding`: a rebuild that
    is under way heeds new parameters by itself.
    """
    then = dict(entry.labels.versions)
    entry.rebuilding = True

    def work() -> None:
        try:
            wanted: Mapping[int, int] | None = then
            while wanted is not None:
                wanted = _rebuild(entry, store, threads, writing, save, wanted)
        except Exception as error:
            # The collection was deleted, or the store closed; or there was no memory, and the old graph stays.
            _log.warning("event=graph_not_rebuilt collection=%s cause=%r", entry.spec.name, str(error))
            entry.rebuilding, entry.rebuild_progress = False, 0.0

    threading.Thread(target=work, name="rebuild", daemon=True).start()


def _rebuild(
    entry: OpenCollection,
    store: Store,
    threads: int,
    writing: AbstractContextManager[object],
    save: Callable[[OpenCollection], None],
    versions: Mapping[int, int],
) -> Mapping[int, int] | None:
    """None when it is done; the labels to do it with once more when it is not."""
    spec = entry.spec

    def watch(count: int) -> None:
        entry.rebuild_progress = count / max(1, len(versions))
        if (entry.spec.m, entry.spec.ef_construction) != (spec.m, spec.ef_construction):
            raise _Outdated

    try:
        graph = opening.build(store, spec, versions, max(1, threads // 2), watch)
        with writing:
            store.counters(spec.number)  # raises where the collection was deleted, or the store closed
            watch(graph.count)
            now = entry.labels.versions
            changed = [label for label in now if graph.versions.get(label) != now[label]]
            opening.bring_up(graph, store, spec, changed, now)
            graph.delete([label for label in graph.versions if label not in now])
            graph.threads = threads
            cause = cause_to_rebuild(entry.graph, spec) if entry.graph else "loss"
            entry.use(graph)
            entry.unsaved = graph.count
            # So much was deleted meanwhile that the new one is worn already, and no write may ever follow.
            if opening.is_worn(graph):
                return dict(now)
            save(entry)
            _log.info("event=graph_rebuilt collection=%s cause=%s", spec.name, cause or "wear")
            # Within the lock, so that whoever writes or changes parameters next does not rely on this rebuild.
            entry.rebuilding, entry.rebuild_progress = False, 0.0
            return None
    except _Outdated:
        with writing:
            return dict(entry.labels.versions)
