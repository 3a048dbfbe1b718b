"""What an index must not lose over a long life: recall under churn, what lies beside near copies, writes under load."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, flat, opening
from plugins.vector_hnsw.engine.graph import Graph
from tests.servers import SECONDS, start_plugin, wait_until
from tests.vector_tools import Floats, assert_holds, contents, exact_scores, ids, items, opened, vectors


def await_rebuilds(engine: Engine) -> None:
    entries = engine._collections
    wait_until(lambda: not any(one.rebuilding for one in entries.values()), "end of the rebuild", 4 * SECONDS)


def recall(engine: Engine, names: list[str], matrix: Floats, queries: Floats, ef: int, name: str = "c") -> float:
    """recall@10, by score: of equally near ones any is right."""
    found = 0
    for query in queries:
        tenth = np.sort(exact_scores(Metric.COSINE, query, matrix))[-10]
        found += sum(hit.score >= tenth - 1e-5 for hit in engine.search(name, Query(query, ef=ef)).hits)
    assert len(names) == len(matrix)
    return found / (10 * len(queries))


# ---------------------------------------------------------------- near copies


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN])
@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-5])
@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_near_copies_hide_nothing(tmp_path: Path, metric: Metric, noise: float, count: int) -> None:
    """Among many copies of one vector, equal or nearly so, every other vector finds itself first, as without them.

    A graph loses one in a thousand of random vectors anyway; 0.5 % more would be the copies' doing.
    """
    others = vectors(2 * count, 64)
    chance = np.random.default_rng(5)
    one = vectors(1, 64, seed=9)
    copies = (one + noise * chance.normal(size=(count, 64))).astype(np.float32)
    everything = items(copies, "copy") + items(others, "other")
    order = chance.permutation(len(everything))
    with opened(tmp_path) as engine:
        engine.create("c", 64, metric=metric)
        engine.create("without", 64, metric=metric)
        for start in range(0, len(order), 500):
            engine.upsert("c", [everything[index] for index in order[start : start + 500]])
        engine.upsert("without", items(others, "other"))

        def lost(collection: str) -> int:
            answers = [ids(engine.search(collection, Query(row, limit=1))) for row in others]
            return sum(answer != [f"other{n}"] for n, answer in enumerate(answers))

        assert lost("c") <= lost("without") + len(others) // 200
        found = engine.search("c", Query(copies[0], limit=10))
        assert all(name.startswith("copy") for name in ids(found))


# ---------------------------------------------------------------- churn


@pytest.mark.slow
@pytest.mark.parametrize("how", ["replaced", "moved"])
@pytest.mark.parametrize(("count", "rounds"), [(1100, 2), pytest.param(2500, 20, marks=pytest.mark.slow)])
def test_recall_holds_through_churn(tmp_path: Path, how: str, count: int, rounds: int) -> None:
    """After rounds in which every vector is deleted for a new one, or moved, recall@10 at ef 64 is a fresh index's."""
    chance = random.Random(3)
    queries = vectors(200, 32, seed=99)
    with opened(tmp_path) as engine:
        engine.create("c", 32)
        there = {f"0-{n}": row for n, row in enumerate(vectors(count, 32, seed=0))}
        engine.upsert("c", [Item(name, row) for name, row in there.items()])
        for turn in range(1, rounds + 1):
            names = list(there)
            chance.shuffle(names)
            new = vectors(count, 32, seed=turn)
            for start in range(0, count, 250):
                old, rows = names[start : start + 250], new[start : start + 250]
                if how == "replaced":
                    engine.delete_vectors("c", old)
                    for name in old:
                        del there[name]
                    old = [f"{turn}-{start + n}" for n in range(len(old))]
                there |= dict(zip(old, rows, strict=True))
                engine.upsert("c", [Item(name, row) for name, row in zip(old, rows, strict=True)])
        await_rebuilds(engine)
        matrix = np.array(list(there.values()))
        engine.create("fresh", 32)
        engine.upsert("fresh", [Item(name, row) for name, row in there.items()])
        worn = recall(engine, list(there), matrix, queries, 64)
        fresh = recall(engine, list(there), matrix, queries, 64, "fresh")
        assert worn >= fresh - 0.02, (worn, fresh)
        described = engine.describe("c")
        assert described.count == count
        assert described.tombstone_ratio <= 0.31


@pytest.mark.slow
def test_a_rebuild_goes_unnoticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the graph is rebuilt aside and swapped, no search fails or is short, no write is lost, threads are kept."""
    caplog.set_level(logging.INFO, "hector")
    rows = vectors(4000, 24)
    expected = {f"i{n}": row for n, row in enumerate(rows)}
    stop, may_build = threading.Event(), threading.Event()
    strange: list[object] = []
    build = opening.build

    def build_when_told(*values: Any, **options: Any) -> flat.Flat | Graph:
        assert may_build.wait(SECONDS)
        return build(*values, **options)

    with opened(tmp_path) as engine:
        engine.create("c", 24)
        engine.upsert("c", items(rows))
        monkeypatch.setattr(opening, "build", build_when_told)
        before = engine._collections["c"].graph

        def search(number: int) -> None:
            chance = random.Random(number)
            try:
                while not stop.is_set():
                    query = rows[chance.randrange(2000, 4000)]
                    found = engine.search("c", Query(query, limit=20, exact=chance.random() < 0.02))
                    if len(found.hits) != 20 or found.hits[0].score < 0.9999:
                        strange.append(found)
            except BaseException as error:
                strange.append(error)

        threads = [threading.Thread(target=search, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            gone = [f"i{n}" for n in range(1300)]
            engine.delete_vectors("c", gone)
            for name in gone:
                del expected[name]
            assert engine.describe("c", sample=False).rebuilding
            written = 0
            while engine._collections["c"].rebuilding:
                # Before, during and, on a busy machine, long before the end of it.
                if written == 10:
                    may_build.set()
                if written == 90:
                    time.sleep(0.01)
                    continue
                name, row = f"i{1300 + written % 500}", vectors(1, 24, seed=1000 + written)[0]
                engine.upsert("c", [Item(name, row), Item(f"new{written}", -row)])
                expected |= {name: row, f"new{written}": -row}
                engine.delete_vectors("c", [f"i{1900 + written}"])
                expected.pop(f"i{1900 + written}", None)
                written += 1
                time.sleep(0.01)
        finally:
            may_build.set()
            stop.set()
            for thread in threads:
                thread.join()
        assert strange == []
        assert written > 10
        after = engine._collections["c"].graph
        assert after is not before
        assert before is not None
        assert after is not None
        assert after.threads == before.threads
        assert "event=graph_rebuilt collection=c cause=wear" in caplog.text
        assert_holds(engine, "c", expected)
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", expected)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_during_a_rebuild(tmp_path: Path, end: signal.Signals) -> None:
    """A stop during a rebuild ends in peace with exit 0, a kill does too, and all is there afterwards."""
    rows = vectors(6000, 48)
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=48)).success
        new = [pb.Vector(id=f"i{n}", vector=row.tolist()) for n, row in enumerate(rows)]
        for start in range(0, 6000, 2000):
            assert stub.UpsertVectors(
                pb.UpsertVectorsRequest(collection="c", vectors=new[start : start + 2000])
            ).success
        gone = pb.DeleteVectorsRequest(collection="c", ids=[f"i{n}" for n in range(2000)])
        assert stub.DeleteVectors(gone).deleted_count == 2000
        for _ in range(20):  # on a busy machine a rebuild may be over before that is asked
            if stub.ListCollections(pb.ListCollectionsRequest()).collections[0].health.rebuilding:
                break
            assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new[:2000])).success
            assert stub.DeleteVectors(gone).deleted_count == 2000
        else:
            pytest.fail("no rebuild was seen")
        plugin.signal(end)
        assert plugin.wait() == (0 if end is signal.SIGTERM else -end), plugin.stderr()
    assert "Traceback" not in plugin.stderr()
    with opened(tmp_path) as engine:
        assert_holds(engine, "c", {f"i{n}": rows[n] for n in range(2000, 6000)})


# ---------------------------------------------------------------- everything at once


def _load(folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight writers and eight readers, with resizes, rebuilds and snapshots under way."""
    monkeypatch.setattr(flat, "MOST", 200)
    rebuilds, resizes = [0], [0]
    real_build, real_reserve = opening.build, Graph.reserve

    def build(*values: object, **options: object) -> flat.Flat | Graph:
        rebuilds[0] += 1
        return real_build(*values, **options)  # type: ignore[arg-type]

    def reserve(self: Graph, more: int, most_bytes: int = 0) -> None:
        before = self._index.get_max_elements()
        real_reserve(self, more, most_bytes)
        resizes[0] += self._index.get_max_elements() != before

    monkeypatch.setattr(opening, "build", build)
    monkeypatch.setattr(Graph, "reserve", reserve)
    strange: list[object] = []
    expected: list[dict[str, Floats]] = [{} for _ in range(8)]
    stop = threading.Event()
    fixed = vectors(300, 16, seed=500)
    with opened(folder) as engine:
        engine.create("c", 16)
        engine.upsert("c", items(fixed, "fixed"))

        def guarded(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    while not stop.is_set():
                        work()
                except BaseException as error:
                    strange.append(error)

            return run

        def writer(number: int) -> Callable[[], None]:
            chance, own = random.Random(number), expected[number]
            made = [0]

            def work() -> None:
                kind = chance.random()
                if kind < 0.35 and own:
                    gone = chance.sample(sorted(own), min(len(own), chance.randint(1, 60)))
                    for name in gone:
                        del own[name]
                    count, _ = engine.delete_vectors("c", gone)
                    if count != len(gone):
                        strange.append((count, gone))
                    return
                rows = vectors(chance.randint(1, 60), 16, seed=1000 + chance.randrange(10**6))  # none of `fixed`
                if kind < 0.6 and own:
                    names = chance.sample(sorted(own), min(len(own), len(rows)))
                else:
                    names = [f"{number}-{made[0] + n}" for n in range(len(rows))]
                    made[0] += len(rows)
                new = dict(zip(names, rows, strict=False))
                own.update(new)
                engine.upsert("c", [Item(name, row, f'{{"w":{number}}}') for name, row in new.items()])

            return work

        def reader(number: int) -> Callable[[], None]:
            chance = random.Random(100 + number)

            def work() -> None:
                at = chance.randrange(300)
                exact = chance.random() < 0.05
                found = engine.search("c", Query(fixed[at], limit=20, exact=exact, ef=200, with_vectors=exact))
                if len(found.hits) != 20 or len(set(ids(found))) != 20 or found.hits[0].id != f"fixed{at}":
                    strange.append((at, exact, ids(found)))

            return work

        def snapshots() -> None:
            engine.create_snapshot("c", "s")
            engine.delete_snapshot("c", "s")
            engine.describe("c")
            stop.wait(0.2)

        work = [*(guarded(writer(n)) for n in range(8)), *(guarded(reader(n)) for n in range(8)), guarded(snapshots)]
        threads = [threading.Thread(target=one) for one in work]
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        wait_until(lambda: bool(strange) or (rebuilds[0] > 1 and resizes[0] > 0), "two rebuilds and a resize")
        stop.set()
        for thread in threads:
            thread.join()
        assert strange == []
        await_rebuilds(engine)
        everything = {f"fixed{n}": row for n, row in enumerate(fixed)}
        for own in expected:
            everything |= own
        assert_holds(engine, "c", everything)
        assert engine.count("c") == len(everything)
    assert rebuilds[0] > 1
    assert resizes[0]
    with opened(folder) as engine:
        stored = {name: raw for name, (raw, _) in contents(engine, "c", 16).items()}
        assert stored == {name: row.tobytes() for name, row in everything.items()}


@pytest.mark.slow
def test_eight_writers_and_eight_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rebuilds, resizes and snapshots under way, nobody sees an error, and no write is lost."""
    _load(tmp_path, 4, monkeypatch)


@pytest.mark.slow
def test_eight_writers_and_eight_readers_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a minute."""
    _load(tmp_path, 60, monkeypatch)


def test_a_graph_file_that_goes_while_it_is_measured(tmp_path: Path) -> None:
    """A collection is described although one of its graph's files is gone by the time its size is asked for."""
    with opened(tmp_path) as engine:
        engine.create("c", 2)
        (folder,) = (tmp_path / "graphs").iterdir()
        # Listed, but not there: as a file that is replaced at that moment.
        number = engine.describe("c").spec.number
        (folder / f"{number}-gone.hnsw").symlink_to("nowhere")
        assert engine.describe("c").count == 0
