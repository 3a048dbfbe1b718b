"""DatabaseProvider as vector_hnsw answers it: called directly, as the guide's unit test does, and over a socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from plugins.vector_hnsw.engine import Engine, Metric, Query
from plugins.vector_hnsw.servicer import Servicer
from shared.errors import Code
from tests.servers import details, health
from tests.vector_tools import contents, exact_scores, vectors
from tests.vector_wire import Database, assert_refused, serving, vector


class FakeContext:
    """As much of a ServicerContext as a unit test needs."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple((key.replace("_", "-"), value) for key, value in metadata.items())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with serving(tmp_path / "data", fast_path=False) as database:
        yield database


# ---------------------------------------------------------------- called directly


def test_the_servicer_called_directly(tmp_path: Path) -> None:
    """A servicer can be called without a server, with any context: create, upsert, search, delete."""

    async def calls() -> None:
        engine = Engine(tmp_path)
        engine.open()
        servicer, context = Servicer(engine), FakeContext()
        created: Any = await servicer.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=2), context)  # type: ignore[arg-type]
        assert created.success
        assert created.created
        new = [pb.Vector(id="a", vector=[1, 0], metadata_json='{"n":1}'), pb.Vector(id="b", vector=[0, 1])]
        written: Any = await servicer.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=new), context)  # type: ignore[arg-type]
        assert (written.success, written.upserted_count, written.sequence) == (True, 2, 2)
        found: Any = await servicer.SearchVectors(
            pb.SearchVectorsRequest(collection="c", vector=[1, 0.1], limit=1),
            context,  # type: ignore[arg-type]
        )
        assert [result.id for result in found.results] == ["a"]
        assert found.results[0].metadata["n"] == 1
        gone: Any = await servicer.DeleteVectors(pb.DeleteVectorsRequest(collection="c", ids=["a"]), context)  # type: ignore[arg-type]
        assert (gone.success, gone.deleted_count, gone.sequence) == (True, 1, 3)
        dropped: Any = await servicer.DeleteCollection(pb.DeleteCollectionRequest(name="c"), context)  # type: ignore[arg-type]
        assert (dropped.success, dropped.deleted_count) == (True, 1)
        lost: Any = await servicer.SearchVectors(pb.SearchVectorsRequest(collection="c", vector=[1, 0]), context)  # type: ignore[arg-type]
        assert_refused(lost, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
        engine.close()

    asyncio.run(calls())


# ---------------------------------------------------------------- collections


def test_if_not_exists(database: Database) -> None:
    """With `if_not_exists` an equal collection is a success that created nothing; all else is refused."""
    database.create(embedding_model="m")
    for metric in (pb.METRIC_UNSPECIFIED, pb.METRIC_COSINE):
        reply = database.stub.CreateCollection(
            pb.CreateCollectionRequest(name="c", dimension=4, metric=metric, embedding_model="m", if_not_exists=True)
        )
        assert (reply.success, reply.created) == (True, False)
    for wrong in (
        pb.CreateCollectionRequest(name="c", dimension=4, embedding_model="m"),
        pb.CreateCollectionRequest(name="c", dimension=5, embedding_model="m", if_not_exists=True),
        pb.CreateCollectionRequest(name="c", dimension=4, embedding_model="other", if_not_exists=True),
        pb.CreateCollectionRequest(
            name="c", dimension=4, embedding_model="m", metric=pb.METRIC_DOT, if_not_exists=True
        ),
    ):
        assert_refused(database.stub.CreateCollection(wrong), Code.ALREADY_EXISTS, "COLLECTION_EXISTS")


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        *[({"dimension": n}, "OUT_OF_RANGE", "dimension") for n in (0, -1, 16_385, 2**31 - 1, -(2**31))],
        *[({"name": n}, "BAD_NAME", "name") for n in ("", ".", "..", ".a", "a/b", "a b", "é", "a\n", "a" * 129, "a\0")],
        ({"metric": 99}, "BAD_METRIC", "metric"),
        ({"metric": -1}, "BAD_METRIC", "metric"),
        ({"index": pb.IndexParams(m=1)}, "OUT_OF_RANGE", "index.m"),
        ({"index": pb.IndexParams(m=2**32 - 1)}, "OUT_OF_RANGE", "index.m"),
        ({"index": pb.IndexParams(ef_construction=2**32 - 1)}, "OUT_OF_RANGE", "index.ef_construction"),
        ({"index": pb.IndexParams(ef_search=4097)}, "OUT_OF_RANGE", "index.ef_search"),
        ({"embedding_model": "m" * 513}, "OUT_OF_RANGE", "embedding_model"),
    ],
)
def test_a_bad_collection_is_refused(database: Database, fields: dict[str, Any], reason: str, field: str) -> None:
    """Absurd dimensions, names that could be paths, unknown metrics and parameters out of range name their field."""
    values: dict[str, Any] = {"name": "c", "dimension": 4} | fields
    request = pb.CreateCollectionRequest(**values)
    assert_refused(database.stub.CreateCollection(request), Code.INVALID_ARGUMENT, reason, field)
    assert database.engine._collections == {}


# ---------------------------------------------------------------- upserts


def test_an_upsert_is_counted_and_seen(database: Database) -> None:
    """An upsert answers how many ids it wrote and the sequence; the next search sees it; the last of two ids wins."""
    database.create()
    reply = database.upsert(
        vector("a"), vector("b", 0, 1, 0, 0), vector("a", 0, 0, 1, 0, metadata_json='{"last":true}')
    )
    assert (reply.success, reply.upserted_count, reply.sequence, len(reply.errors)) == (True, 2, 2, 0)
    found = database.search((0, 0, 1, 0))
    assert [result.id for result in found.results] == ["a", "b"]
    assert found.results[0].metadata["last"] is True
    assert (found.success, found.complete, found.sequence) == (True, True, 2)
    empty = database.upsert()
    assert (empty.success, empty.upserted_count, empty.sequence) == (True, 0, 2)


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (vector("x", 1, 2, 3), "WRONG_DIMENSION", "vectors[1].vector"),
        (vector("x", 1, 2, 3, 4, 5), "WRONG_DIMENSION", "vectors[1].vector"),
        (pb.Vector(id="x"), "WRONG_DIMENSION", "vectors[1].vector"),
        (vector("x", 1, float("nan"), 0, 0), "BAD_VECTOR", "vectors[1].vector"),
        (vector("x", 1, float("inf"), 0, 0), "BAD_VECTOR", "vectors[1].vector"),
        (vector("x", 1, float("-inf"), 0, 0), "BAD_VECTOR", "vectors[1].vector"),
        (vector("x", 0, 0, 0, 0), "BAD_VECTOR", "vectors[1].vector"),
        (vector("x", -0.0, 0, 0, 0), "BAD_VECTOR", "vectors[1].vector"),
        (vector(""), "BAD_ID", "vectors[1].id"),
        (vector("x" * 513), "BAD_ID", "vectors[1].id"),
        (vector("é" * 256 + "x"), "BAD_ID", "vectors[1].id"),
        (vector("x", metadata_json="{"), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json="[1]"), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json="3"), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json='{"a":NaN}'), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json='{"a":-Infinity}'), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json='{"a":1e999}'), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json='{"a":"\\ud800"}'), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (vector("x", metadata_json='{"a":' + "[" * 100_000), "INVALID_ARGUMENT", "vectors[1].metadata_json"),
        (
            vector("x", metadata_json='{"a":' + "[" * 900 + "]" * 900 + "}"),
            "INVALID_ARGUMENT",
            "vectors[1].metadata_json",
        ),
        (vector("x", metadata=json_format.ParseDict({"a": 1}, Struct())), "", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_vector_is_refused_and_nothing_is_written(
    database: Database, bad: pb.Vector, reason: str, field: str | None
) -> None:
    """One bad item among good ones: the reply names item and field, and none of the request was written."""
    database.create()
    assert database.upsert(vector("before", metadata_json='{"kept":1}')).success
    reply = database.upsert(vector("before", 0, 1, 0, 0), bad, vector("after"))
    if not reason:
        assert reply.success
        return
    assert_refused(reply, Code.INVALID_ARGUMENT, reason, field)
    assert reply.upserted_count == 0
    kept = np.array([1, 0, 0, 0], np.float32).tobytes()
    assert contents(database.engine, "c", 4) == {"before": (kept, '{"kept":1}')}
    assert database.search().sequence == 2


def test_every_bad_item_is_named(database: Database) -> None:
    """A request with several bad items names each one."""
    database.create()
    reply = database.upsert(vector("a"), vector(""), vector("b"), vector("x" * 600))
    assert [field for field, _ in details(reply.status).violations] == ["vectors[1].id", "vectors[3].id"]


def test_metadata_comes_back_exactly(database: Database) -> None:
    """What a Struct can hold comes back in it; what it cannot (big integers, depth) also in metadata_json, exactly."""
    exact: dict[str, Any] = {
        "big": 2**53 + 1,
        "huge": 10**400,
        "neg": -(2**63),
        "f": 0.1,
        "n": None,
        "list": [1, {"é": "\0"}],
        "e": {},
    }
    deep: Any = 1
    for _ in range(60):
        deep = {"d": deep}
    database.create()
    database.upsert(
        vector("plain", 1, 0, 0, 0, metadata=json_format.ParseDict({"a": 1, "b": [True, None, "x"]}, Struct())),
        vector("exact", 0, 1, 0, 0, metadata_json=json.dumps(exact)),
        vector("deep", 0, 0, 1, 0, metadata_json=json.dumps(deep)),
        vector("wins", 0, 0, 0, 1, metadata=json_format.ParseDict({"a": 1}, Struct()), metadata_json='{"b":2}'),
        vector("none", 1, 1, 1, 1),
    )
    found = {result.id: result for result in database.search(limit=10).results}
    assert json_format.MessageToDict(found["plain"].metadata) == {"a": 1, "b": [True, None, "x"]}
    assert found["plain"].metadata_json == ""
    assert json.loads(found["exact"].metadata_json) == exact
    assert list(json.loads(found["exact"].metadata_json)) == list(exact)
    assert json.loads(found["deep"].metadata_json) == deep
    assert json_format.MessageToDict(found["wins"].metadata) == {"b": 2}
    assert json_format.MessageToDict(found["none"].metadata) == {}


# ---------------------------------------------------------------- searches


@pytest.mark.parametrize(
    ("metric", "number"),
    [(Metric.COSINE, 0), (Metric.COSINE, 1), (Metric.DOT, 2), (Metric.EUCLIDEAN, 3)],
)
@pytest.mark.usefixtures("only_graphs")
def test_scores_over_the_wire(database: Database, metric: Metric, number: int) -> None:
    """Results come best first with the metric's score, by graph and, with `exact`, by scan; `exact` says which."""
    matrix = vectors(200, 16)
    database.create(dimension=16, metric=number)
    database.upsert(*[vector(f"i{n}", *v.tolist()) for n, v in enumerate(matrix)])
    query = vectors(1, 16, seed=8)[0]
    truth = exact_scores(metric, query, matrix)
    for exact in (False, True):
        found = database.search(query.tolist(), exact=exact, ef_search=200)
        assert [result.id for result in found.results] == [f"i{n}" for n in np.argsort(-truth)[:10]]
        assert [result.score for result in found.results] == pytest.approx(np.sort(truth)[::-1][:10], abs=1e-5)
        assert (found.exact, found.complete) == (exact, True)


def test_limits(database: Database) -> None:
    """`limit` 0 means 10, 1,000 is the most, and less than 0 or more is refused; so is too great an `ef_search`."""
    database.create()
    database.upsert(*[vector(f"i{n:04}", *v.tolist()) for n, v in enumerate(vectors(1100, 4))])
    assert len(database.search().results) == 10
    assert len(database.search(limit=1000).results) == 1000
    for limit in (-1, 1001, 2**31 - 1, -(2**31)):
        assert_refused(database.search(limit=limit), Code.INVALID_ARGUMENT, "OUT_OF_RANGE", "limit")
    assert_refused(database.search(ef_search=2**32 - 1), Code.INVALID_ARGUMENT, "OUT_OF_RANGE", "ef_search")
    assert len(database.search(limit=1000, offset=1000).results) == 100
    assert len(database.search(offset=2**32 - 1).results) == 0
    pages = [
        result.id for at in range(0, 1100, 500) for result in database.search(limit=500, offset=at, exact=True).results
    ]
    assert len(set(pages)) == len(pages) == 1100


def test_a_threshold_is_a_number(database: Database) -> None:
    """A threshold that is no number is refused."""
    database.create(dimension=2)
    for field in ("threshold", "min_score"):
        value: dict[str, Any] = {field: float("nan")}
        reply = database.search((1, 0), **value)
        assert_refused(reply, Code.INVALID_ARGUMENT, "OUT_OF_RANGE", "min_score")


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([1, 2, 3], "WRONG_DIMENSION"),
        ([], "WRONG_DIMENSION"),
        ([1.0] * 100_000, "WRONG_DIMENSION"),
        ([1, float("nan"), 0, 0], "BAD_VECTOR"),
        ([1, float("inf"), 0, 0], "BAD_VECTOR"),
        ([0, 0, 0, 0], "BAD_VECTOR"),
    ],
    ids=["short", "empty", "long", "nan", "inf", "zero"],
)
def test_a_bad_query_is_refused(database: Database, numbers: list[float], reason: str) -> None:
    """A query of the wrong dimension, with NaN or infinity, or zero under COSINE is refused, also by an empty store."""
    database.create()
    assert_refused(database.search(numbers), Code.INVALID_ARGUMENT, reason, "vector")
    database.upsert(vector("a"))
    assert_refused(database.search(numbers), Code.INVALID_ARGUMENT, reason, "vector")
    assert_refused(database.search(numbers, exact=True), Code.INVALID_ARGUMENT, reason, "vector")


def test_a_reply_past_four_mebibytes_is_refused(database: Database) -> None:
    """A reply that a default client would not take is RESOURCE_EXHAUSTED and says how to page; smaller pages come."""
    database.create()
    database.upsert(*[vector(f"i{n}", *v.tolist(), metadata_json=json.dumps({"t": "x" * 30_000}))
                      for n, v in enumerate(vectors(200, 4))])  # fmt: skip
    with pytest.raises(grpc.RpcError) as caught:
        database.search(limit=200)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    said = details(caught.value)
    assert said.reason == "REPLY_TOO_LARGE"
    assert "limit and offset" in said.status.message
    pages = [
        result.id for at in range(0, 200, 50) for result in database.search(limit=50, offset=at, exact=True).results
    ]
    assert len(set(pages)) == 200


# ---------------------------------------------------------------- deletes


def test_a_delete_of_nothing_named_is_an_error(database: Database) -> None:
    """With neither ids nor a filter, or with ids that cannot be, nothing is deleted: never "all"."""
    database.create()
    database.upsert(vector("a"))
    assert_refused(database.delete(), Code.INVALID_ARGUMENT, "NOTHING_NAMED", "ids")
    assert_refused(database.delete("a", ""), Code.INVALID_ARGUMENT, "BAD_ID", "ids[1]")
    assert_refused(database.delete("a", "é" * 257), Code.INVALID_ARGUMENT, "BAD_ID", "ids[1]")
    assert len(database.search().results) == 1


# ---------------------------------------------------------------- state and options


def test_an_unknown_collection_is_not_found(database: Database) -> None:
    """Each RPC on a collection that is not there says NOT_FOUND and names it."""
    for reply in (
        database.upsert(vector("a"), collection="nope"),
        database.upsert(collection="nope"),
        database.search(collection="nope"),
        database.delete("a", collection="nope"),
        database.search(collection="../../etc/passwd"),
        database.search(collection=""),
        database.search(collection="n" * 100_000),
    ):
        assert_refused(reply, Code.NOT_FOUND, "COLLECTION_NOT_FOUND", "collection")
        assert len(reply.error) < 300


def test_vectors_of_another_model_are_refused(database: Database) -> None:
    """A call that names another embedding model than the collection's is refused; one that names none or it is not."""
    database.create(embedding_model="mini")
    database.create("any")
    new = pb.UpsertVectorsRequest(collection="c", vectors=[vector("a")])
    for model, fine in (("mini", True), ("", True), ("large", False)):
        metadata = (("x-embedding-model", model),) if model else ()
        for reply in (
            database.stub.UpsertVectors(new, metadata=metadata),
            database.stub.SearchVectors(
                pb.SearchVectorsRequest(collection="c", vector=[1, 0, 0, 0]), metadata=metadata
            ),
        ):
            if fine:
                assert reply.success
                continue
            assert_refused(reply, Code.FAILED_PRECONDITION, "OTHER_EMBEDDING_MODEL")
            assert details(reply.status).metadata == {"expected": "mini", "got": "large"}
    new.collection = "any"
    assert database.stub.UpsertVectors(new, metadata=(("x-embedding-model", "large"),)).success


@pytest.mark.slow
def test_health_answers_during_long_work(database: Database) -> None:
    """While big batches are written and deep and exact searches run, a health check is never late by much."""
    wide = vectors(1500, 1024)
    database.create(dimension=1024)
    batch = pb.UpsertVectorsRequest(
        collection="c", vectors=[vector(f"i{n}", *v.tolist(), metadata_json=json.dumps({"t": "x" * 2000}))
                                 for n, v in enumerate(wide)],
    )  # fmt: skip
    stop = threading.Event()
    failures: list[object] = []

    def repeat(call: Callable[[], Any]) -> None:
        while not stop.is_set():
            reply = call()
            if not reply.success:
                failures.append(reply)

    query = wide[0].tolist()
    threads = [
        threading.Thread(target=repeat, args=(lambda: database.stub.UpsertVectors(batch),)),
        threading.Thread(target=repeat, args=(lambda: database.search(query, limit=500),)),
        threading.Thread(target=repeat, args=(lambda: database.search(query, exact=True),)),
        threading.Thread(target=repeat, args=(lambda: database.search(query, ef_search=4096),)),
    ]
    for thread in threads:
        thread.start()
    channel, longest = database.server.channel(), 0.0
    began = time.monotonic()
    while time.monotonic() - began < 3:
        started = time.monotonic()
        assert health(channel) == 1
        longest = max(longest, time.monotonic() - started)
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert longest < 10, longest  # a tenth of a second where the machine is idle; the watchdog has the loop


def test_the_engine_and_the_wire_agree(database: Database) -> None:
    """What was sent over the wire is what the engine holds, and the other way round."""
    database.create()
    database.upsert(vector("a", 1, 2, 3, 4, metadata_json='{"k": [1, 2.50, "x"]}'))
    hit = database.engine.search("c", Query(np.array([1, 2, 3, 4], np.float32))).hits[0]
    assert (hit.id, json.loads(hit.metadata)) == ("a", {"k": [1, 2.5, "x"]})
