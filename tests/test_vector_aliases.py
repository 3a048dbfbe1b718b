"""Aliases: other names of collections, moved at one moment, durable, and taken wherever a collection is."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.clients import Collection
from host.connect import Connection
from plugins.vector_hnsw.engine import Engine, Item, Query
from plugins.vector_hnsw.engine.store import Store
from shared.client import Address
from shared.errors import AlreadyExists, Code, FailedPrecondition, LimitReached, NotFound, PluginError
from tests.servers import start_plugin, unhurried, wait_until
from tests.vector_tools import ids, items, killed, opened, vectors
from tests.vector_wire import Database, assert_refused, serving, vector


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data") as database:
        yield database


@pytest.fixture
def two(database: Database) -> Database:
    """Collections `old` and `new`, with an item of each's own name, and the alias `docs` of `old`."""
    for name in ("old", "new"):
        database.create(name)
        database.upsert(vector(name), collection=name)
    assert set_alias(database, "docs", "old").success
    return database


def set_alias(database: Database, alias: str, collection: str, **fields: Any) -> pb.SetAliasResponse:
    return database.stub.SetAlias(pb.SetAliasRequest(alias=alias, collection=collection, **fields))


def aliases(database: Database, collection: str = "") -> list[tuple[str, str]]:
    reply = database.stub.ListAliases(pb.ListAliasesRequest(collection=collection))
    assert reply.success, reply.error
    return [(one.alias, one.collection) for one in reply.aliases]


def found(database: Database, collection: str = "docs") -> list[str]:
    reply = database.search((1, 0, 0, 0), collection)
    assert reply.success, reply.error
    return [one.id for one in reply.results]


def test_an_alias_is_made_moved_listed_and_deleted(two: Database) -> None:
    """SetAlias makes and moves, and says what it named before; ListAliases and ListCollections show it; DeleteAlias
    says what it named, and the collection stays."""
    assert (aliases(two), found(two)) == ([("docs", "old")], ["old"])
    moved = set_alias(two, "docs", "new")
    assert (moved.success, moved.previous_collection) == (True, "old")
    assert set_alias(two, "docs", "new").previous_collection == "new"
    assert set_alias(two, "a", "docs").previous_collection == ""
    assert (aliases(two), aliases(two, "old"), aliases(two, "docs")) == (
        [("a", "new"), ("docs", "new")], [], [("a", "new"), ("docs", "new")],
    )  # fmt: skip
    assert found(two) == ["new"]
    listed = two.stub.ListCollections(pb.ListCollectionsRequest()).collections
    assert [(one.name, list(one.aliases)) for one in listed] == [("new", ["a", "docs"]), ("old", [])]
    gone = two.stub.DeleteAlias(pb.DeleteAliasRequest(alias="docs"))
    assert (gone.success, gone.collection) == (True, "new")
    assert (aliases(two), found(two, "new")) == ([("a", "new")], ["new"])
    assert_refused(two.search(collection="docs"), Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")


def test_every_call_takes_an_alias(two: Database) -> None:
    """Each call that names a collection does the same by its alias, and replies name the collection itself."""
    stub = two.stub
    assert two.upsert(vector("x", 0, 1, 0, 0), collection="docs").success
    (answer,) = stub.UpsertVectorsStream(iter([pb.UpsertVectorsRequest(collection="docs", vectors=[vector("y")])]))
    assert answer.success
    search = pb.SearchVectorsRequest(collection="docs", vector=[0, 1, 0, 0], limit=1)
    assert stub.SearchVectors(search).results[0].id == "x"
    batch = stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[search, search])).responses
    assert [one.results[0].id for one in batch] == ["x", "x"]
    assert [one.id for one in stub.GetVectors(pb.GetVectorsRequest(collection="docs", ids=["x"])).vectors] == ["x"]
    page = stub.ListVectors(pb.ListVectorsRequest(collection="docs", page_size=2))
    rest = stub.ListVectors(pb.ListVectorsRequest(collection="old", page_token=page.next_page_token))
    assert [one.id for one in (*page.vectors, *rest.vectors)] == ["old", "x", "y"]
    assert stub.CountVectors(pb.CountVectorsRequest(collection="docs")).count == 3
    where = pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=["x"]))])
    assert stub.CountVectors(pb.CountVectorsRequest(collection="docs", filter=where)).count == 1
    change = pb.MetadataUpdate(id="x", metadata_json='{"n": 1}')
    assert stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="docs", updates=[change])).updated_count == 1
    described = stub.DescribeCollection(pb.DescribeCollectionRequest(name="docs")).collection
    assert (described.name, described.count, list(described.aliases)) == ("old", 3, ["docs"])
    changed = stub.UpdateCollection(pb.UpdateCollectionRequest(name="docs", index=pb.IndexParams(ef_search=7)))
    assert (changed.collection.name, changed.collection.index.ef_search) == ("old", 7)
    made = stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="docs", name="s")).snapshot
    assert (made.collection, made.name) == ("old", "s")
    assert two.delete("x", collection="docs").deleted_count == 1
    snapshots = stub.ListSnapshots(pb.ListSnapshotsRequest(collection="docs")).snapshots
    assert [(one.collection, one.name) for one in snapshots] == [("old", "s")]
    restored = stub.RestoreSnapshot(pb.RestoreSnapshotRequest(collection="docs", name="s"))
    assert (restored.collection.name, restored.collection.count, list(restored.collection.aliases)) == (
        "old", 3, ["docs"],
    )  # fmt: skip
    assert stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="docs", name="s")).success
    same = stub.CreateCollection(pb.CreateCollectionRequest(name="docs", dimension=4, if_not_exists=True))
    assert (same.success, same.created) == (True, False)
    assert stub.CountVectors(pb.CountVectorsRequest(collection="new")).count == 1


def test_a_collection_with_an_alias_is_not_deleted(two: Database) -> None:
    """DeleteCollection of what an alias names, by either name, is refused, names the alias, and deletes nothing."""
    set_alias(two, "other", "old")
    for name in ("old", "docs"):
        reply = two.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name))
        assert_refused(reply, Code.FAILED_PRECONDITION, "COLLECTION_HAS_ALIASES", "name")
        assert "alias docs and 1 more; move it" in reply.error
    assert found(two) == ["old"]
    for alias in ("docs", "other"):
        set_alias(two, alias, "new")
    assert two.stub.DeleteCollection(pb.DeleteCollectionRequest(name="old")).deleted_count == 1
    assert found(two) == ["new"]


def test_names_are_of_one_kind(two: Database) -> None:
    """No name is both a collection's and an alias's, nor an alias what no collection could be called."""
    for made in (
        two.stub.CreateCollection(pb.CreateCollectionRequest(name="docs", dimension=4)),
        set_alias(two, "new", "old"),
    ):
        assert_refused(
            made, Code.ALREADY_EXISTS, "COLLECTION_EXISTS", "alias" if "for the alias" in made.error else None
        )
        assert "alias" in made.error
    other = two.stub.CreateCollection(pb.CreateCollectionRequest(name="docs", dimension=5, if_not_exists=True))
    assert_refused(other, Code.ALREADY_EXISTS, "COLLECTION_EXISTS")
    assert "dimension 4, not 5" in other.error
    for bad in ("", ".x", "a/b", "x" * 129, "é"):
        assert_refused(set_alias(two, bad, "old"), Code.INVALID_ARGUMENT, "BAD_NAME", "alias")
    assert_refused(set_alias(two, "x", "missing"), Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
    assert_refused(two.stub.DeleteAlias(pb.DeleteAliasRequest(alias="old")), Code.NOT_FOUND, "ALIAS_NOT_FOUND", "alias")
    assert_refused(
        two.stub.ListAliases(pb.ListAliasesRequest(collection="x")),
        Code.NOT_FOUND,
        "COLLECTION_NOT_FOUND",
        "collection",
    )
    assert aliases(two) == [("docs", "old")]


def test_of_two_who_move_an_alias_one_does(two: Database) -> None:
    """With expected_collection an alias that names another, or nothing, stays, and the error says what it names."""
    assert set_alias(two, "docs", "new", expected_collection="old").previous_collection == "old"
    late = set_alias(two, "docs", "old", expected_collection="old")
    assert_refused(late, Code.FAILED_PRECONDITION, "ALIAS_MOVED", "expected_collection")
    assert "names new, not 'old'" in late.error
    assert set_alias(two, "fresh", "new", expected_collection="").success
    for name in ("", "old"):
        reply = set_alias(two, "fresh" if not name else "fresher", "old", expected_collection=name)
        assert_refused(reply, Code.FAILED_PRECONDITION, "ALIAS_MOVED", "expected_collection")
    assert aliases(two) == [("docs", "new"), ("fresh", "new")]


def test_reindexing_without_a_pause(tmp_path: Path) -> None:
    """While an alias moves from one collection to the next and the one before is deleted, over and over, every search,
    get, count and write by it succeeds, and each is about one of them as a whole."""
    with opened(tmp_path / "data", threads=1) as engine:
        matrix = vectors(60, 8)

        def build(number: int) -> None:
            engine.create(f"v{number}", 8)
            engine.upsert(f"v{number}", items(matrix, f"v{number}-"))

        build(0)
        engine.set_alias("docs", "v0")
        stop, calls = threading.Event(), [0] * 4
        errors: list[Exception] = []

        def use(kind: int) -> None:
            try:
                while not stop.is_set():
                    calls[kind] += 1
                    time.sleep(0.001)
                    if kind == 0:
                        result = engine.search("docs", Query(matrix[3], limit=60))
                        generations = {one.partition("-")[0] for one in ids(result) if one != "w"}
                        assert len(generations) == 1, generations
                        assert len(ids(result)) >= 60
                    elif kind == 1:
                        assert engine.count("docs") >= 60
                    elif kind == 2:
                        engine.get("docs", ["v0-1"])
                        assert len(engine.page("docs", size=100)[0]) >= 60
                    else:
                        engine.upsert("docs", [Item("w", matrix[0])])
            except (AssertionError, PluginError) as error:
                errors.append(error)

        threads = [threading.Thread(target=use, args=(kind,)) for kind in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 6):
                build(number)
                calls[:] = [0] * 4
                wait_until(lambda: bool(errors) or min(calls) > 0, "call of each kind")
                engine.set_alias("docs", f"v{number}", expected=f"v{number - 1}")
                engine.delete(f"v{number - 1}")
        finally:
            stop.set()
            for thread in threads:
                thread.join(120)
        assert errors == []


def test_the_host_takes_an_alias(two: Database) -> None:
    """What the host does with a collection it does with an alias: make sure of it, fill it, ask what is in it."""
    address = two.server.address
    collection = Collection(Connection("db", Address(address), two.server.channel()), "docs", "")
    assert collection.create(4) is False
    collection.upsert({"x": [0, 1, 0, 0]}, {"x": {"n": 0}})
    before = collection.state()
    collection.upsert({"x": [0, 1, 0, 0]}, {"x": {"n": 1}})
    state = collection.state_if_alone(before)
    assert state is not None
    assert state[0] == 2
    assert {name for name, _ in collection.stored()} == {"old", "x"}
    assert collection.search([0, 1, 0, 0], 1)[0].id == "x"


@pytest.mark.parametrize(("target", "count"), [("new", 1), ("other", 0)])
def test_a_write_by_an_alias_goes_where_it_leads_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, count: int
) -> None:
    """An upsert whose alias moves while it is checked is checked for the other collection: written there, or refused
    for what is wrong there."""
    with opened(tmp_path / "data") as engine:
        for name, dimension in (("old", 4), ("new", 4), ("other", 5)):
            engine.create(name, dimension)
        engine.set_alias("docs", "old")
        waiting, moved = threading.Event(), threading.Event()
        find, result = engine._find, list[Any]()

        def find_slowly(name: str, field: str = "collection") -> Any:
            entry = find(name, field)
            if threading.current_thread().name == "upsert" and not waiting.is_set():
                waiting.set()
                assert moved.wait(120)
            return entry

        def write() -> None:
            try:
                result.append(engine.upsert("docs", [Item("a", np.ones(4, np.float32))]).count)
            except PluginError as error:
                result.append(error.message)

        monkeypatch.setattr(engine, "_find", find_slowly)
        thread = threading.Thread(target=write, name="upsert")
        thread.start()
        assert waiting.wait(120)
        engine.set_alias("docs", target)
        moved.set()
        thread.join(120)
        assert (engine.count(target), engine.count("old")) == (count, 0)
        assert result == [1] if count else "the collection's dimension is 5" in result[0]


def test_aliases_survive_a_kill_and_a_restart(tmp_path: Path) -> None:
    """What was acknowledged about aliases is there after a kill, also that one was deleted."""
    with opened(tmp_path / "data") as engine:
        for name in ("a", "b"):
            engine.create(name, 4)
        engine.set_alias("x", "a")
        engine.set_alias("y", "a")
        engine.set_alias("x", "b")
        engine.delete_alias("y")
        folder = killed(tmp_path / "data", tmp_path / "after")
    for _ in range(2):
        with opened(folder) as engine:
            assert engine.list_aliases() == [("x", "b")]
            assert engine.describe("x").spec.name == "b"


def test_what_an_older_version_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Aliases of collections that are gone, or with the name of one, are dropped for good, with a line in the log."""
    folder = tmp_path / "data"
    with opened(folder) as engine:
        engine.create("a", 4)
        engine.set_alias("kept", "a")
    store = Store(folder / "store.db")
    with store.write() as transaction:
        transaction.executemany("INSERT INTO aliases VALUES (?, ?)", [("lost", "gone"), ("a", "a")])
    store.close()
    with opened(folder) as engine:
        assert engine.list_aliases() == [("kept", "a")]
        assert "event=aliases_dropped" in caplog.text
        engine.create("gone", 4)
    with opened(folder) as engine:
        assert engine.list_aliases() == [("kept", "a")]
        assert engine.delete("gone") == 0


def test_there_are_not_more_aliases_than_max_collections(tmp_path: Path) -> None:
    """max_collections bounds aliases too; one that is there can still be moved."""
    with opened(tmp_path / "data", max_collections=2) as engine:
        engine.create("a", 4)
        engine.create("b", 4)
        for alias in ("x", "y"):
            engine.set_alias(alias, "a")
        with pytest.raises(LimitReached, match="max_collections"):
            engine.set_alias("z", "a")
        assert engine.set_alias("y", "b") == "a"


def test_a_snapshot_does_not_come_back_under_an_alias(tmp_path: Path) -> None:
    """A name that has become an alias means the collection that it names, for snapshots too."""
    with opened(tmp_path / "data") as engine:
        engine.create("docs", 4)
        engine.create_snapshot("docs", "s")
        engine.delete("docs")
        engine.create("docs-2", 4)
        engine.set_alias("docs", "docs-2")
        with pytest.raises(NotFound, match="docs-2"):
            engine.restore_snapshot("docs", "s")
        engine.delete_alias("docs")
        engine.restore_snapshot("docs", "s")
        with pytest.raises(AlreadyExists):
            engine.set_alias("docs", "docs-2")


NAMES = ["a", "b", "c", "x", "y"]
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "delete", "set", "unset", "restart"]), *[st.sampled_from(NAMES)] * 2),
    max_size=25,
)


@settings(unhurried, max_examples=30)
@given(steps=STEPS)
def test_names_are_the_oracles(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]) -> None:
    """Collections and aliases made, moved and deleted in any order, with restarts, are those of two dictionaries."""
    folder = tmp_path_factory.mktemp("names")
    engine = Engine(folder)
    engine.open()
    collections: set[str] = set()
    names: dict[str, str] = {}
    for step, first, second in steps:
        target = second if second in collections else names.get(second, "")
        try:
            if step == "create":
                engine.create(first, 2)
                assert first not in collections | names.keys()
                collections.add(first)
            elif step == "delete":
                engine.delete(first)
                assert first in collections
                assert first not in names.values()
                collections.remove(first)
            elif step == "set":
                assert engine.set_alias(first, second) == names.get(first, "")
                assert target
                assert first not in collections
                names[first] = target
            elif step == "unset":
                assert engine.delete_alias(first) == names.pop(first)
            else:
                engine.close()
                engine = Engine(folder)
                engine.open()
        except (AlreadyExists, NotFound, FailedPrecondition):
            assert (
                (step == "create" and first in collections | names.keys())
                or (step == "delete" and (first not in collections or first in names.values()))
                or (step == "set" and (first in collections or not target))
                or (step == "unset" and first not in names)
            )
        assert engine.list_aliases() == sorted(names.items())
        assert [one.spec.name for one in engine.describe_all()] == sorted(collections)
    engine.close()


@pytest.mark.slow
def test_kills_in_the_midst(tmp_path: Path) -> None:
    """Over kills of the plugin, an alias and metadata are what was acknowledged last, or what was under way then; what
    one request changed is changed as a whole."""
    chance = random.Random(5)
    moved = changed = 0
    for life in range(5):
        with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
            stub = rpc.DatabaseProviderStub(plugin.channel())
            if not life:
                for name in ("c0", "c1", "c2", "c3"):
                    stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=4))
                    new = [vector(one, metadata_json='{"n": 0}') for one in ("a", "b")]
                    stub.UpsertVectors(pb.UpsertVectorsRequest(collection=name, vectors=new))
                stub.SetAlias(pb.SetAliasRequest(alias="live", collection="c0"))
            target = stub.ListAliases(pb.ListAliasesRequest()).aliases[0].collection
            assert target in (f"c{moved % 4}", f"c{(moved + 1) % 4}")
            moved += target != f"c{moved % 4}"  # the move that was under way
            found = stub.GetVectors(pb.GetVectorsRequest(collection="c0", ids=["a", "b"])).vectors
            (number,) = {one.metadata.fields["n"].number_value for one in found}
            assert number in (changed, changed + 1)
            changed = int(number)
            killer = threading.Timer(chance.uniform(0.1, 0.6), plugin.signal, (signal.SIGKILL,))
            began = changed
            with contextlib.suppress(grpc.RpcError):
                while True:
                    text = f'{{"n": {changed + 1}}}'
                    both = [pb.MetadataUpdate(id=one, metadata_json=text) for one in ("a", "b")]
                    assert stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="c0", updates=both)).success
                    changed += 1
                    other = pb.SetAliasRequest(alias="live", collection=f"c{(moved + 1) % 4}")
                    assert stub.SetAlias(other).previous_collection == f"c{moved % 4}"
                    moved += 1
                    if changed == began + 2:  # some in each life, however slow the disk is
                        killer.start()
            killer.join()
            plugin.wait()
    assert changed >= 10
    assert moved >= 10
