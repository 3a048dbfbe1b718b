"""vector_hnsw with many vectors in one collection: load, search, filters, a recall that is kept, restart, rebuild."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator

import hector_plugins_pb2 as pb

from benchmarks.harness import Section, Server, running
from benchmarks.sets import DIMENSION, QUERIES, VectorSet, exact, mixed
from benchmarks.vector_client import IN_FLIGHT, Client, below, searches, upserts
from benchmarks.vector_growth import disk

EF, KEPT, TARGETS, M = 100, (0.5, 0.1, 0.01, 0.001), (0.9, 0.99), 24
TITLE = "vectors in one collection"
_LONGEST = 4 * 3600.0  # seconds that anything may take
Row = tuple[str, str]


def million(count: int) -> Section:
    """Needs 1.5 kB of memory a vector here, and as much and twice the graph in the server: 6 GB for a million."""
    vectors, queries = mixed(count, 1), mixed(QUERIES, 2)
    chosen = VectorSet("", vectors, queries, exact(vectors, queries))
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_loaded(folder, chosen), *_started(folder, chosen)]
        rows.append(("on disk", f"{disk(folder)} MB"))
    facts = {"set": f"{count:,} x {DIMENSION} of a synthetic mixture, ef {EF} where no other is named, once"}
    return Section(f"{count:,} {TITLE}", (), facts, ("what", ""), rows)


def _loaded(folder: str, chosen: VectorSet) -> Iterator[Row]:
    count = len(chosen.vectors)
    with running("vector_hnsw", "--data-dir", folder) as server:
        client = Client(server)
        client.create("bench")
        took = _seconds(lambda: client.upsert(upserts("bench", chosen.vectors)))
        yield "load, batches of 1,000", f"{took:,.0f} s, {count / took:,.0f} vectors/s"
        yield from _searched(client, chosen)
        yield from _filtered(client, count)
        for target in TARGETS:
            yield _kept(client, chosen, target)
        memory = f"{_megabytes(server)} MB, of it vectors {chosen.vectors.nbytes / 1e6:,.0f}"
        yield "memory after all that", memory
        began = time.perf_counter()
    yield "stop", f"{time.perf_counter() - began:.1f} s"


def _searched(client: Client, chosen: VectorSet) -> Iterator[Row]:
    requests = searches("bench", chosen.queries, EF)
    answers = iter(requests)
    yield "recall@10", f"{chosen.recall(lambda _: client.found(next(answers))):.4f}"
    yield "search, 1 in flight", f"{1000 / client.rate(requests, 1):.2f} ms"
    yield f"search, {IN_FLIGHT} in flight", f"{client.rate(requests):,.0f}/s"


def _filtered(client: Client, count: int) -> Iterator[Row]:
    queries = mixed(64, 3)
    for kept in KEPT:
        first, *others = searches("bench", queries, EF, below(kept * count))
        took = _seconds(lambda first=first: client.found(first))  # type: ignore[misc]
        speed = f"{client.rate(others):,.0f}/s, the first {took:.2f} s"
        yield f"search with a filter that keeps {kept:.1%}, {IN_FLIGHT} in flight", speed


def _kept(client: Client, chosen: VectorSet, target: float) -> Row:
    """Until the collection has found out which ef_search keeps the recall."""
    _update(client, pb.IndexParams(target_recall=target, ef_search=1))  # less than any that it takes
    took = _seconds(lambda: _wait(lambda: _described(client).index.ef_search != 1))
    ef = _described(client).index.ef_search
    requests = iter(searches("bench", chosen.queries, 0))
    found = chosen.recall(lambda _: client.found(next(requests)))
    return f"target_recall {target:g}", f"ef_search {ef} after {took:.0f} s; recall@10 of the queries {found:.4f}"


def _started(folder: str, chosen: VectorSet) -> Iterator[Row]:
    began = time.perf_counter()
    with running("vector_hnsw", "--data-dir", folder) as server:
        yield "start", f"{time.perf_counter() - began:.1f} s, {_megabytes(server)} MB"
        client = Client(server)
        _update(client, pb.IndexParams(m=M, target_recall=0.0))
        began, most, speeds = time.perf_counter(), 0, []
        requests = searches("bench", chosen.queries, EF)
        while _described(client).health.rebuilding:
            speeds.append(client.rate(requests))
            most = max(most, server.resident_bytes())
        took, meanwhile = time.perf_counter() - began, sum(speeds) / max(1, len(speeds))
        built = f"{took:,.0f} s, {meanwhile:,.0f} searches/s meanwhile, {most / 1e6:,.0f} MB at most"
        yield f"rebuild with m {M} beside searches", built


def _update(client: Client, index: pb.IndexParams) -> None:
    reply = client.stub.UpdateCollection(pb.UpdateCollectionRequest(name="bench", index=index))
    assert reply.success, reply.error


def _described(client: Client) -> pb.CollectionInfo:
    """As ListCollections has it, which measures nothing."""
    return client.stub.ListCollections(pb.ListCollectionsRequest()).collections[0]


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST
    while not is_done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not done after {_LONGEST:.0f} s")
        time.sleep(0.2)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _megabytes(server: Server) -> str:
    return f"{server.resident_bytes() / 1e6:,.0f}"
