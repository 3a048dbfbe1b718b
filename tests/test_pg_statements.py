"""What vector_pg sends to PostgreSQL, and what it refuses before: without a database."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import psycopg
import pytest

from plugins.vector_pg.engine import Settings, indexing
from plugins.vector_pg.engine.database import Database
from plugins.vector_pg.engine.filters import is_large, where
from plugins.vector_pg.engine.values import Collection, Metric
from shared.errors import InvalidArgument, StartError
from shared.vectors.filters import Compare, Condition, Exists, Filter, Ids, Operator


def refusal(*must: Condition) -> str:
    with pytest.raises(InvalidArgument) as raised:
        where(Filter(must=must))
    assert raised.value.reason == "BAD_FILTER"
    return raised.value.message


def test_a_statement_has_no_more_parameters_than_postgresql_takes() -> None:
    """65,535: else libpq fails as if the connection were lost, and the call is tried until its patience ends."""
    deep = ".".join("k" * 40)
    assert "60000" in refusal(*[Compare(deep, Operator.GT, 1)] * 1000)
    assert len(where(Filter(must=(Compare(deep, Operator.GT, 1),) * 700)).values) < 65_000


@pytest.mark.parametrize("operator", [Operator.EQ, Operator.NE])
def test_a_list_is_no_value_to_compare_with(operator: Operator) -> None:
    """A list of one is not looked for inside of lists, which is what CONTAINS is for."""
    assert "only" in refusal(Compare("key", operator, [1]))
    assert where(Filter(must=(Compare("key", Operator.CONTAINS, 1),))).values == ('{"key": [1]}',)


def test_what_is_large() -> None:
    """Long lists in whatever place are made a statement in a thread."""
    many = [str(number) for number in range(1000)]
    for one in (Compare("key", Operator.IN, many), Ids(tuple(many))):
        assert is_large(Filter(must_not=(Filter(should=(one,)),)))
    assert is_large(Filter(should=(Exists("key"),) * 1000))
    assert not is_large(Filter(must=(Ids(("a",)), Compare("key", Operator.EQ, "a" * 10_000))))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:pa@sesame@db/x",
        "postgresql://me:pa/sesame@db/x",
        "postgresql://me:pa?b@sesame@db/x",
        "host=db password=open sesame",
    ],
)
@pytest.mark.parametrize("is_replica", [False, True])
def test_a_password_that_is_not_escaped_is_not_shown(url: str, is_replica: bool) -> None:
    """libpq takes a part of it for a host or an option, and would say so."""
    database = Database("" if is_replica else url, url if is_replica else "", Settings())
    with pytest.raises(StartError) as raised:
        asyncio.run(database.open())
    assert "%40" in str(raised.value)
    assert "sesame" not in str(raised.value)


def test_patience_begins_when_the_database_is_gone() -> None:
    """A call that was long at work before is tried again like any other."""
    tries = 0

    async def attempt(_: Any) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.sleep(0.2)  # longer than its patience
            raise psycopg.OperationalError("the connection is lost")
        return tries

    async def call() -> int:
        database: Any = Database("", "", Settings(patience=0.15))
        database._pool = database._replicas = AsyncMock()
        return int(await database._tried(attempt))

    assert asyncio.run(call()) == 2


def test_few_indexes_are_seen_to_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a connection of its own, and at the start every collection is looked at."""
    at_once: list[int] = []
    now = 0

    async def build(self: Any, name: str, number: int) -> None:
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(0.001)
        now -= 1

    async def look() -> None:
        indexes = indexing.Indexes(Database("", "", Settings()), Settings())
        for number in range(30):
            indexes.see_to(Collection(number, "docs", 3, Metric.COSINE, 16, 64, 100, "", 1000), changed=True)
        await asyncio.gather(*indexes._tasks.values())

    monkeypatch.setattr(indexing.Indexes, "_build", build)
    asyncio.run(look())
    assert (len(at_once), max(at_once)) == (30, 4)
