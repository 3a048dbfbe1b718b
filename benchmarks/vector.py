"""vector_hnsw over gRPC against hnswlib called directly, and against other servers; vector_pg against pgvector asked
directly; at equal recall.

python -m benchmarks.vector [--count 20000] [--no-peers] [--no-growth]
python -m benchmarks.vector --only-costs
python -m benchmarks.vector --only-pg [--count 20000]
python -m benchmarks.vector --only-readers [--count 20000] [--no-peers]
python -m benchmarks.vector --million [--count 20000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count

import grpc
import hector_plugins_pb2 as pb
import hnswlib
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import vector_readme
from benchmarks.harness import REPEATS, RESULTS, Comparison, Section, Server, compare, from_json, rate, report, running
from benchmarks.sets import DIMENSION, QUERIES, Floats, K, VectorSet, least_ef, mixture, sentences
from benchmarks.vector_client import BATCH, IN_FLIGHT, Client, below, searches, upserts
from benchmarks.vector_costs import costs
from benchmarks.vector_growth import TITLE as GROWTH
from benchmarks.vector_growth import growth
from benchmarks.vector_million import TITLE as MILLION
from benchmarks.vector_million import million
from benchmarks.vector_peers import against_peers
from benchmarks.vector_pg import against_pgvector
from benchmarks.vector_plot import EFS, Curve, plot
from benchmarks.vector_readers import with_readers

UPSERTS, TOGETHER = 10_000, 64
KEPT = (0.5, 0.1, 0.01, 0.001)
SETS = (sentences, mixture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="vectors in the collection [100000; a million]")
    parser.add_argument("--no-peers", action="store_true", help="leave out Chroma, pgvector and vector_pg")
    parser.add_argument("--no-growth", action="store_true", help="keep the table from 1,000 to 300,000 as it is")
    parser.add_argument(
        "--only-costs", action="store_true", help="measure memory, new filters and pages, keep the rest"
    )
    parser.add_argument("--only-pg", action="store_true", help="measure vector_pg, keep the rest")
    parser.add_argument(
        "--only-readers",
        action="store_true",
        help="measure readers beside a writer, 17 servers at once (5 GB of memory), keep the rest",
    )
    parser.add_argument("--million", action="store_true", help="measure a collection of a million, keep the rest")
    options = parser.parse_args()
    size = options.count or 100_000
    there = from_json(json.loads((RESULTS / "vector.json").read_text(encoding="utf-8")))
    new: list[Section] = []
    if options.only_costs:
        new = [costs()]
    elif options.only_pg:
        new = [against_pgvector(make(size)) for make in SETS]
    elif options.only_readers:
        new = [with_readers(make(size), peers=not options.no_peers) for make in SETS]
    elif options.million:
        new = [million(options.count or 1_000_000)]
    if new:
        titles = {section.title for section in new}
        report("vector", [*(section for section in there if section.title not in titles), *new])
        vector_readme.main()
        return
    sections, curves = [], {}
    for make in SETS:
        chosen = make(size)
        with tempfile.TemporaryDirectory() as folder, running("vector_hnsw", "--data-dir", folder) as server:
            bench = _Bench(server, chosen)
            sections.append(bench.section())
            curves[chosen.name] = bench.curves()
            if not options.no_peers:
                section, others = against_peers(chosen, bench.client, bench.ef)
                sections.append(section)
                curves[chosen.name] += others
        if not options.no_peers:
            sections.append(against_pgvector(chosen))
        sections.append(with_readers(chosen, peers=not options.no_peers))
    kept = (MILLION, GROWTH) if options.no_growth else (MILLION,)
    if not options.no_growth:
        sections.append(growth())
    sections.append(costs())
    sections += [section for section in there if section.title.endswith(kept)]
    report("vector", sections)
    vector_readme.main()
    plot(curves)


class _Bench:
    """One set, in hnswlib here and in the server."""

    def __init__(self, server: Server, chosen: VectorSet) -> None:
        self.client = Client(server)
        self._server, self._set = server, chosen
        idle = server.resident_bytes()
        self._raw, took = _raw_index(chosen.vectors), time.perf_counter()
        self.client.create("bench")
        self.client.upsert(upserts("bench", chosen.vectors))
        self._load = time.perf_counter() - took
        self.raw_ef, self.ef = least_ef(self._raw_recall), least_ef(self._recall)
        self._raw.set_ef(self.raw_ef)
        self._requests = searches("bench", chosen.queries, self.ef)
        self.client.rate(self._requests)
        self._memory = (server.resident_bytes() - idle) / self._raw.index_file_size()

    def section(self) -> Section:
        size = len(self._set.vectors)
        return Section(
            f"{size:,} {self._set.name}",
            [*self._searches(), *self._filtered(), self._upserts()],
            {
                "set": f"{size:,} x {DIMENSION}, COSINE, M=16, ef_construction=200, loaded in {self._load:.0f} s",
                "recall@10": f"{self._recall(self.ef):.4f} at ef {self.ef}; "
                f"hnswlib's {self._raw_recall(self.raw_ef):.4f} at {self.raw_ef}",
                "server CPU of a search / (of a health check + a raw search)": self._cpu(),
                "(resident memory - an idle server's) / (vectors + graph)": round(self._memory, 2),
            },
        )

    def curves(self) -> list[Curve]:
        """Recall and speed as ef grows."""
        curves = [Curve("hnswlib, one thread"), Curve(f"vector_hnsw, {IN_FLIGHT} in flight"), Curve("vector_hnsw, 1")]
        for ef in EFS:
            recall, raw_recall = self._recall(ef), self._raw_recall(ef)
            requests = searches("bench", self._set.queries, ef)
            curves[0].add(raw_recall, self._raw_alone())
            curves[1].add(recall, self.client.rate(requests))
            curves[2].add(recall, self.client.rate(requests, 1))
        return curves

    def _searches(self) -> Iterator[Comparison]:
        for in_flight in (1, IN_FLIGHT):
            yield compare(
                f"search, {in_flight} in flight",
                "queries/s",
                lambda in_flight=in_flight: self.client.rate(self._requests, in_flight),  # type: ignore[misc]
                self._raw_alone,
                reference_name="hnswlib, one thread",
            )
        yield compare(
            "SearchVectorsStream",
            "queries/s",
            lambda: rate(QUERIES, lambda: list(self.client.stub.SearchVectorsStream(iter(self._requests)))),
            self._raw_alone,
            reference_name="hnswlib, one thread",
        )
        batches = [
            pb.SearchVectorsBatchRequest(searches=self._requests[start : start + TOGETHER])
            for start in range(0, QUERIES, TOGETHER)
        ]
        yield compare(
            f"SearchVectorsBatch of {TOGETHER}",
            "queries/s",
            lambda: rate(QUERIES, lambda: [self.client.stub.SearchVectorsBatch(batch) for batch in batches]),
            self._raw_together,
            reference_name=f"hnswlib, batches of {TOGETHER}, two threads",
        )

    def _filtered(self) -> Iterator[Comparison]:
        for kept in KEPT:
            requests = searches("bench", self._set.queries, self.ef, below(kept * len(self._set.vectors)))
            yield compare(
                f"search with a filter that keeps {kept:.1%}",
                "queries/s",
                lambda requests=requests: self.client.rate(requests),  # type: ignore[misc]
                lambda: self.client.rate(self._requests),
                reference_name=f"without a filter, {IN_FLIGHT} in flight",
            )

    def _upserts(self) -> Comparison:
        names = (f"upsert{number}" for number in count())
        vectors = self._set.vectors[:UPSERTS]

        def upsert() -> float:
            collection = next(names)
            self.client.create(collection)
            batches = list(upserts(collection, vectors))
            speed = rate(UPSERTS, lambda: self.client.upsert(batches))
            self.client.stub.DeleteCollection(pb.DeleteCollectionRequest(name=collection))
            return speed

        return compare(
            f"durable upsert, batches of {BATCH:,}",
            "vectors/s",
            upsert,
            lambda: rate(UPSERTS, lambda: _raw_index(vectors)),
            reference_name="hnswlib, all threads, in memory",
        )

    def _cpu(self) -> float:
        """The median of repeats, calls with 8 in flight."""
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(self._server.address))
        nothing = [health_pb2.HealthCheckRequest()] * QUERIES
        ratios = []
        for _ in range(REPEATS):
            empty = self._cpu_of(lambda: list(self.client.pool.map(health.Check, nothing)))
            search = self._cpu_of(lambda: self.client.rate(self._requests))
            ratios.append(search / (empty + 1 / self._raw_alone()))
        return round(statistics.median(ratios), 2)

    def _cpu_of(self, work: Callable[[], object]) -> float:
        """Seconds of the server's CPU for one of QUERIES calls, over about a second of them."""
        before, rounds, began = self._server.cpu_seconds(), 0, time.perf_counter()
        while time.perf_counter() - began < 1:
            work()
            rounds += 1
        return (self._server.cpu_seconds() - before) / (rounds * QUERIES)

    def _raw_alone(self) -> float:
        return rate(QUERIES, lambda: [self._raw.knn_query(query, k=K, num_threads=1) for query in self._set.queries])

    def _raw_together(self) -> float:
        queries = [self._set.queries[start : start + TOGETHER] for start in range(0, QUERIES, TOGETHER)]
        threads = min(2, os.cpu_count() or 1)
        return rate(QUERIES, lambda: [self._raw.knn_query(some, k=K, num_threads=threads) for some in queries])

    def _recall(self, ef: int) -> float:
        requests = iter(searches("bench", self._set.queries, ef))
        return self._set.recall(lambda _: self.client.found(next(requests)))

    def _raw_recall(self, ef: int) -> float:
        """Leaves the index with this ef."""
        self._raw.set_ef(ef)
        return self._set.recall(lambda query: self._raw.knn_query(query, k=K, num_threads=1)[0][0].tolist())


def _raw_index(vectors: Floats) -> hnswlib.Index:
    index = hnswlib.Index(space="ip", dim=DIMENSION)
    index.init_index(len(vectors), M=16, ef_construction=200)
    for start in range(0, len(vectors), BATCH):
        index.add_items(vectors[start : start + BATCH], np.arange(start, min(start + BATCH, len(vectors))))
    return index


if __name__ == "__main__":
    main()
