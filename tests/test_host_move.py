"""`python -m host move`: a collection comes to another database plugin as it was, also where the way is broken off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import numpy as np
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from host.move import Moved, move, opened
from shared.errors import StartError
from tests.pg_server import database, new_schema
from tests.servers import Plugin, environment, start_plugin


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Plugin]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path_factory.mktemp(f"store{number}")))
            )
            for number in range(2)
        ]


def ok(reply: Any) -> Any:
    assert reply.success, reply.error
    return reply


def fill(stub: DatabaseProviderStub, name: str, count: int, dimension: int = 8) -> None:
    create = pb.CreateCollectionRequest(
        name=name, dimension=dimension, metric=pb.METRIC_EUCLIDEAN, embedding_model="made-up"
    )
    ok(stub.CreateCollection(create))
    numbers = np.random.default_rng(3).standard_normal((count, dimension)).astype(np.float32).tolist()
    for start in range(0, count, 2000):
        vectors = [
            pb.Vector(id=f"é{index}", vector=numbers[index], metadata_json=f'{{"n": {index}, "big": {2**60 + index}}}')
            for index in range(start, min(count, start + 2000))
        ]
        ok(stub.UpsertVectors(pb.UpsertVectorsRequest(collection=name, vectors=vectors)))


def moved(stores: list[Plugin], name: str, **options: bool) -> Moved:
    source, target = stores
    with opened(f"{source.address}/{name}") as one, opened(f"{target.address}/{name}") as other:
        return move(one, other, **options)


def test_a_move_and_its_repeat(stores: list[Plugin]) -> None:
    """What was sent is there bit for bit, parameters too; a second move writes nothing, and one after a change only
    what changed. What only the target has is named, and taken out when that is said."""
    stubs = [DatabaseProviderStub(plugin.channel()) for plugin in stores]
    fill(stubs[0], "docs", 450)
    first = moved(stores, "docs")
    assert (first.count, first.written, first.deleted) == (450, 450, 0)
    info = ok(stubs[1].DescribeCollection(pb.DescribeCollectionRequest(name="docs"))).collection
    assert (info.dimension, info.metric, info.embedding_model, info.count) == (8, pb.METRIC_EUCLIDEAN, "made-up", 450)
    get = pb.GetVectorsRequest(collection="docs", ids=["é7", "é449"], include_vectors=True, metadata_as_json=True)
    assert stubs[0].GetVectors(get) == stubs[1].GetVectors(get)
    second = moved(stores, "docs")
    assert (second.written, second.digest) == (0, first.digest)
    change = pb.MetadataUpdate(id="é7", metadata_json='{"n": -1}')
    ok(stubs[0].UpdateMetadata(pb.UpdateMetadataRequest(collection="docs", updates=[change])))
    ok(stubs[0].DeleteVectors(pb.DeleteVectorsRequest(collection="docs", ids=["é8"])))
    with pytest.raises(StartError, match=r"1 vectors that .* has not, such as 'é8'"):
        moved(stores, "docs")
    third = moved(stores, "docs", delete=True)
    assert (third.count, third.deleted) == (449, 1)
    assert third.digest != first.digest


def test_a_move_that_was_broken_off(stores: list[Plugin]) -> None:
    """Half of the vectors, and a wrong one, are there: the other half and that one are written, no more."""
    stubs = [DatabaseProviderStub(plugin.channel()) for plugin in stores]
    fill(stubs[0], "half", 300)
    fill(stubs[1], "half", 150)
    wrong = pb.Vector(id="é3", vector=[9] * 8)
    ok(stubs[1].UpsertVectors(pb.UpsertVectorsRequest(collection="half", vectors=[wrong])))
    assert moved(stores, "half").written == 151


def test_a_target_of_another_kind_is_refused(stores: list[Plugin]) -> None:
    """A collection of another dimension is named and left alone, and so is a source that is not there."""
    stubs = [DatabaseProviderStub(plugin.channel()) for plugin in stores]
    fill(stubs[0], "kind", 3)
    fill(stubs[1], "kind", 3, dimension=9)
    with pytest.raises(StartError, match="exists with dimension 9, not 8"):
        moved(stores, "kind")
    with pytest.raises(StartError, match="no collection 'nowhere'"):
        moved(stores, "nowhere")
    with pytest.raises(StartError, match="name plugin and collection"):
        moved(stores, "")


@pytest.mark.slow
def test_the_command_to_postgresql_and_back(stores: list[Plugin], tmp_path: Path) -> None:
    """A collection goes from vector_hnsw to vector_pg and back by the command line, while it is searched, and is the
    same: the same digest is told each time."""
    source, other = stores
    stub = DatabaseProviderStub(source.channel())
    fill(stub, "there", 5000, dimension=64)
    stop = threading.Event()

    def search() -> int:
        count = 0
        while not stop.is_set():
            ok(stub.SearchVectors(pb.SearchVectorsRequest(collection="there", vector=[1.0] * 64)))
            count += 1
        return count

    def run(one: str, two: str) -> str:
        argv = [sys.executable, "-m", "host", "move", one, two]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("5000 vectors are the same on both sides (5000 written, 0 deleted)")
        return done.stdout

    with (
        database() as url,
        start_plugin("plugins.vector_pg", "--schema", new_schema(), env={"DATABASE_URL": url}) as pg,
        ThreadPoolExecutor(1) as searcher,
    ):
        searches = searcher.submit(search)
        try:
            there = run(f"{source.address}/there", f"{pg.address}/there")
            back = run(f"{pg.address}/there", f"{other.address}/back")
        finally:
            stop.set()
        assert searches.result(60) > 10
    assert there == back
