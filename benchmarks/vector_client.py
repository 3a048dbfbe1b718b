"""The client's side of the vector benchmark: requests made ahead, and how fast a server answers them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.harness import Server, rate
from benchmarks.sets import DIMENSION, QUERIES, Floats, K

BATCH = 1_000
IN_FLIGHT = 8
_ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'


def channel(target: str) -> grpc.Channel:
    return grpc.insecure_channel(target, [("grpc.service_config", _ROUND_ROBIN)])


class Client:
    """One channel to each of the servers, up to eight calls in flight. But for `query_rate` and `empty_rate`, in which
    the servers take turns, it is all the first's. A target of gRPC with several addresses, `ipv4:HOST:PORT,HOST:PORT`,
    is one server here: gRPC spreads the calls."""

    def __init__(self, *servers: Server | str) -> None:
        targets = [server if isinstance(server, str) else server.address for server in servers]
        channels = [channel(target) for target in targets]
        self._health = [health_pb2_grpc.HealthStub(each) for each in channels]
        self._stubs = [rpc.DatabaseProviderStub(each) for each in channels]
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

    def query_rate(self, queries: Floats, ef: int, in_flight: int = IN_FLIGHT, *, as_json: bool = False) -> float:
        """Queries a second as a peer's client is timed: from the array to number, score and metadata of each hit, the
        metadata as a Struct or `as_json`."""

        def ask(query: Floats, stub: rpc.DatabaseProviderStub) -> list[tuple[int, float, dict[str, object]]]:
            request = search("bench", query, ef)
            request.metadata_as_json = as_json
            hits = stub.SearchVectors(request).results
            if as_json:
                return [(int(hit.id), hit.score, json.loads(hit.metadata_json)) for hit in hits]
            return [(int(hit.id), hit.score, dict(hit.metadata)) for hit in hits]

        return self._each(ask, queries, self._stubs, in_flight)

    def empty_rate(self, in_flight: int = IN_FLIGHT) -> float:
        """Calls a second that carry nothing and do nothing."""
        nothing = [health_pb2.HealthCheckRequest()] * QUERIES
        return self._each(lambda request, stub: stub.Check(request), nothing, self._health, in_flight)

    def _each(self, ask: Callable[[Any, Any], object], values: Any, stubs: Sequence[Any], in_flight: int) -> float:
        run = map if in_flight == 1 else self.pool.map
        return rate(len(values), lambda: list(run(ask, values, cycle(stubs))))

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


def upserts(
    collection: str, vectors: Floats, first: int = 0, *, as_json: bool = False
) -> Iterator[pb.UpsertVectorsRequest]:
    """In batches, each vector with three metadata fields, in a Struct or `as_json`, and its number, counted from
    `first`, as id."""
    for start in range(0, len(vectors), BATCH):
        request = pb.UpsertVectorsRequest(collection=collection)
        for number, vector in enumerate(vectors[start : start + BATCH], first + start):
            added = request.vectors.add(id=str(number), vector=vector.tolist())
            metadata: dict[str, int | str] = {"page": number, "title": f"passage {number}", "kind": "bench"}
            if as_json:
                added.metadata_json = json.dumps(metadata)
            else:
                added.metadata.update(metadata)
        yield request
