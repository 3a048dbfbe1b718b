"""The vector store's engine, called directly: what it answers, and what it keeps through kills and damage."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, Written, managing
from plugins.vector_hnsw.engine.cache import GraphCache
from plugins.vector_hnsw.engine.graph import Graph
from shared.errors import AlreadyExists, InvalidArgument, NotFound, StartError, Unavailable
from tests.vector_tools import (
    Floats,
    assert_holds,
    contents,
    exact_scores,
    graphs,
    ids,
    items,
    killed,
    labels_of,
    opened,
    vectors,
)

METRICS = list(Metric)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path / "data") as engine:
        yield engine


def graph_of(engine: Engine, name: str) -> Graph:
    graph = engine._collections[name].graph
    assert isinstance(graph, Graph)
    return graph


def rebuilds(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "event=graph_rebuilt" in record.getMessage()]


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("only_graphs")
def test_scores_are_numpys(engine: Engine, metric: Metric, exact: bool) -> None:
    """Under each metric, by graph and by scan, hits and scores are those that numpy computes in double precision."""
    matrix = vectors(300, 24) * np.float32(3)
    engine.create("c", 24, metric=metric)
    engine.upsert("c", items(matrix))
    for query in vectors(20, 24, seed=2):
        truth = exact_scores(metric, query, matrix)
        found = engine.search("c", Query(query, limit=10, exact=exact))
        assert found.exact is exact
        assert found.complete
        assert ids(found) == [f"i{index}" for index in np.argsort(-truth)[:10]]
        assert [hit.score for hit in found.hits] == pytest.approx(np.sort(truth)[::-1][:10], abs=2e-5)


def test_cosine_stays_within_one(engine: Engine) -> None:
    """Rounding does not take a cosine past 1 or -1."""
    matrix = vectors(200, 100)
    engine.create("c", 100)
    engine.upsert("c", items(np.concatenate([matrix, -matrix])))
    for exact in (False, True):
        scores = [h.score for v in matrix for h in engine.search("c", Query(v, limit=400, exact=exact)).hits]
        assert max(scores) <= 1.0
        assert min(scores) >= -1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e17])
def test_extreme_floats_give_finite_scores(engine: Engine, metric: Metric, scale: float) -> None:
    """Denormal, tiny and huge vectors are stored bit for bit and scored with finite numbers, the same one first."""
    matrix = (np.eye(4) * scale).astype(np.float32)
    engine.create("c", 4, metric=metric)
    engine.upsert("c", items(matrix))
    for exact in (False, True):
        found = engine.search("c", Query(matrix[2], limit=4, exact=exact, with_vectors=True))
        assert np.isfinite([hit.score for hit in found.hits]).all()
        assert len(found.hits) == 4
        if metric is Metric.COSINE:
            assert found.hits[0].id == "i2"
            assert found.hits[0].score == pytest.approx(1)
    assert contents(engine, "c", 4) == {f"i{i}": (v.tobytes(), "{}") for i, v in enumerate(matrix)}


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN])
def test_a_vector_whose_square_overflows_is_refused(engine: Engine, metric: Metric) -> None:
    """A vector of 1e38s, whose distances would be infinite, is refused where distances are not of unit vectors."""
    engine.create("c", 4, metric=metric)
    with pytest.raises(InvalidArgument, match="too long"):
        engine.upsert("c", [Item("a", np.full(4, 1e38, np.float32))])
    engine.create("unit", 4)
    engine.upsert("unit", [Item("a", np.full(4, 3e38, np.float32))])
    assert engine.search("unit", Query(np.ones(4, np.float32))).hits[0].score == pytest.approx(1)


def test_ties_break_on_id(engine: Engine) -> None:
    """Hits with one score come in the order of their ids, whatever the order they were written in."""
    engine.create("c", 2)
    names = [f"{n:02}" for n in np.random.default_rng(3).permutation(30)]
    engine.upsert("c", [Item(name, np.array([float(int(name) + 1), 0], np.float32)) for name in names])
    for exact in (False, True):
        found = engine.search("c", Query(np.array([1, 0], np.float32), limit=30, exact=exact))
        assert {hit.score for hit in found.hits} == {1.0}
        assert ids(found) == sorted(names)


def test_min_score_keeps_what_reaches_it(engine: Engine) -> None:
    """`min_score` keeps scores at or above it, be it positive, zero or negative; unset keeps all."""
    engine.create("c", 2)
    angles = {"same": (1, 0), "half": (1, 1), "right": (0, 1), "back": (-1, 0)}
    engine.upsert("c", [Item(name, np.array(v, np.float32)) for name, v in angles.items()])

    def kept(least: float | None) -> list[str]:
        return ids(engine.search("c", Query(np.array([1, 0], np.float32), min_score=least)))

    assert kept(None) == ["same", "half", "right", "back"]
    assert kept(-1.0) == ["same", "half", "right", "back"]
    assert kept(-0.5) == ["same", "half", "right"]
    assert kept(0.0) == ["same", "half", "right"]
    assert kept(0.5) == ["same", "half"]
    assert kept(1.0) == ["same"]
    with pytest.raises(InvalidArgument, match="NaN"):
        kept(float("nan"))


@pytest.mark.parametrize("exact", [False, True])
def test_offset_pages(engine: Engine, exact: bool) -> None:
    """Pages joined are the one long answer; past the end there is nothing, however far."""
    matrix = vectors(250, 16)
    engine.create("c", 16, ef_search=400)
    engine.upsert("c", items(matrix))
    query = vectors(1, 16, seed=9)[0]
    whole = ids(engine.search("c", Query(query, limit=250, exact=exact)))
    pages = [engine.search("c", Query(query, limit=30, offset=at, exact=exact)) for at in range(0, 300, 30)]
    assert [name for page in pages for name in ids(page)] == whole
    assert sorted(whole) == sorted(f"i{n}" for n in range(250))
    for far in (250, 10_000, 2**32 - 1):
        assert engine.search("c", Query(query, offset=far, exact=exact)).hits == []


@pytest.mark.parametrize("exact", [False, True])
def test_pages_within_a_tie_do_not_repeat(engine: Engine, exact: bool) -> None:
    """Paging through more equal vectors than fit on a page gives each id once, in the order of ids."""
    engine.create("c", 2)
    names = [f"{n:03}" for n in np.random.default_rng(6).permutation(80)]
    engine.upsert("c", [Item(name, np.array([1, 2], np.float32)) for name in names])
    engine.upsert("c", items(vectors(50, 2) - np.array([5, 0], np.float32)))
    query = np.array([1, 2], np.float32)
    pages = [engine.search("c", Query(query, limit=9, offset=at, exact=exact)) for at in range(0, 81, 9)]
    assert [name for page in pages for name in ids(page)][:80] == sorted(names)


def test_exact_pages_within_a_tie_of_scores(engine: Engine) -> None:
    """Different vectors with one score are paged through exactly, too."""
    engine.create("c", 2)
    engine.upsert("c", [Item(f"{n * 37 % 60:03}", np.array([n + 1, n + 1], np.float32)) for n in range(60)])
    query = np.array([1, 1], np.float32)
    pages = [engine.search("c", Query(query, limit=7, offset=at, exact=True)) for at in range(0, 60, 7)]
    assert sorted(name for page in pages for name in ids(page)) == [f"{n:03}" for n in range(60)]


def test_a_limit_over_the_count_gives_all(engine: Engine) -> None:
    """Asking for more than there is gives all there is, and says that it is complete."""
    engine.create("c", 8)
    engine.upsert("c", items(vectors(7, 8)))
    found = engine.search("c", Query(vectors(1, 8)[0], limit=1000))
    assert len(found.hits) == 7
    assert found.complete


def test_an_empty_collection_answers(engine: Engine) -> None:
    """A search in an empty collection succeeds with no hits, by graph and by scan, also when emptied by deletes."""
    engine.create("c", 8)
    for _ in range(2):
        for exact in (False, True):
            found = engine.search("c", Query(np.ones(8, np.float32), exact=exact))
            assert found.hits == []
            assert found.complete
        engine.upsert("c", items(vectors(20, 8)))
        assert engine.delete_vectors("c", [f"i{n}" for n in range(20)])[0] == 20


def test_recall_at_ten(engine: Engine) -> None:
    """On 2,000 vectors the graph finds 98 % of the true ten nearest."""
    matrix = vectors(2000, 32)
    engine.create("c", 32)
    engine.upsert("c", items(matrix))
    hits = 0
    for query in vectors(100, 32, seed=5):
        best = {f"i{index}" for index in np.argsort(-exact_scores(Metric.COSINE, query, matrix))[:10]}
        hits += len(best & set(ids(engine.search("c", Query(query)))))
    assert hits >= 980


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_vectors_hide_nothing(engine: Engine, metric: Metric) -> None:
    """Hundreds of copies of one vector leave every other vector findable, and are all found themselves."""
    others, copies = vectors(300, 16), np.repeat(vectors(1, 16, seed=7), 800, axis=0)
    everything = items(copies, "copy") + items(others, "other")
    order = np.random.default_rng(4).permutation(len(everything))
    engine.create("c", 16, metric=metric, ef_search=200)
    for start in range(0, len(order), 50):
        engine.upsert("c", [everything[index] for index in order[start : start + 50]])
    for number, vector in enumerate(others):
        assert metric is Metric.DOT or ids(engine.search("c", Query(vector)))[0] == f"other{number}"
    found = engine.search("c", Query(copies[0], limit=1000, min_score=0.999 if metric is not Metric.DOT else None))
    assert {f"copy{n}" for n in range(800)} <= set(ids(found))


# ---------------------------------------------------------------- writes


@pytest.mark.usefixtures("only_graphs")
def test_an_upsert_twice_keeps_the_label(engine: Engine) -> None:
    """An update replaces vector and metadata in place: one hit, the same label."""
    first, second = vectors(2, 8)
    engine.create("c", 8)
    engine.upsert("c", [Item("a", first, '{"v":1}'), Item("b", -first)])
    before = labels_of(engine, "c", ["a"])
    assert engine.upsert("c", [Item("a", second, '{"v":2}')]).count == 1
    assert labels_of(engine, "c", ["a"]) == before
    found = engine.search("c", Query(second, with_vectors=True))
    assert [hit.id for hit in found.hits].count("a") == 1
    assert found.hits[0].metadata == '{"v":2}'
    assert found.hits[0].vector is not None
    assert found.hits[0].vector.tobytes() == second.tobytes()
    assert graph_of(engine, "c").count == 2


def test_of_an_id_twice_in_a_request_the_last_wins(engine: Engine) -> None:
    """One request with an id twice writes it once, as it came last, and counts it once."""
    first, second = vectors(2, 8)
    engine.create("c", 8)
    new = [Item("a", first, '{"v":1}'), Item("b", first), Item("a", second, '{"v":2}')]
    assert engine.upsert("c", new) == Written(2, 2)
    assert contents(engine, "c", 8) == {"a": (second.tobytes(), '{"v":2}'), "b": (first.tobytes(), "{}")}


def test_a_change_of_metadata_leaves_the_graph_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upsert with the vector that is there rewrites metadata and puts nothing into the graph."""
    matrix = vectors(50, 8)
    engine.create("c", 8)
    engine.upsert("c", items(matrix))
    put: list[int] = []
    real = Graph.put

    def noted(self: Graph, labels: list[int], *rest: Any) -> None:
        put.extend(labels)
        real(self, labels, *rest)

    monkeypatch.setattr(Graph, "put", noted)
    engine.upsert("c", [Item("i3", matrix[3], '{"new":true}')])
    assert put == []
    assert engine.search("c", Query(matrix[3])).hits[0].metadata == '{"new":true}'


def test_original_vectors_come_back_bit_for_bit(engine: Engine) -> None:
    """Under COSINE vectors of any length, negative zeros and denormals come back as they were sent."""
    matrix = vectors(50, 16) * np.float32(1e6)
    matrix[:, 3] = -0.0
    matrix[:, 4] = 1e-42
    engine.create("c", 16)
    engine.upsert("c", items(matrix))
    for number, vector in enumerate(matrix):
        hit = engine.search("c", Query(vector, limit=1, with_vectors=True)).hits[0]
        assert hit.id == f"i{number}"
        assert hit.vector is not None
        assert hit.vector.tobytes() == vector.tobytes()


def test_a_deleted_id_can_be_written_again(engine: Engine) -> None:
    """Delete and reinsert, over and over: gone at once, back at once, never twice, never under an old label."""
    matrix = vectors(40, 8)
    engine.create("c", 8)
    engine.upsert("c", items(matrix))
    labels: set[int] = set(labels_of(engine, "c", [f"i{n}" for n in range(40)]).values())
    for round_ in range(10):
        assert engine.delete_vectors("c", ["i5", "i6", "nobody", "i5"])[0] == 2
        assert not {"i5", "i6"} & set(ids(engine.search("c", Query(matrix[5], limit=40))))
        engine.upsert("c", [Item("i5", matrix[5]), Item("i6", matrix[6] + np.float32(round_))])
        new = set(labels_of(engine, "c", ["i5", "i6"]).values())
        assert not new & labels
        labels |= new
        assert sorted(ids(engine.search("c", Query(matrix[5], limit=100)))) == sorted(f"i{n}" for n in range(40))


def test_labels_are_never_reused(tmp_path: Path) -> None:
    """The label of a deleted item is not given out again, not even after a restart with the highest one deleted."""
    seen: set[int] = set()
    for round_ in range(4):
        with opened(tmp_path) as engine:
            if round_ == 0:
                engine.create("c", 4)
            engine.upsert("c", items(vectors(5, 4, seed=round_)))
            labels = set(labels_of(engine, "c", [f"i{n}" for n in range(5)]).values())
            assert not labels & seen
            seen |= labels
            engine.delete_vectors("c", [f"i{n}" for n in range(5)])


def test_the_sequence_counts_committed_writes(engine: Engine) -> None:
    """Each committed write, of any collection, counts once; refused and empty ones do not; searches say it too."""
    engine.create("a", 4)
    engine.create("b", 4)
    assert engine.create("a", 4, if_not_exists=True) is False
    assert engine.upsert("a", items(vectors(3, 4))).sequence == 3
    with pytest.raises(InvalidArgument):
        engine.upsert("a", [Item("x", np.ones(5, np.float32))])
    assert engine.upsert("a", []).sequence == 3
    assert engine.delete_vectors("b", ["nobody"]) == (0, 3)
    assert engine.delete_vectors("a", ["i0"]) == (1, 4)
    assert engine.search("b", Query(np.ones(4, np.float32))).sequence == 4
    assert engine.delete("a") == 2
    assert engine.search("b", Query(np.ones(4, np.float32))).sequence == 5


@pytest.mark.usefixtures("only_graphs")
def test_a_search_claims_no_write_that_it_may_not_have_seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a committed write is on its way into the graph, a search gives the sequence before it."""
    engine.create("c", 4)
    engine.upsert("c", items(vectors(20, 4)))
    during: list[int] = []
    real = Graph.put

    def put(self: Graph, *values: Any) -> None:
        during.append(engine.search("c", Query(np.ones(4, np.float32))).sequence)
        real(self, *values)

    monkeypatch.setattr(Graph, "put", put)
    engine.upsert("c", [Item("new", np.ones(4, np.float32))])
    assert during == [2]
    found = engine.search("c", Query(np.ones(4, np.float32)))
    assert (ids(found)[0], found.sequence) == ("new", 3)


def test_a_failing_graph_gives_way_to_the_store(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the graph refuses an insert, update or delete, the write is acknowledged and seen by the next search."""
    matrix = vectors(60, 8)
    expected = dict(zip([f"i{n}" for n in range(60)], matrix, strict=True))
    engine.create("c", 8)
    engine.upsert("c", items(matrix))

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("hnswlib says no")

    monkeypatch.setattr(Graph, "put", broken)
    expected |= {"new": np.ones(8, np.float32), "i3": -matrix[3]}
    assert engine.upsert("c", [Item("new", expected["new"]), Item("i3", expected["i3"])]).count == 2
    assert_holds(engine, "c", expected)
    monkeypatch.setattr(Graph, "delete", broken)
    assert engine.delete_vectors("c", ["i4"])[0] == 1
    del expected["i4"]
    assert_holds(engine, "c", expected)


@pytest.mark.usefixtures("only_graphs")
def test_without_a_graph_searches_scan(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the graph cannot even be rebuilt, writes and searches go on exactly, and the next write mends it."""
    matrix = vectors(60, 8)
    expected = dict(zip([f"i{n}" for n in range(60)], matrix, strict=True))
    engine.create("c", 8)
    engine.upsert("c", items(matrix))

    def broken(*_: object) -> None:
        raise MemoryError

    expected |= {"new": np.ones(8, np.float32), "i3": -matrix[3]}
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "put", broken)
        engine.upsert("c", [Item("new", expected["new"]), Item("i3", expected["i3"])])
        assert engine.search("c", Query(matrix[0])).exact
        assert_holds(engine, "c", expected)
    engine.delete_vectors("c", ["i5"])
    del expected["i5"]
    assert not engine.search("c", Query(matrix[0])).exact
    assert_holds(engine, "c", expected)


def test_one_bad_item_and_nothing_is_written(engine: Engine) -> None:
    """A request with bad items names each of them with its field and changes nothing, the sequence included."""
    good, bad = np.ones(4, np.float32), np.array([1, np.nan, 0, 0], np.float32)
    engine.create("c", 4)
    for wrong, reason, field in (
        (Item("x", bad), "BAD_VECTOR", "vectors[1].vector"),
        (Item("x", np.array([np.inf, 0, 0, 0], np.float32)), "BAD_VECTOR", "vectors[1].vector"),
        (Item("x", np.zeros(4, np.float32)), "BAD_VECTOR", "vectors[1].vector"),
        (Item("x", np.ones(5, np.float32)), "WRONG_DIMENSION", "vectors[1].vector"),
        (Item("", good), "BAD_ID", "vectors[1].id"),
        (Item("x" * 513, good), "BAD_ID", "vectors[1].id"),
        (Item("é" * 257, good), "BAD_ID", "vectors[1].id"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            engine.upsert("c", [Item("ok", good), wrong, wrong])
        assert caught.value.reason == reason
        assert [name for name, _ in caught.value.violations] == [field, field.replace("1", "2", 1)]
        assert contents(engine, "c", 4) == {}
    assert engine.upsert("c", [Item("é" * 256, good), Item("a\0b", good), Item("a", good)]) == Written(3, 2)
    assert set(contents(engine, "c", 4)) == {"é" * 256, "a\0b", "a"}


def test_more_items_than_a_request_may_have(engine: Engine) -> None:
    """More than 100,000 items are refused before anything is made of them."""
    engine.create("c", 1)
    with pytest.raises(InvalidArgument, match="100000"):
        engine.upsert("c", [Item("a", np.ones(1, np.float32))] * 100_001)
    with pytest.raises(InvalidArgument, match="100000"):
        engine.delete_vectors("c", ["a"] * 100_001)


def test_a_collection_that_fails_to_be_made_can_be_made_later(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no memory for a graph, the collection is not half there."""

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(managing, "index_for", broken)
    with pytest.raises(MemoryError):
        engine.create("c", 4)
    monkeypatch.undo()
    assert engine.create("c", 4) is True


def test_if_not_exists_compares_every_parameter(engine: Engine) -> None:
    """Equal parameters, defaults filled in, are a success; each one that differs is named."""
    engine.create("c", 4)
    same: dict[str, Any] = {"metric": Metric.COSINE, "m": 16, "ef_construction": 200, "ef_search": 100}
    assert engine.create("c", 4, if_not_exists=True, **same) is False
    for key, value in {**same, "metric": Metric.DOT, "m": 8, "ef_construction": 50, "ef_search": 7}.items():
        with pytest.raises(AlreadyExists, match=key):
            engine.create("c", 4, if_not_exists=True, **{key: value})
    with pytest.raises(AlreadyExists, match="dimension"):
        engine.create("c", 5, if_not_exists=True)
    with pytest.raises(AlreadyExists, match="embedding_model"):
        engine.create("c", 4, if_not_exists=True, embedding_model="m")
    with pytest.raises(AlreadyExists):
        engine.create("c", 4)


# ---------------------------------------------------------------- restarts


def test_a_kill_in_mid_life_loses_nothing(tmp_path: Path) -> None:
    """A copy of the folder taken between writes opens with every write, the graph caught up from where it was saved."""
    matrix = vectors(400, 12)
    expected = dict(zip([f"i{n}" for n in range(300)], matrix, strict=False))
    with opened(tmp_path / "live") as engine:
        engine.create("c", 12)
        engine.upsert("c", items(matrix[:300]))
    with opened(tmp_path / "live") as engine:
        engine.upsert("c", [Item("i0", matrix[300]), *items(matrix[301:340], "new"), Item("i1", matrix[1], '{"m":1}')])
        engine.delete_vectors("c", ["i7", "i8", "new3"])
        engine.upsert("c", [Item("i8", matrix[350])])
        copy = killed(tmp_path / "live", tmp_path / "killed")
    expected |= {"i0": matrix[300], **{f"new{n}": v for n, v in enumerate(matrix[301:340])}, "i8": matrix[350]}
    for gone in ("i7", "new3"):
        del expected[gone]
    for _ in range(2):
        with opened(copy) as engine:
            assert_holds(engine, "c", expected)
            assert contents(engine, "c", 12)["i1"][1] == '{"m":1}'


@pytest.mark.parametrize(
    "damage", ["no graph", "no header", "flipped", "cut", "other store", "newer", "garbage header"]
)
@pytest.mark.usefixtures("only_graphs")
def test_a_doubtful_graph_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    """A graph that is missing, damaged, another store's or from the future is built anew, with a log line."""
    folder = tmp_path / "data"
    matrix = vectors(200, 12)
    with opened(folder) as engine:
        engine.create("c", 12)
        engine.upsert("c", items(matrix))
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    graph, header = next(graphs(folder).glob("1-*.hnsw")), graphs(folder) / "1.json"
    if damage == "no graph":
        graph.unlink()
    elif damage == "no header":
        header.unlink()
    elif damage == "flipped":
        raw = bytearray(graph.read_bytes())
        raw[len(raw) // 2] ^= 1
        graph.write_bytes(raw)
    elif damage == "cut":
        graph.write_bytes(graph.read_bytes()[:-100])
    elif damage == "garbage header":
        header.write_text('["not", "an object"]')
    elif damage == "other store":
        with opened(tmp_path / "other") as engine:
            engine.create("c", 12)
            engine.upsert("c", items(-matrix))
        shutil.copytree(graphs(tmp_path / "other"), graphs(folder), dirs_exist_ok=True)
    else:
        with opened(folder) as engine:
            engine._collections["c"].rebuilding = True  # so that it does not do it by itself
            engine.upsert("c", items(-matrix))
        shutil.rmtree(older / "graphs")
        shutil.copytree(folder / "graphs", older / "graphs")
        folder = older
    caplog.set_level(logging.INFO, "hector")
    with opened(folder) as engine:
        assert_holds(engine, "c", dict(zip([f"i{n}" for n in range(200)], matrix, strict=True)))
    assert damage == "no header" or len(rebuilds(caplog)) == 1, caplog.text
    caplog.clear()
    with opened(folder) as engine:
        assert graph_of(engine, "c").count == 200
    assert rebuilds(caplog) == [], "it was not saved again"


def test_wear_is_cleared_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A graph of which more than 30 % is deleted is built anew when it is opened; one with less is not."""
    caplog.set_level(logging.INFO, "hector")
    for count, deleted, rebuilt in ((1500, 300, False), (1500, 490, True)):
        folder = tmp_path / f"{count}-{deleted}"
        with opened(folder) as engine:
            engine.create("c", 8)
            engine.upsert("c", items(vectors(count, 8)))
        with opened(folder) as engine:
            engine._collections["c"].rebuilding = True  # so that it does not do it by itself
            engine.delete_vectors("c", [f"i{n}" for n in range(deleted)])
        with opened(folder) as engine:
            assert (engine.describe("c").tombstone_ratio == 0) is rebuilt
            assert graph_of(engine, "c").count == count - deleted
        assert ("cause=wear" in caplog.text) is rebuilt
        caplog.clear()


@pytest.mark.usefixtures("only_graphs")
def test_a_graph_that_was_not_saved_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was written since the graph was last saved is in it after the next start, and nothing else is put in."""
    matrix = vectors(80, 8)
    caplog.set_level(logging.INFO, "hector")
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", items(matrix[:50]))
    monkeypatch.setattr(GraphCache, "save", lambda *_: False)
    with opened(tmp_path) as engine:
        engine.delete_vectors("c", ["i1", "i2"])
        engine.upsert("c", [*items(matrix[50:60], "new"), Item("i3", -matrix[3]), Item("i4", matrix[4], '{"m":1}')])
        engine.delete_vectors("c", ["new0"])
    put: list[int] = []
    real = Graph.put

    def noted(self: Graph, labels: list[int], *rest: Any) -> None:
        put.extend(labels)
        real(self, labels, *rest)

    monkeypatch.setattr(Graph, "put", noted)
    expected = dict(zip([f"i{n}" for n in range(50)], matrix, strict=False)) | {"i3": -matrix[3]}
    expected |= {f"new{n}": matrix[50 + n] for n in range(1, 10)}
    with opened(tmp_path) as engine:
        changed = labels_of(engine, "c", ["i3", *[f"new{n}" for n in range(1, 10)]])
        assert sorted(put) == sorted(changed.values())
        assert_holds(engine, "c", {name: v for name, v in expected.items() if name not in ("i1", "i2")})
    assert rebuilds(caplog) == []


def test_a_graph_is_saved_now_and_then(tmp_path: Path) -> None:
    """A long life without a restart saves the graph by itself, so that a kill costs a bounded time to catch up."""
    engine = Engine(tmp_path)
    engine.open()
    engine.create("c", 2)
    for start in range(0, 12_000, 2000):
        engine.upsert("c", items(vectors(2000, 2, seed=start), f"{start}-"))
    (saved,) = graphs(tmp_path).glob("1-*.hnsw")
    assert saved.name == "1-6.hnsw"  # after five of the six
    assert engine._collections["c"].unsaved == 2000
    engine.close()


@pytest.mark.usefixtures("only_graphs")
def test_a_full_disk_while_saving_the_graph_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """hnswlib writes to a full disk without complaint; the short file is noticed, logged, and never counts."""
    matrix = vectors(100, 8)
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", items(matrix[:50]))
    before = sorted(path.name for path in graphs(tmp_path).iterdir())

    def short(self: Graph, path: str) -> int:
        Path(path).write_bytes(b"only the beginning")
        return 100_000

    monkeypatch.setattr(Graph, "write_file", short)
    with opened(tmp_path) as engine:
        engine.upsert("c", items(matrix))
    assert "event=graph_not_saved" in caplog.text
    assert sorted(path.name for path in graphs(tmp_path).iterdir()) == before
    monkeypatch.undo()
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", dict(zip([f"i{n}" for n in range(100)], matrix, strict=True)))


def test_equal_vectors_survive_restarts_and_moves(tmp_path: Path) -> None:
    """Items that share a vector can leave it, come back, be deleted and reopened in any order."""
    seed = 20
    rng = np.random.default_rng(seed)
    few = vectors(4, 6)  # so that most vectors are shared
    expected: dict[str, Floats] = {}
    for _ in range(25):
        with opened(tmp_path) as engine:
            engine.create("c", 6, if_not_exists=True)
            for _ in range(12):
                names = [f"i{n}" for n in rng.integers(0, 12, size=rng.integers(1, 5))]
                if rng.random() < 0.35:
                    engine.delete_vectors("c", names)
                    for name in names:
                        expected.pop(name, None)
                else:
                    new = {name: few[rng.integers(0, 4)] for name in names}
                    engine.upsert("c", [Item(name, vector) for name, vector in new.items()])
                    expected |= new
                assert_holds(engine, "c", expected)


def test_collections_outlive_restarts_and_do_not_mix(tmp_path: Path) -> None:
    """Collections come back with their parameters; one deleted and made again under its name starts empty."""
    with opened(tmp_path) as engine:
        engine.create("a", 4, metric=Metric.DOT, m=8, ef_search=50, embedding_model="m")
        engine.create("b", 6)
        engine.upsert("a", items(vectors(30, 4)))
        engine.upsert("b", items(vectors(20, 6)))
        before = engine.describe("a")
    with opened(tmp_path) as engine:
        assert replace(engine.describe("a"), bytes_on_disk=before.bytes_on_disk) == before
        assert engine.delete("a") == 30
        assert not list(graphs(tmp_path).glob("1*"))
        engine.create("a", 5)
        assert contents(engine, "a", 5) == {}
    with opened(tmp_path) as engine:
        assert contents(engine, "a", 5) == {}
        assert len(contents(engine, "b", 6)) == 20
        with pytest.raises(NotFound):
            engine.describe("c")


# ---------------------------------------------------------------- life and death


def test_two_engines_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second on a folder is refused while the first lives, and let in afterwards, whichever thread closed it."""
    engine = Engine(tmp_path)
    engine.open()
    with pytest.raises(StartError, match="in use"):
        Engine(tmp_path)
    thread = threading.Thread(target=engine.close)
    thread.start()
    thread.join()
    with opened(tmp_path):
        pass


def test_a_failed_open_lets_go_of_the_folder(tmp_path: Path) -> None:
    """After a refused start the folder is free: repaired, it opens in the same process."""
    (tmp_path / "store.db").write_bytes(b"this is no database" * 1000)
    engine = Engine(tmp_path)
    with pytest.raises(StartError, match=r"store\.db is damaged .* restore"):
        engine.open()
    (tmp_path / "store.db").unlink()
    with opened(tmp_path) as engine:
        engine.create("c", 4)


def test_a_kill_while_the_store_is_made_leaves_no_damage(tmp_path: Path) -> None:
    """What a kill in the very first start leaves behind is not taken for a damaged store; an emptied store is."""
    (tmp_path / "store.db.new").write_bytes(b"")
    with opened(tmp_path) as engine:
        engine.create("c", 4)
        engine.upsert("c", items(vectors(3, 4)))
    assert not (tmp_path / "store.db.new").exists()
    (tmp_path / "store.db").write_bytes(b"")
    with pytest.raises(StartError, match=r"store\.db"):
        Engine(tmp_path).open()


def test_a_log_without_its_store_is_not_thrown_away(tmp_path: Path) -> None:
    """store.db-wal can hold acknowledged writes: without store.db beside it the start is refused, naming both."""
    engine = Engine(tmp_path / "live")
    engine.open()
    engine.create("c", 4)
    copy = killed(tmp_path / "live", tmp_path / "killed")
    engine.close()
    (copy / "store.db").rename(tmp_path / "saved.db")
    with pytest.raises(StartError, match=r"store\.db-wal"):
        Engine(copy).open()
    (tmp_path / "saved.db").rename(copy / "store.db")
    with opened(copy) as engine:
        assert engine.describe("c").spec.dimension == 4


def test_a_store_that_lost_its_log_mode_gets_it_back(tmp_path: Path) -> None:
    """A file restored with `.recover` is not in WAL mode; opened, it is, so that searches do not block writes."""
    with opened(tmp_path) as engine:
        engine.create("c", 4)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    with opened(tmp_path):
        with sqlite3.connect(tmp_path / "store.db") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


def test_what_comes_after_close_is_told_so(tmp_path: Path) -> None:
    """After `close` reads and writes raise Unavailable, never "no such collection"."""
    with opened(tmp_path) as engine:
        engine.create("c", 4)
        engine.upsert("c", items(vectors(5, 4)))
    for call in (
        lambda: engine.search("c", Query(np.ones(4, np.float32))),
        lambda: engine.upsert("c", items(vectors(1, 4))),
        lambda: engine.delete_vectors("c", ["i1"]),
        lambda: engine.create("d", 4),
        lambda: engine.delete("c"),
    ):
        with pytest.raises(Unavailable, match="shutting down"):
            call()


@pytest.mark.slow
def test_close_while_searches_run(tmp_path: Path) -> None:
    """Closing under searches, exact ones among them, ends each in an answer or Unavailable, and crashes nothing."""
    for round_ in range(5):
        with opened(tmp_path / str(round_)) as engine:
            engine.create("c", 16)
            engine.upsert("c", items(vectors(3000, 16)))
            begun = threading.Barrier(5)
            strange: list[BaseException] = []

            def search(
                number: int,
                engine: Engine = engine,
                begun: threading.Barrier = begun,
                strange: list[BaseException] = strange,
            ) -> None:
                begun.wait()
                try:
                    while True:
                        engine.search("c", Query(np.ones(16, np.float32), exact=number % 2 == 0, with_vectors=True))
                except Unavailable:
                    pass
                except BaseException as error:
                    strange.append(error)

            threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            begun.wait()
            engine.search("c", Query(np.ones(16, np.float32)))
        for thread in threads:
            thread.join()
        assert strange == []


def test_connections_do_not_pile_up(engine: Engine) -> None:
    """A hundred threads that searched once and ended leave a handful of connections, not a hundred."""
    engine.create("c", 4)
    engine.upsert("c", items(vectors(5, 4)))
    for _ in range(100):
        thread = threading.Thread(target=engine.search, args=("c", Query(np.ones(4, np.float32))))
        thread.start()
        thread.join()
    assert len(engine._store.database._idle) <= 3


@pytest.mark.slow
def test_searches_while_a_collection_is_deleted_and_made_again(engine: Engine) -> None:
    """A search beside that finds the old one, the new one or none: NotFound, and never anything else."""
    stop = threading.Event()
    strange: list[object] = []

    def search(exact: bool) -> None:
        while not stop.is_set():
            try:
                found = engine.search("c", Query(np.ones(4, np.float32), limit=30, exact=exact, with_vectors=True))
                if len(found.hits) not in (0, 20):
                    strange.append(found)
            except NotFound:
                pass
            except BaseException as error:
                strange.append(error)

    engine.create("c", 4)
    threads = [threading.Thread(target=search, args=(exact,)) for exact in (False, True, False)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        engine.upsert("c", items(vectors(20, 4)))
        engine.delete("c")
        engine.create("c", 4)
    stop.set()
    for thread in threads:
        thread.join()
    assert strange == []


@pytest.mark.slow
def test_a_score_goes_with_its_metadata(engine: Engine) -> None:
    """Beside updates that change vector and metadata together, no search pairs the old score with the new metadata."""
    target = np.array([1, 0, 0, 0], np.float32)
    states = {1.0: (target, '{"v":1}'), 0.0: (np.array([0, 1, 0, 0], np.float32), '{"v":0}')}
    engine.create("c", 4)
    engine.upsert("c", items(vectors(200, 4), "x"))
    engine.upsert("c", [Item("hot", *states[1.0])])
    stop = threading.Event()
    torn: list[object] = []

    def search(exact: bool) -> None:
        while not stop.is_set():
            found = engine.search("c", Query(target, limit=300, exact=exact, with_vectors=True))
            hot = [hit for hit in found.hits if hit.id == "hot"]
            if len(hot) != 1 or hot[0].vector is None:
                torn.append(hot)
                continue
            wanted = json.loads(hot[0].metadata)["v"]
            if abs(hot[0].score - wanted) > 1e-6 or hot[0].vector[0] != wanted:
                torn.append(hot)

    threads = [threading.Thread(target=search, args=(exact,)) for exact in (False, True, False)]
    for thread in threads:
        thread.start()
    for number in range(300):
        engine.upsert("c", [Item("hot", *states[float(number % 2)])])
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


@pytest.mark.usefixtures("only_graphs")
def test_the_inline_search_declines_what_would_take_long(tmp_path: Path) -> None:
    """`search_now` leaves to `search` what is exact, deep, of great dimension, or would wait for a write."""
    with opened(tmp_path) as engine:
        engine.create("small", 4)
        engine.create("wide", 16_384)
        engine.upsert("small", items(vectors(300, 4)))
        engine.upsert("wide", items(vectors(2, 16_384)))
        query = Query(np.ones(4, np.float32))
        assert engine.search_now("small", query) is not None
        assert engine.search_now("small", Query(query.vector, exact=True)) is None
        assert engine.search_now("small", Query(query.vector, offset=95)) is None
        assert engine.search_now("wide", Query(np.ones(16_384, np.float32))) is None
        graph = graph_of(engine, "small")
        with graph._lock.write():
            assert engine.search_now("small", query) is None


# ---------------------------------------------------------------- any sequence of calls

NAMES = st.sampled_from([f"n{n}" for n in range(8)])
# Few numbers, so that vectors repeat and scores tie.
NUMBERS = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=3, max_size=3).filter(any)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(st.tuples(NAMES, NUMBERS), min_size=1, max_size=6)),
        st.tuples(st.just("delete"), st.lists(NAMES, min_size=1, max_size=4)),
        st.tuples(st.just("reopen"), st.just(None)),
        st.tuples(st.just("kill"), st.just(None)),
        st.tuples(st.just("search"), NUMBERS),
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(metric=st.sampled_from(METRICS), steps=STEPS)
def test_any_sequence_of_calls_matches_a_dict(metric: Metric, steps: list[tuple[str, Any]]) -> None:
    """Whatever is written, deleted, reopened or killed, searches answer as a dict and numpy would."""
    with tempfile.TemporaryDirectory() as parent:
        folder, copies = Path(parent) / "0", 0
        model: dict[str, Floats] = {}
        engine = Engine(folder)
        engine.open()
        engine.create("c", 3, metric=metric)
        try:
            for step, what in [*steps, ("search", [1.0, 0.5, 0.0])]:
                if step == "upsert":
                    new = [Item(name, np.array(numbers, np.float32)) for name, numbers in what]
                    model |= {item.id: item.vector for item in new if item.vector is not None}
                    assert engine.upsert("c", new).count == len({item.id for item in new})
                elif step == "delete":
                    there = set(what) & model.keys()
                    assert engine.delete_vectors("c", what)[0] == len(there)
                    for name in there:
                        del model[name]
                elif step == "search":
                    for exact in (False, True):
                        _agrees(engine, metric, model, np.array(what, np.float32), exact)
                else:
                    if step == "kill":
                        copies += 1
                        folder = killed(folder, Path(parent) / str(copies))
                    engine.close()
                    engine = Engine(folder)
                    engine.open()
        finally:
            engine.close()


def _agrees(engine: Engine, metric: Metric, model: dict[str, Floats], query: Floats, exact: bool) -> None:
    found = engine.search("c", Query(query, limit=20, exact=exact, with_vectors=True))
    assert sorted(ids(found)) == sorted(model)
    truth = dict(zip(model, exact_scores(metric, query, np.array(list(model.values())).reshape(-1, 3)), strict=True))
    for hit in found.hits:
        assert hit.score == pytest.approx(truth[hit.id], abs=1e-6)
        assert hit.vector is not None
        assert hit.vector.tobytes() == model[hit.id].tobytes()
    assert [(-hit.score, hit.id) for hit in found.hits] == sorted((-hit.score, hit.id) for hit in found.hits)
