"""One collection in use: its writes, in the order store → graph → acknowledged, and its searches beside them.

The store is the truth. Labels and graph are in memory and can be made from it at any time; a search compares the
version of what it found with the store's, and is done again when something was written in between.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from shared.errors import StorageFull
from shared.vectors.filters import Filter
from shared.vectors.items import Item

from .batch import Batched
from .filters import where
from .flat import Flat, index_for, most_of
from .graph import Graph, graph_bytes
from .labels import Labels, Plan, digests
from .store import Collection, Place, Store

_log = logging.getLogger("hector")

# Items whose metadata is changed at a time: of the largest that there is 32 MiB are in memory.
_CHANGED_AT_ONCE = 32


class OpenCollection(Batched):
    """Written by one thread at a time (the engine sees to it), searched by any."""

    def __init__(
        self, spec: Collection, store: Store, labels: Labels, graph: Flat | Graph | None, max_limit: int
    ) -> None:
        super().__init__(spec, store, labels, max_limit)
        self.graphs = 0  # how many it has had
        if graph is not None:
            self.use(graph)
        self.unsaved = 0
        self.describing = threading.Lock()  # for what follows
        self.sampled_recall = 0.0
        self.sampled_at = (-1, 0, 0)  # the sequence, graph and ef_search that it is of
        self.bytes_used = 0
        self.measured_at = -1
        self.rebuilding = False
        self.rebuild_progress = 0.0
        self.tuning = False  # what follows belongs to tuning.py
        self.tuned_count, self.tuned_graphs = 0, self.graphs

    def use(self, graph: Flat | Graph) -> None:
        """Searches go to this graph from here on. It has every label, as they are now."""
        self.graph = graph
        self.graphs += 1
        self.labels.follow(graph.versions)

    def bytes_with(self, more: int) -> int:
        """What the graph takes in memory with `more` vectors that are new."""
        if isinstance(self.graph, Flat) and self.graph.count + more > most_of(self.spec.dimension):
            return graph_bytes(self.spec.dimension, self.spec.m, self.graph.count + more)
        return self.graph.bytes_with(more) if self.graph else 0

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, items: Sequence[Item], known: dict[str, Place], most_bytes: int = 0) -> None:
        """Writes items, whose ids differ, durably; `known` is where some of them are. The graph makes room for others
        only as far as `most_bytes` (0: no bound) allow."""
        store, number = self.store, self.spec.number
        vectors = np.stack([item.vector for item in items if item.vector is not None])
        prepared = self.spec.metric.prepare(vectors)
        version = store.sequence + 1
        plan = self.labels.plan_put([known.get(item.id) for item in items], digests(prepared), version)
        # Before the commit: what there is no memory for must be refused, not accepted and then lost.
        # A label that gets another vector needs no room.
        self._reserve(sum(label not in self.labels.versions for label in plan.put), most_bytes)
        touched = {place.label for place in [*known.values(), *plan.places]}
        with self._write(touched, {place.row for place in known.values()}) as transaction:
            rows = store.put(transaction, number, list(zip(items, plan.places, strict=True)), plan.next_label)
            store.log.note(number, touched, rows)
        indexes = list(plan.put.values())

        def change(graph: Flat | Graph) -> None:
            if isinstance(graph, Flat):
                # All of them, which costs nothing: where the disk had changed a vector, it is whole again.
                graph.put([at.label for at in plan.places], vectors, [at.version for at in plan.places])
            else:
                graph.put(list(plan.put), vectors[indexes], [version] * len(indexes))
            graph.delete(plan.delete)

        self._apply(plan, change, rows, len(items))

    def delete(self, places: Sequence[Place]) -> None:
        """Deletes the items at these places, durably."""
        plan = self.labels.plan_delete(places)
        rows = [place.row for place in places]
        labels = {place.label for place in places}
        with self._write(labels, set(rows)) as transaction:
            self.store.remove(transaction, self.spec.number, rows)
            self.store.log.note(self.spec.number, labels, rows)
        self._apply(plan, lambda graph: graph.delete(plan.delete), rows, len(places))

    def delete_in_parts(self, places: Sequence[Place]) -> None:
        """As `delete`, on a disk that has room for a little only: decided at once, and done bit by bit.

        Raises StorageFull also where it is decided and will be done once there is room.
        """
        plan = self.labels.plan_delete(places)
        rows = [place.row for place in places]
        full: StorageFull | None = None
        with self.rows.changing({place.label for place in places}):  # no search is answered from the midst of it
            self.before, self.changing = self.store.sequence, set(rows)
            try:
                with self.store.write() as transaction:
                    self.store.begin_removing(transaction, self.spec.number, rows)
            except BaseException:
                self.before, self.changing = None, ()
                raise
            try:
                self.store.finish_removing()
            except StorageFull as error:
                full = error
        self._apply(plan, lambda graph: graph.delete(plan.delete), rows, len(places))
        if full:
            raise full

    def change_metadata(
        self, label_of: Mapping[int, int], change: Callable[[int, str, str], str | None], *, reading: bool
    ) -> None:
        """Gives the items in these rows, which have these labels, other metadata, durably.

        `change` makes it of row, id and the metadata there is ("" unless `reading`), or leaves it with None; what it
        raises undoes all.
        """
        rows, number, store = sorted(label_of), self.spec.number, self.store
        self.before = store.sequence
        try:
            with ExitStack() as stack, store.write() as transaction:
                for start in range(0, len(rows), _CHANGED_AT_ONCE):
                    part = rows[start : start + _CHANGED_AT_ONCE]
                    if reading:
                        texts = {row: item[1:] for row, item in store.at_rows(number, part).items()}
                    else:
                        texts = {row: (name, "") for row, (_, name) in store.names_at_rows(number, part).items()}
                    new = ((row, texts[row][0], change(row, *texts[row])) for row in part)
                    there = [(row, name, text) for row, name, text in new if text is not None]
                    store.put_metadata(transaction, number, there)
                store.log.note(number, set(label_of.values()), rows)
                # From here to the commit only, so that searches need not wait for the changes of many items.
                self.changing = label_of.keys()
                stack.enter_context(self.rows.changing(set(label_of.values())))
        except BaseException:
            self.before, self.changing = None, ()
            raise
        self.matches.changed(store.sequence, rows)
        self.before, self.changing = None, ()

    def matching(self, filter: Filter) -> Mapping[int, int]:
        """The rows of the items that fit, with their labels, for the thread that writes."""
        matches = self.matches.get(where(filter))
        return matches.label_of if matches else {}

    def _reserve(self, more: int, most_bytes: int) -> None:
        """Makes room for `more` labels; where they are few no longer, in a graph. Raises Overloaded."""
        if isinstance(self.graph, Flat):
            larger = index_for(self.spec, self.graph.count + more, self.graph.threads)
            if isinstance(larger, Graph):
                larger.reserve(self.graph.count + more, most_bytes)
                larger.put(*self.graph.contents())
                self.use(larger)
        if self.graph is not None:
            self.graph.reserve(more, most_bytes)

    @contextmanager
    def _write(self, labels: set[int], rows: set[int]) -> Iterator[sqlite3.Connection]:
        """One write of items with these labels, in these rows, durable when the block ends; searches see it after
        `_apply`."""
        self.before, self.changing = self.store.sequence, rows
        try:
            with self.rows.changing(labels), self.store.write() as transaction:
                yield transaction
        except BaseException:
            self.before, self.changing = None, ()
            raise

    def _apply(self, plan: Plan, change: Callable[[Flat | Graph], None], rows: list[int], count: int) -> None:
        """Brings memory up to the store, where `count` items were changed.

        The write is durable whatever becomes of the graph, so it is the graph that gives way.
        """
        sequence = self.store.sequence
        try:
            if self.graph is not None:
                change(self.graph)
        except Exception:
            _log.exception("event=graph_lost collection=%s", self.spec.name)
            self.graph = None
            self.graphs += 1
        self.labels.apply(plan, sequence)
        self.unsaved += count
        self.matches.changed(sequence, rows)
        self.before, self.changing = None, ()
