"""Every call of DatabaseProvider beyond the guide's five, and every field of its messages, over a socket."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value

from plugins.vector_hnsw.engine import opening
from shared.errors import Code
from tests.servers import SECONDS, details, start_plugin, wait_until
from tests.vector_tools import contents, vectors
from tests.vector_wire import Database, assert_refused, serving, vector


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data") as database:
        yield database


def some(count: int, prefix: str = "i", dimension: int = 4, seed: int = 1) -> list[pb.Vector]:
    return [
        pb.Vector(id=f"{prefix}{n}", vector=row.tolist(), metadata_json=json.dumps({"n": n}))
        for n, row in enumerate(vectors(count, dimension, seed))
    ]


def value(of: Any) -> Value:
    message = Value()
    json_format.ParseDict(of, message)
    return message


def compare(field: str, op: int, of: Any) -> pb.Condition:
    return pb.Condition(compare=pb.Compare(field=field, op=op, value=value(of)))  # type: ignore[arg-type]


def where(*must: pb.Condition, **lists: Any) -> pb.Filter:
    return pb.Filter(must=must, **lists)


def below(n: int) -> pb.Filter:
    return where(compare("n", pb.OPERATOR_LT, n))


def listed(database: Database, collection: str = "c", **fields: Any) -> list[pb.Vector]:
    """All pages."""
    found: list[pb.Vector] = []
    token = ""
    while True:
        reply = database.stub.ListVectors(pb.ListVectorsRequest(collection=collection, page_token=token, **fields))
        assert reply.success, reply
        found += reply.vectors
        token = reply.next_page_token
        if not token:
            return found


def count(database: Database, filter: pb.Filter | None = None, collection: str = "c") -> int:
    reply = database.stub.CountVectors(pb.CountVectorsRequest(collection=collection, filter=filter))
    assert reply.success, reply
    return reply.count


def describe(database: Database, name: str = "c") -> pb.CollectionInfo:
    reply = database.stub.DescribeCollection(pb.DescribeCollectionRequest(name=name))
    assert (reply.success, reply.error, reply.HasField("status")) == (True, "", False)
    return reply.collection


def snapshot(database: Database, name: str = "s", collection: str = "c") -> pb.CreateSnapshotResponse:
    return database.stub.CreateSnapshot(pb.CreateSnapshotRequest(collection=collection, name=name))


def restore(database: Database, name: str = "s", collection: str = "c") -> pb.RestoreSnapshotResponse:
    return database.stub.RestoreSnapshot(pb.RestoreSnapshotRequest(collection=collection, name=name))


def snapshots(database: Database, collection: str = "") -> list[tuple[str, str]]:
    reply = database.stub.ListSnapshots(pb.ListSnapshotsRequest(collection=collection))
    assert reply.success, reply
    return [(one.collection, one.name) for one in reply.snapshots]


# ---------------------------------------------------------------- collections


def test_collections_are_listed(database: Database) -> None:
    """ListCollections gives every collection by name, with parameters, defaults filled in, count and sequence."""
    assert list(database.stub.ListCollections(pb.ListCollectionsRequest()).collections) == []
    database.create("b", 4, metric=pb.METRIC_DOT, index=pb.IndexParams(m=8, ef_construction=50, ef_search=60))
    database.create("a", 3, embedding_model="mini")
    database.upsert(*some(5), collection="b")
    reply = database.stub.ListCollections(pb.ListCollectionsRequest())
    assert reply.success
    a, b = reply.collections
    assert (a.name, a.dimension, a.metric, a.embedding_model, a.count, a.sequence) == (
        "a", 3, pb.METRIC_COSINE, "mini", 0, 2,
    )  # fmt: skip
    assert a.index == pb.IndexParams(m=16, ef_construction=200, ef_search=100)
    assert (b.name, b.dimension, b.metric, b.embedding_model, b.count, b.sequence) == ("b", 4, pb.METRIC_DOT, "", 5, 3)
    assert b.index == pb.IndexParams(m=8, ef_construction=50, ef_search=60)
    assert b.bytes_on_disk >= 5 * 16


def test_a_collection_is_described(database: Database) -> None:
    """DescribeCollection gives parameters, count, last write and bytes; one that is not there is NOT_FOUND."""
    database.create()
    database.create("other")
    empty = describe(database)
    assert (empty.count, empty.sequence, empty.health.sampled_recall, empty.health.tombstone_ratio) == (0, 1, 1.0, 0)
    database.upsert(*some(100))
    database.upsert(*some(1), collection="other")
    found = describe(database)
    assert (found.name, found.count, found.sequence, found.health.rebuilding) == ("c", 100, 3, False)
    assert found.bytes_on_disk >= 100 * 16
    reply = database.stub.DescribeCollection(pb.DescribeCollectionRequest(name="nope"))
    assert_refused(reply, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "name")
    assert not reply.HasField("collection")


@pytest.mark.parametrize("metric", [pb.METRIC_COSINE, pb.METRIC_DOT, pb.METRIC_EUCLIDEAN])
@pytest.mark.parametrize("scale", [1, 1000])
def test_health_of_a_fresh_index(database: Database, metric: pb.Metric.ValueType, scale: int) -> None:
    """A fresh index reports a recall of about one, at any scale, though half of its vectors are equal."""
    database.create(dimension=16, metric=metric)
    rows = vectors(400, 16) * np.float32(scale)
    same = [vector(f"same{n}", *rows[0].tolist()) for n in range(400)]
    database.upsert(*same, *[vector(f"i{n}", *row.tolist()) for n, row in enumerate(rows)])
    health = describe(database).health
    assert health.sampled_recall >= (0.99 if metric != pb.METRIC_DOT else 0.95)
    assert health.tombstone_ratio == 0
    listed = database.stub.ListCollections(pb.ListCollectionsRequest()).collections[0].health
    assert listed.sampled_recall == health.sampled_recall


def test_health_after_deletes_and_through_a_rebuild(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes show in tombstone_ratio; past the threshold `rebuilding` shows until a clean index is in place."""
    asked = threading.Event()
    build = opening.build

    def build_once_asked(*values: Any, **options: Any) -> Any:
        assert asked.wait(SECONDS)
        return build(*values, **options)

    database.create(dimension=16)
    database.upsert(*some(2000, dimension=16))
    assert database.delete(*[f"i{n}" for n in range(500)]).deleted_count == 500
    found = describe(database)
    assert found.health.tombstone_ratio == pytest.approx(0.25)
    assert (found.count, found.health.rebuilding) == (1500, False)
    monkeypatch.setattr(opening, "build", build_once_asked)
    database.delete(*[f"i{n}" for n in range(500, 700)])
    assert database.stub.ListCollections(pb.ListCollectionsRequest()).collections[0].health.rebuilding
    asked.set()
    wait_until(lambda: not describe(database).health.rebuilding, "end of the rebuild")
    health = describe(database).health
    assert health.tombstone_ratio == 0
    assert health.sampled_recall >= 0.95
    assert count(database) == 1300


# ---------------------------------------------------------------- get, list, count


def test_vectors_by_id(database: Database) -> None:
    """GetVectors answers in the order of ids, an id twice twice, missing ones apart; vectors only when asked for."""
    database.create()
    row = [1e-42, -0.0, 123456.789, 3e38]
    database.upsert(vector("a", *row, metadata_json='{"big":9007199254740993}'), *some(3))

    def get(*names: str, **fields: Any) -> pb.GetVectorsResponse:
        return database.stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=names, **fields))

    reply = get("i2", "no", "a", "i2", "nor", "no", include_vectors=True)
    assert (reply.success, reply.error, reply.HasField("status")) == (True, "", False)
    assert [one.id for one in reply.vectors] == ["i2", "a", "i2"]
    assert list(reply.missing_ids) == ["no", "nor", "no"]
    assert np.array(reply.vectors[1].vector, np.float32).tobytes() == np.array(row, np.float32).tobytes()
    assert reply.vectors[1].metadata_json == '{"big":9007199254740993}'
    assert reply.vectors[0].metadata["n"] == 2
    assert list(get("a").vectors[0].vector) == []
    assert get().success
    assert_refused(get("a", ""), Code.INVALID_ARGUMENT, "BAD_ID", "ids[1]")
    nope = database.stub.GetVectors(pb.GetVectorsRequest(collection="nope", ids=["a"]))
    assert_refused(nope, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")


def test_pages(database: Database) -> None:
    """ListVectors pages in the order of inserts, a hundred at a time by default, filtered when asked, to the end."""
    database.create()
    database.upsert(*some(250))
    first = database.stub.ListVectors(pb.ListVectorsRequest(collection="c"))
    assert (first.success, len(first.vectors), bool(first.next_page_token)) == (True, 100, True)
    assert list(first.vectors[0].vector) == []
    assert first.vectors[0].metadata["n"] == 0
    everything = listed(database, page_size=64, include_vectors=True)
    assert [one.id for one in everything] == [f"i{n}" for n in range(250)]
    assert np.array([one.vector for one in everything], np.float32).tobytes() == vectors(250, 4).tobytes()
    assert [one.id for one in listed(database, page_size=1, filter=below(5))] == [f"i{n}" for n in range(5)]
    whole = database.stub.ListVectors(pb.ListVectorsRequest(collection="c", page_size=250))
    assert (len(whole.vectors), whole.next_page_token) == (250, "")
    assert listed(database, filter=below(-1)) == []


def test_bad_pages(database: Database) -> None:
    """Tokens that are not this collection's, sizes out of range, and collections that are not there are refused."""
    database.create()
    database.create("other")
    database.upsert(*some(20))
    database.upsert(*some(20), collection="other")

    def page(**fields: Any) -> pb.ListVectorsResponse:
        return database.stub.ListVectors(pb.ListVectorsRequest(**({"collection": "c"} | fields)))

    others = page(collection="other", page_size=5).next_page_token
    good = page(page_size=5).next_page_token
    for token in ("x", "é", "====", "MS4x.", good[:-3], good * 2, others, "A" * 10_000, "MS4tMQ==", "\0"):
        assert_refused(page(page_token=token), Code.INVALID_ARGUMENT, "BAD_PAGE_TOKEN", "page_token")
    for size in (-1, 1001, 2**31 - 1):
        assert_refused(page(page_size=size), Code.INVALID_ARGUMENT, "OUT_OF_RANGE", "page_size")
    assert_refused(page(collection="nope"), Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
    database.stub.DeleteCollection(pb.DeleteCollectionRequest(name="c"))
    database.create()
    assert_refused(page(page_token=good), Code.INVALID_ARGUMENT, "BAD_PAGE_TOKEN", "page_token")


def test_pages_beside_writes(database: Database) -> None:
    """While others insert, delete and update, paging gives each vector that is there throughout exactly once."""
    database.create()
    database.upsert(*some(600))
    stop = threading.Event()
    failures: list[object] = []

    def write() -> None:
        chance = random.Random(5)
        made = 0
        while not stop.is_set():
            replies: list[Any] = [
                database.upsert(*some(5, f"new{made}-")),
                database.upsert(*[vector(f"i{chance.randrange(300)}", *chance.choices([1, 2, 3], k=4))]),
                database.delete(*[f"new{chance.randrange(made + 1)}-{n}" for n in range(5)], f"i{300 + made % 100}"),
            ]
            failures.extend(reply for reply in replies if not reply.success)
            made += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for size in (7, 50, 200):
            found = [one.id for one in listed(database, page_size=size)]
            kept = {f"i{n}" for n in (*range(300), *range(400, 600))}
            assert sorted(name for name in found if name in kept) == sorted(kept)
            assert len(set(found)) == len(found)
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_counts(database: Database) -> None:
    """CountVectors counts all or what fits a filter, and changes with each write."""
    database.create()
    assert count(database) == 0
    database.upsert(*some(50))
    assert (count(database), count(database, below(7)), count(database, pb.Filter())) == (50, 7, 50)
    database.delete("i1", "i2", "i40")
    assert (count(database), count(database, below(7))) == (47, 5)
    reply = database.stub.CountVectors(pb.CountVectorsRequest(collection="nope"))
    assert_refused(reply, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")


# ---------------------------------------------------------------- filters over the wire


def test_every_condition_over_the_wire(database: Database) -> None:
    """Each operator and kind of condition means over the wire what its comment in the .proto says."""
    documents: dict[str, dict[str, Any]] = {
        "a": {"n": 1, "s": "apple", "tags": ["x", 1], "o": {"k": None}, "d.t": True},
        "b": {"n": 2.5, "s": "apricot", "tags": [], "o": {"k": 2}},
        "c": {"n": 2**53 + 1, "s": "Äpfel"},
        "d": {"n": "1"},
    }
    database.create()
    for n, (name, document) in enumerate(documents.items()):
        numbers = [0.0] * 4
        numbers[n] = 1
        database.upsert(vector(name, *numbers, metadata_json=json.dumps(document)))
    cases: list[tuple[pb.Filter, str]] = [
        (where(compare("n", 0, 1)), "a"),
        (where(compare("n", pb.OPERATOR_EQ, 2.5)), "b"),
        (where(compare("n", pb.OPERATOR_EQ, 2.0**53)), ""),
        (where(compare("n", pb.OPERATOR_NE, 1)), "bcd"),
        (where(compare("n", pb.OPERATOR_GT, 2.0**53)), "c"),
        (where(compare("n", pb.OPERATOR_GTE, 2.5)), "bc"),
        (where(compare("n", pb.OPERATOR_LT, 2.5)), "a"),
        (where(compare("n", pb.OPERATOR_LTE, 2.5)), "ab"),
        (where(compare("n", pb.OPERATOR_IN, [1, "1"])), "ad"),
        (where(compare("n", pb.OPERATOR_NOT_IN, [1, "1"])), "bc"),
        (where(compare("tags", pb.OPERATOR_CONTAINS, "x")), "a"),
        (where(compare("s", pb.OPERATOR_CONTAINS, "p")), "abc"),
        (where(compare("s", pb.OPERATOR_PREFIX, "ap")), "ab"),
        (where(compare("o.k", pb.OPERATOR_EQ, None)), "a"),
        (where(compare('"d.t"', pb.OPERATOR_EQ, True)), "a"),
        (where(pb.Condition(exists="o.k")), "ab"),
        (where(pb.Condition(ids=pb.IdList(ids=["a", "d", "z"]))), "ad"),
        (pb.Filter(should=[compare("n", 1, 1), compare("n", 1, 2.5)]), "ab"),
        (pb.Filter(must_not=[pb.Condition(exists="s")]), "d"),
        (where(pb.Condition(filter=pb.Filter(must_not=[compare("n", 1, 1)])), pb.Condition(exists="s")), "bc"),
        (pb.Filter(), "abcd"),
    ]
    for some_of, names in cases:
        assert "".join(sorted(one.id for one in listed(database, filter=some_of))) == names, some_of
        for exact in (False, True):
            found = database.search(filter=some_of, exact=exact)
            assert "".join(sorted(one.id for one in found.results)) == names, some_of
            assert found.complete
        assert count(database, some_of) == len(names)


def test_values_as_json(database: Database) -> None:
    """An integer of any size is compared exactly as JSON, alone and in a list; what is no value is named."""
    database.create()
    big = 2**53 + 1
    database.upsert(*[vector(f"{n}", metadata_json=json.dumps({"n": big + n})) for n in range(4)])

    def found(op: Any, text: str) -> str:
        some = where(pb.Condition(compare=pb.Compare(field="n", op=op, value_json=text)))
        assert count(database, some) == len(listed(database, filter=some))
        return "".join(sorted(one.id for one in database.search(filter=some).results))

    assert found(pb.OPERATOR_EQ, str(big)) == "0"
    assert found(pb.OPERATOR_GT, str(big + 1)) == "23"
    assert found(pb.OPERATOR_IN, f"[{big}, {big + 2}, 1.5]") == "02"
    assert found(pb.OPERATOR_NOT_IN, f"[{big}]") == "123"
    for text in ("[1", "1, 2", '1}, "x": {', "NaN", "1e999", "{"):
        some = where(pb.Condition(compare=pb.Compare(field="n", value_json=text)))
        reply = database.search(filter=some)
        assert (reply.success, reply.status.code) == (False, int(Code.INVALID_ARGUMENT))
        assert "filter.must[0]" in reply.error


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        (where(pb.Condition()), "filter.must[0]"),
        (where(compare("a", 1, 1), compare("a", 99, 1)), "filter.must[1].compare.op"),
        (where(compare("", 1, 1)), "filter.must[0]"),
        (pb.Filter(should=[compare("a..b", 1, 1)]), "filter.should[0]"),
        (pb.Filter(must_not=[compare("a", pb.OPERATOR_IN, "x")]), "filter.must_not[0]"),
        (where(compare("a", pb.OPERATOR_PREFIX, 1)), "filter.must[0]"),
        (where(compare("a", pb.OPERATOR_GT, None)), "filter.must[0]"),
        (where(compare("a", pb.OPERATOR_EQ, {"b": 1})), "filter.must[0]"),
        (where(pb.Condition(compare=pb.Compare(field="a", value=Value(number_value=float("nan"))))), "filter.must[0]"),
    ],
)  # fmt: skip
def test_bad_filters_are_refused_by_every_call(database: Database, filter: pb.Filter, field: str) -> None:
    """Search, count, list and delete refuse a filter that makes no sense and name its condition; nothing is deleted."""
    database.create()
    database.upsert(*some(3))
    for reply in (
        database.search(filter=filter),
        database.search(filter=filter, exact=True),
        database.delete(filter=filter),
        database.delete("i1", filter=filter),
        database.stub.CountVectors(pb.CountVectorsRequest(collection="c", filter=filter)),
        database.stub.ListVectors(pb.ListVectorsRequest(collection="c", filter=filter)),
        database.stub.SearchVectorsBatch(
            pb.SearchVectorsBatchRequest(
                searches=[pb.SearchVectorsRequest(collection="c", vector=[1, 1, 1, 1], filter=filter)]
            )
        ).responses[0],
    ):
        said = details(reply.status)
        assert (reply.success, reply.status.code) == (False, int(Code.INVALID_ARGUMENT))
        assert [name for name, _ in said.violations] == [field]
        assert field in reply.error
    assert count(database) == 3


# ---------------------------------------------------------------- upserts


def test_modes(database: Database) -> None:
    """INSERT_ONLY refuses ids that exist, UPDATE_ONLY those that do not, as a whole; an unknown mode is refused."""
    database.create()
    database.upsert(*some(3))
    for wrong, mode, code, reason in (
        ("i1", pb.UPSERT_MODE_INSERT_ONLY, Code.ALREADY_EXISTS, "ID_EXISTS"),
        ("new", pb.UPSERT_MODE_UPDATE_ONLY, Code.NOT_FOUND, "ID_NOT_FOUND"),
    ):
        right = "i2" if wrong == "new" else "fresh"
        reply = database.upsert(vector(right), vector(wrong), mode=mode)
        assert_refused(reply, code, reason, "vectors[1].id")
        assert (count(database), reply.upserted_count) == (3, 0)
        assert database.upsert(vector(right, 0, 0, 0, 9), mode=mode).upserted_count == 1
        database.delete("fresh")
    assert database.upsert(vector("t"), vector("t", 0, 1, 0, 0), mode=pb.UPSERT_MODE_INSERT_ONLY).upserted_count == 1
    assert_refused(database.upsert(vector("a"), mode=77), Code.INVALID_ARGUMENT, "BAD_MODE", "mode")


BAD = [
    (vector(""), Code.INVALID_ARGUMENT, "BAD_ID", ".id"),
    (vector("x" * 513), Code.INVALID_ARGUMENT, "BAD_ID", ".id"),
    (vector("short", 1, 2), Code.INVALID_ARGUMENT, "WRONG_DIMENSION", ".vector"),
    (vector("nan", 1, float("nan"), 0, 0), Code.INVALID_ARGUMENT, "BAD_VECTOR", ".vector"),
    (vector("zero", 0, 0, 0, 0), Code.INVALID_ARGUMENT, "BAD_VECTOR", ".vector"),
    (vector("json", metadata_json="{"), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", ".metadata_json"),
    (vector("there"), Code.ALREADY_EXISTS, "ID_EXISTS", ".id"),
]


def test_partial_upserts(database: Database) -> None:
    """With allow_partial each bad item is reported with index, id and status, and all the others are written."""
    database.create()
    database.upsert(vector("there", metadata_json='{"old":1}'))
    mixed: list[pb.Vector] = []
    for n, (bad, *_) in enumerate(BAD):
        mixed += [vector(f"good{n}", 1, n, 0, 0), bad]
    reply = database.upsert(*mixed, mode=pb.UPSERT_MODE_INSERT_ONLY, allow_partial=True)
    assert (reply.success, reply.upserted_count, reply.sequence, reply.error) == (True, len(BAD), 3, "")
    assert [error.index for error in reply.errors] == [2 * n + 1 for n in range(len(BAD))]
    for n, (error, (bad, code, reason, field)) in enumerate(zip(reply.errors, BAD, strict=True)):
        said = details(error.status)
        assert (error.id, error.status.code, said.reason) == (bad.id, int(code), reason)
        assert [name for name, _ in said.violations] == [f"vectors[{2 * n + 1}]{field}"]
    stored = contents(database.engine, "c", 4)
    assert set(stored) == {"there", *(f"good{n}" for n in range(len(BAD)))}
    assert stored["there"][1] == '{"old":1}'
    nothing = database.upsert(*[bad for bad, *_ in BAD[:3]], allow_partial=True)
    assert (nothing.success, nothing.upserted_count, nothing.sequence, len(nothing.errors)) == (True, 0, 3, 3)
    update = database.upsert(vector("there"), vector("new"), mode=pb.UPSERT_MODE_UPDATE_ONLY, allow_partial=True)
    assert (update.upserted_count, [error.id for error in update.errors]) == (1, ["new"])
    assert update.errors[0].status.code == int(Code.NOT_FOUND)


def test_without_partial_all_or_nothing(database: Database) -> None:
    """The same mix without allow_partial names every bad item and writes none."""
    database.create()
    database.upsert(vector("there"))
    reply = database.upsert(vector("good"), *[bad for bad, *_ in BAD], mode=pb.UPSERT_MODE_INSERT_ONLY)
    assert (reply.success, reply.upserted_count, len(reply.errors)) == (False, 0, 0)
    names = [name for name, _ in details(reply.status).violations]
    assert names == [f"vectors[{n + 1}]{field}" for n, (*_, field) in enumerate(BAD)]
    assert set(contents(database.engine, "c", 4)) == {"there"}


def test_a_stream_of_upserts(database: Database) -> None:
    """Each message is answered once, in order, with a success of its own, durable by then; a bad one ends nothing."""
    database.create()
    seen: list[int] = []
    answered = threading.Event()

    def messages() -> Iterator[pb.UpsertVectorsRequest]:
        for n in range(12):
            if n:
                # The answer to the last one comes without another being sent.
                assert answered.wait(SECONDS)
                answered.clear()
            good = n % 4 != 3
            yield pb.UpsertVectorsRequest(
                collection="c" if n != 11 else "nope",
                vectors=some(10, f"m{n}-") if good else [vector("good"), vector("bad", 1)],
            )

    for n, reply in enumerate(database.stub.UpsertVectorsStream(messages(), timeout=SECONDS)):
        seen.append(n)
        assert reply.success is (n % 4 != 3), (n, reply)
        assert reply.upserted_count == (10 if reply.success else 0)
        if reply.success:
            assert database.engine.count("c") == sum(10 for m in seen if m % 4 != 3)
            assert reply.sequence == 1 + sum(1 for m in seen if m % 4 != 3)
        answered.set()
    assert len(seen) == 12
    assert count(database) == 90


def test_a_stream_with_options(database: Database) -> None:
    """Mode, allow_partial and the embedding model count in a stream as in a single call."""
    database.create(embedding_model="mini")
    requests = [
        pb.UpsertVectorsRequest(collection="c", vectors=[vector("a")], mode=pb.UPSERT_MODE_INSERT_ONLY),
        pb.UpsertVectorsRequest(collection="c", vectors=[vector("a")], mode=pb.UPSERT_MODE_INSERT_ONLY),
        pb.UpsertVectorsRequest(collection="c", vectors=[vector("b"), vector("")], allow_partial=True),
    ]
    replies = list(database.stub.UpsertVectorsStream(iter(requests), timeout=SECONDS))
    assert [(reply.success, reply.upserted_count, len(reply.errors)) for reply in replies] == [
        (True, 1, 0), (False, 0, 0), (True, 1, 1),
    ]  # fmt: skip
    other = database.stub.UpsertVectorsStream(
        iter(requests), timeout=SECONDS, metadata=(("x-embedding-model", "large"),)
    )
    assert [details(reply.status).reason for reply in other] == ["OTHER_EMBEDDING_MODEL"] * 3


def test_a_cancelled_stream_keeps_what_was_answered(database: Database) -> None:
    """A stream that is cancelled leaves what it answered, never half of a message, and a server that goes on."""
    database.create()
    never = threading.Event()

    def messages() -> Iterator[pb.UpsertVectorsRequest]:
        for n in range(3):
            yield pb.UpsertVectorsRequest(collection="c", vectors=some(50, f"m{n}-"))
        never.wait(SECONDS)

    call = database.stub.UpsertVectorsStream(messages())
    for _ in range(3):
        assert next(call).success
    call.cancel()
    never.set()
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() == grpc.StatusCode.CANCELLED
    assert count(database) == 150
    assert database.upsert(vector("after")).success


@pytest.mark.slow
def test_a_stream_outlives_the_timeout(tmp_path: Path) -> None:
    """`timeout` bounds each message of an upload stream and each silence, not the stream, which may take longer."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path), "--timeout", "8s") as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        assert stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=4)).success
        began = time.monotonic()

        def messages() -> Iterator[pb.UpsertVectorsRequest]:
            while time.monotonic() - began < 10:
                yield pb.UpsertVectorsRequest(collection="c", vectors=some(1, f"{time.monotonic()}-"))
                time.sleep(0.3)

        replies = list(stub.UpsertVectorsStream(messages(), timeout=SECONDS))
        assert time.monotonic() - began > 10
        assert all(reply.success for reply in replies)
        assert stub.CountVectors(pb.CountVectorsRequest(collection="c")).count == len(replies)


# ---------------------------------------------------------------- deletes


def test_deletes_by_ids_and_filter(database: Database) -> None:
    """A filter deletes what fits; with ids only those of them that fit; a dry run counts and deletes nothing."""
    database.create()
    database.upsert(*some(20))
    for dry in (True, False):
        reply = database.delete("i1", "i2", "i15", "nobody", filter=below(10), dry_run=dry)
        assert (reply.success, reply.deleted_count, reply.sequence) == (True, 2, 2 if dry else 3)
    assert count(database) == 18
    for dry in (True, False):
        reply = database.delete(filter=below(10), dry_run=dry)
        assert (reply.success, reply.deleted_count) == (True, 8)
    assert sorted(one.id for one in listed(database)) == sorted(f"i{n}" for n in range(10, 20))
    assert database.delete("i10", dry_run=True).deleted_count == 1
    assert count(database) == 10
    assert database.delete(filter=below(10)).deleted_count == 0
    assert database.delete("i10", "i11", filter=pb.Filter()).deleted_count == 2
    assert_refused(database.delete(dry_run=True), Code.INVALID_ARGUMENT, "NOTHING_NAMED", "ids")


def nested(filter: pb.Filter) -> pb.Condition:
    return pb.Condition(filter=filter)


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        (pb.Filter(), "filter"),
        (where(nested(pb.Filter())), "filter.must[0].filter"),
        (where(nested(where(nested(pb.Filter())))), "filter.must[0].filter.must[0].filter"),
        (where(compare("n", pb.OPERATOR_NOT_IN, [])), "filter.must[0]"),
        (pb.Filter(must_not=[compare("n", pb.OPERATOR_IN, [])]), "filter.must_not[0]"),
        (pb.Filter(must_not=[pb.Condition(ids=pb.IdList())]), "filter.must_not[0]"),
        (pb.Filter(must_not=[pb.Condition(ids=pb.IdList(ids=["x" * 600]))]), "filter.must_not[0]"),
        (pb.Filter(should=[compare("n", 1, 1), nested(pb.Filter())]), "filter.should[1].filter"),
        (
            pb.Filter(must_not=[nested(pb.Filter(must_not=[nested(pb.Filter())]))]),
            "filter.must_not[0].filter.must_not[0].filter",
        ),
        (
            pb.Filter(must_not=[nested(where(compare("n", 1, 1), pb.Condition(ids=pb.IdList())))]),
            "filter.must_not[0].filter.must[1]",
        ),
    ],
    ids=str,
)
def test_deletes_nothing_by_a_filter_that_restricts_nothing(database: Database, filter: pb.Filter, field: str) -> None:
    """A filter that fits everything whatever is stored deletes nothing and is named; elsewhere it means everything."""
    database.create()
    database.upsert(*some(20))
    for dry in (True, False):
        assert_refused(database.delete(filter=filter, dry_run=dry), Code.INVALID_ARGUMENT, "BAD_FILTER", field)
    assert count(database) == count(database, filter) == len(listed(database, filter=filter)) == 20
    assert len(database.search(filter=filter, limit=50).results) == 20
    assert database.delete("i3", filter=filter).deleted_count == 1


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("fast_path", [False, True])
def test_searches_in_a_batch(tmp_path: Path, fast_path: bool) -> None:
    """A batch answers each search in order as it alone would be: options, collections, and bad ones among good."""
    with serving(tmp_path / "data", fast_path=fast_path) as database:
        database.create(dimension=8)
        database.create("d", 4, metric=pb.METRIC_DOT, embedding_model="m")
        database.upsert(*some(300, dimension=8))
        database.upsert(*some(30), collection="d")
        rows = vectors(40, 8, seed=2).tolist()
        searches = [pb.SearchVectorsRequest(collection="c", vector=row) for row in rows[:10]]
        options: list[dict[str, Any]] = [
            {"limit": 3},
            {"limit": 1000},
            {"offset": 295},
            {"exact": True},
            {"filter": below(7)},
            {"filter": below(7), "exact": True},
            {"filter": below(-1)},
            {"include_vectors": True},
            {"include_metadata": False},
            {"min_score": 0.5},
            {"threshold": 0.3},
            {"ef_search": 300},
            {"vector": [1.0, 2.0]},
            {"vector": [0.0] * 8},
            {"vector": [float("nan")] * 8},
            {"limit": -1},
            {"filter": where(pb.Condition())},
            {"collection": "nope"},
            {"ef_search": 5000},
            {"collection": "d", "vector": [1.0, 1.0, 0.0, 0.0]},
        ]
        for fields in options:
            searches.append(pb.SearchVectorsRequest(**({"collection": "c", "vector": rows[11]} | fields)))
            searches.append(pb.SearchVectorsRequest(collection="c", vector=rows[len(searches) % 40]))
        reply = database.stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=searches))
        assert len(reply.responses) == len(searches)
        refused = 0
        for request, response in zip(searches, reply.responses, strict=True):
            alone = database.stub.SearchVectors(request)
            assert response == alone, request
            refused += not response.success
        assert refused == 7
        empty = database.stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest())
        assert len(empty.responses) == 0


def test_a_batch_of_another_model(database: Database) -> None:
    """The embedding model that a batch names is compared for each of its searches."""
    database.create(embedding_model="m")
    database.create("any")
    searches = [pb.SearchVectorsRequest(collection=name, vector=[1, 0, 0, 0]) for name in ("c", "any", "c")]
    reply = database.stub.SearchVectorsBatch(
        pb.SearchVectorsBatchRequest(searches=searches), metadata=(("x-embedding-model", "other"),)
    )
    assert [response.success for response in reply.responses] == [False, True, False]
    assert_refused(reply.responses[0], Code.FAILED_PRECONDITION, "OTHER_EMBEDDING_MODEL")


def test_searches_tell_the_stores_sequence(database: Database) -> None:
    """A search's sequence is that of the store's last write, of whichever collection."""
    database.create()
    database.create("other")
    written = database.upsert(*some(3), collection="other").sequence
    found = database.search()
    batch = database.stub.SearchVectorsBatch(
        pb.SearchVectorsBatchRequest(searches=[pb.SearchVectorsRequest(collection="c", vector=[1, 0, 0, 0])])
    )
    assert found.sequence == batch.responses[0].sequence == written == 3


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_from_birth_to_death(database: Database, tmp_path: Path) -> None:
    """Created, listed, restored after further changes, and deleted; what it says of itself is true."""
    database.create(embedding_model="m", metric=pb.METRIC_EUCLIDEAN)
    database.upsert(*some(50))
    before = contents(database.engine, "c", 4)
    reply = snapshot(database, "monday")
    assert (reply.success, reply.error, reply.HasField("status")) == (True, "", False)
    made = reply.snapshot
    assert (made.name, made.collection, made.sequence) == ("monday", "c", 2)
    assert abs(made.created_unix_ms / 1000 - time.time()) < 60
    (file,) = (tmp_path / "data" / "snapshots").glob("*/*.db")
    assert made.size_bytes == file.stat().st_size
    assert made.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert database.stub.ListSnapshots(pb.ListSnapshotsRequest()).snapshots[0] == made
    database.upsert(*some(20, "new"), vector("i1", 9, 9, 9, 9))
    database.delete("i2", "i3")
    back = restore(database, "monday")
    assert back.success, back
    assert (back.collection.name, back.collection.count, back.collection.embedding_model) == ("c", 50, "m")
    assert back.collection.metric == pb.METRIC_EUCLIDEAN
    assert contents(database.engine, "c", 4) == before
    assert database.search(vectors(50, 4)[2].tolist()).results[0].id == "i2"
    assert database.upsert(*some(60)).success
    assert count(database) == 60
    gone = database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="c", name="monday"))
    assert (gone.success, gone.error) == (True, "")
    assert snapshots(database) == []
    assert count(database) == 60
    assert not list((tmp_path / "data" / "snapshots").glob("*/*"))


def test_a_deleted_collection_comes_back(database: Database) -> None:
    """Snapshots outlive their collection, and restoring one makes it anew; after a restart, too."""
    database.create()
    database.upsert(*some(30))
    before = contents(database.engine, "c", 4)
    assert snapshot(database).success
    database.stub.DeleteCollection(pb.DeleteCollectionRequest(name="c"))
    assert snapshots(database) == [("c", "s")]
    assert restore(database).success
    assert contents(database.engine, "c", 4) == before


def test_snapshots_and_restores_outlive_a_restart(tmp_path: Path) -> None:
    """Whatever its name, a snapshot is there after a restart, and a restored collection is what was restored."""
    names = ["s", "x.tmp", "x.tmp1", "X.TMP", "a.json", "a.db", "a", "A", "A" * 128, "a" * 128, "-", "_.-"]
    with serving(tmp_path) as database:
        for collection in ("c", "C", "B" * 128):
            database.create(collection)
            database.upsert(*some(len(collection), collection), collection=collection)
        for name in names:
            assert snapshot(database, name).success, name
        for collection in ("C", "B" * 128):
            assert snapshot(database, "s", collection).success
        database.upsert(*some(5, "later"))
        assert restore(database, "x.tmp").success
    with serving(tmp_path) as database:
        assert count(database) == 1
        assert snapshots(database, "c") == [("c", name) for name in sorted(names)]
        assert snapshots(database) == sorted([("B" * 128, "s"), ("C", "s"), *(("c", name) for name in names)])
        assert snapshots(database, "nope") == []
        for name in names:
            assert restore(database, name).success, name
        assert restore(database, "s", "B" * 128).success
        assert (count(database), count(database, collection="B" * 128)) == (1, 128)
        database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="c", name="A"))
        assert sorted(snapshots(database, "c")) == sorted(("c", name) for name in names if name != "A")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../c", "../../store", "a/b", "/etc/passwd", "a\\b", "a\0", ".a", "é", "a" * 129, "a^b"]
)
def test_bad_snapshot_names(database: Database, name: str) -> None:
    """Names that could be paths are refused by each call, as the snapshot's and as the collection's."""
    database.create()
    for reply in (
        snapshot(database, name),
        restore(database, name),
        database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="c", name=name)),
    ):
        assert_refused(reply, Code.INVALID_ARGUMENT, "BAD_NAME", "name")
    for reply in (
        restore(database, "s", name),
        database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection=name, name="s")),
    ):
        assert_refused(reply, Code.INVALID_ARGUMENT, "BAD_NAME", "collection")
    assert snapshot(database, "s", name).status.code in (int(Code.NOT_FOUND), int(Code.INVALID_ARGUMENT))
    if name:
        listing = database.stub.ListSnapshots(pb.ListSnapshotsRequest(collection=name))
        assert_refused(listing, Code.INVALID_ARGUMENT, "BAD_NAME", "collection")


def test_snapshots_that_are_not_there(database: Database) -> None:
    """A name taken is ALREADY_EXISTS, one unknown NOT_FOUND, in another collection or letter case, too."""
    database.create()
    database.create("d")
    assert snapshot(database).success
    assert_refused(snapshot(database), Code.ALREADY_EXISTS, "SNAPSHOT_EXISTS", "name")
    for name, collection in (("S", "c"), ("s", "C"), ("s", "d"), ("x", "c")):
        assert_refused(restore(database, name, collection), Code.NOT_FOUND, "SNAPSHOT_NOT_FOUND", "name")
        reply = database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection=collection, name=name))
        assert_refused(reply, Code.NOT_FOUND, "SNAPSHOT_NOT_FOUND", "name")
    assert_refused(snapshot(database, "s", "nope"), Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
    assert snapshot(database, "S").success
    assert snapshots(database) == [("c", "S"), ("c", "s")]


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _swap(file: Path) -> None:
    shutil.copy(file.with_name("t" + file.suffix), file)


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("s.db", _flip), ("s.db", _cut), ("s.db", Path.unlink), ("s.db", _swap), ("s.json", _flip), ("s.json", _cut),
]  # fmt: skip


@pytest.mark.parametrize(("which", "damage"), DAMAGES)
def test_a_damaged_snapshot_changes_nothing(
    database: Database, tmp_path: Path, which: str, damage: Callable[[Path], None]
) -> None:
    """Restoring a snapshot whose file or header is damaged is DATA_LOSS, and the collection stays as it is."""
    database.create()
    database.upsert(*some(30))
    assert snapshot(database).success
    database.upsert(*some(5, "new"))
    assert snapshot(database, "t").success
    before = contents(database.engine, "c", 4)
    damage(tmp_path / "data" / "snapshots" / "c" / which)
    assert ("c", "t") in snapshots(database)
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            restore(database)
        assert caught.value.code() == grpc.StatusCode.DATA_LOSS
        assert "damaged" in details(caught.value).status.message
    assert contents(database.engine, "c", 4) == before
    assert database.upsert(vector("after")).success
    assert restore(database, "t").success
    assert contents(database.engine, "c", 4) == before
    assert database.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(collection="c", name="s")).success
    assert snapshots(database) == [("c", "t")]


def test_a_snapshot_beside_writers_is_of_one_moment(database: Database) -> None:
    """While a writer moves all items on together, each snapshot holds one state of them, the one of its sequence."""
    database.create()
    rows = vectors(200, 4)
    stop = threading.Event()
    failures: list[object] = []
    at: dict[int, int] = {}

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            reply = database.upsert(
                *[vector(f"i{n}", *row.tolist(), metadata_json=f'{{"turn":{turn}}}') for n, row in enumerate(rows)]
            )
            at[reply.sequence] = turn
            if not reply.success:
                failures.append(reply)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: bool(at), "first write")
        made = [snapshot(database, f"s{n}").snapshot for n in range(6)]
    finally:
        stop.set()
        thread.join()
    assert failures == []
    for one in made:
        assert restore(database, one.name).success
        turns = {item.metadata["turn"] for item in listed(database)}
        assert turns == {at[one.sequence]}, one
        assert count(database) == 200


def test_searches_beside_restores_never_fail(database: Database) -> None:
    """While a collection is restored again and again, reads and writes of it succeed, on one state or the other."""
    database.create()
    database.upsert(*some(100))
    assert snapshot(database).success
    stop = threading.Event()
    strange: list[object] = []
    request = pb.SearchVectorsRequest(collection="c", vector=[1, 1, 1, 1], limit=20)
    calls: list[Callable[[], Any]] = [
        lambda: database.stub.SearchVectors(request),
        lambda: database.search(exact=True, include_vectors=True),
        lambda: database.search(filter=below(50)),
        lambda: database.stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[request] * 5)).responses[3],
        lambda: database.stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["i1"])),
        lambda: database.stub.ListVectors(pb.ListVectorsRequest(collection="c")),
        lambda: database.stub.CountVectors(pb.CountVectorsRequest(collection="c", filter=below(50))),
        lambda: database.upsert(vector("extra")),
        lambda: database.stub.DescribeCollection(pb.DescribeCollectionRequest(name="c")),
        lambda: database.stub.ListCollections(pb.ListCollectionsRequest()),
    ]

    def repeat(some: list[Callable[[], Any]]) -> None:
        try:
            while not stop.is_set():
                strange.extend(reply for call in some if not (reply := call()).success)
        except BaseException as error:
            strange.append(error)

    threads = [threading.Thread(target=repeat, args=(calls[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            assert restore(database).success
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert strange == []
    assert count(database) in (100, 101)


def test_a_folder_with_a_strange_name(tmp_path: Path) -> None:
    """A data_dir whose name means something in a URL can be written, copied and restored from like any other."""
    with serving(tmp_path / "a b?c#d%41é'") as database:
        database.create()
        database.upsert(*some(10))
        assert snapshot(database).success
        database.delete("i1")
        assert restore(database).success
        assert count(database) == 10


# ---------------------------------------------------------------- limits


def test_the_number_of_collections_is_bounded(tmp_path: Path) -> None:
    """Past max_collections a create, or a restore that would add one, is RESOURCE_EXHAUSTED in the reply."""
    with serving(tmp_path, max_collections=2) as database:
        database.create("a")
        database.create("b")
        assert snapshot(database, "s", "b").success
        reply = database.stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=4))
        assert_refused(reply, Code.RESOURCE_EXHAUSTED, "TOO_MANY_COLLECTIONS")
        same = database.stub.CreateCollection(pb.CreateCollectionRequest(name="a", dimension=4, if_not_exists=True))
        assert (same.success, same.created) == (True, False)
        database.stub.DeleteCollection(pb.DeleteCollectionRequest(name="b"))
        database.create("c")
        assert_refused(restore(database, "s", "b"), Code.RESOURCE_EXHAUSTED, "TOO_MANY_COLLECTIONS")
        names = [one.name for one in database.stub.ListCollections(pb.ListCollectionsRequest()).collections]
        assert names == ["a", "c"]


@pytest.mark.usefixtures("only_graphs")
def test_memory_is_bounded(tmp_path: Path) -> None:
    """A write past max_memory is RESOURCE_EXHAUSTED in the reply and writes nothing; updates and searches go on."""
    with serving(tmp_path, max_memory=400_000) as database:
        database.create(dimension=16)
        written = 0
        for n in range(100):
            reply = database.upsert(*some(20, f"{n}-", 16, seed=n))
            if not reply.success:
                break
            written += 20
        assert_refused(reply, Code.RESOURCE_EXHAUSTED, "MEMORY_LIMIT")
        assert 1000 <= written <= 400_000 // (4 * 16)
        assert count(database) == written
        assert database.upsert(*some(20, "0-", 16, seed=500)).success
        assert len(database.search(vectors(1, 16)[0].tolist()).results) == 10
        assert_refused(database.upsert(*some(20, "x", 16)), Code.RESOURCE_EXHAUSTED, "MEMORY_LIMIT")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_small_collections_take_little_memory(tmp_path: Path) -> None:
    """400 empty collections of 768 dimensions and 150 of one vector take 40 MB at most, and max_memory counts them."""
    with serving(tmp_path, max_memory=64 * 2**20) as database:
        before = resident()
        for n in range(400):
            database.create(f"empty{n}", 768)
        for n in range(150):
            database.create(f"one{n}", 768)
            assert database.upsert(vector("a", *[1.0] * 768), collection=f"one{n}").success
        assert resident() - before < 40e6
        assert sum(one.graph.bytes for one in database.engine._collections.values() if one.graph) < 64 * 2**20


def test_what_is_reserved_counts(tmp_path: Path) -> None:
    """The graphs never have room for more than max_memory, whatever they hold, and are filled to seven tenths of it."""
    with serving(tmp_path, max_memory=2 * 2**20) as database:
        database.create(dimension=64)
        database.create("d", 64)
        written = 0
        for n in range(100):
            if not database.upsert(*some(200, f"{n}-", 64, seed=n), collection="cd"[n % 2]).success:
                break
            written += 200
        used = sum(one.graph.bytes for one in database.engine._collections.values() if one.graph)
        assert used <= 2 * 2**20
        assert written * (4 * 64 + 8 * 16) > 0.7 * 2 * 2**20


def test_items_that_are_not_written_make_no_room(tmp_path: Path) -> None:
    """Ids that exist, and are refused as such, do not count as room for those that are new."""
    with serving(tmp_path, max_memory=100_000) as database:
        database.create(dimension=64)
        there = some(200, "a", 64)
        assert database.upsert(*there).success
        mixed = [*there, *some(200, "b", 64, seed=2)]
        reply = database.upsert(*mixed, mode=pb.UPSERT_MODE_INSERT_ONLY, allow_partial=True)
        assert_refused(reply, Code.RESOURCE_EXHAUSTED, "MEMORY_LIMIT")


@pytest.mark.usefixtures("only_graphs")
def test_memory_is_bounded_in_a_restore(tmp_path: Path) -> None:
    """A restore past max_memory, the old collection counted, changes nothing; with the old one deleted it works."""
    with serving(tmp_path, max_memory=400_000) as database:
        database.create(dimension=16)
        assert database.upsert(*some(500, "", 16)).success
        snapshot(database)
        assert_refused(restore(database), Code.RESOURCE_EXHAUSTED, "MEMORY_LIMIT")
        assert count(database) == 500
        assert [one.name for one in database.stub.ListCollections(pb.ListCollectionsRequest()).collections] == ["c"]
        assert database.stub.DeleteCollection(pb.DeleteCollectionRequest(name="c")).success
        assert restore(database).success
        assert count(database) == 500


def test_metadata_as_a_struct(database: Database) -> None:
    """Metadata sent as a Struct is filtered, listed and fetched like metadata sent as JSON."""
    database.create()
    struct = json_format.ParseDict({"n": 1, "tags": ["x"], "deep": {"k": None}}, Struct())
    database.upsert(vector("a", metadata=struct))
    for fitting in (where(compare("n", 1, 1)), where(compare("tags", pb.OPERATOR_CONTAINS, "x"))):
        (found,) = listed(database, filter=fitting)
        assert (found.metadata, found.metadata_json) == (struct, "")
