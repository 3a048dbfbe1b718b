"""Readers of vector_hnsw beside the writer: what more of them search, what a search costs them, and one for each core
against other databases."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
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
from benchmarks.sets import DIMENSION, Floats, VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client, channel, searches, upserts
from benchmarks.vector_peers import KINDS, loaded

READERS = (1, 2, 4, 8)
CORES = len(os.sched_getaffinity(0))
SECONDS = 2.0  # of searches, each time
PATIENCE = 120.0  # seconds that the clients may take to be there
Measure = Callable[[], tuple[float, float]]
Cores = tuple[list[int], list[int]]


def with_readers(chosen: VectorSet, *, peers: bool) -> Section:
    with ExitStack() as stack, ExitStack() as others:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shared, *copies = (str(folder / str(number)) for number in range(1 + max(READERS)))
        _load(shared, chosen)
        for copy in copies:
            shutil.copytree(shared, copy)

        def start(until: ExitStack, data: str, *options: str) -> Server:
            return until.enter_context(running("vector_hnsw", "--data-dir", data, *options))

        writer = start(stack, shared)
        number = max(*READERS, CORES)
        readers = [start(stack if index < CORES else others, shared, "--reader") for index in range(number)]
        alone = [start(others, copy) for copy in copies]
        client = Client(_target(readers[:CORES]))
        ef = least_ef(lambda ef: _recall(client, chosen, ef))
        speeds, costs = _scaled(writer, readers, alone, chosen.queries, ef)
        rows = [
            (cost.name, _milliseconds(cost.ours), _milliseconds(cost.reference), _megabytes(readers[:count]))
            for count, cost in zip(READERS, costs, strict=True)
        ]
        facts = {
            "set": f"{len(chosen.vectors):,} x {DIMENSION}, recall@10 {_recall(client, chosen, ef):.4f} at ef {ef}",
            "clients": f"on the other cores, {IN_FLIGHT} searches under way for each server",
            "memory of the writer": _megabytes([writer]),
            "a reader a core": _counted(CORES, "reader"),
        }
        others.close()
        beside = list(_beside_peers(chosen, client, ef)) if peers else []
        columns = ("", "server CPU of a search", "of servers with a folder each", "memory of each")
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
    writer: Server, readers: Sequence[Server], alone: Sequence[Server], queries: Floats, ef: int
) -> tuple[list[Comparison], list[Comparison]]:
    """Searches a second of one reader against the writer and of more against one; and a second of their CPU, against
    servers that share no folder: a core that several share, or few searches at a time, make each of them dearer."""
    speeds, costs = [], []
    for count in READERS:
        less, name = ([writer], "the writer") if count == 1 else (readers[:1], "1 reader")
        where = f"{_counted(count, 'reader')} on {_counted(len(_cores(count)[0]), 'core')}"
        with (
            _searching(readers[:count], queries, ef) as ours,
            _searching(less, queries, ef) as theirs,
            _searching(alone[:count], queries, ef) as separate,
        ):
            speeds.append(_compare(where, "queries/s", ours, theirs, 0, name))
            name = f"{_counted(count, 'server')}, a folder each"
            costs.append(_compare(_counted(count, "reader"), "queries/s of server CPU", ours, separate, 1, name))
    return speeds, costs


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def _compare(name: str, unit: str, ours: Measure, theirs: Measure, which: int, reference: str) -> Comparison:
    return compare(name, unit, lambda: ours()[which], lambda: theirs()[which], reference_name=reference)


def _cores(servers: int) -> Cores:
    """For the servers, one each but half of all at most, and the rest for their clients."""
    cores = sorted(os.sched_getaffinity(0))
    count = max(1, min(servers, len(cores) // 2))
    return cores[:count], cores[count:] or cores


@contextmanager
def _searching(servers: Sequence[Server], queries: Floats, ef: int) -> Iterator[Measure]:
    """Within, each call measures searches a second, and a second of the servers' CPU."""
    theirs, clients = _cores(len(servers))
    processes = min(len(servers), len(clients))
    each = IN_FLIGHT * len(servers) // processes
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(processes + 1, timeout=PATIENCE)
    options = (begin, _target(servers), queries, ef, clients)
    with ProcessPoolExecutor(processes, spawn, _connect, options) as pool:

        def measure() -> tuple[float, float]:
            _pin(servers, theirs)
            answered = [pool.submit(_search, each) for _ in range(processes)]
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


def _search(in_flight: int) -> int:
    """Searches until SECONDS are over. How many were answered."""
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

    with ThreadPoolExecutor(in_flight) as threads:
        return sum(threads.map(search, range(in_flight)))


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
