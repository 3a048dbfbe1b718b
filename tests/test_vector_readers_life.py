"""Any life of a vector store with two readers beside the writer: the state machine of one, and kills of all three."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from plugins.vector_hnsw.engine import fields, flat, matches
from tests.servers import Plugin, details, start_plugin
from tests.test_vector_crash import DIMENSION, MODULE, Churner, Client, State, dial, everything, number_of
from tests.test_vector_machine import DIMENSION as SMALL_DIMENSION
from tests.test_vector_machine import Machine
from tests.vector_readers import Beside, Reader

pytestmark = pytest.mark.slow

KILLS = 9
CHURNED = 1500  # vectors, of which half go, over and over
PATCHES = {
    "flat.MOST": 30,
    "matches._FEW_NUMBERS": 20 * SMALL_DIMENSION,
    "matches._MOST_RECENT": 60,
    "fields._LEAST_ITEMS": 5,
    "following._SMALL": 300,
    "change_log._MANY": 50,
}

# ---------------------------------------------------------------- any sequence of calls


class BesideMachine(Machine):
    """The machine of one engine, with what it asks asked of the writer and of two readers in turn."""

    readers: list[Reader]
    engine: Any

    def teardown(self) -> None:
        for reader in self.readers:
            reader.close()
        super().teardown()

    def start(self) -> Any:
        writer = super().start()
        if getattr(self, "at", None) != self.folder:
            for reader in self.readers:
                reader.open(self.folder)
            self.at = self.folder
        return Beside(writer, self.readers)

    def settle(self) -> None:
        super().settle()
        for reader in self.readers:
            reader("settle")

    @rule(which=st.integers(0, 1))
    def kill_a_reader(self, which: int) -> None:
        if self.kills_left:
            self.kills_left -= 1
            self.readers[which].kill()
            self.readers[which].open(self.folder)

    kills_left = 1

    @rule()
    def prune(self) -> None:
        """Readers that have not followed yet have to look through everything."""
        with self.engine._store.database.transaction() as transaction:
            transaction.execute("DELETE FROM changes")

    @invariant()
    def counts_are_right(self) -> None:
        for self.engine.chosen in (1, 2, 0):
            super().counts_are_right()
        self.engine.chosen = next(self.turns)

    turns = itertools.cycle((1, 2, 1, 2, 0))


def test_a_life_with_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written, and whenever the writer or a reader is started again or killed, the readers answer as the
    oracle of one engine does."""
    for name, value in PATCHES.items():
        module = {"flat": flat, "matches": matches, "fields": fields}.get(name.partition(".")[0])
        if module is not None:
            monkeypatch.setattr(module, name.partition(".")[2], value)
    readers = [Reader(PATCHES), Reader(PATCHES)]
    monkeypatch.setattr(BesideMachine, "readers", readers, raising=False)
    try:
        run_state_machine_as_test(
            BesideMachine,
            settings=settings(
                max_examples=12,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    finally:
        for reader in readers:
            reader.end()


# ---------------------------------------------------------------- kills


class Servers:
    """A writer and two readers of one folder, each of which can be killed and started again."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.writer = self._start()
        stub = rpc.DatabaseProviderStub(self.writer.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=DIMENSION)).success
        self.readers = [self._start("--reader"), self._start("--reader")]

    def _start(self, *options: str) -> Plugin:
        return self._stack.enter_context(start_plugin(MODULE, "--data-dir", str(self._folder), *options))

    def kill(self, which: int, end: signal.Signals = signal.SIGKILL) -> None:
        """0 and 1 are the readers, 2 is the writer."""
        plugin = self.writer if which == 2 else self.readers[which]
        plugin.signal(end)
        status = plugin.wait()
        assert status == (-signal.SIGKILL if end is signal.SIGKILL else 0), plugin.stderr()

    def start(self, which: int) -> None:
        if which == 2:
            self.writer = self._start()
        else:
            self.readers[which] = self._start("--reader")


class Checks:
    """What a client of the writer looks for at readers after each write, each time at one of them."""

    def __init__(self, servers: Servers, seed: int) -> None:
        self._servers = servers
        self._random = random.Random(seed)
        self._channels: dict[str, rpc.DatabaseProviderStub] = {}
        self.done = self.refused = self.missed = 0

    def stub(self) -> rpc.DatabaseProviderStub:
        plugin = self._random.choice(self._servers.readers)
        if plugin.address not in self._channels:
            self._channels[plugin.address] = dial(plugin)
        return self._channels[plugin.address]

    def look(self, known: dict[str, State], written: dict[str, State], prefix: str) -> None:
        """Everything in `known` is as it was acknowledged, at a reader that lives."""
        try:
            self._look(self.stub(), known, written, prefix)
            self.done += 1
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            self.refused += "taken in" in (error.details() or "")

    def _look(
        self, stub: rpc.DatabaseProviderStub, known: dict[str, State], written: dict[str, State], prefix: str
    ) -> None:
        ids = [*written, *self._random.sample(list(known), min(20, len(known)))]
        got = stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=ids, include_vectors=True))
        assert got.success, got
        there = {each.id: (np.array(each.vector, np.float32).tobytes(), number(each.metadata)) for each in got.vectors}
        assert {name: there.get(name) for name in ids} == {name: known[name] for name in ids}
        among_ids = pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=ids))])
        name = self._random.choice(list(written))
        state = known[name]
        vector = np.frombuffer(state[0], np.float32) if state else np.ones(DIMENSION, np.float32)
        for exact, among in ((False, None), (True, None), (False, among_ids)):
            request = pb.SearchVectorsRequest(
                collection="c", vector=vector.tolist(), limit=100, ef_search=300, exact=exact, filter=among
            )
            reply = stub.SearchVectors(request)
            assert reply.success, reply
            found = {result.id: number_of(result) for result in reply.results}
            assert len(found) == len(reply.results), "one came twice"
            for id_, n in found.items():
                if id_.startswith(prefix):
                    stated = known.get(id_)
                    assert stated is not None, f"{id_} is a ghost"
                    assert stated[1] == n, f"{id_} is stale"
            if state and not np.array_equal(vector, np.ones(DIMENSION)):
                assert name in found or not (exact or among), f"{name} was acknowledged and is not found"
                self.missed += name not in found


def number(metadata: Any) -> int:
    return int(metadata.fields["n"].number_value)


class Beholder(Client):
    """A client that looks at readers for what it has written."""

    checks: Checks

    def work(self, stub: rpc.DatabaseProviderStub) -> None:
        while True:
            self.in_flight = self._next()
            try:
                self._send(stub)
            except grpc.RpcError:
                return
            written, self.in_flight = self.in_flight, {}
            self.acknowledged |= written
            self.checks.look(self.acknowledged, written, f"{self.number}-")


class BeholdingChurner(Churner, Beholder):
    """One whose graphs are worn out."""

    most = CHURNED


class Mover:
    """Makes collections one after the other and has an alias name the last one; a reader finds its items by it."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self._made = 0

    def work(self, stub: rpc.DatabaseProviderStub) -> None:
        while True:
            self._made += 1
            name = f"m{self._made}"
            try:
                assert stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=2)).success
                vectors = [pb.Vector(id=f"{name}-{n}", vector=[1, n]) for n in range(3)]
                assert stub.UpsertVectors(pb.UpsertVectorsRequest(collection=name, vectors=vectors)).success
                assert stub.SetAlias(pb.SetAliasRequest(alias="live", collection=name)).success
                stub.DeleteCollection(pb.DeleteCollectionRequest(name=f"m{self._made - 1}"))
            except grpc.RpcError:
                return
            with contextlib.suppress(grpc.RpcError):
                at = self.checks.stub()
                found = at.SearchVectors(pb.SearchVectorsRequest(collection="live", vector=[1, 0]))
                assert sorted(each.id for each in found.results) == [f"{name}-{n}" for n in range(3)], found
                gone = at.CountVectors(pb.CountVectorsRequest(collection=f"m{self._made - 1}"))
                assert not gone.success
                self.checks.done += 1
            time.sleep(0.05)


@contextlib.contextmanager
def working(workers: list[Any], plugin: Plugin, strange: list[BaseException]) -> Iterator[None]:
    """Within, and until the writer is gone, all of them work; what one of them raises is in `strange`."""

    def work(worker: Any) -> None:
        try:
            worker.work(dial(plugin))
        except BaseException as error:
            strange.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive()


def assert_refused(reader: rpc.DatabaseProviderStub) -> None:
    """A write at a reader is `success=false` with the remedy, and a stream of them goes on."""
    request = pb.UpsertVectorsRequest(collection="c", vectors=[pb.Vector(id="a", vector=[1] * DIMENSION)])
    for reply in (reader.UpsertVectors(request), *reader.UpsertVectorsStream(iter([request, request]))):
        assert not reply.success
        assert "writer's port" in reply.error
        assert details(reply.status).reason == "READER_ONLY"
    assert reader.CountVectors(pb.CountVectorsRequest(collection="c")).count == 0
    assert reader.ListAliases(pb.ListAliasesRequest()).success


def test_kills_beside_readers(tmp_path: Path) -> None:
    """A writer and two readers killed in turn under load: no acknowledged write is unseen at a reader, nothing there
    is a ghost or stale, also while the writer is dead and once it is back."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    strange: list[BaseException] = []
    ends = [0, 1, 2] * (KILLS // 3)
    chance.shuffle(ends)
    with contextlib.ExitStack() as stack:
        servers = Servers(tmp_path / "data", stack)
        assert_refused(rpc.DatabaseProviderStub(servers.readers[0].channel()))
        clients: list[Client] = [Beholder(0, seed), Beholder(1, seed), BeholdingChurner(2, seed)]
        looks = []
        for client in clients:
            assert isinstance(client, Beholder)
            client.checks = Checks(servers, seed + client.number)
            looks.append(client.checks)
        mover = Mover(Checks(servers, seed + 9))
        while ends:
            with working([*clients, mover], servers.writer, strange):
                while ends and ends[-1] != 2:  # readers come and go while the writer works
                    time.sleep(chance.uniform(0.05, 0.6))
                    which = ends.pop()
                    servers.kill(which)
                    servers.start(which)
                time.sleep(chance.uniform(0.05, 0.6))
                if ends:
                    ends.pop()
                servers.kill(2, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            assert not strange, strange
            readers = [rpc.DatabaseProviderStub(reader.channel()) for reader in servers.readers]
            alone = everything(readers[0])
            assert everything(readers[1]) == alone
            for client in clients:
                client.settle(alone)
            servers.start(2)
            stored = everything(rpc.DatabaseProviderStub(servers.writer.channel()))
            assert stored == alone
            known = {name for client in clients for name, state in client.acknowledged.items() if state is not None}
            assert set(stored) == known, f"ghosts: {set(stored) - known}"
            for reader in readers:
                assert everything(reader) == stored
        print("done, refused, missed", [(check.done, check.refused, check.missed) for check in looks])
        assert all(check.done > KILLS for check in [*looks, mover.checks])
        assert sum(check.missed for check in looks) <= sum(check.done for check in looks) // 20
        assert sum(check.refused for check in looks) <= sum(check.done for check in looks) // 20
    shutil.rmtree(tmp_path / "data")
