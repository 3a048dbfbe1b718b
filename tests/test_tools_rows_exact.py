"""custom_data_processing: values stay what they are, sums are right, and no infinity comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import CallerError, InvalidArgument
from tests.rows_calls import column, process, run_text, text_of

BIG = 2**53 + 1


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
