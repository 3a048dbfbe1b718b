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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from multiprocessing.synchronize import Barrier
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb

from benchmarks.harness import Comparison, Section, Server, compare, running
from benchmarks.sets import DIMENSION, QUERIES, Floats, VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client, channel, searches, upserts
from benchmarks.vector_peers import KINDS, loaded

READERS = (1, 2, 4, 8)
CORES = os.cpu_count() or 1
SECONDS = 2.0  # of searches, each time
PATIENCE = 120.0  # seconds that the clients may take to be there
Measure = Callable[[], tuple[float, float]]
Cores = tuple[list[int], list[int]]


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
            "clients": f"as many processes as servers, {IN_FLIGHT} searches under way in each, on the other cores",
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
        one, reference = (readers[:1], "1 reader") if count > 1 else ([writer], "the writer")
        with _searching(readers[:count], queries, ef) as ours, _searching(one, queries, ef) as theirs:
            speed, cost = _compare(f"{count} reader{'s' * (count > 1)}", _cores(count), ours, theirs, reference)
        speeds.append(speed)
        costs.append(cost)
    return speeds, costs


def _compare(name: str, cores: Cores, ours: Measure, theirs: Measure, reference: str) -> tuple[Comparison, Comparison]:
    costs: tuple[list[float], list[float]] = [], []

    def speed(measure: Measure, into: list[float]) -> float:
        speed, cost = measure()
        into.append(cost)
        return speed

    where = f"{name} on {len(cores[0])} core{'s' * (len(cores[0]) > 1)}"
    speeds = compare(
        where, "queries/s", lambda: speed(ours, costs[0]), lambda: speed(theirs, costs[1]), reference_name=reference
    )
    # The first round does not count there.
    return speeds, Comparison(name, "queries/s of server CPU", reference, costs[0][1:], costs[1][1:])


def _cores(servers: int) -> Cores:
    """For the servers, one each but half of all at most, and the rest for their clients."""
    cores = sorted(os.sched_getaffinity(0))
    count = max(1, min(servers, len(cores) // 2))
    return cores[:count], cores[count:] or cores


@contextmanager
def _searching(servers: Sequence[Server], queries: Floats, ef: int) -> Iterator[Measure]:
    """Within, each call measures searches a second, and a second of the servers' CPU."""
    theirs, clients = _cores(len(servers))
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(len(servers) + 1, timeout=PATIENCE)
    options = (begin, _target(servers), queries, ef, clients)
    with ProcessPoolExecutor(len(servers), spawn, _connect, options) as pool:

        def measure() -> tuple[float, float]:
            _pin(servers, theirs)
            answered = [pool.submit(_search) for _ in servers]
            begin.wait()
            began, before = time.perf_counter(), _cpu_seconds(servers)
            total = sum(one.result() for one in answered)
            took, spent = time.perf_counter() - began, _cpu_seconds(servers) - before
            return total / took, total / spent

        yield measure
    _pin(servers, sorted(os.sched_getaffinity(0)))


_begin: Barrier
_ask: grpc.UnaryUnaryMultiCallable[bytes, bytes]
_requests: list[bytes]


def _connect(begin: Barrier, target: str, queries: Floats, ef: int, cores: Sequence[int]) -> None:
    """Makes this process one of clients. It packs and reads no messages, to have the servers be what is measured."""
    global _begin, _ask, _requests
    os.sched_setaffinity(0, cores)  # before there are threads, which do as this one
    _begin, _ask = begin, channel(target).unary_unary("/hector.plugins.v1.DatabaseProvider/SearchVectors")
    _requests = [request.SerializeToString() for request in searches("bench", queries, ef)]


def _search() -> int:
    """Searches until SECONDS are over, IN_FLIGHT at a time. How many were answered."""
    _begin.wait()
    deadline = time.monotonic() + SECONDS

    def search(first: int) -> int:
        answered = 0
        for request in islice(cycle(_requests), first, None):
            reply = _ask(request)
            answered += 1
            if time.monotonic() > deadline:
                break
        assert pb.SearchVectorsResponse.FromString(reply).success
        return answered

    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        return sum(threads.map(search, range(0, QUERIES, QUERIES // IN_FLIGHT)))


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
