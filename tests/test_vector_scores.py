"""Scores to the last digit of a float32, `min_score` taken from replies, and pages that give each item once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, SearchResult
from plugins.vector_hnsw.engine.comparing import keys_of, lengths_of, nearest
from shared.vectors.filters import Compare, Filter, Operator
from tests.vector_tools import Floats, exact_scores, ids, opened, vectors

METRICS = list(Metric)
HALF = Filter((Compare("n", Operator.LT, 50),))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path, threads=1) as engine:
        yield engine


def filled(engine: Engine, metric: Metric, matrix: Floats) -> None:
    engine.create("c", matrix.shape[1], metric=metric)
    documents = [f'{{"n":{n % 100}}}' for n in range(len(matrix))]
    engine.upsert("c", [Item(f"i{n:05}", row, documents[n]) for n, row in enumerate(matrix)])


def both(engine: Engine, query: Query) -> list[SearchResult]:
    return [engine.search("c", query), *engine.search_many("c", [query])]


# ---------------------------------------------------------------- scores

NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-4)


@settings(max_examples=100)
@given(
    st.sampled_from(METRICS),
    arrays.arrays(np.float32, st.tuples(st.integers(2, 40), st.just(5)), elements=NUMBERS),
    st.integers(1, 12),
    st.integers(0, 1),
)
def test_nearest_is_right_to_the_last_digit(metric: Metric, rows: Floats, k: int, near: int) -> None:
    """The k nearest are those of numpy in 64 bits, ties of the last among them, near-duplicates too."""
    query = rows[0]
    rows = rows[0] + rows[1:] * np.float32(1e-6) if near else rows[1:]
    if metric is Metric.COSINE and not ((rows**2).sum(axis=1).all() and (query**2).sum()):
        return
    lengths = lengths_of(rows)
    chosen, keys = nearest(metric, query, rows, lengths, k)
    every = keys_of(metric, query, rows, lengths)
    worst = np.sort(every)[min(k, len(rows)) - 1]
    assert sorted(chosen.tolist()) == np.flatnonzero(every <= worst).tolist()
    assert keys.tolist() == every[chosen].tolist()
    shown = metric.scores_of_keys(every.tolist())
    assert shown == pytest.approx(exact_scores(metric, query, rows).astype(np.float32).tolist(), rel=1.2e-7, abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [300, 1500])
def test_exact_is_exact(engine: Engine, metric: Metric, count: int) -> None:
    """`exact` gives float32 scores of the true ones, in their order, of a small collection and of a large one."""
    matrix = vectors(count, 48) * np.float32(3)
    filled(engine, metric, matrix)
    for query in vectors(20, 48, seed=2):
        truth = exact_scores(metric, query, matrix)
        best = np.argsort(-truth)[:50]
        for kept in (None, Filter((Compare("n", Operator.LT, 100),))):
            found = engine.search("c", Query(query, limit=50, exact=True, filter=kept))
            assert ids(found) == [f"i{n:05}" for n in best]
            assert [hit.score for hit in found.hits] == truth[best].astype(np.float32).tolist()


@pytest.mark.parametrize("count", [100, 1500])
def test_a_stored_vector_is_found_among_near_duplicates(engine: Engine, count: int) -> None:
    """Under COSINE the scan tells a stored vector from those that differ from it in the sixth digit."""
    base = vectors(1, 384)
    matrix = (base + np.float32(2e-6) * vectors(count, 384, seed=2)).astype(np.float32)
    filled(engine, Metric.COSINE, matrix)
    for n in range(0, count, count // 100):
        assert ids(engine.search("c", Query(matrix[n], limit=1, exact=True))) == [f"i{n:05}"]


@pytest.mark.parametrize("count", [3, 1500])
@pytest.mark.parametrize("exact", [True, False])
def test_small_products_keep_their_order(engine: Engine, count: int, exact: bool) -> None:
    """DOT scores of 1.00e-6, 1.02e-6 and 1.04e-6 come in that order, with these values, also out of a graph."""
    matrix = vectors(count, 4) * np.float32(1e-9)
    matrix[:3] = [[1.00e-6, 0, 0, 0], [1.02e-6, 0, 0, 0], [1.04e-6, 0, 0, 0]]
    filled(engine, Metric.DOT, matrix)
    for found in both(engine, Query(np.array([1, 0, 0, 0], np.float32), limit=3, exact=exact, ef=200)):
        assert ids(found) == ["i00002", "i00001", "i00000"]
        assert [hit.score for hit in found.hits] == np.array([1.04e-6, 1.02e-6, 1.00e-6], np.float32).tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [300, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("exact", [True, False])
def test_min_score_of_a_hit_keeps_that_hit(engine: Engine, metric: Metric, count: int, exact: bool) -> None:
    """The score that a reply shows, taken as `min_score`, keeps that hit and all above it: graph, scan and batch."""
    filled(engine, metric, vectors(count, 16))
    for query in vectors(60, 16, seed=3):
        for fitting in (None, HALF):
            asked = Query(query, exact=exact, filter=fitting)
            for found in both(engine, asked):
                last = found.hits[-1]
                kept = both(engine, asked._replace(min_score=float(np.float32(last.score))))
                assert [ids(one) for one in kept] == [ids(found)] * 2
                assert float(np.float32(last.score)) == last.score
                above = np.nextafter(np.float32(last.score), np.float32(np.inf))
                for one in both(engine, asked._replace(min_score=float(above))):
                    assert last.id not in ids(one)


# ---------------------------------------------------------------- pages


def tied(count: int, dimension: int) -> Floats:
    """Unit vectors along the axes, so that most scores are equal, and some vectors too."""
    return np.eye(dimension, dtype=np.float32)[np.arange(count) % dimension]


SETS = {
    "random": vectors(1500, 24),
    "tied": tied(1500, 750),
    "equal": tied(1500, 8),
    "small and tied": tied(200, 100),
    "small": vectors(200, 24),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if "small" in name else pytest.mark.slow) for name in SETS]
)
def test_pages_give_each_item_once(engine: Engine, metric: Metric, name: str, exact: bool) -> None:
    """Over the pages of a collection each match comes exactly once, ties included, best first within a page."""
    matrix = SETS[name]
    filled(engine, metric, matrix)
    query = vectors(1, matrix.shape[1], seed=4)[0] if "tied" not in name else np.eye(1, matrix.shape[1])[0]
    for limit, fitting in ((10, None), (7, HALF), (130, None), (130, HALF)):
        seen: list[str] = []
        count = len(matrix) // 2 if fitting else len(matrix)
        for offset in range(0, count + limit, limit):
            asked = Query(query.astype(np.float32), limit, offset, filter=fitting, exact=exact)
            found = engine.search("c", asked)
            assert found.complete
            assert ids(engine.search_many("c", [asked])[0]) == ids(found)
            assert len(found.hits) == min(limit, max(0, count - offset))
            order = [(-hit.score, hit.id) for hit in found.hits]
            assert order == sorted(order)
            seen += ids(found)
        assert len(seen) == len(set(seen)) == count


def test_pages_of_the_graph_are_nearly_the_exact_ones(engine: Engine) -> None:
    """Page by page the graph gives what a scan would, at a recall of 0.95 over the first thousand."""
    matrix = vectors(4000, 24)
    filled(engine, Metric.COSINE, matrix)
    query = vectors(1, 24, seed=4)[0]
    for end in (100, 500, 1000):
        found: set[str] = set()
        for offset in range(0, end, 50):
            found |= set(ids(engine.search("c", Query(query, 50, offset))))
        truth = np.argsort(-exact_scores(Metric.COSINE, query, matrix))[:end]
        assert len(found & {f"i{n:05}" for n in truth}) >= 0.95 * end


# ---------------------------------------------------------------- small collections


@pytest.mark.parametrize("metric", METRICS)
def test_a_small_collection_does_not_rot(tmp_path: Path, metric: Metric) -> None:
    """Each vector replaced by a shorter one, twice: all that a scan finds is found, before and after a restart."""
    with opened(tmp_path, threads=1) as engine:
        engine.create("c", 32, metric=metric)
        for scale in (1.0, 0.5, 0.1):
            current = vectors(1000, 32, seed=int(scale * 10)) * np.float32(scale)
            for start in range(0, 1000, 50):
                engine.upsert("c", [Item(f"i{n}", current[n]) for n in range(start, start + 50)])
                assert engine.search("c", Query(current[0])).exact
        assert_finds_all(engine, metric, current)
    with opened(tmp_path, threads=1) as engine:
        assert_finds_all(engine, metric, current)


def assert_finds_all(engine: Engine, metric: Metric, matrix: Floats) -> None:
    for query in vectors(50, matrix.shape[1], seed=9):
        best = np.argsort(-exact_scores(metric, query, matrix))[:10]
        assert ids(engine.search("c", Query(query))) == [f"i{n}" for n in best]
    assert engine.describe("c").sampled_recall == 1.0


def test_a_collection_that_grows_and_shrinks(tmp_path: Path) -> None:
    """Past a thousand vectors a graph finds, and what is found is the oracle's on both sides of that, and back."""
    matrix = vectors(1300, 16)
    with opened(tmp_path, threads=1) as engine:
        engine.create("c", 16)
        for start in range(0, 1300, 100):
            engine.upsert("c", [Item(f"i{n}", matrix[n]) for n in range(start, start + 100)])
            found = engine.search("c", Query(matrix[7], limit=10, ef=400))
            assert found.exact is (start < 1000)
            best = np.argsort(-exact_scores(Metric.COSINE, matrix[7], matrix[: start + 100]))[:10]
            assert ids(found) == [f"i{n}" for n in best]
        engine.delete_vectors("c", [f"i{n}" for n in range(400, 1300)])
    with opened(tmp_path, threads=1) as engine:
        assert engine.search("c", Query(matrix[7])).exact
        assert engine.count("c") == 400
