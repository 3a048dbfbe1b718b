"""vector_pg against pgvector asked directly: the same PostgreSQL, the same vectors, each at the recall asked for."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hector_plugins_pb2 as pb
import numpy as np

from benchmarks.harness import Comparison, Section, Server, compare, rate, running
from benchmarks.peers import Peer, running_peer
from benchmarks.sets import VectorSet, least_ef
from benchmarks.vector_client import IN_FLIGHT, Client, search, upserts

CORES = os.cpu_count() or 1
PROCESSES = (min(CORES, IN_FLIGHT), 3)  # of the plugin, beside one database
BULK = 10_000  # vectors
PATIENCE = 3600  # seconds that an index may take


def title(chosen: VectorSet) -> str:
    return f"{len(chosen.vectors):,} {chosen.name}, vector_pg"


def against_pgvector(chosen: VectorSet) -> Section:
    """On both sides a query begins with an array and ends with number, score and metadata read, which is JSON;
    vector_pg's clients are threads of this process, the peer's of another."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        vectors, queries, nearest = folder / "vectors.npy", folder / "queries.npy", folder / "nearest.npy"
        np.save(vectors, chosen.vectors)
        np.save(queries, chosen.queries)
        np.save(nearest, chosen.nearest)
        peer = stack.enter_context(running_peer("pgvector", vectors, queries))
        copied_in = peer.load()
        servers = [stack.enter_context(_vector_pg(peer)) for _ in range(max(PROCESSES))]
        client = Client(servers[0])
        loaded_in = _load(client, chosen)
        peer.vacuum()
        ef = least_ef(lambda ef: _recall(client, chosen, ef))
        peer_ef = least_ef(lambda ef: peer.recall(ef, nearest))
        idle = stack.enter_context(_vector_pg(peer, "--schema", "bulk", "--index-from", str(10**9)))
        return Section(
            title(chosen),
            [*_searches(chosen, servers, ef, peer, peer_ef), *_bulk(Client(idle), chosen, peer)],
            {
                "machine": f"{CORES} cores for clients, vector_pg and PostgreSQL together",
                "recall@10": f"{_recall(client, chosen, ef):.4f} at ef {ef}; "
                f"{peer.name}'s {peer.recall(peer_ef, nearest):.4f} at {peer_ef}",
                "loaded, index included": f"in {loaded_in:.0f} s; by COPY and CREATE INDEX in {copied_in:.0f} s",
            },
        )


@contextmanager
def _vector_pg(peer: Peer, *options: str) -> Iterator[Server]:
    with running("vector_pg", *options, env={"DATABASE_URL": peer.address}) as server:
        yield server


def _load(client: Client, chosen: VectorSet) -> float:
    """Seconds until searches go by the index."""
    began = time.perf_counter()
    client.create("bench")
    client.upsert_stream(upserts("bench", chosen.vectors))
    while not _is_indexed(client, chosen):
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit("vector_pg has built no index")
        time.sleep(0.1)
    return time.perf_counter() - began


def _is_indexed(client: Client, chosen: VectorSet) -> bool:
    told = client.stub.DescribeCollection(pb.DescribeCollectionRequest(name="bench")).collection
    reply = client.stub.SearchVectors(search("bench", chosen.queries[0], 10))
    return not told.health.rebuilding and not reply.exact


def _recall(client: Client, chosen: VectorSet, ef: int) -> float:
    return chosen.recall(lambda query: client.found(search("bench", query, ef)))


def _searches(chosen: VectorSet, servers: list[Server], ef: int, peer: Peer, peer_ef: int) -> Iterator[Comparison]:
    for processes, clients in dict.fromkeys([(1, 1), *((processes, IN_FLIGHT) for processes in PROCESSES)]):
        client = Client(*servers[:processes])
        what = f"search, {clients} client{'s' * (clients > 1)}, {processes} process{'es' * (processes > 1)}"

        def ours(client: Client = client, clients: int = clients) -> float:
            return client.query_rate(chosen.queries, ef, clients, as_json=True)

        def theirs(clients: int = clients) -> float:
            return peer.rate(clients, peer_ef)

        def limit(client: Client = client, clients: int = clients) -> float:
            """What would be left if a search took an empty call and the peer's query, and nothing else."""
            return 1 / (1 / client.empty_rate(clients) + 1 / peer.rate(clients, peer_ef))

        yield compare(what, "queries/s", ours, theirs, reference_name=peer.name)
        yield compare(what, "queries/s", ours, limit, reference_name="an empty call of gRPC and then pgvector's query")


def _bulk(client: Client, chosen: VectorSet, peer: Peer) -> Iterator[Comparison]:
    """From an array to rows that are durable, without an index of the vectors."""
    vectors = chosen.vectors[:BULK]

    def upsert() -> float:
        client.create("bulk")
        speed = rate(len(vectors), lambda: client.upsert_stream(upserts("bulk", vectors, as_json=True)))
        client.stub.DeleteCollection(pb.DeleteCollectionRequest(name="bulk"))
        return speed

    def carry() -> None:
        for request in upserts("bulk", vectors, as_json=True):
            pb.UpsertVectorsRequest.FromString(request.SerializeToString())

    def limit() -> float:
        """What would be left if nothing were sent, and nothing made of the messages that are read."""
        return 1 / (1 / rate(len(vectors), carry) + 1 / peer.copy_rate(len(vectors)))

    def copy() -> float:
        return peer.copy_rate(len(vectors))

    what = f"UpsertVectorsStream of {len(vectors):,}, no index yet"
    yield compare(what, "vectors/s", upsert, copy, reference_name=f"COPY, {peer.name}")
    yield compare(what, "vectors/s", upsert, limit, reference_name="messages packed and unpacked and then COPY")
