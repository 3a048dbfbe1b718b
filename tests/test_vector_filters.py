"""Filters: each operator and condition against an oracle in plain Python, and searches that they must not starve."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.vector_hnsw.engine import Engine, Item, Metric, Query, matches
from plugins.vector_hnsw.engine.filters import member, where
from shared.errors import InvalidArgument
from shared.structs import dump
from shared.vectors.filters import Compare, Condition, Exists, Filter, Ids, Operator, unrestricted
from tests.servers import unhurried
from tests.vector_tools import Floats, exact_scores, ids, opened, vectors

Document = dict[str, Any]

# ---------------------------------------------------------------- the oracle


def _keys(field: str) -> list[str]:
    """`a."b.c".d` as its keys."""
    keys = []
    while field:
        key, end = json.JSONDecoder(strict=False).raw_decode(field) if field[0] == '"' else (None, field.find("."))
        end = len(field) if end < 0 else end
        keys.append(field[:end] if key is None else key)
        field = field[end + 1 :]
    return keys


def _at(document: Document, field: str) -> tuple[bool, Any]:
    value: Any = document
    for key in _keys(field):
        if not isinstance(value, dict) or key not in value:
            return False, None
        value = value[key]
    return True, value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stored(number: float) -> float:
    """Integers beyond 64 bits are doubles."""
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        return float(number)
    return number


def _equal(there: Any, value: Any) -> bool:
    if _number(there) and _number(value):
        return _stored(there) == _stored(value)
    return type(there) is type(value) and isinstance(value, str | bool | None) and there == value


def _compared(there: Any, operator: Operator, value: Any) -> bool:
    if _number(there) and _number(value):
        there, value = _stored(there), _stored(value)
    elif not (isinstance(there, str) and isinstance(value, str)):
        return False
    if operator is Operator.GT:
        return bool(there > value)
    if operator is Operator.GTE:
        return bool(there >= value)
    return bool(there < value) if operator is Operator.LT else bool(there <= value)


def fits(condition: Condition, name: str, document: Document) -> bool:
    if isinstance(condition, Filter):
        return (
            all(fits(one, name, document) for one in condition.must)
            and (not condition.should or any(fits(one, name, document) for one in condition.should))
            and not any(fits(one, name, document) for one in condition.must_not)
        )
    if isinstance(condition, Ids):
        return name in condition.ids
    there, found = _at(document, condition.field)
    if isinstance(condition, Exists):
        return there
    operator, value = condition.operator, condition.value
    if operator in (Operator.EQ, Operator.NE):
        return (there and _equal(found, value)) is (operator is Operator.EQ)
    if operator in (Operator.IN, Operator.NOT_IN):
        return (there and any(_equal(found, one) for one in value)) is (operator is Operator.IN)
    if operator is Operator.CONTAINS:
        if isinstance(found, list):
            return any(_equal(one, value) for one in found)
        return isinstance(found, str) and isinstance(value, str) and value in found
    if operator is Operator.PREFIX:
        return isinstance(found, str) and found.startswith(value)
    return there and _compared(found, operator, value)


# ---------------------------------------------------------------- any filter on any metadata

EDGES: list[Any] = [
    0, 1, -1, True, False, None, 1.0, 0.0, -0.0, 0.5, 2**53 - 1, 2**53, 2**53 + 1, float(2**53), -(2**53) - 1,
    2**63 - 1, 2**63, float(2**63), -(2**63), -(2**63) - 1, 2**64 + 1, 10**30, 1e30, 1e-7,
    "", "1", "true", "null", "a", "A", "ab", "abc", "é", "e\u0301", "\U0001f642", "\uffff", "%", "_", "a%", "'", '"',
    "\\", "a\nb", "$", "ß", "ẞ",
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
SCALARS = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-(2**65), 2**65),
    st.floats(-1e6, 1e6, width=32),
    TEXTS,
)
KEYS = ["a", "b", "c.d", "é", "$", "0", " ", "", "\n", "\t", '"', "\\", 'x"\\\n.', "'", "\x01"]
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
PARTS = st.sampled_from(
    [json.dumps(key) for key in KEYS] + [key for key in KEYS if key and not set(key) & set('."\\')] + ['"é"']
)
FIELDS = st.lists(PARTS, min_size=1, max_size=3).map(".".join)
NAMES = ["0", "1", "2", "é", "'", "x\0y", "x"]
ORDERED = [Operator.GT, Operator.GTE, Operator.LT, Operator.LTE]
COMPARES = st.one_of(
    st.builds(Compare, FIELDS, st.sampled_from([Operator.EQ, Operator.NE, Operator.CONTAINS]), SCALARS),
    st.builds(
        Compare,
        FIELDS,
        st.sampled_from(ORDERED),
        SCALARS.filter(lambda value: _number(value) or isinstance(value, str)),
    ),
    st.builds(Compare, FIELDS, st.sampled_from([Operator.IN, Operator.NOT_IN]), st.lists(SCALARS, max_size=4)),
    st.builds(Compare, FIELDS, st.just(Operator.PREFIX), TEXTS | st.sampled_from(["a", "", "é", "%"])),
)
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    COMPARES, st.builds(Exists, FIELDS), st.builds(Ids, st.lists(st.sampled_from(NAMES), max_size=3).map(tuple))
)


def _filters(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Filter]:
    some = st.lists(inner, max_size=2).map(tuple)
    return st.builds(Filter, some, some, some)


FILTERS = _filters(st.recursive(LEAVES, lambda inner: _filters(inner), max_leaves=4))


def by_sqlite(filter: Filter, documents: Sequence[tuple[str, Document]]) -> set[str]:
    with sqlite3.connect(":memory:") as connection:
        connection.create_function("json_member", 2, member, deterministic=True)
        connection.execute("CREATE TABLE items (id TEXT, metadata TEXT)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", [(name, dump(d)) for name, d in documents])
        found = where(filter)
        rows = connection.execute(f"SELECT id FROM items WHERE {found.sql}", found.values).fetchall()
    connection.close()
    return {name for (name,) in rows}


@settings(unhurried, max_examples=100)
@given(filter=FILTERS, documents=st.lists(DOCUMENTS, min_size=1, max_size=7))
def test_any_filter_is_the_oracles(filter: Filter, documents: list[Document]) -> None:
    """Any filter on any metadata keeps what the table in filters.py says: nested, unicode, null, huge integers."""
    named = list(zip(NAMES, documents, strict=False))
    assert by_sqlite(filter, named) == {name for name, document in named if fits(filter, name, document)}


@settings(unhurried, max_examples=150)
@given(condition=COMPARES, value=VALUES)
def test_a_condition_on_its_own_value_is_the_oracles(condition: Compare, value: Any) -> None:
    """A condition on a document made for it, so that it often holds, keeps what the oracle keeps."""
    document: Any = value
    for key in reversed(_keys(condition.field)):
        document = {key: document}
    for one in (condition, Compare(condition.field, Operator.EQ, "x")):
        assert by_sqlite(Filter((one,)), [("d", document)]) == ({"d"} if fits(one, "d", document) else set())


@given(FILTERS, st.lists(DOCUMENTS, min_size=1, max_size=len(NAMES)))
def test_what_restricts_nothing_fits_everything(filter: Filter, documents: list[Document]) -> None:
    """A filter that is said to restrict nothing fits every document there can be."""
    if unrestricted(filter):
        assert all(fits(filter, name, document) for name, document in zip(NAMES, documents, strict=False))


EMPTY: st.SearchStrategy[Condition] = st.sampled_from(
    [Filter(), Compare("a", Operator.NOT_IN, []), Compare("a", Operator.IN, []), Ids(())],
)


@given(_filters(st.recursive(EMPTY, lambda inner: _filters(inner), max_leaves=6)))
def test_of_conditions_without_content_each_that_fits_everything_is_known(filter: Filter) -> None:
    """Where no condition looks at an item, the filter fits all or nothing, and those that fit all are named."""
    assert bool(unrestricted(filter)) == fits(filter, "x", {"a": 1})


def _edge_conditions(value: Any) -> list[Compare]:
    conditions = [Compare("f", Operator.EQ, value), Compare("f", Operator.NE, value)]
    conditions += [Compare("f", Operator.CONTAINS, value)]
    conditions += [Compare("f", Operator.IN, [value, "other"]), Compare("f", Operator.NOT_IN, [value])]
    if _number(value) or isinstance(value, str):
        conditions += [Compare("f", operator, value) for operator in ORDERED]
    return conditions + ([Compare("f", Operator.PREFIX, value)] if isinstance(value, str) else [])


def test_every_edge_against_every_edge() -> None:
    """Each operator between each two edge values (2^53, 2^63, true, 1, null, unicode), bare and in lists."""
    documents: list[tuple[str, Document]] = [(f"v{n}", {"f": value}) for n, value in enumerate(EDGES)]
    documents += [(f"l{n}", {"f": [value, "z"]}) for n, value in enumerate(EDGES)]
    documents += [("none", {}), ("deep", {"f": {"f": 1}}), ("lists", {"f": [[1], {"f": 1}]})]
    for value in EDGES:
        for condition in _edge_conditions(value):
            expected = {name for name, document in documents if fits(condition, name, document)}
            assert by_sqlite(Filter((condition,)), documents) == expected, condition


def test_null_and_absent_differ() -> None:
    """A field that is null exists and equals null; one that is absent does neither, and is unequal to everything."""
    documents: list[tuple[str, Document]] = [("null", {"f": None}), ("absent", {}), ("one", {"f": 1})]

    def kept(*must: Condition) -> set[str]:
        return by_sqlite(Filter(must), documents)

    assert kept(Exists("f")) == {"null", "one"}
    assert kept(Compare("f", Operator.EQ, None)) == {"null"}
    assert kept(Compare("f", Operator.NE, None)) == {"absent", "one"}
    assert kept(Compare("f", Operator.NE, 1)) == {"null", "absent"}
    assert kept(Compare("f", Operator.NOT_IN, [])) == {"null", "absent", "one"}
    assert kept(Compare("f", Operator.IN, [])) == set()
    assert kept() == {"null", "absent", "one"}


BAD_FIELDS = ("", ".", "a.", ".a", "a..b", '"a', 'a"b', '"a"b', "a\\b", '"\\x"', '"\\ud800"')


def _nested(levels: int) -> Filter:
    nested = Filter((Exists("a"),))
    for _ in range(levels - 1):
        nested = Filter((nested,))
    return nested


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        *[(Filter((Exists(field),)), "filter.must[0]") for field in BAD_FIELDS],
        (Filter((Exists("a"), Compare("a", Operator.EQ, [1]))), "filter.must[1]"),
        (Filter((), (Compare("a", Operator.EQ, {"b": 1}),)), "filter.should[0]"),
        (Filter((), (), (Compare("a", Operator.IN, "text"),)), "filter.must_not[0]"),
        (Filter((Filter((Compare("a", Operator.PREFIX, 1),)),)), "filter.must[0].must[0]"),
        (Filter((Compare("a", Operator.GT, True),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.LTE, None),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.GT, [1]),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.CONTAINS, [1]),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.EQ, float("nan")),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.IN, [1.0, float("inf")]),)), "filter.must[0]"),
        (Filter((Compare("a", Operator.IN, list(range(100_001))),)), "filter.must[0]"),
        (Filter(tuple([Exists("a")] * 1001)), "filter.must[1000]"),
        (_nested(7), "filter" + ".must[0]" * 6),
    ],
)  # fmt: skip
def test_a_bad_filter_is_refused(filter: Filter, field: str) -> None:
    """A filter that makes no sense, or is too large or deep, is refused by a message that names the condition."""
    with pytest.raises(InvalidArgument) as caught:
        where(filter)
    assert caught.value.reason == "BAD_FILTER"
    assert [name for name, _ in caught.value.violations] == [field]


def test_the_largest_filters_are_answered() -> None:
    """A thousand conditions or values, side by side or six levels deep, are within what SQLite can take."""
    documents: list[tuple[str, Document]] = [(f"{n}", {"a": n}) for n in range(1100)]
    none = tuple(Compare("a", Operator.EQ, -n) for n in range(1, 990))
    assert by_sqlite(Filter(none), documents) == set()
    assert by_sqlite(Filter((), (*none, Compare("a", Operator.EQ, 7))), documents) == {"7"}
    assert by_sqlite(Filter((), (), none), documents) == {name for name, _ in documents}
    some = by_sqlite(Filter((Compare("a", Operator.IN, list(range(900))),)), documents)
    assert some == {str(n) for n in range(900)}
    assert by_sqlite(Filter((Ids(tuple(str(n) for n in range(50_000))),)), documents) == {n for n, _ in documents}
    yes, no = (Compare("a", Operator.GTE, 0),) * 45, (Compare("a", Operator.LT, 0),) * 45
    nested = Filter((Compare("a", Operator.EQ, 7),))
    for _ in range(5):
        nested = Filter(yes, (*no, nested), no)
    assert by_sqlite(nested, documents) == {"7"}


# ---------------------------------------------------------------- the engine's answers


def _documents(count: int, seed: int) -> list[Document]:
    chance = random.Random(seed)
    return [
        {
            "n": number,
            "year": chance.randrange(1990, 2030),
            "lang": chance.choice(["de", "en", "fr", None]),
            "tags": chance.sample(["a", "b", "c", "d"], chance.randrange(4)),
            "author": {"name": chance.choice(["Ann", "Bob", "Änne"]), "age": chance.choice([1, 1.5, True, "1"])},
            **({"file.name": f"{number % 7}.txt"} if chance.random() < 0.5 else {}),
        }
        for number in range(count)
    ]


def _some_filters() -> list[Filter]:
    year, lang, name = "year", "lang", "author.name"
    return [
        Filter(),
        Filter((Compare(year, Operator.GTE, 2010), Compare(year, Operator.LT, 2012))),
        Filter((Compare(lang, Operator.IN, ["de", None]),)),
        Filter((), (Compare(lang, Operator.EQ, "en"), Compare(name, Operator.EQ, "Änne"))),
        Filter((Compare("tags", Operator.CONTAINS, "c"),), (), (Compare("tags", Operator.CONTAINS, "a"),)),
        Filter((Filter((), (Compare(year, Operator.GT, 2020), Exists('"file.name"'))),), (), (Exists("nowhere"),)),
        Filter((Compare('"file.name"', Operator.PREFIX, "3"),)),
        Filter((Compare("author.age", Operator.EQ, 1),)),
        Filter((Compare("author.age", Operator.EQ, True),)),
        Filter((Ids(("i1", "i2", "nobody", "i99")),)),
        Filter((Compare("nowhere", Operator.EQ, 1),)),
    ]  # fmt: skip


def _assert_answers(engine: Engine, filter: Filter, documents: dict[str, Document], matrix: dict[str, Floats]) -> None:
    """Search by graph and exactly, count, and page agree with the oracle about who fits."""
    expected = {name for name, document in documents.items() if fits(filter, name, document)}
    assert engine.count("c", filter) == len(expected)
    paged, token = [], ""
    while True:
        page, token = engine.page("c", token=token, size=97, filter=filter)
        paged += [item.id for item in page]
        if not token:
            break
    assert (len(paged), set(paged)) == (len(expected), expected)
    names = sorted(expected)
    rows = np.array([matrix[name] for name in names], np.float32).reshape(len(names), 8)
    query = vectors(1, 8, seed=77)[0]
    for exact in (True, False):
        for limit in (10, 1000):
            found = engine.search("c", Query(query, limit=limit, filter=filter, exact=exact))
            assert len(found.hits) == min(limit, len(names))
            assert found.complete
            assert set(ids(found)) <= expected
            if found.exact and names:
                best = np.sort(exact_scores(Metric.COSINE, query, rows))[::-1][:limit]
                assert [hit.score for hit in found.hits] == pytest.approx(best, abs=1e-5)
            for hit in found.hits:
                assert json.loads(hit.metadata) == documents[hit.id]
        assert found.exact or not exact


@pytest.mark.parametrize("few", [1_000_000, 200])
def test_search_count_and_page_agree_with_the_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Whatever a filter keeps, search (graph and exact), count and page give it, be matches compared or walked to."""
    monkeypatch.setattr(matches, "_FEW_NUMBERS", few)
    rows = vectors(600, 8)
    documents = {f"i{n}": document for n, document in enumerate(_documents(600, seed=1))}
    matrix = {f"i{n}": rows[n] for n in range(600)}
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(name, matrix[name], dump(documents[name])) for name in documents])
        for some in _some_filters():
            _assert_answers(engine, some, documents, matrix)


@pytest.mark.slow
@pytest.mark.parametrize("few", [1_000_000, 200])
@pytest.mark.parametrize("recent", [5000, 40])
def test_what_is_remembered_is_kept_up_with_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, recent: int
) -> None:
    """Right after inserts, changes of metadata or vector, and deletes, few rows or many, filters are the oracle's."""
    monkeypatch.setattr(matches, "_FEW_NUMBERS", few)
    monkeypatch.setattr(matches, "_MOST_RECENT", recent)
    chance = random.Random(few + recent)
    spare = vectors(3000, 8, seed=3)
    documents: dict[str, Document] = {}
    matrix: dict[str, Floats] = {}
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        filters = _some_filters()[1:7]
        for step in range(24):
            kind = ("insert", "metadata", "delete", "vector")[step % 4] if step else "insert"
            size = 150 if step % 8 == 0 else chance.choice([1, 3, 20])
            old = chance.sample(sorted(documents), min(len(documents), size))
            if kind == "delete":
                engine.delete_vectors("c", old)
                for name in old:
                    del documents[name], matrix[name]
            else:
                names = [f"i{step}-{n}" for n in range(size)] if kind == "insert" else old
                for name, document in zip(names, _documents(len(names), seed=step), strict=True):
                    if kind != "vector":
                        documents[name] = document
                    if kind != "metadata":
                        matrix[name] = spare[chance.randrange(len(spare))]
                engine.upsert("c", [Item(name, matrix[name], dump(documents[name])) for name in names])
            for some in chance.sample(filters, 2):
                _assert_answers(engine, some, documents, matrix)


def test_more_filters_than_are_remembered(tmp_path: Path) -> None:
    """Forty filters in turn, with writes in between, are each answered right."""
    rows = vectors(200, 8)
    documents: dict[str, Document] = {f"i{n}": {"n": n % 40} for n in range(200)}
    matrix = {f"i{n}": rows[n] for n in range(200)}
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(name, matrix[name], dump(documents[name])) for name in documents])
        for turn in range(2):
            for n in range(40):
                if n % 8 == turn:
                    documents["i0"] = {"n": n}
                    engine.upsert("c", [Item("i0", matrix["i0"], dump(documents["i0"]))])
                wanted = [name for name, document in documents.items() if document["n"] == n]
                equal = Filter((Compare("n", Operator.EQ, n),))
                assert sorted(ids(engine.search("c", Query(rows[0], limit=100, filter=equal)))) == sorted(wanted)


def test_what_is_remembered_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many filters come, what is kept of them takes no more than its bound, the last one aside, and each answer
    is right."""
    rows = vectors(600, 8)
    most = 60_000  # all items take more
    monkeypatch.setattr(matches, "_MOST_BYTES", most)
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(f"i{n}", row, dump({"n": n})) for n, row in enumerate(rows)])
        cache = engine._collections["c"].matches
        kept = []
        for n in range(0, 600, 50):
            least = Filter((Compare("n", Operator.GTE, n),))
            result = engine.search("c", Query(rows[0], limit=1000, filter=least))
            assert sorted(ids(result)) == sorted(f"i{each}" for each in range(n, 600))
            sizes = [each.bytes for each in cache._kept.values()]
            kept.append(len(sizes))
            assert sum(sizes) <= max(most, sizes[-1])
        assert kept[0] == 1
        assert 1 < max(kept) < len(kept)


def test_a_delete_by_filter_deletes_what_fits(tmp_path: Path) -> None:
    """By filter, and by ids with a filter, exactly what the oracle keeps is deleted; a dry run counts the same."""
    rows = vectors(300, 8)
    documents = {f"i{n}": document for n, document in enumerate(_documents(300, seed=5))}
    matrix = {f"i{n}": rows[n] for n in range(300)}
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(name, matrix[name], dump(documents[name])) for name in documents])
        chance = random.Random(8)
        for fitting in _some_filters()[1:9]:
            names = chance.sample(sorted(documents), min(len(documents), 40))
            for some in (names, []):
                gone = {
                    n for n, document in documents.items() if fits(fitting, n, document) and (not some or n in some)
                }
                before = engine.search("c", Query(rows[0])).sequence
                assert engine.delete_vectors("c", some, fitting, dry_run=True) == (len(gone), before)
                assert engine.delete_vectors("c", some, fitting) == (len(gone), before + bool(gone))
                for name in gone:
                    del documents[name], matrix[name]
                _assert_answers(engine, Filter(), documents, matrix)


# ---------------------------------------------------------------- never short


@pytest.mark.parametrize("few", [1_000_000, 1000])
def test_a_filter_never_starves_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Filters that keep 0.1, 1, 10, 50, 99 and 100 %, spread or all far away, fill `limit`, and say how truthfully."""
    monkeypatch.setattr(matches, "_FEW_NUMBERS", few)
    count, dimension = 3000, 12
    rows = vectors(count, dimension)
    query = np.ones(dimension, np.float32)
    far = np.argsort(np.argsort(exact_scores(Metric.COSINE, query, rows)))  # 0 for the farthest
    spread = np.random.default_rng(2).permutation(count)
    with opened(tmp_path) as engine:
        engine.create("c", dimension)
        engine.upsert(
            "c", [Item(f"i{n}", rows[n], dump({"far": int(far[n]), "spread": int(spread[n])})) for n in range(count)]
        )
        for field, rank in (("far", far), ("spread", spread)):
            for kept in (3, 30, 300, 1500, 2970, 3000):
                below = Filter((Compare(field, Operator.LT, kept),))
                inside = np.flatnonzero(rank < kept)
                truth = exact_scores(Metric.COSINE, query, rows[inside])
                for limit, offset in ((1, 0), (10, 0), (100, 0), (1000, 0), (10, 25)):
                    found = engine.search("c", Query(query, limit=limit, offset=offset, filter=below, ef=200))
                    wanted = max(0, min(limit, kept - offset))
                    assert len(set(ids(found))) == len(found.hits) == wanted, (field, kept, limit)
                    assert {int(name[1:]) for name in ids(found)} <= set(inside.tolist())
                    assert found.complete
                    best = [f"i{inside[n]}" for n in np.argsort(-truth)[offset : offset + limit]]
                    right = len(set(best) & set(ids(found))) / len(best) if best else 1
                    assert right == 1 if found.exact else right >= 0.9, (field, kept, limit)


@pytest.mark.slow
def test_a_filtered_search_beside_writes_is_never_wrong(tmp_path: Path) -> None:
    """While items begin and cease to fit, no search shows one whose metadata does not fit, and none is short."""
    rows = vectors(400, 8)
    on = Filter((Compare("on", Operator.EQ, True),))
    stop = threading.Event()
    strange: list[object] = []
    with opened(tmp_path) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(f"i{n}", rows[n], dump({"on": n < 200})) for n in range(400)])

        def search(exact: bool) -> None:
            try:
                while not stop.is_set():
                    found = engine.search("c", Query(rows[0], limit=150, filter=on, exact=exact, with_vectors=True))
                    if len(found.hits) != 150 or any(not json.loads(hit.metadata)["on"] for hit in found.hits):
                        strange.append([(hit.id, hit.metadata) for hit in found.hits])
            except BaseException as error:
                strange.append(error)

        threads = [threading.Thread(target=search, args=(exact,)) for exact in (False, True, False)]
        for thread in threads:
            thread.start()
        chance = random.Random(4)
        for _ in range(150):
            n = chance.randrange(40)  # at most 40 of 200 are off
            engine.upsert("c", [Item(f"i{n}", rows[n], dump({"on": chance.random() < 0.5}))])
        stop.set()
        for thread in threads:
            thread.join()
    assert strange == []
