"""One collection in the memory of a reader: brought up to what another process has written.

What was touched is looked up in the store again, as it is now. So it does not matter how often, or in how many steps,
it is brought up: it is right whenever the store has not moved since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from . import opening
from .cache import GraphCache
from .collection import OpenCollection
from .filters import Where
from .flat import Flat
from .graph import Graph
from .labels import Labels
from .matches import MatchCache, Matches
from .read_only import AtLabel, ReadOnlyStore
from .rows import RowCache, Rows
from .store import Collection

_log = logging.getLogger("hector")

# A larger collection that appears while others are searched gets its graph aside, and is compared until then.
_SMALL = 10_000
_AT_ONCE = 1000


class SeenLabels(Labels):
    """Labels as the store has them, without what only a write needs to know: which vector each stands for."""

    def __init__(self) -> None:
        super().__init__(0)

    def load(self, rows: Iterable[tuple[int, int, bytes]]) -> None:
        super().load(rows)
        self._label_of.clear()

    def items(self, label: int) -> int:
        """How many have it."""
        return self.sharing(label) if label in self._version_of else 0

    def settle(self, before: Mapping[int, int], there: Mapping[int, AtLabel]) -> None:
        """The labels of `before` had so many items, and have what is `there` now, which may be nothing."""
        more = 0
        for label, items in before.items():
            now = there.get(label)
            more += (now.items if now else 0) - items
            if now:
                self._version_of[label] = now.version
            else:
                self._version_of.pop(label, None)
            if now and now.items > 1:
                self._shared[label] = now.items
            else:
                self._shared.pop(label, None)
        self.count += more  # at once: it is read meanwhile


class SeenRows(RowCache):
    """Those that memory has. One that was written since would be taken for the truth by whoever is in a moment before
    that."""

    _store: ReadOnlyStore

    def _keep(self, rows: Rows, generation: int) -> None:
        if self._store.database.is_as_in_memory:
            super()._keep(rows, generation)


class SeenMatches(MatchCache):
    """Likewise."""

    _store: ReadOnlyStore

    def _keep(self, where: Where, matches: Matches) -> None:
        if self._store.database.is_as_in_memory:
            super()._keep(where, matches)


class FollowingCollection(OpenCollection):
    """Brought up by one thread at a time (the engine sees to it), searched by any."""

    store: ReadOnlyStore
    labels: SeenLabels

    def __init__(
        self, spec: Collection, store: ReadOnlyStore, labels: SeenLabels, graph: Flat | Graph | None, max_limit: int
    ) -> None:
        """Without a graph it is compared until it gets one."""
        super().__init__(spec, store, labels, graph, max_limit)
        self.forget()
        self.reached = 0  # the sequence of the store that it was brought up to
        self.is_lost = False  # whether bringing it up was cut off, so that nobody knows how far it came

    def follow(self, touched: set[int], rows: set[int], sequence: int) -> None:
        """Brings it up after writes, the last of them `sequence`, of these rows, with these labels before or after."""
        self.is_lost = True
        there = self.store.labels_now(self.spec.number, list(touched))
        before = {label: self.labels.items(label) for label in touched}
        # First: what is read from here on is not older than what memory is brought up to.
        with self.rows.changing(touched):
            pass
        self._bring(there, [label for label in touched if label not in there])
        self.labels.settle(before, there)
        self.matches.changed(sequence, sorted(rows))
        self.is_lost = False

    def look_through(self) -> None:
        """Brings it up where it is not known what was touched, or how far it was brought up."""
        self.is_lost = True
        labels = loaded_labels(self.store, self.spec.number)
        self.forget()
        had = self.graph.versions if self.graph else {}
        changed = [label for label, version in labels.versions.items() if had.get(label) != version]
        if self.graph:
            self._bring(
                self.store.labels_now(self.spec.number, changed),
                [label for label in had if label not in labels.versions],
            )
        self.labels = labels
        if self.graph:
            labels.follow(self.graph.versions)
        self.is_lost = False

    def forget(self) -> None:
        """Lets go of items and matches that are remembered."""
        self.rows = SeenRows(self.store, self.spec.number)
        self.matches = SeenMatches(self.store, self.spec)

    def _bring(self, there: Mapping[int, AtLabel], gone: Sequence[int]) -> None:
        """Gives the graph what is new `there`, and takes out what is gone. Where it cannot, it is given up."""
        if self.graph is None:
            return
        had = self.graph.versions
        put = [label for label, at in there.items() if had.get(label) != at.version]
        try:
            self._reserve(sum(label not in had for label in put), 0)
            for start in range(0, len(put), _AT_ONCE):
                part = put[start : start + _AT_ONCE]
                rows = [there[label].row for label in part]
                vectors = {row: vector for row, _, vector in self.store.versioned_vectors(self.spec.number, rows)}
                whole = b"".join(vectors[row] for row in rows)
                matrix = np.frombuffer(whole, "<f4").reshape(len(part), self.spec.dimension)
                self.graph.put(part, matrix, [there[label].version for label in part])
            self.graph.delete(gone)
        except Exception:
            _log.exception("event=graph_lost collection=%s", self.spec.name)
            self.graph = None
            self.graphs += 1


def loaded_labels(store: ReadOnlyStore, number: int) -> SeenLabels:
    labels = SeenLabels()
    for block in store.all_labels(number):
        labels.load(block)
    return labels


def open_collection(
    store: ReadOnlyStore, cache: GraphCache, spec: Collection, threads: int, max_limit: int, *, at_start: bool
) -> FollowingCollection:
    """A collection with the graph that was saved, or one built now; while others are searched (not `at_start`) a large
    one has none yet."""
    labels = loaded_labels(store, spec.number)
    saved = opening.load_saved(store, cache, spec, labels.versions, threads)
    graph: Flat | Graph | None = saved[0] if saved else None
    if graph is None and (at_start or len(labels.versions) <= _SMALL):
        graph = opening.build(store, spec, labels.versions, threads)
    return FollowingCollection(spec, store, labels, graph, max_limit)
