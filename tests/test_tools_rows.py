"""custom_data_processing: what each algorithm gives, exactly, and what it refuses."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import statistics
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from plugins.tools_http.engine import rows
from plugins.tools_http.engine.rows.algorithms import ALGORITHMS
from plugins.tools_http.engine.rows.tool import PARAMETERS
from shared.errors import CallerError, InvalidArgument, LimitReached
from tests.rows_calls import facts_of, process, refusal, run_text, text_of

BIG = 2**53 + 1
SALES = [
    {"region": "EU", "amount": 5},
    {"region": "US", "amount": 7.5},
    {"region": "EU", "amount": None},
    {"region": "EU", "amount": 2},
    {"amount": 1},
]


def column(result: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in result]


# The arguments.


@pytest.mark.parametrize(
    ("arguments", "reason", "says"),
    [
        ("", "BAD_JSON", "no JSON"),
        ("[]", "BAD_JSON", "an array"),
        ('{"data": [], "data": [], "algorithm": "sort"}', "BAD_JSON", 'uplicate key "data"'),
        ('{"data": [{"a": 1, "a": 2}], "algorithm": "describe"}', "BAD_JSON", 'uplicate key "a"'),
        ('{"data": [{"a": NaN}], "algorithm": "describe"}', "BAD_JSON", "no JSON"),
        ('{"data": [{"a": Infinity}], "algorithm": "describe"}', "BAD_JSON", "no JSON"),
        ('{"data": ["\\ud800"], "algorithm": "describe"}', "BAD_JSON", "no JSON"),
        ('{"data": ' + "[" * 100_000 + "]" * 100_000 + "}", "BAD_JSON", "recursion"),
        ('{"data": [{"a": ' + "1" * 5_000 + '}], "algorithm": "describe"}', "BAD_JSON", "out of range"),
        ('{"algorithm": "sort"}', "INVALID_ARGUMENT", "data is required"),
        ('{"data": []}', "INVALID_ARGUMENT", "algorithm is required"),
        ('{"data": [], "algorithm": "group_agregate"}', "INVALID_ARGUMENT", "nearest is 'group_aggregate'"),
        ('{"data": [], "algorithm": 5}', "INVALID_ARGUMENT", "a number"),
        ('{"data": [], "algorithm": "sort", "option": {}}', "INVALID_ARGUMENT", "nearest is 'options'"),
        ('{"data": [], "algorithm": "sort", "options": []}', "INVALID_ARGUMENT", "options is an array"),
        ('{"data": "a,b", "algorithm": "sort", "options": {"by": [{"column": "a"}]}}', "INVALID_ARGUMENT", "parse_csv"),
        ('{"data": [], "algorithm": "parse_csv"}', "INVALID_ARGUMENT", "takes a text"),
        ('{"data": [1], "algorithm": "describe"}', "BAD_ROW", r"data\[0\] is a number"),
        ('{"data": [{}, []], "algorithm": "describe"}', "BAD_ROW", r"data\[1\] is an array"),
        ('{"data": [{}, null], "algorithm": "describe"}', "BAD_ROW", r"data\[1\] is null"),
    ],
)
def test_wrong_arguments(arguments: str, reason: str, says: str) -> None:
    """What is no JSON, says a thing twice, or fits no argument is refused with the place and the remedy."""
    with pytest.raises(InvalidArgument, match=says) as caught:
        run_text(arguments)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("algorithm", "options", "field", "says"),
    [
        ("sort", {}, "options.by", "by is required"),
        ("sort", {"by": [{"colum": "a"}]}, "options.by[0].colum", "nearest is 'column'"),
        ("sort", {"by": [{"column": "a", "nulls": "lost"}]}, "options.by[0].nulls", "nearest is 'last'"),
        ("sort", {"by": [{"column": "a"}], "limit": "5"}, "options.limit", 'not of type "integer"'),
        ("sort", {"by": [{"column": "a"}], "limit": -1}, "options.limit", "less than the minimum"),
        ("sort", {"by": []}, "options.by", "less than 1 item"),
        ("group_aggregate", {"agregates": []}, "options.agregates", "nearest is 'aggregates'"),
        ("group_aggregate", {"aggregates": [{"op": "avg"}]}, "options.aggregates[0].op", "'mean'"),
        ("group_aggregate", {"aggregates": [{"op": "sum"}]}, "options.aggregates[0].column", "sum is of a column"),
        ("parse_csv", {"types": {"a": "int"}}, "options.types.a", "nearest is 'integer'"),
        ("write_jsonl", {"limit": 5}, "options.limit", "knows no 'limit'"),
    ],
)
def test_wrong_options(algorithm: str, options: dict[str, Any], field: str, says: str) -> None:
    """An error about an option names the field, the rule, and the nearest name or what else there is."""
    error = refusal("a\n1" if algorithm == "parse_csv" else [{"a": 1}], algorithm, **options)
    assert says in error.message
    assert field in dict(error.violations)
    if error.reason == "INVALID_OPTION" and "is of a column" not in says:
        assert f"The options of {algorithm}: " in error.message


def test_every_fault_is_named() -> None:
    """One error names all options at fault, so that a model corrects them at once."""
    error = refusal([{"a": 1}], "filter", wher={}, limit=-1, offset="x")
    assert set(dict(error.violations)) == {"options.wher", "options.where", "options.limit", "options.offset"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_column_that_is_not_there_is_told(algorithm: str) -> None:
    """A column that no row has is an error that names the nearest one."""
    options: dict[str, dict[str, Any]] = {
        "describe": {"columns": ["amoun"]},
        "filter": {"where": {"column": "amoun", "op": "gt", "value": 1}},
        "sort": {"by": [{"column": "amoun"}]},
        "group_aggregate": {"by": ["amoun"]},
        "join": {"right": [{"amount": 1}], "on": ["amoun"]},
        "deduplicate": {"by": ["amoun"]},
        "histogram": {"column": "amoun"},
        "time_bucket": {"column": "amoun", "unit": "day"},
        "write_csv": {"columns": ["amoun"]},
    }
    if algorithm in options:
        error = refusal(SALES, algorithm, **options[algorithm])
        assert error.reason == "UNKNOWN_COLUMN"
        assert "nearest is 'amount'" in error.message
    else:
        assert algorithm in ("jmespath", "parse_csv", "parse_jsonl", "write_jsonl")  # which name no column of rows


def test_rows_are_bounded() -> None:
    """More rows than are allowed are refused: in data, in what it is joined with, in text, and in what a join makes."""
    many = [{"a": 1}] * 11
    for error in (
        refusal(many, "describe", most_rows=10),
        refusal([{"a": 1}], "join", most_rows=10, right=many, on=["a"]),
        refusal("a\n" + "1\n" * 11, "parse_csv", most_rows=10),
        refusal("{}\n" * 11, "parse_jsonl", most_rows=10),
        refusal(many[:4], "join", most_rows=10, right=many[:3], on=["a"]),
    ):
        assert isinstance(error, LimitReached)
        assert error.reason == "TOO_MANY_ROWS"
    assert len(process(many[:2], "join", right=many[:5], on=["a"])) == 10


def test_an_explosion_is_counted_before_it_is_made() -> None:
    """A join that would make a hundred million rows is refused and makes none."""
    error = refusal([{"a": 1}] * 10_000, "join", right=[{"a": 1}] * 10_000, on=["a"])
    assert "100000000 rows" in error.message


@pytest.mark.parametrize("algorithm", [name for name, each in ALGORITHMS.items() if each.takes == "rows"])
def test_no_rows(algorithm: str) -> None:
    """Of no rows every algorithm makes a result, whatever columns are named."""
    options: dict[str, dict[str, Any]] = {
        "filter": {"where": {"column": "a", "op": "gt", "value": 1}, "columns": ["a"]},
        "sort": {"by": [{"column": "a"}]},
        "join": {"right": [{"b": 1}], "on": ["b"]},
        "histogram": {"column": "a"},
        "time_bucket": {"column": "a", "unit": "day"},
        "write_csv": {"columns": ["a"]},
    }
    expected: dict[str, Any] = {
        "describe": {"rows": 0, "columns": [], "about": {}},
        "group_aggregate": [{"count": 0}],
        "histogram": {"bins": [], "values": 0, "without_value": 0, "below": 0, "above": 0},
        "write_csv": "a\n",
        "write_jsonl": "",
    }
    text = text_of([], algorithm, options.get(algorithm))
    assert (text if algorithm.startswith("write") else json.loads(text)) == expected.get(algorithm, [])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_example_is_right(algorithm: str) -> None:
    """The example that a model is shown for an algorithm holds to its schema."""
    jsonschema_rs.validator_for(dict(ALGORITHMS[algorithm].options)).validate(dict(ALGORITHMS[algorithm].example))


def test_the_tools_schema_is_for_every_model_api() -> None:
    """The schema has no $ref, no union at the top, and names of safe characters; and it tells of every option."""
    assert "$ref" not in json.dumps(PARAMETERS)
    assert not {"anyOf", "oneOf", "allOf", "not"} & PARAMETERS.keys()
    properties = PARAMETERS["properties"]
    assert set(properties) == {"data", "algorithm", "options"}
    assert properties["algorithm"]["enum"] == list(ALGORITHMS)
    for algorithm in ALGORITHMS.values():
        for option in algorithm.options["properties"]:
            assert f"{option} (" in properties["options"]["description"], option


def test_every_algorithm_has_a_file() -> None:
    """An algorithm is a file of its own; its name is the file's, but for jmespath's, which is a library's too."""
    files = {path.stem for path in Path(str(rows.__file__)).parent.glob("*.py")}
    for name in ALGORITHMS:
        assert name in files or f"{name}_query" in files


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(rows.__path__)])
def test_doctests(module: str) -> None:
    """The examples in docstrings are true."""
    assert not doctest.testmod(importlib.import_module(f"{rows.__name__}.{module}")).failed


# Exactness.


VALUES: list[Any] = [
    *("00123", "NA", "1e5", "1.10", "", " x ", "nan", "null", "true", "2024-01-01", "=1+1"),
    *("\ufeff", "\u2028", "\r\n", "\x00", BIG, -BIG, 2**64, 10**400, 0, -1, 0.1, 1e300, 5e-324),
    *(True, False, None, [], {}, [1, [None]], {"a": {"b": []}}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_stay_what_they_are(value: Any) -> None:
    """A value comes back as it went in, through everything that hands on rows."""
    data = [{"x": value, "n": 1}, {"n": 2}]
    for result in (
        process(data, "filter", where={"column": "n", "op": "ge", "value": 1}),
        process(data, "sort", by=[{"column": "n"}]),
        process(data, "deduplicate"),
        process(data, "join", right=[{"n": 1}, {"n": 2}], on=["n"]),
        process([{"n": 1}, {"n": 2}], "join", right=data, on=["n"]),
        process(data, "jmespath", expression="@"),
        process(text_of(data, "write_jsonl"), "parse_jsonl"),
        process(data, "group_aggregate", by=["x", "n"]),
    ):
        assert column(result, "n") == [1, 2]
        assert json.dumps(result[0]["x"]) == json.dumps(value)
        assert "x" not in result[1]


def test_a_column_that_first_comes_in_the_last_row() -> None:
    """Case rows-late-key: a column of the last row alone is there, in describe, in CSV, and to be filtered by."""
    data = [{"a": 1}] * 150 + [{"a": 1, "b": 2}]
    assert process(data, "describe")["columns"] == ["a", "b"]
    assert text_of(data, "write_csv").startswith("a,b\n1,\n")
    assert process(data, "filter", where={"column": "b", "op": "eq", "value": 2}) == data[-1:]


def test_a_sum_past_64_bits() -> None:
    """Case rows-overflow: sums are right past 64 bits, in aggregates and in describe."""
    data = [{"a": 9223372036854775807}, {"a": 1}]
    result = text_of(data, "group_aggregate", {"aggregates": [{"op": "sum", "column": "a", "as": "sum"}]})
    assert '"sum":9223372036854775808' in result
    assert process(data, "describe")["about"]["a"]["sum"] == 9223372036854775808


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1] * 10, 1.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([BIG, 0.5], 9007199254740994.0),
        ([2**70, 0.5, -(2**70)], 0.5),
        ([1e308, 1e308, -1e308], 1e308),
        ([10**400, -(10**400), 2.5], 2.5),
        ([10**400, 1], 10**400 + 1),
        ([1, 2.0], 3.0),
        ([None], 0),
    ],
)
def test_sums(values: list[Any], expected: Any) -> None:
    """A sum is exact of whole numbers, and elsewhere the exact sum rounded once, whatever comes on the way."""
    data = [{"a": value} for value in values]
    (row,) = process(data, "group_aggregate", aggregates=[{"op": "sum", "column": "a"}])
    assert (row["sum_a"], type(row["sum_a"])) == (expected, type(expected))


@pytest.mark.parametrize(
    "aggregate", [{"op": op, "column": "a"} for op in ("sum", "mean", "median", "min", "max", "stdev", "first", "last")]
)
@pytest.mark.parametrize(
    "text", ["[1e400, 1e400]", "[1e308, 1e308, 1e308, 1e309]", f"[{'9' * 4300}, {'9' * 4300}, 1.5]"]
)
def test_no_infinity(aggregate: dict[str, Any], text: str) -> None:
    """A number that JSON cannot hold is an error or whole, and never Infinity or NaN."""
    data = "[" + ", ".join(f'{{"a": {value}}}' for value in text[1:-1].split(", ")) + "]"
    arguments = (
        f'{{"data": {data}, "algorithm": "group_aggregate", "options": {json.dumps({"aggregates": [aggregate]})}}}'
    )
    try:
        result, _ = run_text(arguments)
    except CallerError as error:
        assert error.reason == "NUMBER_TOO_LARGE"  # noqa: PT017 (either is right)
    else:
        assert "Infinity" not in result
        assert "NaN" not in result
        json.loads(result)


def test_infinity_leaves_nowhere() -> None:
    """1e400 is refused by whatever would hand it on or reckon with it."""
    data = '[{"a": 1e400}, {"a": 1}]'
    for algorithm, options in (
        ("sort", {"by": [{"column": "a"}]}),
        ("histogram", {"column": "a"}),
        ("write_csv", {}),
        ("write_jsonl", {}),
        ("describe", {}),
        ("jmespath", {"expression": "[0].a"}),
        ("time_bucket", {"column": "a", "unit": "day"}),
    ):
        with pytest.raises(InvalidArgument):
            run_text(f'{{"data": {data}, "algorithm": "{algorithm}", "options": {json.dumps(options)}}}')
    with pytest.raises(InvalidArgument):
        process([{"a": "nan"}], "jmespath", expression="to_number([0].a)")


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """limit 1.0 is 1, as JSON Schema has it."""
    data = [[1], [2]]
    assert process(data, "sort", by=[{"column": 0.0}], limit=1.0) == [[1]]
    assert process(data, "histogram", column=0.0, bins=1.0)["bins"] == [{"from": 1, "to": 2, "count": 2}]


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
    assert error.reason in ("BAD_CONDITION", "BAD_PATTERN")
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
    assert refusal([{"a": 1}], "histogram", column="a", **options).reason == "INVALID_OPTION"


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
