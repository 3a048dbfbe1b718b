"""What keeps collections quick: graphs are saved now and then and built anew where they are worn, fields that filters
ask for get an index, and `ef_search` is adjusted where a recall is to be kept. None of it changes what is there.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from shared.errors import (
    PluginError,
)

from . import opening, targets, tuning
from .collection import OpenCollection
from .flat import Flat
from .rebuilding import cause_to_rebuild, rebuild_aside
from .state import State
from .store import Collection

_log = logging.getLogger("hector")

# A graph is saved when this many items changed since the last time, or half of it, whichever is more.
_SAVE_AFTER = 10_000


class Upkeep(State):
    def _after(self, entry: OpenCollection) -> None:
        """What a write leaves to be done, some of it only now and then."""
        if entry.graph is None:
            with suppress(Exception):
                entry.use(opening.build(self._store, entry.spec, entry.labels.versions, self._threads))
        self._rebuild_where_needed(entry)
        self._save_where_due(entry)
        self._tune_where_due(entry)

    def _rebuild_where_needed(self, entry: OpenCollection) -> None:
        graph = entry.graph
        if graph is not None and not entry.rebuilding and cause_to_rebuild(graph, entry.spec):
            rebuild_aside(entry, self._store, graph.threads, self._writing, self._rebuilt)

    def _rebuilt(self, entry: OpenCollection) -> None:
        self._save(entry)
        self._tune_where_due(entry)

    def _tune_where_due(self, entry: OpenCollection) -> None:
        """Call it while writing."""
        if not entry.tuning and tuning.is_due(entry):
            tuning.tune_aside(entry, self._store, self._writing)

    def _save(self, entry: OpenCollection) -> None:
        """Saves the graph. A failure is logged and costs only time at the next start."""
        if isinstance(entry.graph, Flat):
            with suppress(OSError):
                self._cache.remove(entry.spec.number)
            entry.unsaved = 0
        elif entry.graph is not None:
            self._cache.save(entry.graph, entry.spec, self._store.sequence)
            entry.unsaved = 0

    def _opened(self, spec: Collection) -> OpenCollection:
        labels, graph, unsaved = opening.open_graph(self._store, self._cache, spec, self._threads)
        entry = OpenCollection(spec, self._store, labels, graph, self._max_limit)
        entry.unsaved = unsaved
        entry.tuned_count = targets.read_count(self._store.database, spec.number)
        return entry

    def _save_where_due(self, entry: OpenCollection) -> None:
        if entry.graph is not None and entry.unsaved >= max(_SAVE_AFTER, entry.graph.count // 2):
            self._save(entry)

    def _index_field(self, number: int, path: str) -> None:
        """Makes an index of a field, in a thread; writes wait meanwhile, searches do not."""

        def work() -> None:
            try:
                with self._writing:
                    self._store.fields.create(number, path)
            except PluginError as error:  # the disk is full, the collection deleted, the store closed
                _log.warning("event=field_not_indexed collection=%d cause=%r", number, error.message)

        threading.Thread(target=work, name="index field", daemon=True).start()
