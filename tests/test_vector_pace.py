"""Which searches are long is learnt from what they took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Metric, Query
from plugins.vector_hnsw.engine.graph import Graph
from plugins.vector_hnsw.engine.pace import QUICK, TURN, Pace
from plugins.vector_hnsw.engine.planning import is_quick
from tests.vector_tools import vectors

costs = st.floats(1e-8, 1e-3)


@given(st.integers(1, 16_384), costs, st.integers(1, 4096))
def test_what_was_taken_counts(dimension: int, each: float, looked_at: int) -> None:
    """Whatever was guessed, after a hundred searches those are quick that take no more than QUICK, and so many go
    together as take no more than TURN, but for a hundredth."""
    pace = Pace(dimension)
    for _ in range(100):
        pace.took(60, 60 * each)
    took = looked_at * pace.each
    assert abs(took - looked_at * each) <= 0.01 * looked_at * max(each, dimension * 2.5e-9)
    assert pace.is_quick(looked_at) == (took <= QUICK)
    together = pace.most_at_once(looked_at)
    assert together >= 1
    assert together == 1 or together * took <= TURN * 1.0001
    assert (together + 1) * took > TURN


@given(costs)
def test_an_unlucky_one_changes_little(each: float) -> None:
    """One search that took five times as long changes what is expected by a third at most; twenty others undo most."""
    pace = Pace(384)
    pace.each = each
    pace.took(100, 500 * each)
    assert each < pace.each < 1.33 * each
    for _ in range(20):
        pace.took(100, 100 * each)
    assert pace.each < 1.1 * each


def test_a_graph_finds_out() -> None:
    """An index whose searches cost more than was guessed has them made in a thread until they cost less."""
    graph = Graph(Metric.EUCLIDEAN, 8, 16, 100)
    rows = vectors(500, 8)
    graph.reserve(len(rows))
    graph.put(list(range(len(rows))), rows, [1] * len(rows))
    query = Query(rows[0], ef=100)
    assert is_quick(query, graph, 100)
    graph.pace.each = 1.0  # a machine that was that slow
    assert not is_quick(query, graph, 100)
    for _ in range(200):
        assert graph.search(rows[0], 10, 100) is not None
    assert is_quick(query, graph, 100)
    for _ in range(50):
        assert graph.search_many(rows[:4], 10, 100, wait=False) is not None
    assert is_quick(query, graph, 100)
