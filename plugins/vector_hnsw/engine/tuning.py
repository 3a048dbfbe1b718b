"""Keeps the recall that a collection was asked for: finds the least `ef_search` that reaches it on a sample, and again
when a quarter of the vectors came or went, or the graph is another one.

In a thread, once nobody writes, one collection at a time. It reads every vector there is: of 128 of them, a little
moved, the true neighbours are compared with what the graph finds. Since that is done again only after a growth by a
quarter, a vector that is stored is read about five times for it.
"""

from __future__ import annotations

import bisect
import logging
import math
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace

from shared.errors import StorageFull
from shared.give_way import to_its_end

from . import health, targets
from .checks import LARGEST_EF
from .collection import OpenCollection
from .graph import Graph
from .store import Store

_log = logging.getLogger("hector")

_SAMPLES = 128
_GROWTH = 0.25  # which share of the vectors must have come or gone
_STEP = 1.1  # from one `ef` that is tried to the next
_LEAST_EF = 10
# Standard errors by which the sample's recall must be above: of a hundred samples five may be luckier than that.
_ERRORS = 1.64
# Seconds without a write of the store, and the most that it waits for them.
_REST, _LONGEST = 1.0, 60.0
_one_at_a_time = threading.Lock()


def is_due(entry: OpenCollection) -> bool:
    """Whether there is a recall to keep, and `ef_search` was found for another graph, or far fewer or more vectors."""
    if not entry.spec.target_recall or not isinstance(entry.graph, Graph):
        return False
    found_for = entry.tuned_count
    return entry.tuned_graphs != entry.graphs or abs(entry.labels.count - found_for) > _GROWTH * found_for


def tune_aside(entry: OpenCollection, store: Store, writing: AbstractContextManager[object]) -> None:
    """Finds the `ef_search`, in a thread, and stores it. Call it while holding `writing`, the lock that every write
    holds, and not while `entry.tuning`."""
    entry.tuning = True

    def work() -> None:
        try:
            while entry.tuning:
                _wait_for_rest(entry, store)
                with _one_at_a_time:
                    to_its_end(_tune, entry, store, writing)
        except Exception as error:
            # The collection was deleted, or the store closed; the next write, or the next start, tries again.
            _log.warning("event=ef_not_tuned collection=%s cause=%r", entry.spec.name, str(error))
            entry.tuning = False

    threading.Thread(target=work, name="tune", daemon=True).start()


def _wait_for_rest(entry: OpenCollection, store: Store) -> None:
    until, sequence = time.monotonic() + _LONGEST, -1
    while time.monotonic() < until and (sequence != store.sequence or entry.rebuilding):
        sequence = store.sequence
        time.sleep(_REST)


def _tune(entry: OpenCollection, store: Store, writing: AbstractContextManager[object]) -> None:
    spec, graph, graphs, count = entry.spec, entry.graph, entry.graphs, entry.labels.count
    if isinstance(graph, Graph) and spec.target_recall:
        ef, recall = least_ef(health.sample(entry, store, _SAMPLES), graph, spec.target_recall)
        if recall < spec.target_recall:
            _log.warning(
                "event=recall_not_reached collection=%s target=%g recall=%.4f ef_search=%d",
                spec.name, spec.target_recall, recall, ef,
            )  # fmt: skip
    with writing:
        store.counters(spec.number)  # raises where the collection was deleted, or the store closed
        if isinstance(graph, Graph) and spec.target_recall and (spec, graphs) == (entry.spec, entry.graphs):
            entry.spec = replace(spec, ef_search=ef)
            entry.tuned_count, entry.tuned_graphs = count, graphs
            try:
                with store.write() as transaction:
                    store.set_index(transaction, entry.spec)
                    targets.put(transaction, spec.number, spec.target_recall, count)
            except StorageFull:  # it counts until the next start, which finds it anew
                pass
        # Within the lock, so that whoever writes next does not rely on this thread.
        entry.tuning = is_due(entry)


def least_ef(sample: health.Sample, graph: Graph, target: float) -> tuple[int, float]:
    """The least that was tried with which the sample's recall is above `target` by its own uncertainty, else the
    largest; and the sample's recall with it."""
    tried: dict[int, float] = {}

    def at_least(ef: int) -> float:
        recalls = sample.recalls(graph, ef)
        tried[ef] = float(recalls.mean())
        return tried[ef] - _ERRORS * float(recalls.std()) / math.sqrt(len(recalls))

    if not len(sample.queries):
        return _LEAST_EF, 1.0
    steps = [_LEAST_EF]
    while steps[-1] < LARGEST_EF:
        steps.append(min(LARGEST_EF, max(steps[-1] + 1, int(steps[-1] * _STEP))))
    found = bisect.bisect_left(steps, target, hi=len(steps) - 1, key=at_least)
    ef = steps[found]
    return ef, tried[ef] if ef in tried else float(sample.recalls(graph, ef).mean())
