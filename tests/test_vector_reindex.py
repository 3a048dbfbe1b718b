"""UpdateCollection: index parameters change, a new graph is built aside, and nobody notices but DescribeCollection."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, flat, opening
from plugins.vector_hnsw.engine.graph import Graph
from plugins.vector_hnsw.engine.verify import verify
from shared.errors import AlreadyExists, Code, LimitReached
from tests.servers import SECONDS, start_plugin, wait_until
from tests.vector_tools import assert_holds, graphs, items, killed, opened, vectors
from tests.vector_wire import assert_refused, serving, vector

pytestmark = pytest.mark.usefixtures("only_graphs")
COUNT = 300


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Graphs are built aside only while it is set; starts go on without it."""
    may_build, build = threading.Event(), opening.build

    def build_when_told(*values: Any, **options: Any) -> Any:
        if threading.current_thread().name == "rebuild":
            assert may_build.wait(SECONDS)
        return build(*values, **options)

    monkeypatch.setattr(opening, "build", build_when_told)
    yield may_build
    may_build.set()


def settled(engine: Engine) -> None:
    wait_until(lambda: not any(one.rebuilding for one in engine.describe_all()), "end of the rebuild")


def graph(engine: Engine, name: str = "c") -> Graph:
    found = engine._collections[name].graph
    assert isinstance(found, Graph)
    return found


def made_with(engine: Engine, name: str = "c") -> tuple[int, int]:
    """m and ef_construction of hnswlib's own index, which is what counts."""
    index = graph(engine, name)._index
    return index.M, index.ef_construction


def filled(engine: Engine, **options: Any) -> dict[str, Any]:
    rows = vectors(COUNT, 8)
    engine.create("c", 8, **options)
    engine.upsert("c", items(rows))
    return {f"i{n}": row for n, row in enumerate(rows)}


# ---------------------------------------------------------------- over a socket


def test_parameters_are_changed_and_told(tmp_path: Path, gate: threading.Event) -> None:
    """UpdateCollection answers with the new parameters; DescribeCollection and ListCollections show that a new index is
    built and how far it is, until it is there; what is not named stays."""
    with serving(tmp_path / "data") as database:
        database.create(index=pb.IndexParams(ef_construction=60))
        database.upsert(*[vector(f"i{n}", *row.tolist()) for n, row in enumerate(vectors(COUNT, 4))])
        wanted = pb.UpdateCollectionRequest(name="c", index=pb.IndexParams(m=24, ef_search=50))
        reply = database.stub.UpdateCollection(wanted)
        assert (reply.success, reply.collection.name, reply.collection.count) == (True, "c", COUNT)
        assert reply.collection.index == pb.IndexParams(m=24, ef_construction=60, ef_search=50)
        assert reply.collection.health.rebuilding
        described = database.stub.DescribeCollection(pb.DescribeCollectionRequest(name="c")).collection
        assert (described.health.rebuilding, described.index.m) == (True, 24)
        assert 0 <= described.health.rebuild_progress < 1
        assert len(database.search(limit=20).results) == 20
        gate.set()

        def health() -> pb.IndexHealth:
            return database.stub.ListCollections(pb.ListCollectionsRequest()).collections[0].health

        wait_until(lambda: not health().rebuilding, "end of the rebuild")
        assert health().rebuild_progress == 0
        assert made_with(database.engine) == (24, 60)
        assert len(database.search(limit=20).results) == 20


def test_what_is_refused(tmp_path: Path) -> None:
    """No collection, nothing to change, and numbers out of range are refused with their field."""
    with serving(tmp_path / "data") as database:
        database.create()

        def update(index: pb.IndexParams, name: str = "c") -> pb.UpdateCollectionResponse:
            return database.stub.UpdateCollection(pb.UpdateCollectionRequest(name=name, index=index))

        assert_refused(update(pb.IndexParams(m=8), "x"), Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "name")
        assert_refused(update(pb.IndexParams()), Code.INVALID_ARGUMENT, "NOTHING_NAMED", "index")
        for name, value in (("m", 1), ("m", 129), ("ef_construction", 3), ("ef_search", 5000)):
            reply = update(pb.IndexParams(**{name: value}))
            assert_refused(reply, Code.INVALID_ARGUMENT, "OUT_OF_RANGE", f"index.{name}")
        assert update(pb.IndexParams(m=16)).success
        assert database.engine.describe("c").spec.m == 16


def test_if_not_exists_after_a_change(tmp_path: Path) -> None:
    """Whoever makes sure of a collection without naming index parameters takes those that it has by now; one that names
    others is refused."""
    with opened(tmp_path / "data") as engine:
        engine.create("c", 4, m=8)
        engine.update_index("c", m=32)
        assert engine.create("c", 4, if_not_exists=True) is False
        assert engine.create("c", 4, if_not_exists=True, m=32) is False
        with pytest.raises(AlreadyExists, match="m 32, not 8"):
            engine.create("c", 4, if_not_exists=True, m=8)


# ---------------------------------------------------------------- while it is built


@pytest.mark.parametrize("metric", list(Metric))
def test_searches_and_writes_go_on(tmp_path: Path, gate: threading.Event, metric: Metric) -> None:
    """While the new graph is built everything is found, and what is written meanwhile is in it, whatever the metric."""
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine, metric=metric)
        before = graph(engine)
        engine.update_index("c", m=6, ef_construction=50)
        assert engine.describe("c", sample=False).rebuilding
        assert graph(engine) is before
        new = {f"i{n}": row for n, row in enumerate(vectors(50, 8, seed=2), start=COUNT - 25)}
        engine.upsert("c", [Item(name, row) for name, row in new.items()])
        engine.delete_vectors("c", [f"i{n}" for n in range(25)])
        expected = {name: row for name, row in (expected | new).items() if name not in {f"i{n}" for n in range(25)}}
        assert_holds(engine, "c", expected, metric)
        gate.set()
        settled(engine)
        assert made_with(engine) == (6, 50)
        assert graph(engine).count == len(expected)
        assert_holds(engine, "c", expected, metric)


def test_ef_search_needs_no_rebuild(tmp_path: Path) -> None:
    """ef_search counts from the next search on, without a new graph, and the recall is measured anew."""
    with opened(tmp_path / "data", threads=1) as engine:
        filled(engine)
        engine.update_index("c", ef_search=1)
        before, low = graph(engine), engine.describe("c").sampled_recall
        engine.update_index("c", ef_search=400)
        assert graph(engine) is before
        assert not engine.describe("c", sample=False).rebuilding
        assert engine.describe("c").sampled_recall > low
        assert len(engine.search("c", Query(vectors(1, 8)[0], limit=10)).hits) == 10


def test_the_last_change_wins(tmp_path: Path, gate: threading.Event) -> None:
    """Parameters that change while a graph is built with others end in a graph of the last."""
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine)
        for m in (4, 40, 5):
            engine.update_index("c", m=m)
        gate.set()
        settled(engine)
        assert made_with(engine) == (5, 200)
        gate.clear()
        engine.update_index("c", m=30)
        engine.update_index("c", m=5)
        gate.set()
        settled(engine)
        assert made_with(engine) == (5, 200)
        assert_holds(engine, "c", expected)


def test_a_small_collection_has_no_graph_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few vectors are compared without a graph; the parameters count for the graph that comes with more."""
    monkeypatch.setattr(flat, "MOST", 100)
    with opened(tmp_path / "data", threads=1) as engine:
        engine.create("c", 8)
        engine.upsert("c", items(vectors(100, 8)))
        engine.update_index("c", m=7)
        assert not engine.describe("c").rebuilding
        engine.upsert("c", items(vectors(COUNT, 8)))
        assert made_with(engine)[0] == 7


def test_a_collection_that_goes_meanwhile(tmp_path: Path, gate: threading.Event) -> None:
    """A collection that is deleted, or put back to a snapshot, while its graph is built is what it then is, and no file
    of the abandoned graph stays."""
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine)
        engine.create_snapshot("c", "s")
        engine.update_index("c", m=4)
        thread = next(one for one in threading.enumerate() if one.name == "rebuild")
        engine.restore_snapshot("c", "s")
        gate.set()
        thread.join(SECONDS)
        settled(engine)
        assert engine.describe("c").spec.m == made_with(engine)[0] == 16
        assert_holds(engine, "c", expected)
        gate.clear()
        engine.update_index("c", m=4)
        thread = next(one for one in threading.enumerate() if one.name == "rebuild")
        engine.delete("c")
        gate.set()
        thread.join(SECONDS)
        assert list(graphs(tmp_path / "data").iterdir()) == []


def test_there_must_be_memory_for_both(tmp_path: Path) -> None:
    """Where max_memory has no room for the new graph beside the old one, the change is refused as a whole."""
    with opened(tmp_path / "data", threads=1, max_memory=1_000_000) as engine:
        filled(engine)
        with pytest.raises(LimitReached, match="max_memory"):
            engine.update_index("c", m=120)
        assert engine.describe("c").spec.m == 16
        engine.update_index("c", m=17)
        settled(engine)
        assert made_with(engine)[0] == 17


# ---------------------------------------------------------------- ends and starts


def test_a_kill_while_it_is_built(tmp_path: Path, gate: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    """After a kill during the rebuild the old graph is searched at once, with the new parameters told, and the rebuild
    is done in the background; verify calls the old graph sound."""
    caplog.set_level(logging.INFO, "hector")
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine)
    with opened(tmp_path / "data", threads=1) as engine:
        engine.update_index("c", m=9, ef_construction=70, ef_search=33)
        folder = killed(tmp_path / "data", tmp_path / "after")
        gate.set()
    gate.clear()
    assert [line.split()[0] for line in verify(folder)] == ["sound"] * 3
    with opened(folder, threads=1) as engine:
        described = engine.describe("c", sample=False)
        assert (described.rebuilding, described.spec.m, described.spec.ef_search) == (True, 9, 33)
        assert made_with(engine) == (16, 200)
        assert_holds(engine, "c", expected)
        gate.set()
        settled(engine)
        assert made_with(engine) == (9, 70)
        again = killed(folder, tmp_path / "again")
    gate.clear()
    caplog.clear()
    with opened(again, threads=1) as engine:  # it was saved as soon as it was there
        assert not engine.describe("c", sample=False).rebuilding
        assert made_with(engine) == (9, 70)
        assert "graph_rebuilt" not in caplog.text
        assert_holds(engine, "c", expected)


def test_a_close_while_it_is_built(tmp_path: Path, gate: threading.Event) -> None:
    """A close does not wait for the rebuild, saves the old graph, and nothing is written after it."""
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine)
        engine.update_index("c", m=9)
        thread = next(one for one in threading.enumerate() if one.name == "rebuild")
    files = sorted(graphs(tmp_path / "data").iterdir())
    gate.set()
    thread.join(SECONDS)
    assert sorted(graphs(tmp_path / "data").iterdir()) == files
    header = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    assert header["m"] == 16
    with opened(tmp_path / "data", threads=1) as engine:
        settled(engine)
        assert made_with(engine)[0] == 9
        assert_holds(engine, "c", expected)


@pytest.mark.parametrize("spoil", [{"m": 0}, {"m": 10**9}, {"m": "16"}, {"ef_construction": None}, {"m": 9}])
def test_a_header_that_lies(tmp_path: Path, spoil: dict[str, Any]) -> None:
    """A saved graph whose header was changed is built anew with the collection's parameters."""
    with opened(tmp_path / "data", threads=1) as engine:
        expected = filled(engine)
    header = next(graphs(tmp_path / "data").glob("*.json"))
    header.write_text(json.dumps(json.loads(header.read_text()) | spoil))
    with opened(tmp_path / "data", threads=1) as engine:
        settled(engine)
        assert made_with(engine) == (16, 200)
        assert_holds(engine, "c", expected)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_of_the_process(tmp_path: Path, end: signal.Signals) -> None:
    """A stop or a kill during a rebuild of a running plugin loses neither vectors nor the change, and the next start
    answers while it does the rebuild."""
    rows = vectors(6000, 48)
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=48)).success
        for start in range(0, 6000, 2000):
            new = [
                pb.Vector(id=f"i{start + n}", vector=row.tolist()) for n, row in enumerate(rows[start : start + 2000])
            ]
            assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new)).success
        index = pb.IndexParams(m=32, ef_construction=400)
        assert stub.UpdateCollection(pb.UpdateCollectionRequest(name="c", index=index)).collection.health.rebuilding
        plugin.signal(end)
        assert plugin.wait() == (0 if end is signal.SIGTERM else -end), plugin.stderr()
    assert "Traceback" not in plugin.stderr()
    with opened(tmp_path) as engine:
        assert (engine.describe("c", sample=False).spec.m, engine.count("c")) == (32, 6000)
        assert_holds(engine, "c", {f"i{n}": row for n, row in enumerate(rows)})
        settled(engine)
        assert made_with(engine) == (32, 400)
