"""vector_hnsw under kills, damage and load: slow, and with seeds that a failure prints."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query
from plugins.vector_hnsw.engine.graph import Graph
from tests.servers import Plugin, start_plugin
from tests.vector_tools import Floats, exact_scores, graphs, ids, items, opened, vectors

pytestmark = pytest.mark.slow

MODULE = "plugins.vector_hnsw"
DIMENSION = 24
KILLS = 25
STOPS = 5  # in peace, between the kills: they save the graph
CLIENTS = 4
CHURNED = 4000  # vectors: a rebuild takes long enough to be hit

# What an id may hold: its vector's bytes and metadata number, or None for deleted.
State = tuple[bytes, int] | None


class Client:
    """One writer with ids of its own. Knows for each id what was acknowledged last, and what may have come since."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.random = random.Random(seed * 1000 + number)
        self.acknowledged: dict[str, State] = {}
        self.in_flight: dict[str, State] = {}
        self.sequence = 0
        self._made = 0
        self._writes = 0

    def work(self, stub: rpc.DatabaseProviderStub) -> None:
        """Writes until the server is gone."""
        while True:
            self.in_flight = self._next()
            try:
                self._send(stub)
            except grpc.RpcError:
                return
            self.acknowledged |= self.in_flight
            self.in_flight = {}

    def _next(self) -> dict[str, State]:
        there = [name for name, state in self.acknowledged.items() if state is not None]
        kind = self.random.random()
        if kind < 0.2 and there:
            return dict.fromkeys(self.random.sample(there, min(len(there), self.random.randint(1, 10))))
        count = self.random.randint(1, 50)
        if kind < 0.6 and there:
            names = self.random.sample(there, min(len(there), count))
        else:
            names = [f"{self.number}-{self._made + n}" for n in range(count)]
            self._made += count
        self._writes += 1
        return {name: (self._vector(name), self._writes) for name in names}

    def _vector(self, name: str) -> bytes:
        state = self.acknowledged.get(name)
        if state is not None and self.random.random() < 0.3:
            return state[0]  # only the metadata changes
        if self.random.random() < 0.1:
            return np.ones(DIMENSION, np.float32).tobytes()  # the same for many ids
        return np.array([self.random.gauss(0, 1) for _ in range(DIMENSION)], np.float32).tobytes()

    def _send(self, stub: rpc.DatabaseProviderStub) -> None:
        new = [
            pb.Vector(id=name, vector=np.frombuffer(state[0], np.float32).tolist(), metadata_json=f'{{"n":{state[1]}}}')
            for name, state in self.in_flight.items()
            if state is not None
        ]
        if new:
            request = pb.UpsertVectorsRequest(collection="c", vectors=new)
            reply = next(stub.UpsertVectorsStream(iter([request]))) if self.number % 2 else stub.UpsertVectors(request)
            assert reply.success, reply
            self.sequence = reply.sequence
        else:
            gone = stub.DeleteVectors(pb.DeleteVectorsRequest(collection="c", ids=list(self.in_flight)))
            assert gone.deleted_count == len(self.in_flight), gone
            self.sequence = gone.sequence

    def settle(self, stored: dict[str, tuple[bytes, int]]) -> None:
        """After a restart: every acknowledged state is there, a write in flight is there as a whole or not at all."""
        new = {name: stored.get(name) == state for name, state in self.in_flight.items()}
        old = {name: stored.get(name) == self.acknowledged.get(name) for name in self.in_flight}
        assert all(new.values()) or all(old.values()), f"half of a write is there: {new} {old}"
        if all(new.values()):
            self.acknowledged |= self.in_flight
        self.in_flight = {}
        for name, state in self.acknowledged.items():
            assert stored.get(name) == state, f"{name}: acknowledged {state}, found {stored.get(name)}"


class Churner(Client):
    """A writer that fills up and drops half of it, over and over: its graph is worn out and rebuilt all the time."""

    most = CHURNED

    def _next(self) -> dict[str, State]:
        there = [name for name, state in self.acknowledged.items() if state is not None]
        if len(there) >= self.most:
            return dict.fromkeys(self.random.sample(there, len(there) // 2))
        names = [f"{self.number}-{self._made + n}" for n in range(self.most // 4)]
        self._made += len(names)
        self._writes += 1
        return {name: (self._vector(name), self._writes) for name in names}


def wait_for_rebuild(stub: rpc.DatabaseProviderStub) -> bool:
    """Whether the graph is being rebuilt, now or within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if stub.ListCollections(pb.ListCollectionsRequest()).collections[0].health.rebuilding:
            return True
    return False


def take_snapshots(stub: rpc.DatabaseProviderStub, made: dict[str, pb.SnapshotInfo]) -> None:
    """Takes snapshots until the server is gone, into `made` once they are acknowledged."""
    while True:
        try:
            reply = stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name=f"s{len(made)}"))
        except grpc.RpcError:
            return
        if not reply.success:  # an earlier one of this name was made, and the answer lost
            assert stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="c", name=f"s{len(made)}")).success, reply
            continue
        made[reply.snapshot.name] = reply.snapshot
        time.sleep(0.1)


def everything(stub: rpc.DatabaseProviderStub) -> dict[str, tuple[bytes, int]]:
    """The collection as an exact search pages through it. Fails when an id comes twice."""
    found: dict[str, tuple[bytes, int]] = {}
    for offset in range(0, 10**7, 1000):
        reply = stub.SearchVectors(
            pb.SearchVectorsRequest(
                collection="c", vector=[1] * DIMENSION, limit=1000, offset=offset, exact=True, include_vectors=True
            )
        )
        assert reply.success, reply
        for result in reply.results:
            assert result.id not in found, f"{result.id} came twice"
            raw = np.array(result.vector, np.float32).tobytes()
            found[result.id] = (raw, number_of(result))
        if len(reply.results) < 1000:
            return found
    raise AssertionError("no end")


def number_of(result: pb.VectorResult) -> int:
    return int(result.metadata.fields["n"].number_value)


def assert_graph_agrees(stub: rpc.DatabaseProviderStub, stored: dict[str, tuple[bytes, int]], seed: int) -> None:
    """A search by graph finds what is stored, each with its own score, and nothing that is not."""
    names = list(stored)
    matrix = np.array([np.frombuffer(stored[name][0], np.float32) for name in names])
    missed, sample = 0, random.Random(seed).sample(range(len(names)), min(60, len(names)))
    for index in sample:
        truth = dict(zip(names, exact_scores(Metric.COSINE, matrix[index], matrix), strict=True))
        reply = stub.SearchVectors(
            pb.SearchVectorsRequest(collection="c", vector=matrix[index].tolist(), limit=10, ef_search=300)
        )
        assert len({result.id for result in reply.results}) == min(10, len(names))
        for result in reply.results:
            assert result.score == pytest.approx(truth[result.id], abs=1e-5)
            assert number_of(result) == stored[result.id][1]
        missed += abs(reply.results[0].score - 1) > 1e-5
    assert missed <= len(sample) // 20, f"{missed} of {len(sample)} vectors were not found by themselves"


def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SIGKILLed 25 times amid writes, streams, snapshots, rebuilds: what was acknowledged is there, nothing else."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    clients = [*(Client(number, seed) for number in range(CLIENTS)), Churner(CLIENTS, seed)]
    sequence = 0
    saved: set[str] = set()
    snapshots: dict[str, pb.SnapshotInfo] = {}
    ends = [signal.SIGKILL] * KILLS + [signal.SIGTERM] * STOPS
    chance.shuffle(ends)
    killed = rebuilding = 0
    for number, end in enumerate([*ends, None]):
        with start_plugin(MODULE, "--data-dir", str(tmp_path / "data")) as plugin:
            stub = rpc.DatabaseProviderStub(plugin.channel())
            stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=DIMENSION, if_not_exists=True))
            stored = everything(stub)
            for client in clients:
                client.settle(stored)
            known = {name for client in clients for name, state in client.acknowledged.items() if state is not None}
            assert set(stored) == known, f"ghosts: {set(stored) - known}"
            if stored:
                assert_graph_agrees(stub, stored, seed + number)
            reached = stub.SearchVectors(pb.SearchVectorsRequest(collection="c", vector=[1] * DIMENSION)).sequence
            assert reached >= max(client.sequence for client in clients)
            assert reached >= sequence
            sequence = reached
            saved |= {path.name for path in (tmp_path / "data" / "graphs").glob("*/*.hnsw")}
            kept = {one.name: one for one in stub.ListSnapshots(pb.ListSnapshotsRequest()).snapshots}
            assert kept | snapshots == kept, "an acknowledged snapshot is gone"
            if end is None:
                for name in list(snapshots)[::10]:
                    back = stub.RestoreSnapshot(pb.RestoreSnapshotRequest(collection="c", name=name))
                    assert back.success, back
                    assert back.collection.count == len(everything(stub))
                break
            threads = [threading.Thread(target=client.work, args=(dial(plugin),)) for client in clients]
            threads.append(threading.Thread(target=take_snapshots, args=(dial(plugin), snapshots)))
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.02, 1.2))
            rebuilding += end is signal.SIGKILL and number % 2 == 0 and wait_for_rebuild(stub)
            plugin.signal(end)  # what is under way at a peaceful one is refused or done
            status = plugin.wait()
            assert status == (-signal.SIGKILL if end is signal.SIGKILL else 0), plugin.stderr()
            killed += end is signal.SIGKILL
            for thread in threads:
                thread.join(240)
                assert not thread.is_alive()
    assert killed == KILLS
    assert rebuilding >= 5, "no kill came during a rebuild"
    assert sequence > KILLS
    assert snapshots
    assert saved, "the graph was never saved"


def dial(plugin: Plugin) -> rpc.DatabaseProviderStub:
    return rpc.DatabaseProviderStub(plugin.channel())


@pytest.mark.usefixtures("only_graphs")
def test_a_flip_anywhere_in_the_graph_is_noticed(tmp_path: Path) -> None:
    """One byte flipped in each region of the graph file, or of its header: it is rebuilt, and results are right."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    matrix = vectors(600, DIMENSION)
    with opened(tmp_path / "data") as engine:
        engine.create("c", DIMENSION)
        engine.upsert("c", items(matrix))
    truth = {n: np.argsort(-exact_scores(Metric.COSINE, matrix[n], matrix))[:10] for n in range(0, 600, 40)}
    graph = next(graphs(tmp_path / "data").glob("*.hnsw"))
    size = graph.stat().st_size
    # hnswlib's layout: 96 bytes of header; for each element its links (4 + 4 * 2m), vector and label; then upper links.
    links, element = 4 + 4 * 32, 4 + 4 * 32 + 4 * DIMENSION + 8
    start, upper = 96, 96 + 600 * element
    places: dict[str, Callable[[], int]] = {
        "header": lambda: chance.randrange(start),
        "level-0 links": lambda: start + chance.randrange(600) * element + chance.randrange(links),
        "vector": lambda: start + chance.randrange(600) * element + links + chance.randrange(4 * DIMENSION),
        "label": lambda: start + chance.randrange(600) * element + element - 8 + chance.randrange(8),
        "upper links": lambda: chance.randrange(upper, size - 1),
        "last byte": lambda: size - 1,
        "json": lambda: -1,
    }
    assert upper < size - 1
    for region, place in places.items():
        for turn in range(4):
            folder = tmp_path / f"{region}-{turn}"
            shutil.copytree(tmp_path / "data", folder)
            at = place()
            file = graphs(folder) / graph.name
            if at < 0:
                file = graphs(folder) / "1.json"
                at = chance.randrange(file.stat().st_size)
            raw = bytearray(file.read_bytes())
            raw[at] ^= 1 << chance.randrange(8)
            file.write_bytes(raw)
            if file.suffix == ".json" and _same_json(file.read_bytes(), graph.with_name("1.json").read_bytes()):
                continue
            before = graph_files(folder)
            with opened(folder) as engine:
                for number, best in truth.items():
                    found = engine.search("c", Query(matrix[number], ef=300))
                    assert ids(found) == [f"i{n}" for n in best], (region, at)
            assert graph_files(folder) != before, f"{region} at {at}: the damaged file is still there"


def graph_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in graphs(folder).iterdir()}


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def _insert_under_queries(
    insert: Callable[[list[Item]], None], search: Callable[[Floats, int, bool], int], count: int, batch: int
) -> None:
    """Inserts `count` vectors while four threads search; fails on any error or short result."""
    matrix = vectors(count, DIMENSION)
    written, stop = [0], threading.Event()
    strange: list[object] = []

    def ask(number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            there, limit = written[0], chance.choice([1, 10, 100])
            try:
                got = search(matrix[chance.randrange(count)], limit, number == 0 and chance.random() < 0.05)
            except BaseException as error:
                strange.append(error)
                return
            if got < min(limit, there) or got > limit:
                strange.append((got, limit, there))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for start in range(0, count, batch):
            insert(items(matrix[start : start + batch], f"{start}-"))
            written[0] = start + batch
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert strange == []


@pytest.mark.usefixtures("only_graphs")
def test_growth_under_constant_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of resizes while four threads search: no crash, no error, no result that is too short."""
    resizes = []
    real = Graph.reserve

    def tight(self: Graph, more: int, most_bytes: int = 0) -> None:
        # Grows by what is needed and no more, so that every insert grows.
        with self._lock.write():
            self._index.resize_index(max(self._index.get_current_count() + more, 1))
        resizes.append(more)
        real(self, more)

    monkeypatch.setattr(Graph, "reserve", tight)
    with opened(tmp_path) as engine:
        engine.create("c", DIMENSION)

        def search(vector: Floats, limit: int, exact: bool) -> int:
            return len(engine.search("c", Query(vector, limit=limit, exact=exact)).hits)

        _insert_under_queries(lambda new: void(engine.upsert("c", new)), search, 6000, 20)
    assert len(resizes) >= 300


def test_growth_under_constant_queries_over_the_socket(tmp_path: Path) -> None:
    """The same through the server, which also grows by itself: no crash, no error, no result that is too short."""
    with start_plugin(MODULE, "--data-dir", str(tmp_path)) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=DIMENSION)).success

        def insert(new: list[Item]) -> None:
            request = pb.UpsertVectorsRequest(
                collection="c",
                vectors=[pb.Vector(id=item.id, vector=item.vector.tolist()) for item in new if item.vector is not None],
            )
            assert stub.UpsertVectors(request).success

        def search(vector: Floats, limit: int, exact: bool) -> int:
            request = pb.SearchVectorsRequest(collection="c", vector=vector.tolist(), limit=limit, exact=exact)
            reply = stub.SearchVectors(request)
            assert reply.success, reply
            return len(reply.results)

        _insert_under_queries(insert, search, 12_000, 60)
        assert plugin.terminate() == 0


def test_churn_under_constant_queries(tmp_path: Path) -> None:
    """Updates, deletes and reinserts beside searches: nothing twice, no score of another vector, all there at last."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    few = vectors(40, DIMENSION, seed)  # shared by many ids
    expected: dict[str, int] = {}
    stop = threading.Event()
    strange: list[object] = []
    with opened(tmp_path) as engine:
        engine.create("c", DIMENSION)

        def ask(number: int) -> None:
            own = random.Random(number)
            while not stop.is_set():
                query = few[own.randrange(40)]
                try:
                    found = engine.search("c", Query(query, limit=50, exact=own.random() < 0.05, with_vectors=True))
                except BaseException as error:
                    strange.append(error)
                    return
                if len(set(ids(found))) != len(found.hits):
                    strange.append(ids(found))
                for hit in found.hits:
                    assert hit.vector is not None
                    if abs(hit.score - exact_scores(Metric.COSINE, query, hit.vector[None])[0]) > 1e-5:
                        strange.append(hit)
                    if not np.array_equal(hit.vector, few[json.loads(hit.metadata)["n"]]):
                        strange.append(hit)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(600):
                names = [f"i{chance.randrange(300)}" for _ in range(chance.randint(1, 12))]
                if chance.random() < 0.3:
                    engine.delete_vectors("c", names)
                    for name in names:
                        expected.pop(name, None)
                else:
                    new = {name: chance.randrange(40) for name in names}
                    engine.upsert("c", [Item(name, few[n], f'{{"n":{n}}}') for name, n in new.items()])
                    expected |= new
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert strange == []
        assert_complete(engine, few, expected)
    with opened(tmp_path) as engine:
        assert_complete(engine, few, expected)


def assert_complete(engine: Engine, few: Floats, expected: dict[str, int]) -> None:
    found = engine.search("c", Query(few[0], limit=1000))
    assert {hit.id: json.loads(hit.metadata)["n"] for hit in found.hits} == expected
    for number, vector in enumerate(few):
        wanted = sorted(name for name, n in expected.items() if n == number)
        assert ids(engine.search("c", Query(vector, limit=1000, min_score=0.99999))) == wanted


def void(_: object) -> None:
    """Drops a result."""
