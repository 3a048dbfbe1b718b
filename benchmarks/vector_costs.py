"""What small collections take in memory, and what filters that are new and pages cost vector_hnsw."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator

import hector_plugins_pb2 as pb

from benchmarks.harness import Section, Server, running
from benchmarks.sets import DIMENSION, Floats, mixed
from benchmarks.vector_client import Client, below, search, upserts

TITLE = "Small collections, new filters, pages"
SIZE, WIDE, EF = 60_000, 768, 100
FILTERS, KEPT, PAGES = 16, (0.001, 0.1, 0.5), 20
Row = tuple[str, str, str]


def costs() -> Section:
    rows = [*_memory()]
    vectors = mixed(SIZE, 1)
    with tempfile.TemporaryDirectory() as folder, running("vector_hnsw", "--data-dir", folder) as server:
        client = Client(server)
        client.create("bench")
        client.upsert(upserts("bench", vectors))
        rows += [*_filters(server, client, vectors[-1]), *_pages(client, vectors[-1])]
    facts = {
        "set": f"{SIZE:,} x {DIMENSION} of a synthetic mixture, ef {EF}; medians; each filter has a bound of its own",
        "memory": "resident, beyond what the server had before",
    }
    return Section(TITLE, (), facts, ("what", "", "memory, MB"), rows)


def _memory() -> Iterator[Row]:
    """Of collections without vectors, and with one."""
    for count, size, dimension in ((400, 0, WIDE), (150, 1, DIMENSION), (150, 100, DIMENSION)):
        with tempfile.TemporaryDirectory() as folder, running("vector_hnsw", "--data-dir", folder) as server:
            client, before = Client(server), server.resident_bytes()
            for number in range(count):
                name = f"c{number}"
                made = pb.CreateCollectionRequest(name=name, dimension=dimension)
                assert client.stub.CreateCollection(made).success
                if size:
                    client.upsert(upserts(name, mixed(size, number)))
            what = f"{count} collections of {dimension}, {size or 'no'} vectors each"
            yield what, "", _megabytes(server, before)


def _filters(server: Server, client: Client, query: Floats) -> Iterator[Row]:
    """The first filters read all metadata; then the field has an index."""
    before = server.resident_bytes()
    bounds = iter(range(1, SIZE))
    first = [_seconds(client, query, below(next(bounds))) for _ in range(3)]
    yield f"range filter on a field of {SIZE:,} items, the first three", _milliseconds(first), ""
    deadline = time.monotonic() + 60
    while _seconds(client, query, below(next(bounds))) > min(first) / 4 and time.monotonic() < deadline:
        time.sleep(0.2)  # the index is made in the background
    for kept in KEPT:
        start = int(kept * SIZE)
        took = [_seconds(client, query, below(start + 100 + number)) for number in range(FILTERS)]
        memory = _megabytes(server, before)
        yield f"{FILTERS} such filters later, each keeps {kept:.1%}", _milliseconds(took), memory


def _pages(client: Client, query: Floats) -> Iterator[Row]:
    for what, fits in (("", None), (" with a filter that keeps half", below(SIZE / 2))):
        seen: set[str] = set()
        took = []
        for page in range(PAGES):
            request = search("bench", query, EF, fits)
            request.offset = page * request.limit
            began = time.perf_counter()
            reply = client.stub.SearchVectors(request)
            took.append(time.perf_counter() - began)
            seen |= {hit.id for hit in reply.results}
        assert len(seen) == PAGES * request.limit
        yield f"{PAGES} pages of {request.limit}{what}: the first ten", _milliseconds(took[:10]), ""
        yield f"{PAGES} pages of {request.limit}{what}: the last ten", _milliseconds(took[10:]), ""


def _seconds(client: Client, query: Floats, filter: pb.Filter) -> float:
    request = search("bench", query, EF, filter)
    began = time.perf_counter()
    reply = client.stub.SearchVectors(request)
    took = time.perf_counter() - began
    assert reply.success, reply.error
    return took


def _milliseconds(took: list[float]) -> str:
    return f"{1000 * statistics.median(took):.1f} ms"


def _megabytes(server: Server, before: int) -> str:
    return f"{(server.resident_bytes() - before) / 1e6:,.0f}"
