"""What one call may cost others: counts before conversion, sizes before packing, threads of their own for long work."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Item, Query, health, restoring, searching
from plugins.vector_hnsw.engine.graph import Graph
from plugins.vector_hnsw.engine.snapshots import Snapshots
from plugins.vector_hnsw.engine.store import Store
from shared.errors import Code, TooLarge
from shared.structs import dump
from shared.structs import fill as fill_struct
from shared.vector_messages import filters, replies, requests
from shared.vectors.checks import LARGEST_SEARCH_BATCH
from shared.vectors.filters import MOST
from tests.servers import details, start_plugin, unhurried, wait_until
from tests.servers import health as health_of
from tests.vector_tools import opened, vectors
from tests.vector_wire import Database, assert_refused, serving, vector

MIB = 2**20
COUNT = 500_000


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["fast", "plain"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    with serving(tmp_path / "data", fast_path=request.param) as database:
        database.create()
        yield database


# ---------------------------------------------------------------- counted before it is converted


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each value that is made of a part of a message."""
    made: list[str] = []

    def noted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def convert(*values: Any, **options: Any) -> Any:
            made.append(name)
            return real(*values, **options)

        monkeypatch.setattr(module, name, convert)

    for name in ("_numbers", "Item"):
        noted(requests, name)
    for name in ("from_value", "Compare", "Exists"):
        noted(filters, name)
    return made


def compare(value: Value) -> pb.Condition:
    return pb.Condition(compare=pb.Compare(field="a", op=pb.OPERATOR_IN, value=value))


def deep(levels: int) -> pb.Filter:
    made = pb.Filter(must=[pb.Condition(exists="a")] * 600)
    for _ in range(levels):
        made = pb.Filter(should=[pb.Condition(filter=made), pb.Condition(filter=made)])
    return made


FILTERS = {
    "conditions": pb.Filter(must=[pb.Condition(exists="a")] * 100_000),
    "empty conditions": pb.Filter(must_not=[pb.Condition()] * 100_000),
    "values": pb.Filter(must=[compare(Value(list_value=ListValue(values=[Value(number_value=1)] * 100_001)))]),
    "empty values": pb.Filter(must=[compare(Value(list_value=ListValue(values=[Value()] * 100_001)))]),
    "values of two lists": pb.Filter(
        should=[compare(Value(list_value=ListValue(values=[Value(number_value=1)] * count))) for count in (40, 99_961)]
    ),
    "text in lists": pb.Filter(
        must=[compare(Value(list_value=ListValue(values=[Value(string_value="x" * MIB)] * 5)))],
    ),
    "over all levels": deep(3),
    "ids": pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=["x"] * 60_000))] * 2),
    "text": pb.Filter(must=[compare(Value(string_value="x" * 300_000))] * 4),
    "a field": pb.Filter(must=[pb.Condition(exists="a." * 400_000 + "a")]),
}


@pytest.mark.parametrize("what", FILTERS)
def test_a_filter_is_counted_before_it_is_converted(database: Database, what: str, conversions: list[str]) -> None:
    """Whatever a filter has too much of is refused in every call that takes one, and a part of it at most converted."""
    wanted, stub = FILTERS[what], database.stub
    calls: list[Callable[[], Any]] = [
        lambda: database.search(filter=wanted),
        lambda: stub.CountVectors(pb.CountVectorsRequest(collection="c", filter=wanted)),
        lambda: stub.ListVectors(pb.ListVectorsRequest(collection="c", filter=wanted)),
        lambda: database.delete(filter=wanted),
        lambda: stub.SearchVectorsBatch(
            pb.SearchVectorsBatchRequest(
                searches=[pb.SearchVectorsRequest(collection="c", vector=[1] * 4, filter=wanted)]
            )
        ).responses[0],
    ]
    for call in calls:
        conversions.clear()
        reply = call()
        assert_refused(reply, Code.INVALID_ARGUMENT, "BAD_FILTER", details(reply.status).violations[0][0])
        assert "more than" in reply.error
        assert len(conversions) <= MOST + 10, len(conversions)


def test_what_is_inside_of_a_value_is_not_converted(database: Database, conversions: list[str]) -> None:
    """A list in a list, or a Struct, fits no operator: it is refused as such, and its thousand parts are left alone."""
    inner = Value(list_value=ListValue(values=[Value(number_value=1)] * 5_000))
    struct = Value(struct_value=Struct(fields={str(n): Value(number_value=n) for n in range(5_000)}))
    for value in (Value(list_value=ListValue(values=[inner])), Value(list_value=ListValue(values=[struct])), struct):
        conversions.clear()
        reply = database.search(filter=pb.Filter(must=[compare(value)]))
        assert_refused(reply, Code.INVALID_ARGUMENT, "BAD_FILTER", "filter.must[0]")
        assert len(conversions) < 20


def test_a_field_with_a_nul(database: Database) -> None:
    """A NUL, at which SQLite would end the path, is refused in a field's name, and is no bug of ours."""
    for condition in (pb.Condition(exists="a\0b"), pb.Condition(compare=pb.Compare(field='"a\0b".c'))):
        reply = database.search(filter=pb.Filter(must=[condition]))
        assert_refused(reply, Code.INVALID_ARGUMENT, "BAD_FILTER", "filter.must[0]")


def test_the_most_that_a_filter_may_have(database: Database) -> None:
    """A thousand conditions, 100,000 values in lists, and 100,000 ids of a filter are answered."""
    database.upsert(vector("x99999", metadata_json='{"a":1}'), vector("other", 0, 1, 0, 0))
    for wanted in (
        pb.Filter(should=[compare(Value(list_value=ListValue())), *[pb.Condition(exists="a")] * 999]),
        pb.Filter(must=[compare(Value(list_value=ListValue(values=[Value(number_value=n) for n in range(100_000)])))]),
        pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=[f"x{n}" for n in range(100_000)]))]),
        pb.Filter(must=[pb.Condition(ids=pb.IdList(ids=["x" * 600, "x99999"]))]),
    ):
        reply = database.search(filter=wanted)
        assert [one.id for one in reply.results] == ["x99999"], reply.error


def test_too_many_searches_in_a_batch(database: Database, conversions: list[str]) -> None:
    """1,000 searches in a batch are answered, one more is refused as a whole, before any is converted."""
    search = pb.SearchVectorsRequest(collection="c", vector=[1] * 4)
    most = pb.SearchVectorsBatchRequest(searches=[search] * LARGEST_SEARCH_BATCH)
    assert len(database.stub.SearchVectorsBatch(most).responses) == 1000
    for count in (1001, 100_000):
        conversions.clear()
        with pytest.raises(grpc.RpcError) as caught:
            database.stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[pb.SearchVectorsRequest()] * count))
        said = details(caught.value)
        assert (caught.value.code(), said.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_ITEMS")
        assert "at most 1000" in said.status.message
        assert conversions == []


WIDE = {
    "zeros": "[" + ",".join(["0"] * COUNT) + "]",
    "strings": "[" + ",".join(['""'] * COUNT) + "]",
    "lists": "[" + ",".join(["[]"] * COUNT) + "]",
    "large numbers": "[" + ",".join(["9007199254740993"] * (COUNT // 5)) + "]",
    "three bytes": dump("€" * 2 * COUNT),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind in ("zeros", "strings", "lists") else ()) for kind in WIDE],
)
def test_what_is_written_can_be_read(database: Database, kind: str) -> None:
    """Of metadata cut to any length, what is accepted is found, got and listed in default replies, vector included; the
    rest is refused with its size in a reply and the limit."""
    accepted = []
    text = WIDE[kind]
    for share in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0):
        value = json.loads(text)
        value = value[: int(len(value) * share)]
        reply = database.upsert(vector("a", metadata_json=dump({"a": value})))
        accepted.append(reply.success)
        if not reply.success:
            assert_refused(reply, Code.INVALID_ARGUMENT, "METADATA_TOO_LARGE", "vectors[0].metadata_json")
            assert "bytes" in reply.error
        if not any(accepted):
            continue
        stub = database.stub
        got = stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["a"], include_vectors=True))
        listed = stub.ListVectors(pb.ListVectorsRequest(collection="c", page_size=1, include_vectors=True))
        found = database.search(limit=1, include_vectors=True)
        assert len(got.vectors) == len(listed.vectors) == len(found.results) == 1
    assert accepted == sorted(accepted, reverse=True)
    assert accepted[0]
    assert not accepted[-1]


def test_what_is_too_large_already_can_be_listed(database: Database) -> None:
    """An item that an earlier version took and no reply holds is listed, got and found without its metadata."""
    row = np.array([1, 0, 0, 0], np.float32)
    database.engine.upsert("c", [Item("big", row, dump({"a": [0] * 500_000})), Item("small", row, '{"n":1}')])
    stub = database.stub
    for call in (
        lambda **more: stub.ListVectors(pb.ListVectorsRequest(collection="c", **more)),
        lambda **more: stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["big", "small"], **more)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert "include_metadata" in str(caught.value.details())
        vectors_of = call(include_metadata=False, include_vectors=True).vectors
        assert [(one.id, list(one.vector)) for one in vectors_of] == [("big", [1, 0, 0, 0]), ("small", [1, 0, 0, 0])]
        assert not any(one.HasField("metadata") or one.metadata_json for one in vectors_of)
    assert len(database.search(include_metadata=False).results) == 2
    (small,) = stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["small"], include_metadata=True)).vectors
    assert small.metadata["n"] == 1


@pytest.mark.slow
def test_too_many_vectors_and_ids(database: Database, conversions: list[str]) -> None:
    """A million empty vectors, or ids, are refused before one of them is converted, in unary calls and streams."""
    many = pb.UpsertVectorsRequest(collection="c", vectors=[pb.Vector()] * 1_000_000, allow_partial=True)
    refusals: list[tuple[Any, str]] = [
        (database.stub.UpsertVectors(many), "vectors"),
        (next(database.stub.UpsertVectorsStream(iter([many]))), "vectors"),
        (database.stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["x"] * 1_000_000)), "ids"),
        (database.delete(*["x"] * 1_000_000), "ids"),
    ]
    for reply, field in refusals:
        assert_refused(reply, Code.INVALID_ARGUMENT, "TOO_MANY_ITEMS", field)
    assert conversions == []


def test_vectors_and_metadata_of_any_length(database: Database, conversions: list[str]) -> None:
    """A vector past any dimension and metadata past 1 MiB are refused, naming the field; what fits is written."""
    assert_refused(database.search([1.0] * 100_000), Code.INVALID_ARGUMENT, "WRONG_DIMENSION", "vector")
    long = Struct(fields={"a": Value(string_value="x" * MIB)})
    many = Struct(fields={"a": Value(list_value=ListValue(values=[Value()] * 600_000))})
    wrong = [
        (pb.Vector(id="x", vector=[1.0] * 100_000), "WRONG_DIMENSION", "vectors[0].vector"),
        (vector("x", metadata_json=dump({"a": "x" * MIB})), "METADATA_TOO_LARGE", "vectors[0].metadata_json"),
        (vector("x", metadata=long), "METADATA_TOO_LARGE", "vectors[0].metadata"),
        (vector("x", metadata=many), "METADATA_TOO_LARGE", "vectors[0].metadata"),
    ]
    for bad, reason, field in wrong:
        conversions.clear()
        assert_refused(database.upsert(bad), Code.INVALID_ARGUMENT, reason, field)
        assert "from_value" not in conversions
        reply = database.upsert(bad, vector("good"), allow_partial=True)
        assert (reply.upserted_count, details(reply.errors[0].status).reason) == (1, reason)
    assert database.upsert(vector("x", metadata_json=dump({"a": "x" * (MIB - 10)}))).success


def test_more_bad_items_than_a_reply_can_name(database: Database) -> None:
    """With allow_partial a thousand bad items are named one by one; with one more nothing is written."""
    good = [vector(f"i{n}", 1, n, 0, 0) for n in range(5)]
    reply = database.upsert(*good, *[pb.Vector(id="y" * 100_000)] * 10, *[vector("")] * 990, allow_partial=True)
    assert (reply.success, reply.upserted_count, len(reply.errors)) == (True, 5, 1000)
    reply = database.upsert(*good, *[vector("")] * 1001, allow_partial=True)
    assert_refused(reply, Code.INVALID_ARGUMENT, "TOO_MANY_BAD_ITEMS", "vectors")
    assert database.search().sequence == 2


# ---------------------------------------------------------------- sized before it is packed


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The metadata that was packed, by its length."""
    lengths: list[int] = []
    real = fill_struct

    def noted(struct: Struct, value: dict[str, Any]) -> bool:
        lengths.append(len(dump(value)))
        return real(struct, value)

    monkeypatch.setattr(replies, "fill", noted)
    return lengths


def assert_too_large(call: Callable[[], object], hint: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    said = details(caught.value)
    assert (caught.value.code(), said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REPLY_TOO_LARGE")
    assert "max_reply_bytes" in said.status.message
    assert hint in said.status.message


@pytest.mark.slow
def test_a_reply_that_is_too_large_is_not_packed(database: Database, packed: list[int]) -> None:
    """100 hits of 690 kB each are refused, by search, batch, get and list, with not much more than the limit packed."""
    text = dump({"numbers": list(range(10_000)), "text": "x" * 640_000})
    assert 690_000 > len(text) > 680_000
    for start in range(0, 100, 5):
        new = [vector(f"i{n}", 1, n, 0, 0, metadata_json=text) for n in range(start, start + 5)]
        assert database.upsert(*new).success
    search = pb.SearchVectorsRequest(collection="c", vector=[1] * 4, limit=100)
    names = [f"i{n}" for n in range(100)]
    stub = database.stub
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: stub.SearchVectors(search), "page with limit and offset"),
        (lambda: stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[search])), "send fewer searches"),
        (lambda: stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=names)), "name fewer ids"),
        (lambda: stub.ListVectors(pb.ListVectorsRequest(collection="c")), "smaller page_size"),
    ]
    for call, hint in calls:
        packed.clear()
        assert_too_large(call, hint)
        assert sum(packed) < 10 * MIB
    # One of them fits, and so does everything without the metadata.
    search.limit = 1
    assert len(stub.SearchVectors(search).results) == 1
    search.limit, search.include_metadata = 100, False
    assert len(stub.SearchVectors(search).results) == 100
    assert stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=names[:1])).success
    assert stub.ListVectors(pb.ListVectorsRequest(collection="c", page_size=1)).next_page_token


def test_vectors_that_are_too_many_bytes(database: Database, packed: list[int]) -> None:
    """1,100 vectors of 1,000 numbers are refused before any is packed; 1,000 fit."""
    database.create("wide", 1000)
    rows = vectors(1100, 1000)
    for start in range(0, 1100, 550):
        new = [pb.Vector(id=f"{n}", vector=rows[n].tolist()) for n in range(start, start + 550)]
        assert database.upsert(*new, collection="wide").success
    names = [f"{n}" for n in range(1100)]

    def get(count: int) -> pb.GetVectorsResponse:
        request = pb.GetVectorsRequest(collection="wide", ids=names[:count], include_vectors=True)
        return database.stub.GetVectors(request)

    assert_too_large(lambda: get(1100), "name fewer ids")
    assert len(get(1000).vectors) == 1000
    found = database.search(rows[0].tolist(), "wide", limit=1000, include_vectors=True)
    assert len(found.results) == 1000


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.text(st.characters(max_codepoint=31)),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=8),
    max_leaves=30,
)


@settings(unhurried, max_examples=50)
@given(st.lists(st.dictionaries(st.text(max_size=8) | st.text(st.characters(max_codepoint=31)), _json), max_size=4))
@pytest.mark.slow
def test_what_fits_is_never_refused(objects: list[dict[str, Any]]) -> None:
    """A reply of exactly `max_reply_bytes` is packed, whatever its metadata is made of, and so is each part of it."""
    items = [Item(f"é{n}", np.ones(n, np.float32), dump(value)) for n, value in enumerate(objects)]
    whole = pb.ListVectorsResponse()
    replies.pack_items(whole.vectors, items, replies.Room(2**40, ""))
    again = pb.ListVectorsResponse()
    replies.pack_items(again.vectors, items, replies.Room(whole.ByteSize(), ""))
    assert again == whole
    if whole.vectors:
        least = sum(one.ByteSize() for one in whole.vectors) - 1
        with pytest.raises(TooLarge):
            replies.pack_items(pb.ListVectorsResponse().vectors, items, replies.Room(least, ""))


def test_reading_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hits whose metadata is beyond `max_read` only that of the page is read; what is handed out is never more."""
    with opened(tmp_path, max_read=10_000) as store:
        store.create("c", 2)
        text = dump({"a": "x" * 900})
        store.upsert("c", [Item(f"i{n:02}", np.array([1, n], np.float32), text) for n in range(50)])
        query = Query(np.array([1, 0], np.float32), limit=5)
        expected = [f"i{n:02}" for n in range(50)]
        for exact in (False, True):
            for offset in (0, 20, 45):
                hits = store.search("c", query._replace(offset=offset, exact=exact)).hits
                assert [hit.id for hit in hits] == expected[offset : offset + 5]
                assert [hit.metadata for hit in hits] == [text] * 5
            cut = store.search("c", query._replace(limit=50, min_score=0.4, exact=exact)).hits
            assert [hit.metadata for hit in cut] == [text] * len(cut)
            assert 1 < len(cut) < 9
            for method in (store.search, lambda name, query: store.search_many(name, [query])[0]):
                with pytest.raises(TooLarge):
                    method("c", query._replace(limit=50, exact=exact))
            bare = store.search("c", query._replace(limit=50, exact=exact, with_metadata=False)).hits
            assert [hit.id for hit in bare] == expected
        with pytest.raises(TooLarge):
            store.get("c", expected)
        with pytest.raises(TooLarge):
            store.page("c", size=50)
        assert len(store.page("c", size=5)[0]) == 5


def test_large_hits_are_not_read_in_the_event_loop(tmp_path: Path) -> None:
    """`search_now` does not answer where it would read much metadata, or many items that share one vector."""
    with opened(tmp_path) as store:
        store.create("c", 2)
        store.upsert("c", [Item(f"i{n}", np.array([1, n], np.float32), dump({"a": "x" * 50_000})) for n in range(10)])
        query = Query(np.array([1, 0], np.float32), limit=10)
        assert store.search_now("c", query) is None
        assert len(store.search("c", query).hits) == 10
        assert store.search_now("c", query._replace(limit=1)) is not None
        store.create("same", 2)
        store.upsert("same", [Item(f"i{n}", np.array([1, 0], np.float32)) for n in range(5_000)])
        assert store.search_now("same", query) is None
        assert len(store.search("same", query).hits) == 10
        assert store.search_now("same", query) is None


# ---------------------------------------------------------------- long work keeps nobody waiting


class Gate:
    """Stands in for a function: whoever comes waits until it opens."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        self.came = 0
        self._open = threading.Event()
        self._lock = threading.Lock()
        real = getattr(where, name)

        def gated(*values: Any, **options: Any) -> Any:
            with self._lock:
                self.came += 1
            assert self._open.wait(120)
            return real(*values, **options)

        patch.setattr(where, name, gated)

    def open(self) -> None:
        self._open.set()


def assert_others_are_answered(database: Database, *, scans: bool = True) -> None:
    """All short calls, and a write, while something long is under way."""
    stub, seconds = database.stub, 60
    assert health_of(database.server.channel()) == 1
    assert len(stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["i1"]), timeout=seconds).vectors) == 1
    assert stub.ListVectors(pb.ListVectorsRequest(collection="c", page_size=2), timeout=seconds).next_page_token
    assert stub.CountVectors(pb.CountVectorsRequest(collection="c"), timeout=seconds).count >= 40
    search = pb.SearchVectorsRequest(collection="c", vector=[1, 1, 1, 1], limit=5)
    assert len(stub.SearchVectors(search, timeout=seconds).results) == 5
    batch = stub.SearchVectorsBatch(pb.SearchVectorsBatchRequest(searches=[search] * 3), timeout=seconds)
    assert [len(one.results) for one in batch.responses] == [5, 5, 5]
    new = pb.UpsertVectorsRequest(collection="c", vectors=[vector("new", 1, 2, 3, 4)])
    assert stub.UpsertVectors(new, timeout=seconds).success
    if scans:
        search.exact = True
        assert len(stub.SearchVectors(search, timeout=seconds).results) == 5
        wanted = pb.Filter(must=[pb.Condition(exists="n")])
        assert stub.CountVectors(pb.CountVectorsRequest(collection="c", filter=wanted), timeout=seconds).count == 40


def fill(database: Database) -> None:
    rows = vectors(40, 4)
    new = [vector(f"i{n}", *row.tolist(), metadata_json=f'{{"n":{n}}}') for n, row in enumerate(rows)]
    assert database.upsert(*new).success


def test_sixty_describes_keep_nobody_waiting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While 60 DescribeCollection calls sample, everything else is answered; and they share one sample."""
    fill(database)
    gate = Gate(monkeypatch, health, "sampled_recall")
    request = pb.DescribeCollectionRequest(name="c")
    calls = [database.stub.DescribeCollection.future(request, timeout=120) for _ in range(60)]
    wait_until(lambda: gate.came > 0, "a describe that samples")
    assert_others_are_answered(database)
    assert gate.came == 1
    gate.open()
    assert {call.result().collection.health.sampled_recall for call in calls} == {1.0}
    assert gate.came <= 2  # of the state before the write above, and of that after it
    assert database.stub.DescribeCollection(request).collection.count == 41
    before = gate.came
    assert database.stub.DescribeCollection(request).success
    assert gate.came == before
    assert database.delete("i1").success
    assert database.stub.DescribeCollection(request).collection.count == 40
    assert gate.came == before + 1


@pytest.mark.parametrize("what", ["snapshots", "restores", "exact searches", "filters"])
def test_long_calls_keep_nobody_waiting(database: Database, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """While 40 snapshots, restores, exact searches or filters are under way, all that is short is answered."""
    fill(database)
    stub = database.stub
    assert stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name="s")).success
    exact = pb.SearchVectorsRequest(collection="c", vector=[1] * 4, exact=True)
    wanted = pb.Filter(must=[pb.Condition(exists="n")])
    count = pb.CountVectorsRequest(collection="c", filter=wanted)
    call: Callable[[int], Any]
    if what == "snapshots":
        gate = Gate(monkeypatch, Snapshots, "create")
        call = lambda n: stub.CreateSnapshot.future(pb.CreateSnapshotRequest(collection="c", name=f"s{n}"))  # noqa: E731
    elif what == "restores":
        gate = Gate(monkeypatch, restoring, "copy_in")
        call = lambda _: stub.RestoreSnapshot.future(pb.RestoreSnapshotRequest(collection="c", name="s"))  # noqa: E731
    elif what == "exact searches":
        gate = Gate(monkeypatch, searching.Searchable, "_of_all")
        call = lambda _: stub.SearchVectors.future(exact)  # noqa: E731
    else:
        gate = Gate(monkeypatch, Store, "count")
        call = lambda _: stub.CountVectors.future(count)  # noqa: E731
    calls = [call(n) for n in range(40)]
    try:
        wait_until(lambda: gate.came > 0, "one that is under way")
        if what == "restores":  # they are writes
            assert len(stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["i1"]), timeout=30).vectors) == 1
            assert len(database.search(limit=5).results) == 5
        else:
            assert_others_are_answered(database, scans=what == "snapshots")
    finally:
        gate.open()
    assert all(one.result(120).success for one in calls)


# ---------------------------------------------------------------- no memory


@pytest.mark.usefixtures("only_graphs")
def test_no_memory_for_a_graph(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that cannot be allocated, at first or as it grows, is OUT_OF_MEMORY, changes nothing, and passes."""

    class Index:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            if name in ("init_index", "resize_index"):
                raise RuntimeError("Not enough memory")
            return getattr(self._real, name)

    database.create("huge", 16_384, index=pb.IndexParams(m=128, ef_construction=4096))
    fill(database)
    real = Graph._new_index
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "_new_index", lambda self: Index(real(self)))
        graph = database.engine._collections["c"].graph
        assert isinstance(graph, Graph)
        patch.setattr(graph, "_index", Index(graph._index))
        many = [vector(f"m{n}", 1, n, 0, 0) for n in range(2000)]
        calls: list[Callable[[], Any]] = [
            lambda: database.upsert(vector("a", *[1] * 16_384), collection="huge"),
            lambda: database.upsert(*many),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            said = details(caught.value)
            assert (caught.value.code(), said.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY")
            assert "delete something, or give it more memory" in said.status.message
        assert database.search().sequence == 3
    counts = {one.name: one.count for one in database.stub.ListCollections(pb.ListCollectionsRequest()).collections}
    assert counts == {"c": 40, "huge": 0}
    assert database.upsert(vector("a", *[1] * 16_384), collection="huge").success
    assert database.upsert(*many).upserted_count == 2000


def test_no_memory_for_a_call(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MemoryError anywhere in a call is OUT_OF_MEMORY, not a bug of ours."""

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Store, "items", fails)
    with pytest.raises(grpc.RpcError) as caught:
        database.stub.GetVectors(pb.GetVectorsRequest(collection="c", ids=["a"]))
    assert details(caught.value).reason == "OUT_OF_MEMORY"


def test_collections_of_the_largest_dimension_are_cheap(tmp_path: Path) -> None:
    """Under 4 GiB of address space, 200 empty collections of 16,384 dimensions and m of 128 are made."""
    command = f'ulimit -v {4 * MIB}; exec "$0" -m plugins.vector_hnsw --port 0 --data-dir "{tmp_path}"'
    with start_plugin(["bash", "-c", command, sys.executable]) as plugin:
        stub = rpc.DatabaseProviderStub(plugin.channel())
        for number in range(200):
            request = pb.CreateCollectionRequest(name=f"c{number}", dimension=16_384, index=pb.IndexParams(m=128))
            assert stub.CreateCollection(request).success
