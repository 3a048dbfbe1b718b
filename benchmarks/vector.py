"""vector_hnsw over gRPC against hnswlib called directly: the same vectors, parameters and recall.

python -m benchmarks.vector
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import hnswlib
import numpy as np
import numpy.typing as npt

from benchmarks.harness import compare, rate, report, running

Floats = npt.NDArray[np.float32]

COUNT, DIMENSION, QUERIES, K, EF = 20_000, 384, 1_000, 10, 100
UPSERTS, BATCH = 5_000, 1_000


def main() -> None:
    vectors, queries = _mixture(COUNT, 1), _mixture(QUERIES, 2)
    raw = _raw_index(vectors)
    requests = [pb.SearchVectorsRequest(collection="bench", vector=query.tolist(), limit=K) for query in queries]
    with tempfile.TemporaryDirectory() as folder, running("vector_hnsw", "--data-dir", folder) as address:
        stub = rpc.DatabaseProviderStub(grpc.insecure_channel(address))
        _create(stub, "bench")
        for request in _upserts("bench", vectors):
            assert stub.UpsertVectors(request).success
        name = (f"upsert{number}" for number in count())

        def search() -> None:
            for request in requests:
                stub.SearchVectors(request)

        def search_raw() -> None:
            for query in queries:
                raw.knn_query(query, k=K, num_threads=1)

        def upsert() -> float:
            collection = next(name)
            _create(stub, collection)
            batches = list(_upserts(collection, vectors[:UPSERTS]))
            speed = rate(UPSERTS, lambda: [stub.UpsertVectors(batch) for batch in batches])
            stub.DeleteCollection(pb.DeleteCollectionRequest(name=collection))
            return speed

        with ThreadPoolExecutor(8) as pool:
            comparisons = [
                compare(
                    "search, 1 in flight",
                    "queries/s",
                    lambda: rate(QUERIES, search),
                    lambda: rate(QUERIES, search_raw),
                    reference_name="hnswlib, one thread",
                ),
                compare(
                    "search, 8 in flight",
                    "queries/s",
                    lambda: rate(QUERIES, lambda: list(pool.map(stub.SearchVectors, requests))),
                    lambda: rate(QUERIES, search_raw),
                    reference_name="hnswlib, one thread",
                ),
                compare(
                    f"durable upsert, batches of {BATCH:,}",
                    "vectors/s",
                    upsert,
                    lambda: rate(UPSERTS, lambda: _raw_index(vectors[:UPSERTS])),
                    reference_name="hnswlib, all threads, in memory",
                ),
            ]
        facts: dict[str, object] = {
            "set": f"{COUNT:,} x {DIMENSION}, synthetic mixture, COSINE, M=16, ef_construction=200, ef_search={EF}",
            "recall@10": _recall(stub, requests, vectors, queries),
        }
    report("vector", comparisons, facts)


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
