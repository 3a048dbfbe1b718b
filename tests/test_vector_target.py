"""A recall that a collection is asked to keep: `ef_search` is found on a sample, and anew as the collection grows."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hector_plugins_pb2 as pb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Engine, Metric, Query, health, tuning
from plugins.vector_hnsw.engine.checks import LARGEST_EF
from plugins.vector_hnsw.engine.graph import Graph
from shared.errors import Code
from tests.servers import wait_until
from tests.vector_tools import Floats, exact_scores, ids, items, killed, opened, vectors
from tests.vector_wire import assert_refused, serving

DIMENSION = 24
POOR: dict[str, Any] = {"m": 4, "ef_construction": 16}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection rests after a moment without a write."""
    monkeypatch.setattr(tuning, "_REST", 0.02)


def tuned(engine: Engine, name: str = "c") -> int:
    """Its `ef_search`, once it was found."""
    entry = engine._collections[name]
    wait_until(lambda: not (entry.tuning or tuning.is_due(entry)), "the ef_search that keeps the recall")
    return entry.spec.ef_search


def recall(engine: Engine, metric: Metric, matrix: Floats, queries: Floats, ef: int = 0) -> float:
    found = 0
    for query in queries:
        tenth = np.sort(exact_scores(metric, query, matrix))[-10]
        found += sum(hit.score >= tenth - 1e-5 for hit in engine.search("c", Query(query, ef=ef)).hits)
    return found / (10 * len(queries))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 2 * LARGEST_EF), st.integers(0, 10)), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 0.99, 0.999]),
)
def test_the_least_that_does(queries: list[tuple[int, int]], target: float) -> None:
    """What is found reaches the target by 1.64 standard errors and what was tried before it does not; or it is the
    largest there is. Each query finds so many of its ten neighbours, and all of them from an ef of its own on."""

    tried: set[int] = set()

    class Finding:
        def search(self, query: Any, k: int, ef: int) -> Any:
            tried.add(ef)
            enough, others = queries[int(query[0])]
            found = 10 if ef >= enough else others
            return SimpleNamespace(distances=[0.0] * found + [9.0] * (10 - found))

    def at_least(ef: int) -> float:
        shares = [1.0 if ef >= enough else others / 10 for enough, others in queries]
        return float(np.mean(shares) - 1.64 * np.std(shares) / len(shares) ** 0.5)

    numbers = np.arange(len(queries), dtype=np.float32)[:, None]
    sample = health.Sample(numbers, np.zeros((len(queries), 10), np.float32))
    ef, told = tuning.least_ef(sample, cast(Graph, Finding()), target)
    assert told == pytest.approx(np.mean([1.0 if ef >= enough else others / 10 for enough, others in queries]))
    assert at_least(ef) >= target or ef == LARGEST_EF
    if ef > 10:
        before = max(one for one in tried if one < ef)
        assert at_least(before) < target
        assert ef <= max(before + 1, before * 1.1)


@pytest.mark.parametrize("metric", [Metric.COSINE, pytest.param(Metric.EUCLIDEAN, marks=pytest.mark.slow)])
def test_the_recall_is_kept(tmp_path: Path, metric: Metric) -> None:
    """Of queries that the collection has never seen it finds the share that was asked for, also after it has grown,
    where the `ef_search` that it began with finds less; a search's own ef wins."""
    matrix, queries = vectors(4000, DIMENSION), vectors(300, DIMENSION, seed=2)
    with opened(tmp_path) as engine:
        engine.create("c", DIMENSION, metric=metric, ef_search=10, target_recall=0.9, **POOR)
        engine.upsert("c", items(matrix[:1200]))
        first = tuned(engine)
        assert recall(engine, metric, matrix[:1200], queries) >= 0.84
        assert recall(engine, metric, matrix[:1200], queries, ef=10) < 0.8
        engine.upsert("c", items(matrix)[1200:])
        assert tuned(engine) > first
        assert recall(engine, metric, matrix, queries) >= 0.84
        assert engine.describe("c").sampled_recall >= 0.84


@pytest.mark.slow
def test_a_little_more_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are read again when a quarter more or fewer are there, and not before; nor without a target."""
    measured: list[int] = []
    sample = health.sample

    def counted(entry: Any, *rest: Any) -> health.Sample:
        measured.append(entry.labels.count)
        return sample(entry, *rest)

    monkeypatch.setattr(health, "sample", counted)
    with opened(tmp_path) as engine:
        for name, target in (("c", 0.9), ("without", None)):
            engine.create(name, DIMENSION, target_recall=target, **POOR)
            engine.upsert(name, items(vectors(1600, DIMENSION)))
        tuned(engine)
        engine.upsert("c", items(vectors(400, DIMENSION, seed=3), "more"))
        assert not engine._collections["c"].tuning
        engine.upsert("c", items(vectors(1, DIMENSION, seed=4), "last"))
        tuned(engine)
        engine.delete_vectors("c", [f"i{n}" for n in range(501)])
        tuned(engine)
    assert measured == [1600, 2001, 1500]


def test_it_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Target and `ef_search` are there after a restart, which reads nothing for them; a kill before they were found
    leaves that to the next start."""
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "tune_aside", lambda *_: None)
        with opened(tmp_path / "a") as engine:
            engine.create("c", DIMENSION, target_recall=0.95, **POOR)
            engine.upsert("c", items(vectors(1500, DIMENSION)))
            folder = killed(tmp_path / "a", tmp_path / "b")
    with opened(folder) as engine:
        assert (found := tuned(engine)) != 100
    monkeypatch.setattr(tuning, "tune_aside", None)  # whoever calls it fails
    with opened(folder) as engine:
        engine.upsert("c", items(vectors(1, DIMENSION), "more"))
        described = engine.describe("c")
        assert (described.spec.target_recall, described.spec.ef_search) == (0.95, found)


@pytest.mark.slow
def test_a_snapshot_has_it(tmp_path: Path) -> None:
    """A collection that is restored keeps the recall that it kept then, with its new graph."""
    with opened(tmp_path) as engine:
        engine.create("c", DIMENSION, target_recall=0.95, **POOR)
        engine.upsert("c", items(vectors(1500, DIMENSION)))
        tuned(engine)
        engine.create_snapshot("c", "s")
        engine.update_index("c", target_recall=0.0, ef_search=7)
        engine.restore_snapshot("c", "s")
        assert tuned(engine) > 20
        assert engine.describe("c").spec.target_recall == 0.95


@pytest.mark.slow
def test_a_new_graph_is_measured(tmp_path: Path) -> None:
    """With better links, made aside, a smaller `ef_search` reaches the same."""
    with opened(tmp_path) as engine:
        engine.create("c", DIMENSION, target_recall=0.95, **POOR)
        engine.upsert("c", items(vectors(1500, DIMENSION)))
        first = tuned(engine)
        engine.update_index("c", m=24, ef_construction=200)
        wait_until(lambda: not engine._collections["c"].rebuilding, "the new graph")
        assert tuned(engine) < first


@pytest.mark.slow
def test_what_goes_wrong_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A collection that is deleted while it is measured, or changed, is none the worse."""
    reached, go_on = threading.Event(), threading.Event()
    sample = health.sample

    def held(*values: Any) -> health.Sample:
        reached.set()
        assert go_on.wait(60)
        return sample(*values)

    with opened(tmp_path) as engine, caplog.at_level(logging.WARNING, "hector"):
        engine.create("c", DIMENSION, target_recall=0.95, **POOR)
        monkeypatch.setattr(health, "sample", held)
        engine.upsert("c", items(vectors(1500, DIMENSION)))
        assert reached.wait(60)
        engine.update_index("c", target_recall=0.6)
        go_on.set()
        found = tuned(engine)
        assert (engine.describe("c").spec.target_recall, found < 100) == (0.6, True)
        for event in (reached, go_on):
            event.clear()
        engine.update_index("c", target_recall=0.9)
        assert reached.wait(60)
        engine.delete("c")
        engine.create("c", DIMENSION)
        go_on.set()
        wait_until(lambda: "event=ef_not_tuned" in caplog.text, "the end of measuring what is gone")
        assert engine.describe("c").spec.ef_search == 100
        assert engine.describe("c").spec.target_recall == 0


def test_over_a_socket(tmp_path: Path) -> None:
    """The target is told, changed and given up; an `ef_search` by itself is refused while a recall is kept; shares that
    no sample tells are refused; who makes sure of a collection need not know what was found."""
    with serving(tmp_path) as database:
        kept = pb.IndexParams(target_recall=0.95)
        database.create("c", DIMENSION, index=kept)
        database.engine.upsert("c", items(vectors(1500, DIMENSION)))
        found = tuned(database.engine)

        def told() -> pb.IndexParams:
            return database.stub.DescribeCollection(pb.DescribeCollectionRequest(name="c")).collection.index

        assert told() == pb.IndexParams(m=16, ef_construction=200, ef_search=found, target_recall=0.95)
        again = pb.CreateCollectionRequest(
            name="c", dimension=DIMENSION, index=pb.IndexParams(ef_search=100), if_not_exists=True
        )
        assert database.stub.CreateCollection(again).success
        again.index.target_recall = 0.9
        assert_refused(database.stub.CreateCollection(again), Code.ALREADY_EXISTS, "COLLECTION_EXISTS")

        def update(**index: Any) -> pb.UpdateCollectionResponse:
            return database.stub.UpdateCollection(pb.UpdateCollectionRequest(name="c", index=pb.IndexParams(**index)))

        assert_refused(update(ef_search=50), Code.FAILED_PRECONDITION, "RECALL_IS_KEPT", "index.ef_search")
        for share in (1.0, 0.4, -1.0, float("nan")):
            reply = update(target_recall=share)
            assert_refused(reply, Code.INVALID_ARGUMENT, "OUT_OF_RANGE", "index.target_recall")
        assert update(target_recall=0.0, ef_search=50).success
        assert told() == pb.IndexParams(m=16, ef_construction=200, ef_search=50)
        assert update(ef_search=60).success
        query = vectors(1, DIMENSION, seed=5)[0]
        assert ids(database.engine.search("c", Query(query)))
