"""Searches that come at the same moment go through the graph as one batch, and each gets what it would get alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import numpy as np
import pytest

from plugins.vector_hnsw.engine import Engine, Metric, Query, SearchResult, pace
from plugins.vector_hnsw.engine.graph import Graph, Neighbours
from plugins.vector_hnsw.engine.together import Together
from shared.errors import CallerError, NotFound
from tests.servers import SECONDS
from tests.vector_tools import items, opened, vectors
from tests.vector_wire import serving, vector

SIZE, DIMENSION = 1500, 16


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with opened(tmp_path_factory.mktemp("together")) as engine:
        for name, metric in (("c", Metric.COSINE), ("d", Metric.DOT)):
            engine.create(name, DIMENSION, metric=metric)
            engine.upsert(name, items(np.vstack([vectors(SIZE, DIMENSION), vectors(9, DIMENSION)])))
        assert isinstance(engine._collections["c"].graph, Graph)
        yield engine


@pytest.fixture
def batches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many went together, of each batch."""
    sizes: list[int] = []
    search_many_now = engine.search_many_now

    def counting(name: str, queries: list[Query]) -> list[SearchResult | None]:
        sizes.append(len(queries))
        return search_many_now(name, queries)

    monkeypatch.setattr(engine, "search_many_now", counting)
    return sizes


def shown(result: SearchResult | BaseException | None) -> object:
    if not isinstance(result, SearchResult):
        return result
    return [(hit.id, hit.score, hit.metadata) for hit in result.hits], *result[1:]


def test_answers_are_those_of_searches_alone(engine: Engine, batches: list[int]) -> None:
    """Of searches of two collections with limits, pages, ef and lowest scores in any mixture each is answered to the
    last digit as alone, and most of them went together."""
    asked = [
        (name, Query(query, limit, offset, least, ef=ef))
        for index, query in enumerate(vectors(40, DIMENSION, seed=3))
        for name in ("c", "d")
        for limit, offset, least, ef in [((10, 0, None, 0), (10, 0, 0.2, 0), (3, 5, None, 40))[index % 3]]
    ]

    async def together() -> list[SearchResult | None]:
        each = Together(engine)
        return await asyncio.gather(*(each.search(name, query) for name, query in asked))

    found = asyncio.run(together())
    assert [shown(result) for result in found] == [shown(engine.search_now(*one)) for one in asked]
    assert None not in found
    assert sum(batches) > 60


def test_who_is_at_fault_fails_alone(engine: Engine, batches: list[int]) -> None:
    """A vector of NaN, a limit beyond the bound and a collection that is not there fail with their own errors; the
    searches beside them are answered."""
    good = Query(vectors(1, DIMENSION)[0])
    asked = [
        ("c", good),
        ("c", good._replace(vector=np.full(DIMENSION, np.nan, np.float32))),
        ("c", good._replace(limit=5000)),
        ("none", good),
        ("c", good._replace(vector=np.ones(3, np.float32))),
        ("c", good._replace(min_score=0.3)),
    ]

    async def together() -> list[SearchResult | BaseException | None]:
        each = Together(engine)
        return await asyncio.gather(*(each.search(*one) for one in asked), return_exceptions=True)

    found = asyncio.run(together())
    assert shown(found[0]) == shown(engine.search_now(*asked[0]))
    assert shown(found[5]) == shown(engine.search_now(*asked[5]))
    for result, one in zip(found[1:5], asked[1:5], strict=True):
        with pytest.raises(CallerError) as alone:
            engine.search_now(*one)
        assert type(result) is type(alone.value)
        assert str(result) == str(alone.value)
    assert isinstance(found[3], NotFound)
    assert batches == [3]


def test_a_failure_is_let_go(engine: Engine) -> None:
    """A search that fails, alone or beside others, leaves nothing that only a collection of garbage would free."""
    bad = Query(np.ones(3, np.float32))

    async def together() -> list[str]:
        each = Together(engine)
        return await asyncio.gather(*(failure_of(each) for _ in range(8)))

    async def failure_of(each: Together) -> str:
        try:
            await each.search("c", bad._replace())
        except CallerError as error:
            return type(error).__name__
        return "none"

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(together()) == ["InvalidArgument"] * 8
        assert sum(isinstance(item, Query) and len(item.vector) == 3 for item in gc.get_objects()) == 1
    finally:
        gc.enable()


def test_long_ones_make_no_long_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more go at once than are quick; the others are answered too, each by itself."""
    graph = engine._collections["c"].graph
    assert isinstance(graph, Graph)
    search_many, sizes = graph.search_many, []

    def counting(queries: np.ndarray, *options: Any) -> list[Neighbours] | None:
        sizes.append(len(queries))
        return search_many(queries, *options)

    monkeypatch.setattr(graph, "search_many", counting)
    monkeypatch.setattr(pace, "TURN", 3.5 * 100 * graph.pace.each)
    monkeypatch.setattr(pace, "_WEIGHT", 0)
    asked = [Query(row, ef=100) for row in vectors(8, DIMENSION, seed=4)]

    async def together() -> list[SearchResult | None]:
        each = Together(engine)
        return await asyncio.gather(*(each.search("c", query) for query in asked))

    found = asyncio.run(together())
    assert sizes == [3]
    assert [shown(result) for result in found] == [shown(engine.search_now("c", query)) for query in asked]


def test_a_cancel_disturbs_nobody(engine: Engine, batches: list[int]) -> None:
    """A search that is cancelled while it waits is not made, and those that wait with it are answered."""
    queries = [Query(row) for row in vectors(6, DIMENSION, seed=5)]

    async def together() -> list[SearchResult | BaseException | None]:
        each = Together(engine)
        tasks = [asyncio.create_task(each.search("c", query)) for query in queries]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(together())
    assert [index for index, result in enumerate(found) if isinstance(result, asyncio.CancelledError)] == [0, 3]
    for index in (1, 2, 4, 5):
        assert shown(found[index]) == shown(engine.search_now("c", queries[index]))
    assert batches == [4]


def test_alone_it_does_not_wait(engine: Engine) -> None:
    """Once a few searches were alone, one is answered within its own turn of the loop, all but each 32nd."""

    async def turns() -> list[bool]:
        each, query, waited = Together(engine), Query(vectors(1, DIMENSION)[0]), []
        for _ in range(100):
            task = asyncio.create_task(each.search("c", query))
            await asyncio.sleep(0)
            waited.append(not task.done())
            assert (await task) is not None
        return waited

    waited = asyncio.run(turns())
    assert waited[:4] == [True] * 4
    assert sum(waited[4:]) == 3


def test_during_a_write_it_leaves_all_to_threads(engine: Engine) -> None:
    """While the graph is written none of them waits in the event loop: each is told to go elsewhere."""

    async def together() -> list[SearchResult | None]:
        each, query = Together(engine), Query(vectors(1, DIMENSION)[0])
        return await asyncio.gather(*(each.search("c", query) for _ in range(5)))

    graph = engine._collections["c"].graph
    assert isinstance(graph, Graph)
    with graph._lock.write():
        assert asyncio.run(together()) == [None] * 5


@pytest.mark.parametrize("fast_path", [True, False])
def test_over_a_socket(tmp_path: Path, fast_path: bool) -> None:
    """Clients that search at once, with the module or without it, each find their own."""
    with serving(tmp_path, fast_path=fast_path) as database:
        database.create(dimension=DIMENSION)
        stored = vectors(1100, DIMENSION)
        assert database.upsert(*(vector(f"i{n}", *row.tolist()) for n, row in enumerate(stored))).success
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda row: database.search(row.tolist(), limit=1).results[0].id, stored[:200]))
        assert found == [f"i{n}" for n in range(200)]


@pytest.mark.parametrize("metric", Metric)
def test_any_ef_at_once(metric: Metric) -> None:
    """Without setting ef, the graph finds what hnswlib finds with ef set; searches with several ef at once do too."""
    graph = Graph(metric, DIMENSION, m=8, ef_construction=60)
    labels = list(range(2000))
    graph.reserve(2000)
    graph.put(labels, vectors(2000, DIMENSION), [1] * 2000)
    graph.delete(labels[::5])
    asked = [
        (metric.prepare(row[None])[0], k, ef)
        for row in vectors(60, DIMENSION, seed=2)
        for k, ef in ((1, 1), (1, 7), (10, 10), (10, 60), (10, 200), (50, 20))
    ]
    expected = []
    for row, k, ef in asked:
        graph._index.set_ef(ef)
        found, _ = graph._index.knn_query(row, k=max(k, ef))
        expected.append(found[0][:k].tolist())
    graph._index.set_ef(1)

    def search(one: tuple[np.ndarray, int, int]) -> list[int]:
        neighbours = graph.search(*one)
        assert neighbours is not None
        return neighbours.labels

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, asked)) == expected


# ---------------------------------------------------------------- as a stream


@pytest.mark.parametrize("fast_path", [True, False])
def test_a_stream(tmp_path: Path, fast_path: bool) -> None:
    """A stream of searches is answered as the searches alone are, in order: quick ones, those that threads make, and
    those that fail with their own error."""
    with serving(tmp_path, fast_path=fast_path) as database:
        database.create(dimension=DIMENSION)
        stored = vectors(1100, DIMENSION)
        assert database.upsert(*(vector(f"i{n}", *row.tolist()) for n, row in enumerate(stored))).success
        asked = [pb.SearchVectorsRequest(collection="c", vector=row.tolist(), limit=2) for row in stored[:100]]
        for index in range(0, 100, 9):
            asked[index].exact = True
        for index in range(0, 100, 13):
            asked[index].include_vectors = True
        asked[7].vector.append(1.0)
        asked[50].collection = "none"
        found = list(database.stub.SearchVectorsStream(iter(asked), timeout=SECONDS))
        assert found == [database.stub.SearchVectors(one) for one in asked]
        assert [index for index, reply in enumerate(found) if not reply.success] == [7, 50]


def test_a_stream_that_is_not_read(tmp_path: Path) -> None:
    """A client that goes in the midst of a stream, or sends what is no message, leaves nothing behind."""
    with serving(tmp_path) as database:
        database.create(dimension=DIMENSION)
        database.upsert(*(vector(f"i{n}", *row.tolist()) for n, row in enumerate(vectors(50, DIMENSION))))
        one = pb.SearchVectorsRequest(collection="c", vector=[1.0] * DIMENSION)
        goes = database.stub.SearchVectorsStream(iter([one] * 500), timeout=SECONDS)
        assert next(goes).success
        goes.cancel()
        broken: Any = database.server.channel().stream_stream("/hector.plugins.v1.DatabaseProvider/SearchVectorsStream")
        replies = broken(iter([one.SerializeToString(), b"\xff"]), timeout=SECONDS)
        assert pb.SearchVectorsResponse.FromString(next(replies)).success
        with pytest.raises(grpc.RpcError) as error:
            next(replies)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [reply.success for reply in database.stub.SearchVectorsStream(iter([one] * 40))] == [True] * 40
