"""vector_pg when its processes and its database are killed, and when there are several on one database."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from tests.pg_server import database, new_schema, own_server
from tests.servers import SECONDS, Plugin, start_plugin, wait_until

pytestmark = pytest.mark.slow


def upsert(stub: DatabaseProviderStub, name: str, *ids: str) -> pb.UpsertVectorsResponse:
    vectors = [pb.Vector(id=one, vector=[1, 0]) for one in ids]
    reply: pb.UpsertVectorsResponse = stub.UpsertVectors(pb.UpsertVectorsRequest(collection=name, vectors=vectors))
    assert reply.success, reply.error
    return reply


def listed(stub: DatabaseProviderStub, name: str) -> set[str]:
    ids: set[str] = set()
    token = ""
    while True:
        page = stub.ListVectors(pb.ListVectorsRequest(collection=name, page_size=1000, page_token=token))
        assert page.success, page.error
        ids |= {vector.id for vector in page.vectors}
        token = page.next_page_token
        if not token:
            return ids


@contextlib.contextmanager
def written_meanwhile(stub: DatabaseProviderStub, name: str) -> Iterator[tuple[list[str], Callable[[], bool]]]:
    """Four writers: the ids whose upsert was acknowledged, and whether there is one more than at the last question."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with contextlib.suppress(grpc.RpcError):
                upsert(stub, name, f"{writer}-{number}")
                acknowledged.append(f"{writer}-{number}")

    with ThreadPoolExecutor(4) as writers:
        futures = [writers.submit(write, writer) for writer in range(4)]
        known = 0

        def more() -> bool:
            nonlocal known
            before, known = known, len(acknowledged)
            return known > before

        try:
            yield acknowledged, more
        finally:
            stop.set()
        for future in futures:
            future.result(60)


def test_kills_of_plugin_and_database() -> None:
    """Plugin and database are killed in turn while writers write: what was acknowledged is there, the number of vectors
    is right, and the plugin finds the database again by itself."""
    schema = new_schema()
    with own_server() as server:
        start = ("plugins.vector_pg", "--schema", schema, "--patience", "60s")
        acknowledged: list[str] = []
        for turn in range(2):
            with start_plugin(*start, env={"DATABASE_URL": server.url}) as plugin:
                stub = DatabaseProviderStub(plugin.channel())
                name = f"turn{turn}"
                assert stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=2)).success
                with written_meanwhile(stub, name) as (acknowledged, more):
                    wait_until(lambda: len(acknowledged) > 20, "writes")
                    server.kill()
                    server.start()
                    more()
                    wait_until(more, "a write after the database came back")
                    plugin.signal(signal.SIGKILL)
                    plugin.wait()
            with start_plugin(*start, env={"DATABASE_URL": server.url}) as plugin:
                stub = DatabaseProviderStub(plugin.channel())
                there = listed(stub, name)
                assert set(acknowledged) <= there
                assert stub.CountVectors(pb.CountVectorsRequest(collection=name)).count == len(there)


def test_a_database_that_is_gone() -> None:
    """Without its database a call is UNAVAILABLE within the patience, and says what to look at; no secret is logged."""
    with (
        own_server() as server,
        start_plugin(
            "plugins.vector_pg",
            "--patience",
            "500ms",
            env={"VECTOR_PG__URL": server.url.replace("postgres:@", "postgres:sesame@")},
        ) as plugin,
    ):
        stub = DatabaseProviderStub(plugin.channel())

        def made() -> bool:
            request = pb.CreateCollectionRequest(name="a", dimension=2, if_not_exists=True)
            with contextlib.suppress(grpc.RpcError):  # the first connection may take longer than so little patience
                return bool(stub.CreateCollection(request).success)
            return False

        wait_until(made, "a collection")
        server.kill()
        with pytest.raises(grpc.RpcError) as raised:
            stub.SearchVectors(pb.SearchVectorsRequest(collection="a", vector=[1, 0]), timeout=SECONDS)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "see that it runs" in str(raised.value.details())
        server.start()

        def answers() -> bool:
            try:
                return bool(stub.SearchVectors(pb.SearchVectorsRequest(collection="a", vector=[1, 0])).success)
            except grpc.RpcError:
                return False

        wait_until(answers, "an answer once it is back")
        assert plugin.terminate() == 0
        assert "sesame" not in plugin.stderr()


@pytest.fixture(scope="module")
def three() -> Iterator[list[DatabaseProviderStub]]:
    """Processes on one database, started at once on a schema that none has made yet."""
    with database() as url, contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as starters:
        schema = new_schema()

        def start(_: int) -> Plugin:
            return stack.enter_context(start_plugin("plugins.vector_pg", "--schema", schema, env={"DATABASE_URL": url}))

        yield [DatabaseProviderStub(plugin.channel()) for plugin in starters.map(start, range(3))]


def test_no_update_is_lost(three: list[DatabaseProviderStub]) -> None:
    """Eight writers over three processes, on the same ids: each key that was merged is there, each number of a write
    was given once, and no id is twice."""
    assert three[0].CreateCollection(pb.CreateCollectionRequest(name="shared", dimension=2)).success
    upsert(three[0], "shared", "a", "b")

    def write(writer: int) -> list[int]:
        sequences = []
        for number in range(15):
            stub = three[(writer + number) % 3]
            updates = [
                pb.MetadataUpdate(id=name, metadata_json=json.dumps({f"{writer}-{number}": 1}))
                for name in ("ab" if writer % 2 else "ba")
            ]
            reply = stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="shared", updates=updates))
            assert reply.success, reply.error
            sequences += [reply.sequence, upsert(stub, "shared", "new-1", f"new-{writer}", f"new-{number}").sequence]
        return sequences

    with ThreadPoolExecutor(8) as writers:
        sequences = [number for numbers in writers.map(write, range(8)) for number in numbers]
    assert len(set(sequences)) == len(sequences) == 8 * 15 * 2
    got = three[1].GetVectors(pb.GetVectorsRequest(collection="shared", ids=["a", "b"]))
    keys = {f"{writer}-{number}" for writer in range(8) for number in range(15)}
    assert [set(vector.metadata.fields) for vector in got.vectors] == [keys, keys]
    count = three[2].CountVectors(pb.CountVectorsRequest(collection="shared")).count
    assert count == len(listed(three[2], "shared")) == 2 + 15


def test_of_several_inserts_one_is_made(three: list[DatabaseProviderStub]) -> None:
    """The same ids with INSERT_ONLY from three processes at once: one is a success, the others ALREADY_EXISTS."""
    assert three[0].CreateCollection(pb.CreateCollectionRequest(name="once", dimension=2)).success
    for turn in range(10):
        vectors = [pb.Vector(id=f"{turn}-{number}", vector=[1, 0]) for number in range(300)]
        request = pb.UpsertVectorsRequest(collection="once", vectors=vectors, mode=pb.UPSERT_MODE_INSERT_ONLY)
        with ThreadPoolExecutor(3) as callers:
            replies = list(callers.map(lambda stub, request=request: stub.UpsertVectors(request), three))
        assert sorted((reply.success, reply.status.code) for reply in replies) == [(False, 6), (False, 6), (True, 0)]
    assert three[0].CountVectors(pb.CountVectorsRequest(collection="once")).count == 3000


def test_an_alias_moves_for_all(three: list[DatabaseProviderStub]) -> None:
    """Once SetAlias has answered, a search by the alias in another process is of the new collection; and where a
    collection was made anew under its name, of that."""
    for name in ("old", "new"):
        assert three[0].CreateCollection(pb.CreateCollectionRequest(name=name, dimension=2)).success
        upsert(three[0], name, f"in-{name}")

    def sees(name: str) -> list[list[str]]:
        replies = [stub.SearchVectors(pb.SearchVectorsRequest(collection=name, vector=[1, 0])) for stub in three]
        return [[hit.id for hit in reply.results] for reply in replies]

    for number, name in enumerate(("old", "new") * 3):
        assert three[number % 3].SetAlias(pb.SetAliasRequest(alias="now", collection=name)).success
        assert sees("now") == [[f"in-{name}"]] * 3
    assert sees("old") == [["in-old"]] * 3
    assert three[1].DeleteCollection(pb.DeleteCollectionRequest(name="old")).success
    assert three[1].CreateCollection(pb.CreateCollectionRequest(name="old", dimension=2)).success
    assert sees("old") == [[]] * 3
