"""The client's side of the vector benchmark: requests made ahead, and how fast a server answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
from google.protobuf.struct_pb2 import Value

from benchmarks.harness import Server, rate
from benchmarks.sets import DIMENSION, Floats, K

BATCH = 1_000
IN_FLIGHT = 8


class Client:
    """One channel to each of the servers, up to eight calls in flight. But for `query_rate` it is all the first's."""

    def __init__(self, *servers: Server) -> None:
        self._stubs = [rpc.DatabaseProviderStub(grpc.insecure_channel(server.address)) for server in servers]
        self.stub = self._stubs[0]
        self.pool = ThreadPoolExecutor(IN_FLIGHT)

    def create(self, name: str) -> None:
        index = pb.IndexParams(m=16, ef_construction=200)
        assert self.stub.CreateCollection(
            pb.CreateCollectionRequest(name=name, dimension=DIMENSION, index=index)
        ).success

    def upsert(self, requests: Iterator[pb.UpsertVectorsRequest] | Sequence[pb.UpsertVectorsRequest]) -> None:
        for request in requests:
            reply = self.stub.UpsertVectors(request)
            assert reply.success, reply.error

    def upsert_stream(self, requests: Iterator[pb.UpsertVectorsRequest]) -> None:
        for reply in self.stub.UpsertVectorsStream(requests):
            assert reply.success, reply.error

    def rate(self, requests: Sequence[pb.SearchVectorsRequest], in_flight: int = IN_FLIGHT) -> float:
        """Searches a second, of as many as there are."""
        if in_flight == 1:
            return rate(len(requests), lambda: [self.stub.SearchVectors(request) for request in requests])
        assert in_flight == IN_FLIGHT
        return rate(len(requests), lambda: list(self.pool.map(self.stub.SearchVectors, requests)))

    def query_rate(self, queries: Floats, ef: int, in_flight: int = IN_FLIGHT) -> float:
        """Queries a second as a peer's client is timed: from the array to number, score and metadata of each hit. The
        servers take turns."""

        def ask(query: Floats, stub: rpc.DatabaseProviderStub) -> list[tuple[int, float, dict[str, object]]]:
            reply = stub.SearchVectors(search("bench", query, ef))
            return [(int(hit.id), hit.score, dict(hit.metadata)) for hit in reply.results]

        if in_flight == 1:
            return rate(len(queries), lambda: [*map(ask, queries, cycle(self._stubs))])
        return rate(len(queries), lambda: [*self.pool.map(ask, queries, cycle(self._stubs))])

    def found(self, request: pb.SearchVectorsRequest) -> list[int]:
        reply = self.stub.SearchVectors(request)
        assert reply.success, reply.error
        return [int(result.id) for result in reply.results]


def search(collection: str, query: Floats, ef: int, filter: pb.Filter | None = None) -> pb.SearchVectorsRequest:
    return pb.SearchVectorsRequest(collection=collection, vector=query.tolist(), limit=K, ef_search=ef, filter=filter)


def searches(
    collection: str, queries: Floats, ef: int, filter: pb.Filter | None = None
) -> list[pb.SearchVectorsRequest]:
    return [search(collection, query, ef, filter) for query in queries]


def below(page: float) -> pb.Filter:
    """Keeps what `upserts` numbered lower."""
    compare = pb.Compare(field="page", op=pb.OPERATOR_LT, value=Value(number_value=page))
    return pb.Filter(must=[pb.Condition(compare=compare)])


def upserts(collection: str, vectors: Floats, first: int = 0) -> Iterator[pb.UpsertVectorsRequest]:
    """In batches, each vector with three metadata fields and its number, counted from `first`, as id."""
    for start in range(0, len(vectors), BATCH):
        request = pb.UpsertVectorsRequest(collection=collection)
        for number, vector in enumerate(vectors[start : start + BATCH], first + start):
            added = request.vectors.add(id=str(number), vector=vector.tolist())
            added.metadata.update({"page": number, "title": f"passage {number}", "kind": "bench"})
        yield request
