"""Indexes of fields in metadata: what fits a filter is the same with them and without, and they are where they help."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Engine, Item, Query, fields
from plugins.vector_hnsw.engine.fields import FieldIndexes
from plugins.vector_hnsw.engine.filters import path_of, where
from shared.errors import StorageFull
from shared.vectors.filters import Compare, Exists, Filter, Operator
from tests.servers import wait_until
from tests.vector_tools import all_of, ids, opened, vectors

KEYS = ("n", "t", "a.b", '"x y"', '"it\'s"')
TEXTS = ["", "a", "b", "ab", "é", "\U0010ffff", "1", "it's", "nul\0x"]
NUMBERS = [0, 1, -1, 1.0, 1.5, 2**53, 2**53 + 1, 2**63, 2**70, -(2**64), 1e300]
VALUES = st.sampled_from([*TEXTS, *NUMBERS, True, False, None, [], [1], {}, {"c": 1}])
OPERATORS = (Operator.EQ, Operator.NE, Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
COMPARES = st.builds(
    Compare, st.sampled_from(KEYS), st.sampled_from(OPERATORS), st.sampled_from([*TEXTS, *NUMBERS])
) | st.builds(
    Compare,
    st.sampled_from(KEYS),
    st.sampled_from([Operator.IN, Operator.NOT_IN]),
    st.lists(st.sampled_from([*TEXTS, *NUMBERS, True, None]), max_size=3),
)
CONDITIONS = st.lists(COMPARES | st.builds(Exists, st.sampled_from(KEYS)), max_size=3).map(tuple)
FILTERS = st.builds(
    Filter,
    st.one_of(CONDITIONS, st.builds(lambda inner: (Filter(must=inner),), CONDITIONS)),
    st.one_of(st.just(()), CONDITIONS),
    st.one_of(st.just(()), CONDITIONS),
)
METADATA = st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES, VALUES, st.integers(0, 31)), min_size=20, max_size=20)


def metadata(values: tuple[Any, ...]) -> str:
    n, t, b, x, its, there = values
    whole = {"n": n, "t": t, "a": {"b": b}, "x y": x, "it's": its}
    return json.dumps({key: value for bit, (key, value) in enumerate(whole.items()) if there >> bit & 1})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A collection whose fields all have an index."""
    with opened(tmp_path_factory.mktemp("fields")) as engine:
        engine.create("c", 2)
        for key in KEYS:
            create(engine, key)
        yield engine


def create(engine: Engine, key: str) -> None:
    path = path_of(key)
    assert path
    engine._store.fields.create(engine.describe("c").spec.number, path)


def scanned(engine: Engine, filter: Filter) -> list[str]:
    """What fits, without an index."""
    store, fits = engine._store, where(filter)
    query = f"SELECT id FROM items_{engine.describe('c').spec.number} WHERE {fits.sql} ORDER BY id"
    return [name for (name,) in store.database.rows(query, *fits.values)]


@settings(max_examples=40)
@given(METADATA, st.lists(FILTERS, min_size=1, max_size=6))
def test_the_same_fits(engine: Engine, rows: list[tuple[Any, ...]], filters: list[Filter]) -> None:
    """Whatever is written over what was there, each filter gives what looking at every item gives: texts and numbers
    beside each other, numbers beyond 64 bits, booleans, null, lists, objects, fields that are missing."""
    number = engine.describe("c").spec.number
    assert len(engine._store.fields.of(number)) == len(KEYS)
    engine.upsert("c", [Item(f"i{at}", vectors(1, 2, at + 1)[0], metadata(row)) for at, row in enumerate(rows)])
    for one in filters:
        expected = scanned(engine, one)
        assert sorted(engine._store.ids(number, where(one))) == expected
        assert engine.count("c", one) == len(expected)
        found = engine.search("c", Query(np.ones(2, np.float32), limit=100, filter=one))
        assert sorted(ids(found)) == expected
    assert len(engine._store.fields.of(number)) == len(KEYS)


# ---------------------------------------------------------------- when there is one


def fill(engine: Engine, count: int = 300) -> None:
    rows = vectors(count, 2)
    engine.create("c", 2)
    about = [json.dumps({"n": n, "tag": f"t{n % 50}", "text": "x" * 200, "k": [n]}) for n in range(count)]
    engine.upsert("c", [Item(f"i{n}", rows[n], about[n]) for n in range(count)])


def below(value: float) -> Filter:
    return all_of(Compare("n", Operator.LT, value))


def indexed(engine: Engine) -> set[str]:
    return engine._store.fields.of(engine.describe("c", sample=False).spec.number)


def search(engine: Engine, filter: Filter) -> list[str]:
    return ids(engine.search("c", Query(np.ones(2, np.float32), limit=1000, filter=filter)))


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_LEAST_ITEMS", 100)


@pytest.mark.usefixtures("few_are_many")
def test_a_field_that_is_asked_for_gets_one(tmp_path: Path) -> None:
    """After three filters that ask for a field of many items it has an index, and the next is answered by it alone; it
    is there after a restart, and is gone with its collection."""
    with opened(tmp_path) as engine:
        fill(engine)
        assert [len(search(engine, below(n))) for n in (1, 2)] == [1, 2]
        assert not indexed(engine)
        assert len(search(engine, below(3))) == 3
        wait_until(lambda: bool(indexed(engine)), "an index")
    with opened(tmp_path) as engine:
        assert indexed(engine) == {'$."n"'}
        sql, values = engine._store.fields.condition(1, where(below(5)))
        plan = engine._store.database.rows(f"EXPLAIN QUERY PLAN SELECT row, label FROM items_1 WHERE {sql}", *values)
        assert "USING INDEX items_1_field_" in plan[0][3]
        between = all_of(Compare("n", Operator.GTE, 20), Compare("n", Operator.LT, 30))
        assert engine.count("c", between) == 10
        engine.create_snapshot("c", "s")
        engine.delete("c")
        engine.restore_snapshot("c", "s")
        assert not indexed(engine)
        assert len(search(engine, between)) == 10
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.usefixtures("few_are_many")
def test_beside_other_conditions(tmp_path: Path) -> None:
    """An index is used where it leaves few items, and not where it leaves most of them."""
    with opened(tmp_path) as engine:
        fill(engine)
        create(engine, "n")
        for bound, helps in ((10, True), (290, False)):
            both = Filter(must=(Compare("n", Operator.LT, bound), Compare("k", Operator.CONTAINS, 7)))
            sql, _ = engine._store.fields.condition(1, where(both))
            assert ("'$.\"n\"'" in sql) is helps
            assert search(engine, both) == ["i7"]


@pytest.mark.usefixtures("few_are_many")
def test_what_gets_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A field of long texts, one that is only excluded, and the ninth of a collection get no index."""
    caplog.set_level("INFO")
    with opened(tmp_path) as engine:
        fill(engine)
        for _ in range(2 * fields._SCANS):
            for condition in (Compare("text", Operator.EQ, "x"), Compare("k", Operator.CONTAINS, 1)):
                engine.count("c", all_of(condition))
            engine.count("c", Filter(must_not=(Compare("tag", Operator.EQ, "t1"),)))
        for number in range(fields._MOST_FIELDS + 1):
            create(engine, f"f{number}")
        create(engine, "text")
        assert indexed(engine) == {f'$."f{number}"' for number in range(fields._MOST_FIELDS)}


def test_few_items_get_none(tmp_path: Path) -> None:
    """Where there are few items a scan is quick, and nothing is made."""
    with opened(tmp_path) as engine:
        fill(engine)
        engine._store.fields.on_wanted = lambda *_: pytest.fail("wanted one")
        for n in range(10):
            assert engine.count("c", below(n)) == n


@pytest.mark.usefixtures("few_are_many")
def test_no_room_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk there is none, the log says so once, and filters are answered as before."""

    def full(*_: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr(FieldIndexes, "create", full)
    with opened(tmp_path) as engine:
        fill(engine)
        for n in range(10):
            assert engine.count("c", below(n)) == n
        wait_until(lambda: "event=field_not_indexed" in caplog.text, "a line in the log")
        assert caplog.text.count("event=field_not_indexed") == 1


@pytest.mark.parametrize("at", [0, 6], ids=["no JSON any more", "another number"])
@pytest.mark.parametrize("way", ["delete", "write anew", "delete a range"])
def test_a_damaged_item_can_be_deleted_and_written(tmp_path: Path, at: int, way: str) -> None:
    """An item whose metadata the disk has changed is deleted, or written anew, although an index has what it was."""
    with opened(tmp_path) as engine:
        fill(engine)
        create(engine, "n")
        create(engine, "tag")
    content = bytearray((tmp_path / "store.db").read_bytes())
    text = b'{"n": 7, "tag": "t7"'
    assert content.count(text) == 1
    content[content.index(text) + at] ^= 1
    (tmp_path / "store.db").write_bytes(content)
    with opened(tmp_path) as engine:
        assert len(indexed(engine)) == 2
        if way == "delete":
            assert engine.delete_vectors("c", ["i7"])[0] == 1
        elif way == "delete a range":
            assert engine.delete_vectors("c", filter=below(10))[0] == 10
        else:
            engine.upsert("c", [Item("i7", np.ones(2, np.float32), '{"n": 7}')])
        assert engine.count("c", below(300)) == {"delete": 299, "delete a range": 290, "write anew": 300}[way]
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_fields_that_callers_name_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fields filters ask for, what is counted of them stays small."""
    monkeypatch.setattr(fields, "_LEAST_ITEMS", 5)
    monkeypatch.setattr(fields, "_MOST_COUNTED", 20)
    with opened(tmp_path) as engine:
        engine.create("c", 4)
        engine.upsert("c", [Item(f"i{n}", row) for n, row in enumerate(vectors(10, 4))])
        for n in range(100):
            assert engine.count("c", all_of(Compare(f"field{n}", Operator.EQ, 1))) == 0
        assert len(engine._store.fields._scans) <= 20
