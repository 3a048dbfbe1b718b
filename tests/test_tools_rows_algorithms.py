"""custom_data_processing: what each algorithm gives, and what it refuses."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from shared.errors import InvalidArgument
from tests.rows_calls import column, facts_of, process, refusal

BIG = 2**53 + 1
SALES = [
    {"region": "EU", "amount": 5},
    {"region": "US", "amount": 7.5},
    {"region": "EU", "amount": None},
    {"region": "EU", "amount": 2},
    {"amount": 1},
]


# filter.


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"column": "a", "op": "eq", "value": 1}, [0, 1]),
        ({"column": "a", "value": 1}, [0, 1]),
        ({"column": "a", "op": "ne", "value": 1}, [2, 3, 4, 5, 6, 7]),
        ({"column": "a", "op": "eq", "value": True}, [2]),
        ({"column": "a", "op": "eq", "value": "1"}, [3]),
        ({"column": "a", "op": "eq", "value": None}, [4]),
        ({"column": "a", "op": "eq", "value": [1, {"b": 1}]}, [6]),
        ({"column": "a", "op": "gt", "value": 0}, [0, 1, 7]),
        ({"column": "a", "op": "gt", "value": 1}, [7]),
        ({"column": "a", "op": "ge", "value": 1}, [0, 1, 7]),
        ({"column": "a", "op": "lt", "value": 1}, []),
        ({"column": "a", "op": "le", "value": 1}, [0, 1]),
        ({"column": "a", "op": "gt", "value": BIG - 1}, [7]),
        ({"column": "a", "op": "ge", "value": BIG + 0.0}, [7]),
        ({"column": "a", "op": "lt", "value": 2}, [0, 1]),
        ({"column": "a", "op": "le", "value": "1"}, [3]),
        ({"column": "a", "op": "in", "value": [1.0, None]}, [0, 1, 4]),
        ({"column": "a", "op": "not_in", "value": [1, None]}, [2, 3, 5, 6, 7]),
        ({"column": "a", "op": "contains", "value": 1.0}, [6]),
        ({"column": "a", "op": "contains", "value": "1"}, [3]),
        ({"column": "a", "op": "contains", "value": {"b": 1}}, [6]),
        ({"column": "a", "op": "contains", "value": True}, []),
        ({"column": "a", "op": "starts_with", "value": "1"}, [3]),
        ({"column": "a", "op": "ends_with", "value": "2"}, []),
        ({"column": "a", "op": "matches", "value": "^[0-9]$"}, [3]),
        ({"column": "a", "op": "is_null"}, [4]),
        ({"column": "a", "op": "is_missing"}, [5]),
        ({"column": "a", "op": "has_value"}, [0, 1, 2, 3, 6, 7]),
        ({"not": {"column": "a", "op": "has_value"}}, [4, 5]),
        ({"and": [{"column": "a", "op": "gt", "value": 0}, {"column": "n", "op": "lt", "value": 1}]}, [0]),
        ({"or": [{"column": "a", "op": "is_null"}, {"not": {"column": "n", "op": "ge", "value": 1}}]}, [0, 4]),
    ],
)
def test_conditions(where: dict[str, Any], expected: list[int]) -> None:
    """Each condition holds for the rows that it should, kinds kept apart and numbers compared exactly."""
    values: list[Any] = [1, 1.0, True, "1", None, ..., [1, {"b": 1}], BIG]
    data = [{"n": n} | ({} if value is ... else {"a": value}) for n, value in enumerate(values)]
    assert column(process(data, "filter", where=where), "n") == expected
    assert facts_of(data, "filter", where=where)["matching_rows"] == len(expected)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({}, "column is required"),
        ({"column": "a", "op": "gt"}, "gt needs a value"),
        ({"column": "a", "op": "is_null", "value": 1}, "takes no value"),
        ({"column": "a", "op": "gt", "value": None}, "needs a number or a text"),
        ({"column": "a", "op": "gt", "value": True}, "needs a number or a text"),
        ({"column": "a", "op": "gt", "value": "1"}, "holds a number"),
        ({"column": "a", "op": "in", "value": 1}, "needs an array"),
        ({"column": "a", "op": "starts_with", "value": 1}, "needs a text"),
        ({"column": "a", "op": "=", "value": 1}, "'eq'"),
        ({"column": "a", "op": ["eq"], "value": 1}, "an array"),
        ({"column": True, "value": 1}, "column is required"),
        ({"field": "a", "value": 1}, "knows no 'field'"),
        ({"and": []}, "an array of conditions"),
        ({"and": {}}, "an array of conditions"),
        ({"and": [1]}, r"and[0] is a number"),
        ({"or": [{"column": "a", "value": 1}], "column": "a"}, "an object of its own"),
        ({"column": "a", "op": "matches", "value": "(?=a)"}, "look-around"),
        ({"column": "a", "op": "matches", "value": r"(a)\1"}, "look-around"),
        ({"column": "a", "op": "matches", "value": "("}, "mistake"),
        ({"column": "a", "op": "matches", "value": "a" * 1001}, "1000 characters"),
        ({"column": "a", "op": "matches", "value": "((a{1000}){1000}){1000}"}, "no regular expression"),
        ({"or": [{"column": "a", "value": n} for n in range(300)]}, "200 conditions"),
    ],
)
def test_wrong_conditions(where: dict[str, Any], says: str) -> None:
    """A condition that means nothing is refused with what it should be."""
    error = refusal([{"a": 1}, {"a": None}], "filter", where=where)
    assert error.reason in ("BAD_ARGUMENTS", "BAD_PATTERN")
    assert says in error.message
    assert error.violations[0][0].startswith("options.where")


def test_deep_conditions() -> None:
    """Conditions nested deeper than twenty are refused."""
    where: dict[str, Any] = {"column": "a", "value": 1}
    for _ in range(21):
        where = {"not": where}
    assert "deeper than 20" in refusal([{"a": 1}], "filter", where=where).message
    assert process([{"a": 1}], "filter", where=where["not"]) == [{"a": 1}]


def test_a_pattern_takes_linear_time() -> None:
    """Patterns that make others backtrack for ages are done with at once."""
    data = [{"a": "a" * 50_000 + "!"}]
    for pattern in (r"^(a+)+$", r"^(a|a)*$", r"^(.*a){20}$"):
        assert process(data, "filter", where={"column": "a", "op": "matches", "value": pattern}) == []


def test_nothing_is_evaluated() -> None:
    """Texts that are code in some language are just texts."""
    for code in ("__import__('os').system('x')", "1 OR 1=1", "{{7*7}}", "${7*7}", "=cmd|'/c calc'!A0"):
        data = [{"a": code, code: 1}]
        assert process(data, "filter", where={"column": "a", "value": code}) == data
        assert process(data, "sort", by=[{"column": code}]) == data


def test_columns_offset_and_limit() -> None:
    """columns, offset and limit choose from what matched, in that order; rows that lack a column go on lacking it."""
    where = {"column": "amount", "op": "has_value"}
    assert process(SALES, "filter", where=where, columns=["amount", "region"], offset=2) == [
        {"amount": 2, "region": "EU"},
        {"amount": 1},
    ]
    assert process([[1, 2], [3]], "sort", by=[{"column": 0, "descending": True}], columns=[1, 0], limit=1) == [
        [None, 3]
    ]
    assert process(SALES, "filter", where=where, limit=0) == []


# sort.


def test_sort_is_stable_both_ways() -> None:
    """Rows that are equal in what is sorted by stay in their order, descending too."""
    data = [{"a": n % 3, "n": n} for n in range(9)]
    assert column(process(data, "sort", by=[{"column": "a"}]), "n") == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    descending = process(data, "sort", by=[{"column": "a", "descending": True}])
    assert column(descending, "n") == [2, 5, 8, 1, 4, 7, 0, 3, 6]


def test_sort_of_mixed_kinds() -> None:
    """Kinds have an order, and null and what is missing come last, descending or not, unless they are wanted first."""
    values: list[Any] = [{"b": 1}, "b", None, 2, True, [2], "a", ..., 1.5, False, [1], 10**30, "B"]
    data = [{"n": n} | ({} if value is ... else {"a": value}) for n, value in enumerate(values)]
    ascending = [9, 4, 8, 3, 11, 12, 6, 1, 10, 5, 0]
    assert column(process(data, "sort", by=[{"column": "a"}]), "n") == [*ascending, 2, 7]
    assert column(process(data, "sort", by=[{"column": "a", "nulls": "first"}]), "n") == [2, 7, *ascending]
    descending = process(data, "sort", by=[{"column": "a", "descending": True}])
    assert column(descending, "n") == [*reversed(ascending), 2, 7]


def test_sort_by_several() -> None:
    """The first column decides, the next ones where it is equal, each in its own direction."""
    data = [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]
    result = process(data, "sort", by=[{"column": "a", "descending": True}, {"column": "b"}])
    assert [(row["a"], row["b"]) for row in result] == [(2, "x"), (2, "y"), (1, "x"), (1, "y")]


# group_aggregate.


def test_aggregates() -> None:
    """Every aggregate of a column, null and missing left out; of nothing, 0 or null."""
    ops = ["count", "sum", "mean", "median", "stdev", "min", "max", "distinct", "first", "last"]
    aggregates = [{"op": op, "column": "amount", "as": op} for op in ops]
    result = process(SALES, "group_aggregate", by=["region"], aggregates=aggregates)
    assert result[0] == {"region": "EU", "count": 2, "sum": 7, "mean": 3.5, "median": 3.5, "stdev": 2.1213203435596424,
                         "min": 2, "max": 5, "distinct": 2, "first": 5, "last": 2}  # fmt: skip
    assert result[1]["stdev"] is None
    assert result[2] == {"count": 1, "sum": 1, "mean": 1, "median": 1, "stdev": None, "min": 1, "max": 1, "distinct": 1,
                         "first": 1, "last": 1}  # fmt: skip
    nothing = process([{"a": None}], "group_aggregate", aggregates=[{"op": op, "column": "a", "as": op} for op in ops])
    assert nothing == [{"count": 0, "sum": 0, "mean": None, "median": None, "stdev": None, "min": None, "max": None,
                        "distinct": 0, "first": None, "last": None}]  # fmt: skip


def test_groups_keep_kinds_apart() -> None:
    """1 and 1.0 are one group, shown as the first; true, "1", null, missing, [1] and [true] are others."""
    values: list[Any] = [1, 1.0, True, "1", None, ..., [1], [1.0], [True], {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    data = [{} if value is ... else {"k": value} for value in values]
    result = process(data, "group_aggregate", by=["k"])
    assert json.dumps(result) == json.dumps(
        [
            {"k": 1, "count": 2},
            {"k": True, "count": 1},
            {"k": "1", "count": 1},
            {"k": None, "count": 1},
            {"count": 1},
            {"k": [1], "count": 2},
            {"k": [True], "count": 1},
            {"k": {"a": 1, "b": 2}, "count": 2},
        ]
    )
    assert json.dumps(process([{"k": 1.0}, {"k": 1}], "group_aggregate", by=["k"])) == '[{"k": 1.0, "count": 2}]'


def test_groups_sorted_and_limited() -> None:
    """The result can be sorted by any of its columns, and cut."""
    data = [{"k": k, "n": n} for n, k in enumerate("abcabca")]
    by = [{"column": "count"}, {"column": "k", "descending": True}]
    result = process(data, "group_aggregate", by=["k"], sort=by, limit=2)
    assert result == [{"k": "c", "count": 2}, {"k": "b", "count": 2}]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"aggregates": [{"op": "sum", "column": "t"}]}, "NOT_A_NUMBER"),
        ({"aggregates": [{"op": "mean", "column": "b"}]}, "NOT_A_NUMBER"),
        ({"aggregates": [{"op": "min", "column": "m"}]}, "NOT_COMPARABLE"),
        ({"aggregates": [{"op": "max", "column": "l"}]}, "NOT_COMPARABLE"),
        ({"by": ["t"], "aggregates": [{"op": "count", "as": "t"}]}, "NAME_TAKEN"),
        ({"aggregates": [{"op": "count"}, {"op": "count"}]}, "NAME_TAKEN"),
    ],
)
def test_what_cannot_be_aggregated(options: dict[str, Any], reason: str) -> None:
    """Texts, true and false are no numbers, mixed kinds have no least one, and two results need two names."""
    data = [{"t": "1", "b": True, "m": 1, "l": [1]}, {"t": "2", "b": False, "m": "1", "l": [2]}]
    assert refusal(data, "group_aggregate", **options).reason == reason


def test_rows_that_are_arrays() -> None:
    """Columns of arrays are positions, also written as a text; short rows lack the last ones."""
    data = [["a", 1], ["b", 2], ["a", 3], ["c"]]
    assert process(data, "group_aggregate", by=[0], aggregates=[{"op": "sum", "column": "1", "as": "sum"}]) == [
        {"0": "a", "sum": 4},
        {"0": "b", "sum": 2},
        {"0": "c", "sum": 0},
    ]
    assert process(data, "describe")["columns"] == ["0", "1"]
    assert process(data, "filter", where={"column": 1, "op": "is_missing"}) == [["c"]]
    for wrong in ("x", -1, 2, "٣", "1" * 30):
        assert refusal(data, "deduplicate", by=[wrong]).reason == "UNKNOWN_COLUMN"


# join.


LEFT = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": None, "v": "c"}, {"v": "d"}]
RIGHT = [{"id": 1.0, "w": "x"}, {"id": 1, "w": "y"}, {"id": 3, "w": "z"}, {"id": None, "w": "n"}, {"w": "m"}]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("inner", [("a", "x"), ("a", "y")]),
        ("left", [("a", "x"), ("a", "y"), ("b", None), ("c", None), ("d", None)]),
        ("right", [("a", "x"), ("a", "y"), (None, "z"), (None, "n"), (None, "m")]),
        (
            "full",
            [("a", "x"), ("a", "y"), ("b", None), ("c", None), ("d", None), (None, "z"), (None, "n"), (None, "m")],
        ),
        ("semi", [("a", None)]),
        ("anti", [("b", None), ("c", None), ("d", None)]),
    ],
)
def test_joins(how: str, expected: list[tuple[Any, Any]]) -> None:
    """Each join gives its matches in order, then what has none; null and missing keys match nothing."""
    result = process(LEFT, "join", right=RIGHT, on=["id"], how=how)
    assert [(row.get("v"), row.get("w")) for row in result] == expected
    assert all("id" not in row or row["id"] != 1 or type(row["id"]) is int for row in result)  # the left's value stands


def test_names_on_both_sides() -> None:
    """A name that both sides have gets a suffix on the right, and one that is taken already is refused."""
    left, right = [{"id": 1, "name": "l"}], [{"key": 1, "name": "r", "id": 9}]
    assert process(left, "join", right=right, left_on=["id"], right_on=["key"]) == [
        {"id": 1, "name": "l", "key": 1, "name_right": "r", "id_right": 9}
    ]
    error = refusal([{"id": 1, "a": 1, "a_right": 2}], "join", right=[{"id": 1, "a": 3}], on=["id"])
    assert "suffix" in error.message
    ok = process([{"id": 1, "a": 1, "a_right": 2}], "join", right=[{"id": 1, "a": 3}], on=["id"], suffix="2")
    assert ok == [{"id": 1, "a": 1, "a_right": 2, "a2": 3}]


def test_joins_of_arrays() -> None:
    """Rows that are arrays are put one after the other, short ones filled with null."""
    left, right = [[1, "a"], [2]], [[1, "x"], [2, "y"], [3, "z"]]
    assert process(left, "join", right=right, on=[0], how="full") == [
        [1, "a", 1, "x"],
        [2, None, 2, "y"],
        [None, None, 3, "z"],
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"right": []},
        {"right": [], "on": ["id"], "left_on": ["id"]},
        {"right": [], "left_on": ["id"], "right_on": ["a", "b"]},
        {"right": "id", "on": ["id"]},
        {"right": [1], "on": ["id"]},
        {"right": [[1]], "on": ["id"]},
        {"on": ["id"]},
    ],
)
def test_wrong_joins(options: dict[str, Any]) -> None:
    """A join without rows, or without columns on both sides, is refused by what is missing."""
    assert isinstance(refusal(LEFT, "join", **options), InvalidArgument)


# deduplicate, histogram, describe, jmespath.


def test_deduplicate() -> None:
    """Of equal rows the first or the last is kept, in order; an object's order does not matter, kinds do."""
    data = [{"a": 1, "b": 2}, {"b": 2, "a": 1.0}, {"a": True, "b": 2}, {"a": 1}, {"a": 1, "b": None}]
    assert json.dumps(process(data, "deduplicate")) == json.dumps([data[0], *data[2:]])
    assert json.dumps(process(data, "deduplicate", keep="last")) == json.dumps(data[1:])
    assert process(data, "deduplicate", by=["b"]) == [data[0], data[3], data[4]]
    assert facts_of(data, "deduplicate")["removed_rows"] == 1


@pytest.mark.parametrize(
    ("values", "options", "edges", "counts"),
    [
        ([1, 1, 1], {}, [1, 1], [3]),
        ([5], {"bins": 3}, [5, 5], [1]),
        ([0, 1, 2, 3, 4], {"bins": 2}, [0, 2, 4], [2, 3]),
        ([0.0, 1.0], {"bins": 4}, [0.0, 0.25, 0.5, 0.75, 1.0], [1, 0, 0, 1]),
        ([BIG, BIG + 1], {"bins": 10}, [BIG, BIG + 1], [2]),
        ([10**400, 10**400 + 4], {"bins": 2}, [10**400, 10**400 + 2, 10**400 + 4], [1, 1]),
        ([1, 2, 3], {"edges": [2, 3]}, [2, 3], [2]),
        ([-5, 0, 5, 9], {"edges": [0, 5, 6]}, [0, 5, 6], [1, 1]),
        ([], {}, [], []),
    ],
)
def test_histograms(values: list[Any], options: dict[str, Any], edges: list[Any], counts: list[int]) -> None:
    """Edges and counts, where all are equal, where there is one, where there is none, and past what doubles hold."""
    data = [{"a": value} for value in values] + [{"a": None}, {"b": 1}]
    if not values:
        data[0] = {"a": None}
    result = process(data, "histogram", column="a", **options)
    bins = result["bins"]
    assert [each["from"] for each in bins] + [each["to"] for each in bins[-1:]] == edges
    assert [each["count"] for each in bins] == counts
    assert (result["values"], result["without_value"]) == (len(values), 2)
    if "edges" in options:
        assert result["below"] == sum(value < edges[0] for value in values)
        assert result["above"] == sum(value > edges[-1] for value in values)


@pytest.mark.parametrize(
    "options", [{"edges": [1, 1]}, {"edges": [2, 1]}, {"edges": [1]}, {"edges": [1, 2], "bins": 2}, {"bins": 0}]
)
def test_wrong_histograms(options: dict[str, Any]) -> None:
    """Edges must grow, and there must be at least two; edges and bins exclude each other."""
    assert refusal([{"a": 1}], "histogram", column="a", **options).reason == "BAD_ARGUMENTS"


def test_describe() -> None:
    """What each column holds is told, of any kind, null and missing counted apart."""
    about = process([*SALES, {"region": 5, "tags": [1]}, {"region": True, "tags": [1]}], "describe")["about"]
    assert about["amount"] == {"count": 4, "null": 1, "missing": 2, "types": {"integer": 3, "number": 1}, "distinct": 4,
                               "min": 1, "max": 7.5, "sum": 15.5, "mean": 3.875, "median": 3.5,
                               "stdev": statistics.stdev([5, 7.5, 2, 1])}  # fmt: skip
    assert about["region"]["types"] == {"text": 4, "integer": 1, "boolean": 1}
    assert about["region"]["most_common"][0] == {"value": "EU", "count": 3}
    assert "min" not in about["region"]
    assert about["tags"]["most_common"] == [{"value": [1], "count": 2}]


def test_jmespath() -> None:
    """An expression gives what JMESPath says, of data of any form, and a wrong one is refused with its place."""
    data = {"a": [{"n": 1, "s": "x"}, {"n": BIG, "s": "y"}]}
    assert process(data, "jmespath", expression=f"a[?n > `{BIG - 1}`].s") == ["y"]
    assert process(data, "jmespath", expression="sum(a[].n)") == BIG + 1
    assert process(None, "jmespath", expression="a") is None
    for expression in ("a[", "foo(@)", "sum(a)", "a" * 5_001, "[" * 2_000, "to_number(a[0].s) > abs(@)"):
        assert isinstance(refusal(data, "jmespath", expression=expression), InvalidArgument)


@pytest.mark.parametrize(("top", "shown"), [({}, 3), ({"top": 0}, 0), ({"top": 1}, 1), ({"top": 5}, 4)])
def test_describe_shows_the_most_common(top: dict[str, int], shown: int) -> None:
    """Of the most common values as many as `top` says, by default three, the most common one first."""
    rows = [{"a": letter} for letter in "bcaabbcbd"]
    about = process(rows, "describe", **top)["about"]["a"]
    expected = [{"value": "b", "count": 4}, {"value": "c", "count": 2}, {"value": "a", "count": 2}]
    expected.append({"value": "d", "count": 1})
    assert about.get("most_common", []) == expected[:shown]
