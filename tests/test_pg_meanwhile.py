"""vector_pg's engine on a real PostgreSQL: what others do in the middle of a call, and what is large."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from plugins.vector_pg.engine import Change, Engine, Filter, Item, MetadataMode, Query, Settings, collections, writing
from shared.errors import InvalidArgument, NotFound, StartError, TooLarge
from shared.vector_messages.requests import dumped
from shared.vectors.filters import Compare, Exists, Ids, Operator
from tests.pg_server import database, new_schema

pytestmark = pytest.mark.slow
ONE = np.ones(2, np.float32)
dump = functools.partial(dumped)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with database() as found:
        yield found


def run(url: str, work: Callable[[Engine], Awaitable[None]], **settings: Any) -> None:
    """`work` with an engine in a schema of its own."""

    async def opened() -> None:
        engine = Engine(url, settings=Settings(schema=new_schema(), **settings))
        await engine.open()
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(opened())


def after_read(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], Awaitable[Any]]) -> None:
    """Once somebody has looked for what `name` stands for, or is about to lock it, `then` happens."""
    real = collections.read
    calls = [then]

    async def read(connection: Any, asked: str, lock: str = "") -> Any:
        if asked == name and calls and lock:
            await calls.pop()()
        found = await real(connection, asked, lock)
        if asked == name and calls:
            await calls.pop()()
        return found

    monkeypatch.setattr(collections, "read", read)


def test_an_alias_that_moves_during_an_upsert(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to the collection that it names by then, checked against that one."""

    async def work(engine: Engine) -> None:
        for name, dimension in (("one", 2), ("two", 2), ("three", 3)):
            await engine.create(name, dimension)
        await engine.set_alias("docs", "one", None)
        after_read(monkeypatch, "docs", lambda: engine.set_alias("docs", "two", None))
        assert (await engine.upsert("docs", [Item("a", ONE), Item("a", ONE)])).count == 1  # different ids
        assert [await engine.count(name) for name in ("one", "two")] == [0, 1]
        after_read(monkeypatch, "docs", lambda: engine.set_alias("docs", "three", None))
        with pytest.raises(InvalidArgument, match="dimension is 3"):
            await engine.upsert("docs", [Item("a", ONE)])

    run(url, work)


def test_a_collection_that_is_deleted_during_a_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not exist, which is no error of the plugin's."""

    async def work(engine: Engine) -> None:
        reads: list[Callable[[], Awaitable[Any]]] = [
            lambda: engine.get("docs", ["a"], with_vectors=True, with_metadata=True),
            lambda: engine.page("docs", token="", size=1, filter=None, with_vectors=False, with_metadata=True),
            lambda: engine.count("docs", Filter((Exists("key"),))),
            lambda: engine.search("docs", Query(ONE)),
            lambda: engine.upsert("docs", [Item("a", ONE)]),
        ]
        for read in reads:
            await engine.create("docs", 2)
            after_read(monkeypatch, "docs", lambda: engine.delete("docs"))
            with pytest.raises(NotFound, match="no collection 'docs'"):
                await read()

    run(url, work)


def test_a_name_with_nul_is_nobodys(url: str) -> None:
    """Neither another collection's nor an error of the database's."""

    async def work(engine: Engine) -> None:
        await engine.create("docs", 2)
        for name in ("docs\0", "d\0ocs", "docs" + "\0" * 1000, "d" * 10_000):
            for call in (engine.search(name, Query(ONE)), engine.count(name), engine.delete(name)):
                with pytest.raises(NotFound):
                    await call
        assert await engine.count("docs") == 0

    run(url, work)


def test_what_is_read_at_once_is_bounded(url: str) -> None:
    """Vectors count as well as metadata; and thousands of ids, of whatever characters, are found."""
    names = [f"ä'\"\\{{,}}{number}" for number in range(3000)]

    async def work(engine: Engine) -> None:
        await engine.create("docs", 2)
        await engine.upsert("docs", [Item(name, ONE) for name in names])
        fits = Filter((Ids(tuple(names)),), must_not=(Compare("key", Operator.IN, names),))
        assert await engine.count("docs", fits) == 3000
        assert len(await engine.get("docs", names, with_vectors=False, with_metadata=False)) == 3000
        for vectors, metadata in ((True, False), (True, True)):
            with pytest.raises(TooLarge):
                await engine.get("docs", names, with_vectors=vectors, with_metadata=metadata)
        (item,) = (await engine.get("docs", names[:1], with_vectors=True, with_metadata=True)).values()
        assert item.vector is not None
        assert item.vector.tolist() == [1, 1]
        assert await engine.delete_vectors("docs", names, None) == (3000, 3)

    run(url, work, max_read=3000 * 2 * 3)


def test_metadata_is_changed_in_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item once, in the order of the request, all or nothing."""

    async def work(engine: Engine) -> None:
        await engine.create("docs", 2)
        await engine.upsert("docs", [Item(str(number), ONE, '{"n":0}') for number in range(7)])
        fits = Filter((Compare("n", Operator.GTE, 0),))
        written = await engine.update_matching("docs", fits, Change("", {"n": 1}), dump, mode=MetadataMode.MERGE)
        assert written.count == 7
        changes = [Change(str(number), {"m": number}) for number in (6, 0, 3, 6)]
        changes[3] = Change("6", {"m": 60}, ("n",))
        assert (await engine.update_metadata("docs", changes, dump)).count == 3
        bad = [*changes, Change("nobody", {"m": 1}), Change("1", None)]
        with pytest.raises(NotFound):
            await engine.update_metadata("docs", [Change("0", {"m": -1}), *bad], dump)
        partly = await engine.update_metadata("docs", bad, dump, partial=True)
        assert (partly.count, sorted(partly.wrong)) == (3, [4, 5])
        items = await engine.get("docs", [str(number) for number in range(7)], with_vectors=False, with_metadata=True)
        assert [items[str(number)].metadata.replace(" ", "") for number in (0, 1, 6)] == [
            '{"m":0,"n":1}',
            '{"n":1}',
            '{"m":60}',
        ]

    monkeypatch.setattr(writing, "_TEXTS", 2)
    run(url, work)


def test_pages_that_begin_anywhere(url: str) -> None:
    """Each match comes once also where the first page begins in the middle of one, and the walk of the index ends soon:
    what is behind it is found by comparing all."""
    vectors = np.random.default_rng(3).standard_normal((400, 8)).astype(np.float32)

    async def work(engine: Engine) -> None:
        await engine.create("docs", 8, index={"ef_search": 10})
        await engine.upsert("docs", [Item(f"{n:03}", vector, '{"key":1}') for n, vector in enumerate(vectors)])
        async with asyncio.timeout(60):
            while not (await engine.describe("docs")).spec.indexed:
                pass
        query = Query(vectors[0], 10, with_metadata=False)
        assert not (await engine.search("docs", query)).exact
        for first in (0, 3):
            ids = [hit.id for hit in (await engine.search("docs", query._replace(limit=first))).hits] if first else []
            for offset in range(first, 400, 10):
                ids += [hit.id for hit in (await engine.search("docs", query._replace(offset=offset))).hits]
            assert len(ids) == 400
            assert len(set(ids)) == 400, f"pages from {first}"

    run(f"{url}{'&' if '?' in url else '?'}options=-chnsw.max_scan_tuples%3D55", work, index_from=100)


def test_a_database_that_cannot_be_written_is_told(url: str) -> None:
    """One that is a standby, say, ends the start in one line with a remedy."""

    async def work(engine: Engine) -> None:
        raise AssertionError("it was opened")

    with pytest.raises(StartError, match="read-write"):
        run(f"{url}{'&' if '?' in url else '?'}options=-cdefault_transaction_read_only%3Don", work)
