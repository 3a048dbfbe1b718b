"""A vector store behind a socket, for tests: the server, its stub, and the engine behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from plugins.vector_hnsw import fast
from plugins.vector_hnsw.config import Config
from plugins.vector_hnsw.engine import Engine
from plugins.vector_hnsw.servicer import Servicer
from shared.errors import Code
from shared.vector_messages.replies import TOO_LARGE_HINTS
from tests.servers import Served, details, served

SERVICE = "hector.plugins.v1.DatabaseProvider"


@dataclass
class Database:
    """A running server, its stub, and the engine behind it."""

    stub: rpc.DatabaseProviderStub
    engine: Engine
    server: Served

    def create(self, name: str = "c", dimension: int = 4, **fields: Any) -> None:
        reply = self.stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=dimension, **fields))
        assert reply.success, reply

    def upsert(self, *new: pb.Vector, collection: str = "c", **fields: Any) -> pb.UpsertVectorsResponse:
        return self.stub.UpsertVectors(pb.UpsertVectorsRequest(collection=collection, vectors=new, **fields))

    def search(self, vector: Any = (1, 1, 1, 1), collection: str = "c", **fields: Any) -> pb.SearchVectorsResponse:
        return self.stub.SearchVectors(pb.SearchVectorsRequest(collection=collection, vector=vector, **fields))

    def delete(self, *names: str, collection: str = "c", **fields: Any) -> pb.DeleteVectorsResponse:
        return self.stub.DeleteVectors(pb.DeleteVectorsRequest(collection=collection, ids=names, **fields))


@contextlib.contextmanager
def serving(folder: Path, *, fast_path: bool = True, **options: int) -> Iterator[Database]:
    """A server on the folder. `fast_path`: with fast.py and together.py, as the plugin runs."""
    engine = Engine(folder, **options)
    engine.open()

    def register(server: grpc.aio.Server) -> None:
        servicer = Servicer(engine)
        servicer.together = fast_path
        if fast_path:
            fast.register(server, servicer)
        rpc.add_DatabaseProviderServicer_to_server(servicer, server)

    try:
        with served(Config(port=0), SERVICE, register, too_large_hints=TOO_LARGE_HINTS) as server:
            yield Database(rpc.DatabaseProviderStub(server.channel()), engine, server)
    finally:
        engine.close()


def vector(id_: str, *numbers: float, **fields: Any) -> pb.Vector:
    return pb.Vector(id=id_, vector=numbers or (1, 0, 0, 0), **fields)


def assert_refused(reply: Any, code: Code, reason: str, field: str | None = None) -> None:
    """`reply` says no as the contract has it: success, sentence, code, reason, domain, and the field at fault."""
    said = details(reply.status)
    assert reply.success is False
    assert reply.error == reply.status.message
    assert len(reply.error) > 10
    assert "\n" not in reply.error
    assert (reply.status.code, said.reason, said.domain) == (int(code), reason, "plugins.hector.dev")
    assert [name for name, _ in said.violations][:1] == ([field] if field else [])
