"""Readers of vector_hnsw beside the writer: what more of them search, what a search costs them, and one for each core
against other databases."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from multiprocessing.synchronize import Barrier
from pathlib import Path

import hector_plugins_pb2 as pb

from benchmarks.harness import Comparison, Section, Server, compare, running
from benchmarks.sets import DIMENSION, QUERIES, Floats, VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client, searches, upserts
from benchmarks.vector_peers import KINDS, loaded

READERS = (1, 2, 4, 8)
CORES = os.cpu_count() or 1
SECONDS = 2.0  # of searches, each time
PATIENCE = 120.0  # seconds that the clients may take to be there
Measure = Callable[[], tuple[float, float]]


def with_readers(chosen: VectorSet, *, peers: bool) -> Section:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        _load(folder, chosen)
        writer = stack.enter_context(running("vector_hnsw", "--data-dir", folder))
        readers = [
            stack.enter_context(running("vector_hnsw", "--data-dir", folder, "--reader"))
            for _ in range(max(*READERS, CORES))
        ]
        client = Client(_target(readers[:CORES]))
        ef = least_ef(lambda ef: _recall(client, chosen, ef))
        speeds, costs = _scaled(writer, readers, chosen.queries, ef)
        servers = {"the writer": (costs[0].reference, [writer])}
        servers |= {one.name: (one.ours, readers[:count]) for count, one in zip(READERS, costs, strict=True)}
        rows = [(name, _milliseconds(rates), _megabytes(used)) for name, (rates, used) in servers.items()]
        beside = list(_beside_peers(chosen, client, ef)) if peers else []
        facts = {
            "set": f"{len(chosen.vectors):,} x {DIMENSION}, recall@10 {_recall(client, chosen, ef):.4f} at ef {ef}",
            "load": f"as many processes of clients as servers, each with {IN_FLIGHT} searches under way",
            "a reader a core": f"{CORES} readers",
        }
        columns = ("what searches", "server CPU of a search", "memory of each")
        return Section(
            f"{len(chosen.vectors):,} {chosen.name}, readers", [*speeds, *costs, *beside], facts, columns, rows
        )


def _load(folder: str, chosen: VectorSet) -> None:
    """Ends with the graph saved, so that no reader has to build it."""
    with running("vector_hnsw", "--data-dir", folder) as server:
        client = Client(server)
        client.create("bench")
        client.upsert(upserts("bench", chosen.vectors))


def _recall(client: Client, chosen: VectorSet, ef: int) -> float:
    requests = iter(searches("bench", chosen.queries, ef))
    return chosen.recall(lambda _: client.found(next(requests)))


def _scaled(
    writer: Server, readers: Sequence[Server], queries: Floats, ef: int
) -> tuple[list[Comparison], list[Comparison]]:
    """Searches a second, and a second of the servers' CPU: of one reader against the writer, of more against one."""
    speeds, costs = [], []
    for count in READERS:
        reference = "1 reader" if count > 1 else "the writer"
        with (
            _searching(readers[:count], queries, ef) as ours,
            _searching(readers[:1] if count > 1 else [writer], queries, ef) as theirs,
        ):
            name = f"{count} reader{'s' * (count > 1)}"
            where = "clients on other cores" if _are_apart(count) else "clients on the same cores"
            speeds.append(_compare(f"{name}, {where}", "queries/s", ours, theirs, 0, reference))
            costs.append(_compare(name, "queries/s of server CPU", ours, theirs, 1, reference))
    return speeds, costs


def _compare(name: str, unit: str, ours: Measure, theirs: Measure, which: int, reference: str) -> Comparison:
    return compare(name, unit, lambda: ours()[which], lambda: theirs()[which], reference_name=reference)


def _are_apart(servers: int) -> bool:
    """Whether clients have cores of their own: where there are two for each server."""
    return len(os.sched_getaffinity(0)) >= 2 * servers


@contextmanager
def _searching(servers: Sequence[Server], queries: Floats, ef: int) -> Iterator[Measure]:
    """Within, each call measures searches a second, and a second of the servers' CPU."""
    cores, count = sorted(os.sched_getaffinity(0)), len(servers)
    theirs, clients = (cores[:count], cores[count:]) if _are_apart(count) else (cores, cores)
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(count + 1, timeout=PATIENCE)
    options = (begin, _target(servers), queries, ef, clients)
    with ProcessPoolExecutor(count, spawn, _connect, options) as pool:

        def measure() -> tuple[float, float]:
            _pin(servers, theirs)
            answered = [pool.submit(_search) for _ in servers]
            begin.wait()
            began, before = time.perf_counter(), _cpu_seconds(servers)
            total = sum(one.result() for one in answered)
            took, spent = time.perf_counter() - began, _cpu_seconds(servers) - before
            return total / took, total / spent

        yield measure
    _pin(servers, cores)


_begin: Barrier
_client: Client
_requests: list[pb.SearchVectorsRequest]


def _connect(begin: Barrier, target: str, queries: Floats, ef: int, cores: Sequence[int]) -> None:
    """Makes this process one of clients."""
    global _begin, _client, _requests
    os.sched_setaffinity(0, cores)  # before there are threads, which do as this one
    _begin, _client, _requests = begin, Client(target), searches("bench", queries, ef)


def _search() -> int:
    """Searches until SECONDS are over, IN_FLIGHT at a time. How many were answered."""
    _begin.wait()
    deadline = time.monotonic() + SECONDS

    def search(first: int) -> int:
        requests, answered = islice(cycle(_requests), first, None), 0
        while time.monotonic() < deadline:
            reply = _client.stub.SearchVectors(next(requests))
            assert reply.success, reply.error
            answered += 1
        return answered

    return sum(_client.pool.map(search, range(0, QUERIES, QUERIES // IN_FLIGHT)))


def _beside_peers(chosen: VectorSet, client: Client, ef: int) -> Iterator[Comparison]:
    for kind in KINDS:
        with loaded(kind, chosen) as peer:
            yield compare(
                f"search, {IN_FLIGHT} clients, a reader a core, which clients share",
                "queries/s",
                lambda: client.query_rate(chosen.queries, ef),
                lambda peer=peer: peer.rate(IN_FLIGHT),  # type: ignore[misc]
                reference_name=peer.name,
            )


def _target(servers: Sequence[Server]) -> str:
    """All of them, as gRPC's round_robin takes them."""
    return "ipv4:" + ",".join(server.address for server in servers)


def _pin(servers: Sequence[Server], cores: Sequence[int]) -> None:
    for server in servers:
        for thread in Path(f"/proc/{server.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), cores)


def _cpu_seconds(servers: Sequence[Server]) -> float:
    return sum(server.cpu_seconds() for server in servers)


def _milliseconds(rates: Sequence[float]) -> str:
    return f"{1000 / statistics.median(rates):.2f} ms"


def _megabytes(servers: Sequence[Server]) -> str:
    return f"{statistics.median(server.resident_bytes() for server in servers) / 1e6:,.0f} MB"
