"""UpdateMetadata: metadata changes, merged or replaced, and vectors, index and scores stay as they are."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import numpy as np
import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Change, Hit, Item, MetadataMode, Metric, Query
from plugins.vector_hnsw.engine.searching import Changed
from shared.errors import Code, InvalidArgument, NotFound, StorageFull
from shared.structs import dump
from shared.vector_messages.requests import dumped
from shared.vectors.filters import Compare, Filter, Ids, Operator
from tests.servers import details, unhurried
from tests.vector_tools import ids, items, killed, labels_of, opened, vectors
from tests.vector_wire import Database, assert_refused, serving, vector

MERGE, REPLACE = pb.METADATA_MODE_MERGE, pb.METADATA_MODE_REPLACE


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data") as database:
        database.create()
        yield database


def change(name: str, metadata: Any = None, *remove: str) -> pb.MetadataUpdate:
    text = "" if metadata is None else dump(metadata)
    return pb.MetadataUpdate(id=name, metadata_json=text, remove_keys=remove)


def update(database: Database, *updates: pb.MetadataUpdate, **fields: Any) -> pb.UpdateMetadataResponse:
    return database.stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="c", updates=updates, **fields))


def stored(database: Database) -> dict[str, Any]:
    """Id to metadata, as text where its order matters."""
    reply = database.stub.ListVectors(pb.ListVectorsRequest(collection="c", metadata_as_json=True, page_size=1000))
    return {one.id: json.loads(one.metadata_json or "{}") for one in reply.vectors}


def where(field: str, value: float) -> pb.Filter:
    compare = pb.Compare(field=field, op=pb.OPERATOR_EQ, value=Value(number_value=value))
    return pb.Filter(must=[pb.Condition(compare=compare)])


# ---------------------------------------------------------------- what it does


def test_merge_and_replace(database: Database) -> None:
    """MERGE, the default, sets the keys that are sent, as a whole, removes those named, and leaves the others and their
    order; REPLACE leaves nothing else; null is a value."""
    database.upsert(vector("a", metadata_json='{"k": {"x": 1}, "n": 1, "gone": 2, "stays": [1]}'), vector("b"))
    reply = update(
        database, change("a", {"k": {"y": 2}, "n": None, "new": 3}, "gone", "missing"), change("b", {"n": 1})
    )
    assert (reply.success, reply.updated_count, list(reply.errors), reply.sequence) == (True, 2, [], 3)
    text = database.stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["a"], metadata_as_json=True))
    assert text.vectors[0].metadata_json == '{"k":{"y":2},"n":null,"stays":[1],"new":3}'
    assert stored(database)["b"] == {"n": 1}
    assert update(database, change("a", {"only": 1}), change("b", {}), mode=REPLACE).updated_count == 2
    assert stored(database) == {"a": {"only": 1}, "b": {}}
    assert update(database, change("a", None, "only")).updated_count == 1
    assert stored(database)["a"] == {}


def test_a_struct_and_its_twin(database: Database) -> None:
    """A Struct is taken as well as its JSON twin, which wins and keeps integers that the Struct cannot hold."""
    database.upsert(vector("a"), vector("b"))
    struct = Struct(fields={"n": Value(number_value=1.5)})
    both = pb.MetadataUpdate(id="b", metadata=struct, metadata_json='{"n": 9007199254740993}')
    assert update(database, pb.MetadataUpdate(id="a", metadata=struct), both).success
    assert stored(database) == {"a": {"n": 1.5}, "b": {"n": 9007199254740993}}


def test_updates_of_one_id_are_made_in_order(database: Database) -> None:
    """Each change of an id that is there several times is made, in order, and the id counts once."""
    database.upsert(vector("a", metadata_json='{"n": 0}'))
    reply = update(database, change("a", {"n": 1, "m": 1}), change("a", {"n": 2}, "m"), change("a", {"k": 3}))
    assert (reply.updated_count, stored(database)) == (1, {"a": {"n": 2, "k": 3}})
    update(database, change("a", {"n": 1}), change("a", {"m": 2}), mode=REPLACE)
    assert stored(database) == {"a": {"m": 2}}


def test_everything_that_fits_a_filter(database: Database) -> None:
    """With a filter every match, and nothing else, gets the one update, merged or replaced."""
    database.upsert(*[vector(f"i{n}", metadata_json=dump({"n": n % 2, "id": n})) for n in range(100)])
    reply = update(database, change("", {"seen": True}, "id"), filter=where("n", 1))
    assert (reply.success, reply.updated_count) == (True, 50)
    assert stored(database) == {f"i{n}": {"n": 1, "seen": True} if n % 2 else {"n": 0, "id": n} for n in range(100)}
    assert update(database, change("", {"n": 1}), filter=where("n", 7)).updated_count == 0
    assert update(database, change("", {"x": 0}), filter=where("n", 0), mode=REPLACE).updated_count == 50
    assert [one for one in stored(database).values() if one == {"x": 0}] == [{"x": 0}] * 50


def test_the_next_call_sees_it(database: Database) -> None:
    """Hits' metadata, filters that were used before, and counts go by the new metadata at once."""
    database.upsert(*[vector(f"i{n}", 1, n, 0, 0, metadata_json='{"n": 0}') for n in range(20)])
    for n in range(1, 5):
        assert database.search(limit=1, filter=where("n", n - 1)).results[0].metadata["n"] == n - 1
        assert database.search(filter=where("n", n)).results == []
        assert update(database, change("", {"n": n}), filter=where("n", n - 1)).updated_count == 20
        assert {hit.metadata["n"] for hit in database.search(limit=20).results} == {n}
        assert len(database.search(limit=20, filter=where("n", n)).results) == 20
        assert database.search(filter=where("n", n - 1)).results == []
        count = pb.CountVectorsRequest(collection="c", filter=where("n", n))
        assert database.stub.CountVectors(count).count == 20


@pytest.mark.usefixtures("only_graphs")
@pytest.mark.parametrize("metric", list(Metric))
def test_vectors_and_graph_stay(tmp_path: Path, metric: Metric) -> None:
    """A change of metadata touches no vector, score, label, or graph and its wear, whatever the metric."""
    matrix = vectors(300, 6)
    with opened(tmp_path / "data", threads=1) as engine:
        engine.create("c", 6, metric=metric)
        engine.upsert("c", items(matrix))
        query = Query(matrix[7], limit=50, with_vectors=True)
        before, health = engine.search("c", query), engine.describe("c", sample=False)
        labels = labels_of(engine, "c", ["i7", "i70"])
        changes = [Change(f"i{n}", {"n": n}) for n in range(300)]
        assert engine.update_metadata("c", changes, lambda *of: dumped(*of)).count == 300
        after = engine.search("c", query)
        assert [(hit.id, hit.score, hit.vector.tobytes()) for hit in after.hits if hit.vector is not None] == [
            (hit.id, hit.score, hit.vector.tobytes()) for hit in before.hits if hit.vector is not None
        ]
        assert labels_of(engine, "c", ["i7", "i70"]) == labels
        assert engine.describe("c", sample=False).tombstone_ratio == health.tombstone_ratio == 0
        assert {hit.id: json.loads(hit.metadata)["n"] for hit in after.hits} == {
            name: int(name[1:]) for name in ids(before)
        }
        graph = engine._collections["c"].graph
        assert graph is not None
        assert graph.wear == 0


# ---------------------------------------------------------------- what it refuses


def test_what_is_refused(database: Database) -> None:
    """What names nothing, or contradicts itself, is refused with the field, and nothing is changed."""
    database.upsert(vector("a", metadata_json='{"n": 1}'))
    cases: list[tuple[list[pb.MetadataUpdate], dict[str, Any], str, str]] = [
        ([change("a")], {}, "NOTHING_NAMED", "updates[0].metadata"),
        ([change("a")], {"mode": REPLACE}, "NOTHING_NAMED", "updates[0].metadata"),
        ([change("a", {}, "n")], {"mode": REPLACE}, "BAD_UPDATE", "updates[0].remove_keys"),
        ([change("a", {"n": 2}, "m", "n")], {}, "BAD_UPDATE", "updates[0].remove_keys[1]"),
        ([change("a", {"n": 2})], {"mode": 7}, "BAD_MODE", "mode"),
        ([pb.MetadataUpdate(id="a", metadata_json="[1]")], {}, "INVALID_ARGUMENT", "updates[0].metadata_json"),
        ([pb.MetadataUpdate(id="a", metadata_json="{")], {}, "INVALID_ARGUMENT", "updates[0].metadata_json"),
        ([change("a", {"n": 2})], {"filter": where("n", 1)}, "BAD_UPDATE", "updates"),
        ([change("", {"n": 2})] * 2, {"filter": where("n", 1)}, "BAD_UPDATE", "updates"),
        ([], {"filter": where("n", 1)}, "BAD_UPDATE", "updates"),
        ([change("", {"n": 2})], {"filter": pb.Filter()}, "BAD_FILTER", "filter"),
        (
            [change("", {"n": 2})],
            {"filter": pb.Filter(must=[pb.Condition(filter=pb.Filter())])},
            "BAD_FILTER",
            "filter.must[0].filter",
        ),
    ]
    for updates, fields, reason, field in cases:
        assert_refused(update(database, *updates, **fields), Code.INVALID_ARGUMENT, reason, field)
    for missing in ("b", ""):
        reply = update(database, change("a", {"n": 2}), change(missing, {"n": 2}))
        assert_refused(reply, Code.NOT_FOUND, "ID_NOT_FOUND", "updates[1].id")
    gone = database.stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="x", updates=[change("a", {})]))
    assert_refused(gone, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
    assert stored(database) == {"a": {"n": 1}}
    nothing = update(database)
    assert (nothing.success, nothing.updated_count) == (True, 0)


def test_allow_partial(database: Database) -> None:
    """With allow_partial what is wrong is named one by one, with index and id, and the rest is changed; a change that
    fails leaves those before it of the same id."""
    database.upsert(vector("a", metadata_json='{"n": 1}'), vector("b"))
    large = {"x": "y" * 700_000}
    reply = update(
        database,
        change("missing", {"n": 2}),
        change("a", large),
        change("a", {"y": "y" * 700_000}),
        change("b"),
        change("b", {"n": 3}),
        allow_partial=True,
    )
    assert (reply.success, reply.updated_count) == (True, 2)
    assert [(one.index, one.id, details(one.status).reason) for one in reply.errors] == [
        (0, "missing", "ID_NOT_FOUND"),
        (2, "a", "METADATA_TOO_LARGE"),
        (3, "b", "NOTHING_NAMED"),
    ]
    assert stored(database) == {"a": {"n": 1, **large}, "b": {"n": 3}}
    same = update(database, change("b", {"y": "y" * 1_100_000}), allow_partial=True, mode=REPLACE)
    assert (same.updated_count, len(same.errors), stored(database)["b"]) == (0, 1, {"n": 3})


@pytest.mark.slow
def test_what_is_merged_can_still_be_read(database: Database) -> None:
    """Two halves that no reply could hold together are refused at the second, by id and by filter, and every item can
    be read; so are halves that are together over the bound on metadata."""
    zeros = [Value(number_value=0)] * 240_000
    half = {"one": {"a": [0] * 240_000}, "two": {"b": [0] * 240_000}}
    assert len(ListValue(values=zeros).SerializeToString()) > 2 * 2**20
    database.upsert(vector("a", metadata_json=dump({**half["one"], "n": 1})))
    for refused in (
        update(database, change("a", half["two"])),
        update(database, change("", half["two"]), filter=where("n", 1)),
    ):
        assert_refused(refused, Code.INVALID_ARGUMENT, "METADATA_TOO_LARGE", "updates[0].metadata")
    assert [hit.id for hit in database.search().results] == ["a"]
    assert stored(database)["a"].keys() == {"a", "n"}


def test_all_or_nothing_by_filter(database: Database) -> None:
    """Where one match of many cannot take the change, none has it."""
    small = [vector(f"i{n}", metadata_json='{"n": 1}') for n in range(200)]
    database.upsert(*small, vector("large", metadata_json=dump({"n": 1, "x": "x" * 900_000})))
    reply = update(database, change("", {"y": "y" * 200_000}), filter=where("n", 1))
    assert_refused(reply, Code.INVALID_ARGUMENT, "METADATA_TOO_LARGE", "updates[0].metadata")
    assert all("y" not in document for document in stored(database).values())
    assert len(database.search(limit=1000, filter=where("n", 1), include_metadata=False).results) == 201


def test_too_many_at_once(database: Database) -> None:
    """More than 100,000 updates, or keys to remove, or 1,000 bad ones of allow_partial, are refused as a whole."""
    database.upsert(vector("a"))
    with pytest.raises(InvalidArgument, match="updates has 100001"):
        database.engine.update_metadata("c", [Change("a", {})] * 100_001, lambda *of: dumped(*of))
    many = pb.MetadataUpdate(id="a", metadata_json="{}", remove_keys=["k"] * 100_001)
    assert_refused(update(database, many), Code.INVALID_ARGUMENT, "TOO_MANY_ITEMS", "remove_keys")
    reply = update(database, *[change(f"x{n}", {}) for n in range(1_001)], allow_partial=True)
    assert_refused(reply, Code.INVALID_ARGUMENT, "TOO_MANY_BAD_ITEMS", "updates")


# ---------------------------------------------------------------- durable, and beside others


@pytest.mark.usefixtures("only_graphs")
def test_it_survives_a_kill(tmp_path: Path) -> None:
    """What was acknowledged is there after a kill, by id and by filter, with the graph as it was saved."""
    with opened(tmp_path / "data", threads=1) as engine:
        engine.create("c", 4)
        engine.upsert("c", items(vectors(300, 4)))
        engine.update_metadata("c", [Change("i1", {"n": 1}), Change("i2", {"n": 2})], lambda *of: dumped(*of))
        engine.update_matching(
            "c", Filter((Compare("n", Operator.EQ, 2),)), Change("", {"m": 3}), lambda *of: dumped(*of)
        )
        folder = killed(tmp_path / "data", tmp_path / "after")
    with opened(folder) as engine:
        found = engine.get("c", ["i0", "i1", "i2"])
        assert {name: json.loads(item.metadata) for name, item in found.items()} == {
            "i0": {}, "i1": {"n": 1}, "i2": {"n": 2, "m": 3},
        }  # fmt: skip
        assert ids(engine.search("c", Query(vectors(300, 4)[2], limit=1))) == ["i2"]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that the disk does not take is refused as a whole, and the next one is made."""
    with opened(tmp_path / "data") as engine:
        engine.create("c", 4)
        engine.upsert("c", items(vectors(100, 4)))
        calls: list[str] = []

        def full(name: str, *rest: Any) -> str:
            calls.append(name)
            if len(calls) % 50 == 0:
                raise StorageFull("the disk is full")
            return dumped(name, *rest)

        changes = [Change(f"i{n}", {"n": n}) for n in range(100)]
        with pytest.raises(StorageFull):
            engine.update_metadata("c", changes, full)
        assert {item.metadata for item in engine.page("c", size=100)[0]} == {"{}"}
        assert engine.search("c", Query(np.ones(4, np.float32), limit=100, with_vectors=True)).complete
        assert engine.update_metadata("c", changes, lambda *of: dumped(*of)).count == 100
        assert engine.count("c", Filter((Compare("n", Operator.GTE, 0),))) == 100


def test_searches_see_before_or_after(tmp_path: Path) -> None:
    """A filtered search beside changes by filter sees all of a change or nothing of it, and what it hands out fits."""
    with opened(tmp_path / "data", threads=1) as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item(f"i{n}", row, '{"n":0}') for n, row in enumerate(vectors(300, 4))])
        stop = threading.Event()
        wrong: list[Any] = []
        searched = [0]

        def search() -> None:
            while not stop.is_set():
                for value in (0, 1):
                    fits = Filter((Compare("n", Operator.EQ, value),))
                    hits = engine.search("c", Query(np.ones(4, np.float32), limit=500, filter=fits)).hits
                    if len(hits) not in (0, 300) or any(json.loads(hit.metadata)["n"] != value for hit in hits):
                        wrong.append((value, len(hits)))
                    searched[0] += 1
                    time.sleep(0.001)

        thread = threading.Thread(target=search)
        thread.start()
        try:
            changes = 0
            while changes < 6 or searched[0] < 6:
                old = changes % 2
                fits = Filter((Compare("n", Operator.EQ, old),))
                written = engine.update_matching("c", fits, Change("", {"n": 1 - old}), lambda *of: dumped(*of))
                assert written.count == 300
                changes += 1
        finally:
            stop.set()
            thread.join(120)
        assert wrong == []


def test_damaged_metadata_is_named_and_can_be_replaced(tmp_path: Path) -> None:
    """Metadata that the disk has changed is not merged with, since that would make it sound; REPLACE heals it."""
    with opened(tmp_path / "data") as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item("a", np.ones(4, np.float32), '{"n":1}')])
        with engine._store.write() as transaction:
            transaction.execute("UPDATE items_1 SET metadata = '{\"n\":2}'")
        with pytest.raises(Exception, match="item 'a' of collection c is damaged"):
            engine.update_metadata("c", [Change("a", {"m": 1})], lambda *of: dumped(*of))
        engine.update_metadata("c", [Change("a", {"m": 1})], lambda *of: dumped(*of), mode=MetadataMode.REPLACE)
        assert engine.get("c", ["a"])["a"].metadata == '{"m":1}'


KEYS = st.sampled_from(["a", "b", 'x"y', "", "\n"])
VALUES = st.recursive(st.none() | st.integers(-3, 3) | st.text(max_size=2), lambda inner: st.lists(inner, max_size=2))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)
UPDATES = st.tuples(st.sampled_from(["i0", "i1", "i2", "gone"]), DOCUMENTS | st.none(), st.lists(KEYS, max_size=2))


@settings(unhurried, max_examples=40)
@given(
    start=st.lists(DOCUMENTS, min_size=3, max_size=3),
    steps=st.lists(UPDATES, max_size=6),
    mode=st.sampled_from(list(MetadataMode)),
)
def test_any_updates_are_the_oracles(
    tmp_path_factory: pytest.TempPathFactory,
    start: list[dict[str, Any]],
    steps: list[tuple[str, dict[str, Any] | None, list[str]]],
    mode: MetadataMode,
) -> None:
    """Any sequence of changes in one request, with partial, leaves what a dictionary has after the same changes."""
    with opened(tmp_path_factory.mktemp("metadata")) as engine:
        engine.create("c", 2)
        engine.upsert("c", [Item(f"i{n}", np.ones(2, np.float32), dump(one)) for n, one in enumerate(start)])
        model = {f"i{n}": dict(one) for n, one in enumerate(start)}
        wrong = set()
        for index, (name, metadata, remove) in enumerate(steps):
            nothing = metadata is None and (mode is MetadataMode.REPLACE or not remove)
            if (
                name not in model
                or nothing
                or (mode is MetadataMode.REPLACE and remove)
                or set(remove) & set(metadata or ())
            ):
                wrong.add(index)
                continue
            new = {**(model[name] if mode is MetadataMode.MERGE else {}), **(metadata or {})}
            model[name] = {key: value for key, value in new.items() if key not in remove}
        changes = [Change(name, metadata, tuple(remove)) for name, metadata, remove in steps]
        written = engine.update_metadata("c", changes, lambda *of: dumped(*of), mode=mode, partial=True)
        assert set(written.wrong) == wrong
        assert {name: json.loads(item.metadata) for name, item in engine.get("c", [*model]).items()} == model
        if wrong:
            with pytest.raises((InvalidArgument, NotFound)):
                engine.update_metadata("c", changes, lambda *of: dumped(*of), mode=mode)


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("how", ["update", "update by filter", "upsert"])
def test_a_filtered_search_in_the_moment_of_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, few: bool
) -> None:
    """A search that begins when new metadata is committed, and what fits not known yet, hands out nothing that does not
    fit: it waits, or is answered as before."""
    if not few:
        monkeypatch.setattr("plugins.vector_hnsw.engine.matches._FEW_NUMBERS", 0)
    matrix = vectors(50, 4)
    with opened(tmp_path) as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item(f"i{n}", row, '{"n": 0}') for n, row in enumerate(matrix)])
        query = Query(matrix[0], filter=Filter((Compare("n", Operator.EQ, 0),)))
        assert len(engine.search("c", query).hits) == 10
        entry = engine._find("c")
        real = entry.matches.changed
        between: list[Hit] = []
        calls: list[int] = []

        def known(sequence: int, rows: Any) -> None:
            with contextlib.suppress(Changed):
                between.extend(entry.search(query).hits)
            calls.append(sequence)
            real(sequence, rows)

        monkeypatch.setattr(entry.matches, "changed", known)
        if how == "update":
            engine.update_metadata("c", [Change("i0", {"n": 1})], dumped)
        elif how == "update by filter":
            only = Filter((Compare("n", Operator.EQ, 0), Ids(("i0",))))
            engine.update_matching("c", only, Change("", {"n": 1}), dumped)
        else:
            engine.upsert("c", [Item("i0", matrix[0], '{"n": 1}')])
        assert len(calls) == 1
        assert all(json.loads(hit.metadata)["n"] == 0 for hit in between)
        assert "i0" not in ids(engine.search("c", query))
