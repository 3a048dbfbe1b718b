"""What the plugin promises: the engine by itself, and over gRPC."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from host.new.kinds.database_provider.engine import Engine, Item
from shared.errors import NotFound
from shared.testing import Plugin, started


def stub(channel: grpc.Channel) -> DatabaseProviderStub:
    """A client with one collection of three vectors."""
    client = DatabaseProviderStub(channel)
    assert client.CreateCollection(pb.CreateCollectionRequest(name="docs", dimension=2)).success
    request = pb.UpsertVectorsRequest(collection="docs")
    for name, vector in {"east": [1, 0], "north": [0, 1], "west": [-1, 0]}.items():
        request.vectors.add(id=name, vector=vector, metadata_json=json.dumps({"name": name}))
    reply = client.UpsertVectors(request)
    assert (reply.success, reply.upserted_count) == (True, 3)
    return client


def search(client: DatabaseProviderStub, limit: int = 10) -> list[str]:
    reply = client.SearchVectors(pb.SearchVectorsRequest(collection="docs", vector=[2, 1], limit=limit))
    assert reply.success, reply.error
    return [result.id for result in reply.results]


def test_the_engine(tmp_path: Path) -> None:
    """The engine works without a server, and what it was told is there after it was opened again."""
    engine = Engine(tmp_path)
    engine.open()
    engine.create("docs", 2, "", if_not_exists=False)
    engine.upsert("docs", {"a": Item([3, 4], {"n": 1}), "b": Item([1, 0], {})})
    assert engine.delete("docs", ["b", "c"]) == 1
    engine.close()
    again = Engine(tmp_path)
    again.open()
    (hit,) = again.search("docs", [6, 8], 10, -1)
    assert (hit.id, hit.score, hit.metadata) == ("a", 1.0, {"n": 1})
    again.drop("docs")
    with pytest.raises(NotFound):
        again.collection("docs")


def test_nearest_first(plugin: Plugin) -> None:
    """A search gives the nearest first, as many as were asked for, with their metadata."""
    client = stub(plugin.channel)
    assert search(client) == ["east", "north", "west"]
    assert search(client, limit=1) == ["east"]
    (best,) = client.SearchVectors(pb.SearchVectorsRequest(collection="docs", vector=[1, 0], threshold=0.5)).results
    assert (best.score, dict(best.metadata)) == (1.0, {"name": "east"})


def test_delete(plugin: Plugin) -> None:
    """What was deleted is not found, and a deletion says how much there was."""
    client = stub(plugin.channel)
    reply = client.DeleteVectors(pb.DeleteVectorsRequest(collection="docs", ids=["east", "south"]))
    assert (reply.success, reply.deleted_count) == (True, 1)
    assert search(client) == ["north", "west"]
    assert client.DeleteCollection(pb.DeleteCollectionRequest(name="docs")).deleted_count == 2


def test_errors_name_the_field(plugin: Plugin) -> None:
    """A wrong request fails as a whole, with a sentence that names the item and the field."""
    client = stub(plugin.channel)
    vectors = [pb.Vector(id="south", vector=[0, -1]), pb.Vector(id="up", vector=[0, 0, 1])]
    reply = client.UpsertVectors(pb.UpsertVectorsRequest(collection="docs", vectors=vectors))
    assert not reply.success
    assert reply.error == "vectors[1].vector has 3 floats; the collection's have 2"
    assert "south" not in search(client)


def test_nothing_is_lost(tmp_path: Path) -> None:
    """What was acknowledged is there after the process was killed."""
    with started("host.new.kinds.database_provider", cwd=tmp_path) as plugin:
        stub(plugin.channel)
        plugin.process.kill()
    with started("host.new.kinds.database_provider", cwd=tmp_path) as plugin:
        assert search(DatabaseProviderStub(plugin.channel)) == ["east", "north", "west"]
