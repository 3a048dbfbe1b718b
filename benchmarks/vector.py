"""vector_hnsw over gRPC against hnswlib called directly: the same vectors, parameters and recall.

python -m benchmarks.vector [--count 100000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import hnswlib
import numpy as np
import numpy.typing as npt
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.harness import REPEATS, Comparison, Server, compare, rate, report, running

Floats = npt.NDArray[np.float32]

DIMENSION, QUERIES, K, EF = 384, 960, 10, 100
UPSERTS, BATCH, TOGETHER = 5_000, 1_000, 64
KEPT = (0.5, 0.1, 0.01, 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="vectors in the collection that is searched [20000]")
    size: int = parser.parse_args().count
    vectors, queries = _mixture(size, 1), _mixture(QUERIES, 2)
    raw = _raw_index(vectors)
    with tempfile.TemporaryDirectory() as folder, running("vector_hnsw", "--data-dir", folder) as server:
        stub = rpc.DatabaseProviderStub(grpc.insecure_channel(server.address))
        idle = server.resident_bytes()
        _create(stub, "bench")
        for request in _upserts("bench", vectors):
            assert stub.UpsertVectors(request).success
        with ThreadPoolExecutor(8) as pool:
            bench = _Bench(stub, pool, raw, vectors, queries)
            comparisons = [*bench.searches(), *bench.filtered(size), bench.upserts()]
            facts: dict[str, object] = {
                "set": f"{size:,} x {DIMENSION}, synthetic mixture, COSINE, M=16, ef_construction=200, ef_search={EF}",
                "recall@10": _recall(stub, bench.requests, vectors, queries),
                "server CPU of a search / (of a health check + a raw search)": bench.cpu(server),
                "(resident memory - an idle server's) / (vectors + graph)": round(
                    (server.resident_bytes() - idle) / raw.index_file_size(), 2
                ),
            }
    report("vector", comparisons, facts)


class _Bench:
    def __init__(
        self,
        stub: rpc.DatabaseProviderStub,
        pool: ThreadPoolExecutor,
        raw: hnswlib.Index,
        vectors: Floats,
        queries: Floats,
    ) -> None:
        self.requests = _searches(queries)
        self._stub, self._pool, self._raw, self._vectors, self._queries = stub, pool, raw, vectors, queries

    def searches(self) -> Iterator[Comparison]:
        one_thread = "hnswlib, one thread"
        yield compare(
            "search, 1 in flight",
            "queries/s",
            lambda: self._alone(self.requests),
            self._raw_alone,
            reference_name=one_thread,
        )
        yield compare(
            "search, 8 in flight",
            "queries/s",
            lambda: self._in_flight(self.requests),
            self._raw_alone,
            reference_name=one_thread,
        )
        batches = [
            pb.SearchVectorsBatchRequest(searches=self.requests[start : start + TOGETHER])
            for start in range(0, QUERIES, TOGETHER)
        ]
        yield compare(
            f"SearchVectorsBatch of {TOGETHER}",
            "queries/s",
            lambda: rate(QUERIES, lambda: [self._stub.SearchVectorsBatch(batch) for batch in batches]),
            self._raw_together,
            reference_name=f"hnswlib, batches of {TOGETHER}, two threads",
        )

    def filtered(self, size: int) -> Iterator[Comparison]:
        for kept in KEPT:
            below = pb.Compare(field="page", op=pb.OPERATOR_LT, value=Value(number_value=kept * size))
            requests = _searches(self._queries, pb.Filter(must=[pb.Condition(compare=below)]))
            yield compare(
                f"search with a filter that keeps {kept:.1%}",
                "queries/s",
                lambda requests=requests: self._in_flight(requests),  # type: ignore[misc]
                lambda: self._in_flight(self.requests),
                reference_name="without a filter, 8 in flight",
            )

    def upserts(self) -> Comparison:
        names = (f"upsert{number}" for number in count())
        vectors = self._vectors[:UPSERTS]

        def upsert() -> float:
            collection = next(names)
            _create(self._stub, collection)
            batches = list(_upserts(collection, vectors))
            speed = rate(UPSERTS, lambda: [self._stub.UpsertVectors(batch) for batch in batches])
            self._stub.DeleteCollection(pb.DeleteCollectionRequest(name=collection))
            return speed

        return compare(
            f"durable upsert, batches of {BATCH:,}",
            "vectors/s",
            upsert,
            lambda: rate(UPSERTS, lambda: _raw_index(vectors)),
            reference_name="hnswlib, all threads, in memory",
        )

    def cpu(self, server: Server) -> float:
        """The median of repeats, calls with 8 in flight."""
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
        nothing = [health_pb2.HealthCheckRequest()] * QUERIES
        ratios = []
        for _ in range(REPEATS):
            empty = self._cpu_of(server, lambda: list(self._pool.map(health.Check, nothing)))
            search = self._cpu_of(server, lambda: list(self._pool.map(self._stub.SearchVectors, self.requests)))
            ratios.append(search / (empty + 1 / self._raw_alone()))
        return round(statistics.median(ratios), 2)

    def _cpu_of(self, server: Server, work: Callable[[], object]) -> float:
        """Seconds of the server's CPU for one of QUERIES calls, over about a second of them."""
        before, rounds, began = server.cpu_seconds(), 0, time.perf_counter()
        while time.perf_counter() - began < 1:
            work()
            rounds += 1
        return (server.cpu_seconds() - before) / (rounds * QUERIES)

    def _alone(self, requests: list[pb.SearchVectorsRequest]) -> float:
        return rate(len(requests), lambda: [self._stub.SearchVectors(request) for request in requests])

    def _in_flight(self, requests: list[pb.SearchVectorsRequest]) -> float:
        return rate(len(requests), lambda: list(self._pool.map(self._stub.SearchVectors, requests)))

    def _raw_alone(self) -> float:
        return rate(QUERIES, lambda: [self._raw.knn_query(query, k=K, num_threads=1) for query in self._queries])

    def _raw_together(self) -> float:
        starts = range(0, QUERIES, TOGETHER)
        threads = min(2, os.cpu_count() or 1)
        return rate(
            QUERIES,
            lambda: [self._raw.knn_query(self._queries[s : s + TOGETHER], k=K, num_threads=threads) for s in starts],
        )


def _searches(queries: Floats, filter: pb.Filter | None = None) -> list[pb.SearchVectorsRequest]:
    return [
        pb.SearchVectorsRequest(collection="bench", vector=query.tolist(), limit=K, filter=filter) for query in queries
    ]


def _mixture(size: int, seed: int) -> Floats:
    """Unit vectors around 200 centres, which the seed does not move."""
    centres = np.random.default_rng(0).normal(size=(200, DIMENSION))
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, 200, size)] + 0.6 * chance.normal(size=(size, DIMENSION))
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _raw_index(vectors: Floats) -> hnswlib.Index:
    index = hnswlib.Index(space="ip", dim=DIMENSION)
    index.init_index(len(vectors), M=16, ef_construction=200)
    for start in range(0, len(vectors), BATCH):
        index.add_items(vectors[start : start + BATCH], np.arange(start, min(start + BATCH, len(vectors))))
    index.set_ef(EF)
    return index


def _create(stub: rpc.DatabaseProviderStub, name: str) -> None:
    index = pb.IndexParams(m=16, ef_construction=200, ef_search=EF)
    assert stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=DIMENSION, index=index)).success


def _upserts(collection: str, vectors: Floats) -> Iterator[pb.UpsertVectorsRequest]:
    for start in range(0, len(vectors), BATCH):
        request = pb.UpsertVectorsRequest(collection=collection)
        for number, vector in enumerate(vectors[start : start + BATCH], start):
            added = request.vectors.add(id=str(number), vector=vector.tolist())
            added.metadata.update({"page": number, "title": f"passage {number}", "kind": "bench"})
        yield request


def _recall(
    stub: rpc.DatabaseProviderStub, requests: list[pb.SearchVectorsRequest], vectors: Floats, queries: Floats
) -> float:
    nearest = np.argsort(-(queries[:200] @ vectors.T), axis=1)[:, :K]
    hits = 0
    for request, wanted in zip(requests, nearest, strict=False):
        hits += len({int(result.id) for result in stub.SearchVectors(request).results} & set(wanted.tolist()))
    return round(hits / nearest.size, 4)


if __name__ == "__main__":
    main()
