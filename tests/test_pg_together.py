"""Three vector_pg processes that write to one database, and one that reads from its standby, all at once.

The number of a write says which writes came before it, and the `sequence` of a search which it saw. So each reply is
checked against what the acknowledged writes make of the collection up to that number: nothing more, nothing less.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from tests.servers import start_plugin, wait_until
from tests.test_pg_failover import pair

pytestmark = pytest.mark.slow
_SECONDS = float(os.environ.get("TOGETHER_SECONDS", "5"))
_WRITERS = _READERS = 8
_ALREADY_EXISTS = 6
_MERGED = ("merged-1", "merged-2")  # that all writers change; the rest are each writer's own, and one that all replace

State = Mapping[str, Mapping[str, Any]]  # metadata by id


@dataclass(frozen=True)
class Write:
    """What an acknowledged write did to the collection: an item's metadata, None for a deletion. `merged`: beside what
    it had."""

    sequence: int
    items: Mapping[str, Mapping[str, Any] | None]
    merged: bool = False


@dataclass(frozen=True)
class Read:
    """`before`: the highest number that was acknowledged when it began."""

    before: int
    sequence: int
    state: State


@dataclass
class History:
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    replica_reads: list[Read] = field(default_factory=list)
    last: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, write: Write) -> None:
        with self._lock:
            self.writes.append(write)
            self.last = max(self.last, write.sequence)


def ok(reply: Any) -> Any:
    assert reply.success, reply.error
    return reply


def upserted(stub: DatabaseProviderStub, name: str, metadata: Mapping[str, Any]) -> Write:
    item = pb.Vector(id=name, vector=[1, 0], metadata_json=json.dumps(metadata))
    return Write(ok(stub.UpsertVectors(pb.UpsertVectorsRequest(collection="all", vectors=[item]))).sequence,
                 {name: metadata})  # fmt: skip


def deleted(stub: DatabaseProviderStub, name: str) -> Write:
    return Write(ok(stub.DeleteVectors(pb.DeleteVectorsRequest(collection="all", ids=[name]))).sequence, {name: None})


def merged(stub: DatabaseProviderStub, names: tuple[str, ...], metadata: Mapping[str, Any]) -> Write:
    updates = [pb.MetadataUpdate(id=name, metadata_json=json.dumps(metadata)) for name in names]
    reply = ok(stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="all", updates=updates)))
    return Write(reply.sequence, dict.fromkeys(names, metadata), merged=True)


def inserted(stub: DatabaseProviderStub, name: str) -> Write | None:
    """Into another collection; None where it is there."""
    request = pb.UpsertVectorsRequest(
        collection="once", vectors=[pb.Vector(id=name, vector=[1, 0])], mode=pb.UPSERT_MODE_INSERT_ONLY
    )
    reply = stub.UpsertVectors(request)
    if reply.status.code == _ALREADY_EXISTS:
        return None
    return Write(ok(reply).sequence, {})


def search(stub: DatabaseProviderStub) -> tuple[int, State]:
    reply = ok(stub.SearchVectors(pb.SearchVectorsRequest(collection="all", vector=[1, 0], limit=100)))
    ids = [hit.id for hit in reply.results]
    assert len(ids) == len(set(ids))
    return reply.sequence, {hit.id: dict(hit.metadata) for hit in reply.results}


def write_on(writer: int, stubs: list[DatabaseProviderStub], history: History, stop: threading.Event) -> set[str]:
    """Until told to stop; the ids that this writer was the one to insert."""
    mine: set[str] = set()
    own = f"own-{writer}"
    number = 0
    while not stop.is_set():
        number += 1
        stub, other = stubs[(writer + number) % 3], stubs[(writer + number + 1) % 3]
        if number % 10:
            history.add(upserted(stub, own, {"n": number}))
        else:
            history.add(deleted(stub, own))
        got = ok(other.GetVectors(pb.GetVectorsRequest(collection="all", ids=[own]))).vectors
        assert [dict(vector.metadata) for vector in got] == ([{"n": number}] if number % 10 else [])
        history.add(merged(stub, _MERGED if writer % 2 else _MERGED[::-1], {f"of-{writer}": number}))
        history.add(upserted(stub, "replaced", {"by": writer, "n": number}))
        if (insert := inserted(stub, f"new-{number}")) is not None:
            history.add(insert)
            mine.add(f"new-{number}")
    return mine


def read_on(
    reader: int, stubs: list[DatabaseProviderStub], replica: DatabaseProviderStub, history: History,
    stop: threading.Event,
) -> None:  # fmt: skip
    number = 0
    while not stop.is_set():
        number += 1
        before = history.last
        if (reader + number) % 4:
            history.reads.append(Read(before, *search(stubs[(reader + number) % 3])))
        else:
            history.replica_reads.append(Read(before, *search(replica)))


def check(history: History, first: State) -> State:
    """That every read saw what the writes up to its number made, and nothing else; what all of them made."""
    reads: dict[int, list[State]] = {}
    for read in [*history.reads, *history.replica_reads]:
        reads.setdefault(read.sequence, []).append(read.state)
    state = {name: dict(metadata) for name, metadata in first.items()}
    start = min(write.sequence for write in history.writes)
    for sequence, states in reads.items():
        if sequence < start:
            assert all(seen == first for seen in states)
    for write in sorted(history.writes, key=lambda write: write.sequence):
        for name, metadata in write.items.items():
            if metadata is None:
                state.pop(name, None)
            else:
                state[name] = {**(state[name] if write.merged else {}), **metadata}
        for seen in reads.get(write.sequence, ()):
            assert seen == state, f"at write {write.sequence}"
    return state


@contextlib.contextmanager
def processes() -> Iterator[tuple[list[DatabaseProviderStub], DatabaseProviderStub]]:
    """Three that read and write at the primary, and one that reads from the standby."""
    with pair() as (primary, standby), contextlib.ExitStack() as stack:
        replicas = [{}, {}, {}, {"VECTOR_PG__REPLICA_URL": standby.url}]
        stubs = [
            DatabaseProviderStub(
                stack.enter_context(
                    start_plugin("plugins.vector_pg", env={"DATABASE_URL": primary.url, **replica})
                ).channel()
            )
            for replica in replicas
        ]
        yield stubs[:3], stubs[3]


def test_eight_writers_and_eight_readers() -> None:
    """No number of a write is given twice or left out; each of an item's inserters but one is refused; every read at
    the primary has what was acknowledged before it began; every read, a replica's too, has exactly the writes up to its
    `sequence`; and in the end each item is there once, as the last write left it."""
    history, stop = History(), threading.Event()
    with processes() as (stubs, replica):
        for name in ("all", "once"):
            ok(stubs[0].CreateCollection(pb.CreateCollectionRequest(name=name, dimension=2)))
        for name in _MERGED:
            history.last = upserted(stubs[0], name, {}).sequence
        start = history.last
        wait_until(lambda: search(replica)[0] == start, "the first items on the replica")
        until = time.monotonic() + _SECONDS
        with ThreadPoolExecutor(_WRITERS + _READERS) as threads:
            writers = [threads.submit(write_on, number, stubs, history, stop) for number in range(_WRITERS)]
            readers = [threads.submit(read_on, number, stubs, replica, history, stop) for number in range(_READERS)]
            futures: list[Future[Any]] = [*writers, *readers]

            def enough() -> bool:
                for future in futures:
                    if future.done():
                        future.result()  # which raises what it failed of
                done = len(history.writes), len(history.reads), len(history.replica_reads)
                return time.monotonic() > until and min(done) > 50

            try:
                wait_until(enough, "writes and reads", _SECONDS + 120)
            finally:
                stop.set()
            wait(futures, 60)
            inserts = [future.result(0) for future in writers]
            for future in readers:
                future.result(0)

        numbers = sorted(write.sequence for write in history.writes)
        assert numbers == list(range(start + 1, start + 1 + len(numbers)))
        assert all(read.sequence >= read.before for read in history.reads)
        final = check(history, {name: {} for name in _MERGED})
        assert search(stubs[0]) == (history.last, final)
        wait_until(lambda: search(replica)[0] == history.last, "all writes on the replica")
        assert search(replica)[1] == final
        for name, ids in (("all", set(final)), ("once", set[str]().union(*inserts))):
            listed = list_ids(stubs[1], name)
            assert len(listed) == len(set(listed))
            assert set(listed) == ids
            assert ok(stubs[2].CountVectors(pb.CountVectorsRequest(collection=name))).count == len(ids)
        assert sum(map(len, inserts)) == len(set[str]().union(*inserts))
    behind = [max(0, read.before - read.sequence) for read in history.replica_reads]
    print(
        f"{len(numbers)} writes, {len(history.reads)} reads at the primary, {len(behind)} at the replica, "
        f"which was up to {max(behind)} writes behind"
    )


def list_ids(stub: DatabaseProviderStub, name: str) -> list[str]:
    ids: list[str] = []
    token = ""
    while True:
        page = ok(stub.ListVectors(pb.ListVectorsRequest(collection=name, page_size=1000, page_token=token)))
        ids += [vector.id for vector in page.vectors]
        token = page.next_page_token
        if not token:
            return ids
