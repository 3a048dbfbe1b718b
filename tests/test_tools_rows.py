"""custom_data_processing: its arguments, its bounds, its schema."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from plugins.tools_http.engine import rows
from plugins.tools_http.engine.rows.algorithms import ALGORITHMS
from plugins.tools_http.engine.rows.tool import PARAMETERS
from shared.errors import InvalidArgument, LimitReached
from tests.rows_calls import process, refusal, run_text, text_of

SALES = [
    {"region": "EU", "amount": 5},
    {"region": "US", "amount": 7.5},
    {"region": "EU", "amount": None},
    {"region": "EU", "amount": 2},
    {"amount": 1},
]


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
        ('{"algorithm": "sort"}', "BAD_ARGUMENTS", "data is required"),
        ('{"data": []}', "BAD_ARGUMENTS", "algorithm is required"),
        ('{"data": [], "algorithm": "group_agregate"}', "BAD_ARGUMENTS", "nearest is 'group_aggregate'"),
        ('{"data": [], "algorithm": 5}', "BAD_ARGUMENTS", "a number"),
        ('{"data": [], "algorithm": "sort", "option": {}}', "BAD_ARGUMENTS", "nearest is 'options'"),
        ('{"data": [], "algorithm": "sort", "options": []}', "BAD_ARGUMENTS", "options is an array"),
        ('{"data": "a,b", "algorithm": "sort", "options": {"by": [{"column": "a"}]}}', "BAD_ARGUMENTS", "parse_csv"),
        ('{"data": [], "algorithm": "parse_csv"}', "BAD_ARGUMENTS", "takes a text"),
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
        ("sort", {}, "options.by", "options.by is missing; it must be a list"),
        ("sort", {"by": [{"colum": "a"}]}, "options.by[0].colum", "nearest is 'column'"),
        ("sort", {"by": [{"column": "a", "nulls": "lost"}]}, "options.by[0].nulls", "nearest is 'last'"),
        (
            "sort",
            {"by": [{"column": "a"}], "limit": "5"},
            "options.limit",
            'limit must be an integer, it is the string "5"',
        ),
        ("sort", {"by": [{"column": "a"}], "limit": -1}, "options.limit", "options.limit must be at least 0, it is -1"),
        ("sort", {"by": []}, "options.by", "options.by must have at least 1 items, it is 0 long"),
        ("group_aggregate", {"agregates": []}, "options.agregates", "nearest is 'aggregates'"),
        ("group_aggregate", {"aggregates": [{"op": "avg"}]}, "options.aggregates[0].op", "nearest is 'mean'"),
        ("filter", {"where": {"column": "a", "op": ">=", "value": 1}}, "options.where.op", "nearest is 'ge'"),
        ("sort", {"by": ["b"]}, "options.by[0]", 'options.by[0] must be an object, it is the string "b"'),
        ("time_bucket", {"column": "a"}, "options.unit", "options.unit is missing; it must be a string and be one of"),
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
    if error.reason == "BAD_ARGUMENTS" and not field.startswith("options.where") and "is of a column" not in says:
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
