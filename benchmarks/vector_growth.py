"""How vector_hnsw's costs grow with a collection."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.harness import Section, Server, rate, running
from benchmarks.sets import QUERIES, Floats, VectorSet, exact, mixed
from benchmarks.vector_client import Client, searches, upserts

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
EF = 100
TITLE = "From 1,000 to 300,000 vectors"
_COLUMNS = (
    "vectors",
    "upserts/s",
    "search, ms",
    "searches/s, 8 in flight",
    "recall@10",
    "memory, MB",
    "of it vectors, MB",
    "start, s",
    "disk, MB",
)


def growth() -> Section:
    """One collection that grows; the server is started anew at every size."""
    vectors, queries = mixed(max(SIZES), 1), mixed(QUERIES, 2)
    rows, before = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            upserted = _load(folder, vectors[before:size], before)
            began = time.perf_counter()
            with running("vector_hnsw", "--data-dir", folder) as server:
                started = time.perf_counter() - began
                part = VectorSet("", vectors[:size], queries, exact(vectors[:size], queries))
                rows.append((f"{size:,}", f"{upserted:,.0f}", *_searched(server, part), f"{started:.1f}", disk(folder)))
            before = size
    return Section(TITLE, (), {"set": f"synthetic mixture, ef {EF}"}, _COLUMNS, rows)


def _load(folder: str, vectors: Floats, first: int) -> float:
    """Vectors a second."""
    with running("vector_hnsw", "--data-dir", folder) as server:
        client = Client(server)
        if not first:
            client.create("bench")
        requests = list(upserts("bench", vectors, first))
        return rate(len(vectors), lambda: client.upsert(requests))


def _searched(server: Server, part: VectorSet) -> tuple[str, ...]:
    client, requests = Client(server), searches("bench", part.queries, EF)
    answers = iter(requests)
    recall = part.recall(lambda _: client.found(next(answers)))
    latency, speed = 1000 / client.rate(requests, 1), client.rate(requests)
    memory = server.resident_bytes() / 1e6
    return f"{latency:.2f}", f"{speed:,.0f}", f"{recall:.3f}", f"{memory:,.0f}", f"{part.vectors.nbytes / 1e6:,.0f}"


def disk(folder: str) -> str:
    """Megabytes of all files."""
    return f"{sum(path.stat().st_size for path in Path(folder).rglob('*') if path.is_file()) / 1e6:,.0f}"
