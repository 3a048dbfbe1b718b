"""vector_pg on a real PostgreSQL: filters, indexes, pages, refusals, deadlines, and what is never shown."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from tests.pg_server import database, new_schema
from tests.servers import SECONDS, details, run_plugin, start_plugin, wait_until

_FROM = 300  # vectors from which on a collection has an index


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with database() as found:
        yield found


@pytest.fixture(scope="module")
def schema() -> str:
    return new_schema()


@pytest.fixture(scope="module")
def stub(url: str, schema: str) -> Iterator[DatabaseProviderStub]:
    arguments = ("--schema", schema, "--index-from", str(_FROM))
    with start_plugin("plugins.vector_pg", *arguments, env={"DATABASE_URL": url}) as plugin:
        yield DatabaseProviderStub(plugin.channel())


def ok(reply: Any) -> Any:
    assert reply.success, reply.error
    return reply


def fill(stub: DatabaseProviderStub, name: str, vectors: Any, metadata: Any = None, **parameters: Any) -> None:
    ok(stub.CreateCollection(pb.CreateCollectionRequest(name=name, dimension=vectors.shape[1], **parameters)))
    items = [
        pb.Vector(id=f"{i:05}", vector=row, metadata_json=json.dumps(metadata(i)) if metadata else "")
        for i, row in enumerate(vectors.tolist())
    ]
    ok(stub.UpsertVectors(pb.UpsertVectorsRequest(collection=name, vectors=items)))


def wait_for_index(stub: DatabaseProviderStub, url: str, schema: str, name: str) -> None:
    """Until searches use it."""
    import psycopg

    sql = f"SELECT indexed FROM {schema}.collections WHERE name = %s"

    def is_there() -> bool:
        with psycopg.connect(url) as connection:
            told = ok(stub.DescribeCollection(pb.DescribeCollectionRequest(name=name))).collection
            return connection.execute(sql, (name,)).fetchone() == (True,) and not told.health.rebuilding

    wait_until(is_there, f"index of {name}")


# ---------------------------------------------------------------- filters

_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.5,
    -3,
    2**53 + 1,
    "",
    "a",
    "ab",
    "ä",
    "1",
    "'%s'",
    ["a", 1],
    [None],
    {},
]
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda have, want: _equal(have, want),
    "NE": lambda have, want: not _equal(have, want),
    "GT": lambda have, want: _comparable(have, want) and have > want,
    "GTE": lambda have, want: _comparable(have, want) and have >= want,
    "LT": lambda have, want: _comparable(have, want) and have < want,
    "LTE": lambda have, want: _comparable(have, want) and have <= want,
    "IN": lambda have, want: any(_equal(have, one) for one in want),
    "NOT_IN": lambda have, want: not any(_equal(have, one) for one in want),
    "CONTAINS": lambda have, want: (
        any(_equal(one, want) for one in have)
        if isinstance(have, list)
        else isinstance(have, str) and isinstance(want, str) and want in have
    ),
    "PREFIX": lambda have, want: isinstance(have, str) and have.startswith(want),
}
_ABSENT = object()
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "key": lambda one: one.get("key", _ABSENT),
    "in.side": lambda one: one.get("in", {}).get("side", _ABSENT),
    '"a.b"': lambda one: one.get("a.b", _ABSENT),
}


def _equal(have: Any, want: Any) -> bool:
    """As the contract has it: numbers with numbers, and a boolean is none."""
    if isinstance(have, list | dict) or have is _ABSENT or isinstance(have, bool) != isinstance(want, bool):
        return False
    return bool(have == want)


def _comparable(have: Any, want: Any) -> bool:
    return (isinstance(have, str) and isinstance(want, str)) or (
        isinstance(have, int | float)
        and isinstance(want, int | float)
        and not isinstance(have, bool)
        and not isinstance(want, bool)
    )


def test_filters_are_the_contracts(stub: DatabaseProviderStub) -> None:
    """Each operator, on a key, one inside another and one with a dot, with values of each kind, fits as Python says."""
    chance = random.Random(5)
    stored = [{"a.b": value, "in": {"side": value}, "key": value} for value in _VALUES] + [{"other": 1}]
    fill(stub, "filters", np.eye(len(stored), dtype=np.float32), lambda index: stored[index])
    for operator, fits in _OPERATORS.items():
        for field, get in _FIELDS.items():
            for value in chance.sample([one for one in _VALUES if not isinstance(one, list | dict)], 5):
                if operator in ("IN", "NOT_IN"):
                    value = [value, *chance.sample(["a", 1, True, None], 2)] * chance.choice([1, 20])
                elif operator == "PREFIX":
                    value = str(value)[:2]
                elif operator in ("GT", "GTE", "LT", "LTE") and not _comparable(value, value):
                    continue
                compare = pb.Compare(
                    field=field, op=pb.Operator.Value(f"OPERATOR_{operator}"), value_json=json.dumps(value)
                )
                request = pb.ListVectorsRequest(collection="filters")
                request.filter.must.add(compare=compare)
                page = ok(stub.ListVectors(request))
                expected = [f"{index:05}" for index, one in enumerate(stored) if fits(get(one), value)]
                assert [vector.id for vector in page.vectors] == expected, (field, operator, value)


# ---------------------------------------------------------------- indexes


@pytest.mark.parametrize(
    ("dimension", "metric"),
    [
        (32, pb.METRIC_COSINE),
        (32, pb.METRIC_DOT),
        pytest.param(2100, pb.METRIC_EUCLIDEAN, marks=pytest.mark.slow),
        pytest.param(2100, pb.METRIC_COSINE, marks=pytest.mark.slow),
    ],
)
def test_an_index(stub: DatabaseProviderStub, url: str, schema: str, dimension: int, metric: int) -> None:
    """Past so many vectors an index answers, halfvec past 2,000 dimensions: the neighbours and their scores are the
    exact search's, a filtered page fills, also where the nearest have been deleted, a bound of the score has no more
    compared, and the pages of a search have each vector once."""
    name = f"indexed-{dimension}-{metric}"
    count = _FROM + 100
    vectors = np.random.default_rng(7).standard_normal((count, dimension)).astype(np.float32)
    fill(stub, name, vectors, lambda index: {"half": index % 2, "rare": index % 100}, metric=metric)
    wait_for_index(stub, url, schema, name)
    query = vectors[5] + np.float32(0.01)

    def search(**more: Any) -> Any:
        return ok(stub.SearchVectors(pb.SearchVectorsRequest(collection=name, vector=query.tolist(), **more)))

    by_index, exact = search(limit=20), search(limit=20, exact=True)
    assert (by_index.exact, exact.exact, by_index.complete) == (False, True, True)
    scores = {hit.id: hit.score for hit in exact.results}
    shared = [hit for hit in by_index.results if hit.id in scores]
    assert len(shared) >= 19
    assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-6) for hit in shared)
    for field, number in (("half", count // 2), ("rare", count // 100)):
        compare = pb.Compare(field=field, value_json="1")
        filtered = search(limit=100, filter=pb.Filter(must=[pb.Condition(compare=compare)]))
        assert len(filtered.results) == min(100, number)
        assert filtered.complete
    pages = [search(limit=70, offset=offset).results for offset in range(0, count, 70)]
    seen = [hit.id for page in pages for hit in page]
    assert len(seen) == len(set(seen)) == count
    told = ok(stub.DescribeCollection(pb.DescribeCollectionRequest(name=name))).collection
    assert told.health.sampled_recall >= 0.9
    everything = ok(stub.ListCollections(pb.ListCollectionsRequest())).collections
    (listed,) = (collection for collection in everything if collection.name == name)
    assert listed.health.sampled_recall == told.health.sampled_recall
    got = ok(stub.GetVectors(pb.GetVectorsRequest(collection=name, ids=["00005"], include_vectors=True))).vectors[0]
    assert np.array_equal(np.array(got.vector, np.float32), vectors[5])
    bounded = search(limit=20, min_score=by_index.results[9].score)
    assert (len(bounded.results), bounded.exact, bounded.complete) == (10, False, True)
    nearest = [hit.id for hit in search(limit=60).results]
    ok(stub.DeleteVectors(pb.DeleteVectorsRequest(collection=name, ids=nearest[:30])))
    left = search(limit=20, ef_search=20)
    assert (len(left.results), left.exact, left.complete) == (20, False, True)


@pytest.mark.slow
def test_recall_is_measured(stub: DatabaseProviderStub, url: str, schema: str) -> None:
    """DescribeCollection tells what share of the true neighbours the index finds: less with few candidates than with
    many, and all of them without an index, also where there is nothing yet."""
    vectors = np.random.default_rng(9).standard_normal((_FROM + 300, 64)).astype(np.float32)

    def recall(name: str) -> float:
        told = ok(stub.DescribeCollection(pb.DescribeCollectionRequest(name=name))).collection
        return float(told.health.sampled_recall)

    fill(stub, "poor", vectors[:20], index=pb.IndexParams(m=2, ef_construction=4, ef_search=1))
    assert recall("poor") == 1.0
    items = [pb.Vector(id=str(number), vector=vector) for number, vector in enumerate(vectors.tolist())]
    ok(stub.UpsertVectors(pb.UpsertVectorsRequest(collection="poor", vectors=items)))
    wait_for_index(stub, url, schema, "poor")
    few = recall("poor")
    assert few < 0.9
    ok(stub.UpdateCollection(pb.UpdateCollectionRequest(name="poor", index=pb.IndexParams(ef_search=500))))
    assert recall("poor") > few
    ok(stub.CreateCollection(pb.CreateCollectionRequest(name="empty", dimension=2)))
    assert recall("empty") == 1.0


@pytest.mark.slow
def test_a_collection_whose_index_is_being_built_is_deleted(stub: DatabaseProviderStub, url: str, schema: str) -> None:
    """DeleteCollection ends the building of an index, whoever builds it, and does not wait for its end."""
    import psycopg

    building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'"
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        # For whose snapshot building waits in its last phase.
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT FROM pg_class LIMIT 1")
        fill(stub, "unfinished", np.random.default_rng(1).standard_normal((_FROM + 1, 4)).astype(np.float32))
        wait_until(lambda: watcher.execute(building).fetchone() == (1,), "an index that is being built")
        ok(stub.DeleteCollection(pb.DeleteCollectionRequest(name="unfinished"), timeout=SECONDS))
        wait_until(lambda: watcher.execute(building).fetchone() == (0,), "the end of the building")


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "kinds"), [(4, {"hnsw", "metadata"}), (4001, {"metadata"})])
def test_a_load_is_waited_for(url: str, monkeypatch: pytest.MonkeyPatch, dimension: int, kinds: set[str]) -> None:
    """While a collection is being loaded no index is built; when it rests, those of its metadata and, where it has not
    too many dimensions, of its vectors are built of all that is there, once."""
    import psycopg

    from plugins.vector_pg.engine import Engine, Item, Settings, indexing

    vectors = np.eye(_FROM, dimension, dtype=np.float32) + 1
    items = [Item(str(number), vector, "{}") for number, vector in enumerate(vectors)]
    counts: list[int] = []
    schema = new_schema()
    sql = "SELECT split_part(indexname, '_', 1) FROM pg_indexes WHERE schemaname = %s AND indexname ~ '^(hnsw|meta)'"

    def there() -> set[str]:
        with psycopg.connect(url) as connection:
            return {kind for (kind,) in connection.execute(sql, (schema,))}

    async def grows(connection: Any, collection: Any) -> bool:
        counts.append(collection.count)
        if len(counts) == 1:
            await engine.upsert("loaded", [Item(f"more-{item.id}", item.vector, "{}") for item in items])
        assert not there()
        return len(counts) < 3

    async def load() -> None:
        await engine.open()
        try:
            await engine.create("loaded", dimension)
            await engine.upsert("loaded", items)
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*engine._indexes._tasks.values())
            assert (await engine.describe("loaded")).spec.indexed == ("hnsw" in kinds)
            await engine.upsert("loaded", items[:1])
            assert not engine._indexes._tasks
        finally:
            await engine.close()

    monkeypatch.setattr(indexing, "_grows", grows)
    engine = Engine(url, settings=Settings(schema=schema, index_from=_FROM))
    asyncio.run(load())
    assert counts == [_FROM, 2 * _FROM, 2 * _FROM]
    assert there() == kinds


# ---------------------------------------------------------------- writes


def test_a_stream_goes_on_past_what_is_refused(stub: DatabaseProviderStub) -> None:
    """Each message of a stream is answered once and in order, also one that is refused before it comes to the database,
    and what comes later is written later."""
    ok(stub.CreateCollection(pb.CreateCollectionRequest(name="streamed", dimension=2)))

    def request(number: int, vector: list[float], collection: str = "streamed") -> pb.UpsertVectorsRequest:
        item = pb.Vector(id="one", vector=vector, metadata_json=f'{{"number":{number}}}')
        return pb.UpsertVectorsRequest(collection=collection, vectors=[item])

    sent = [
        request(0, [1, 0]),
        request(1, [1, 0], "nowhere"),
        request(2, [1, 0, 0]),
        *(request(n, [0, 1]) for n in range(3, 20)),
    ]
    answered = list(stub.UpsertVectorsStream(iter(sent)))
    assert [reply.success for reply in answered] == [True, False, False] + 17 * [True]
    assert "nowhere" in answered[1].error
    assert "dimension is 2" in answered[2].error
    sequences = [reply.sequence for reply in answered if reply.success]
    assert sequences == sorted(set(sequences))
    (found,) = ok(
        stub.GetVectors(pb.GetVectorsRequest(collection="streamed", ids=["one"], metadata_as_json=True))
    ).vectors
    assert json.loads(found.metadata_json) == {"number": 19}


def test_an_alias_moves_while_vectors_are_prepared(url: str) -> None:
    """Vectors go to the collection that the alias leads to when they are written, and must fit that one."""
    from plugins.vector_pg.engine import Engine, Item, Settings
    from shared.errors import InvalidArgument

    async def work() -> None:
        engine = Engine(url, settings=Settings(schema=new_schema()))
        await engine.open()
        try:
            for name, dimension in (("first", 2), ("second", 2), ("wide", 3)):
                await engine.create(name, dimension)
            await engine.set_alias("alias", "first", None)
            prepared = await engine.prepare("alias", [Item("one", np.ones(2, np.float32))])
            await engine.set_alias("alias", "wide", None)
            with pytest.raises(InvalidArgument, match="dimension is 3"):
                await engine.put("alias", prepared)
            await engine.set_alias("alias", "second", None)
            await engine.put("alias", prepared)
            assert [await engine.count(name) for name in ("first", "second", "wide")] == [0, 1, 0]
        finally:
            await engine.close()

    asyncio.run(work())


# ---------------------------------------------------------------- refusals


def test_what_postgresql_cannot_hold(stub: DatabaseProviderStub) -> None:
    """NUL in ids and metadata, and more than 16,000 dimensions, are refused by name, and nothing is written."""
    fill(stub, "nul", np.eye(2, dtype=np.float32))
    for item, field in (
        (pb.Vector(id="a\0b", vector=[1, 0]), "vectors[0].id"),
        (pb.Vector(id="a", vector=[1, 0], metadata_json='{"key": ["\\u0000"]}'), "vectors[0].metadata"),
        (pb.Vector(id="a", vector=[1, 0], metadata_json='{"\\u0000": 1}'), "vectors[0].metadata"),
    ):
        reply = stub.UpsertVectors(pb.UpsertVectorsRequest(collection="nul", vectors=[item]))
        assert not reply.success
        assert "NUL" in reply.error
        assert details(reply.status).violations[0][0] == field
    backslashes = pb.Vector(id="a", vector=[1, 0], metadata_json='{"key": "\\\\u0000"}')  # six characters, no NUL
    ok(stub.UpsertVectors(pb.UpsertVectorsRequest(collection="nul", vectors=[backslashes])))
    change = pb.MetadataUpdate(id="a", metadata_json='{"key": "\\u0000"}')
    changed = stub.UpdateMetadata(pb.UpdateMetadataRequest(collection="nul", updates=[change]))
    assert "NUL" in changed.error
    assert ok(stub.CountVectors(pb.CountVectorsRequest(collection="nul"))).count == 3
    wide = stub.CreateCollection(pb.CreateCollectionRequest(name="wide", dimension=16_001))
    assert "16000" in wide.error


# ---------------------------------------------------------------- deadlines


@pytest.mark.slow
def test_a_deadline_reaches_the_database(stub: DatabaseProviderStub, url: str, schema: str) -> None:
    """A search and a write that wait for a lock end with their deadline, in the database too."""
    import psycopg

    fill(stub, "locked", np.eye(2, dtype=np.float32))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vector_pg' AND wait_event_type = 'Lock'"
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        number = holder.execute(f"SELECT number FROM {schema}.collections WHERE name = 'locked'").fetchone()
        assert number
        holder.execute(f"LOCK TABLE {schema}.items_{number[0]} IN ACCESS EXCLUSIVE MODE")
        search = pb.SearchVectorsRequest(collection="locked", vector=[1, 0])
        write = pb.UpsertVectorsRequest(collection="locked", vectors=[pb.Vector(id="x", vector=[1, 0])])
        calls: list[tuple[Any, Any]] = [(stub.SearchVectors, search), (stub.UpsertVectors, write)]
        for call, request in calls:
            future = call.future(request, timeout=6)  # more than a machine stands still before it waits
            wait_until(lambda: watcher.execute(waiting).fetchone() == (1,), "a statement that waits")
            with pytest.raises(grpc.RpcError) as raised:
                future.result()
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            wait_until(lambda: watcher.execute(waiting).fetchone() == (0,), "the end of the statement")
    ok(stub.SearchVectors(search))


# ---------------------------------------------------------------- start


@pytest.mark.slow
def test_no_secret_is_shown() -> None:
    """A database that cannot be reached is told in one line, with a remedy and without the password."""
    nobody = "postgresql://me:sesame@127.0.0.1:1/db"
    for name in ("DATABASE_URL", "VECTOR_PG__URL"):
        ended = run_plugin("plugins.vector_pg", "--port", "0", env={name: nobody})
        assert ended.returncode == 2
        assert "cannot connect to the database" in ended.stderr
        assert "sesame" not in ended.stderr + ended.stdout


@pytest.mark.slow
def test_a_newer_schema_is_refused(url: str, stub: DatabaseProviderStub, schema: str) -> None:
    """A schema that a newer version made is not touched: the process ends and says so."""
    import psycopg

    newer = new_schema()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {newer}")
        connection.execute(f"CREATE TABLE {newer}.version AS SELECT 99 AS version")
        ended = run_plugin("plugins.vector_pg", "--port", "0", "--schema", newer, env={"DATABASE_URL": url})
        assert ended.returncode == 2
        assert "newer version" in ended.stderr
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (newer,)).fetchone()
        assert tables == (1,)
