"""The algorithms of custom_data_processing again, in plain Python that is written for clarity alone.

Numbers are compared as fractions, and every row with every other.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import jmespath
import pytest

from shared.errors import CallerError
from tests.rows_calls import process, run_text, text_of
from tests.rows_strategies import COLUMNS, Row


def same(one: Any, other: Any) -> bool:
    """JSON's equality: true is no number."""
    return bool(canonical(one) == canonical(other))


def canonical(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return ("constant", str(value))
    if isinstance(value, int | float):
        return ("number", Fraction(value))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, list):
        return ("array", [canonical(each) for each in value])
    return ("object", [(name, canonical(value[name])) for name in sorted(value)])


def rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 0, int(value)
    if isinstance(value, int | float):
        return 1, Fraction(value)
    if isinstance(value, str):
        return 2, [ord(character) for character in value]
    return (3 if isinstance(value, list) else 4), json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )


def expected_sum(numbers: list[Any]) -> Any:
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return CallerError


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except CallerError:
        return CallerError


def exactly(one: Any, other: Any) -> None:
    """Equal as JSON texts: 1 is not 1.0, and names have an order."""
    assert json.dumps(one) == json.dumps(other)


def check_sort(rows: list[Row], by: list[tuple[str, bool, bool]]) -> None:
    """Inserting row by row behind all that are not greater gives the same."""

    def after(one: Row, other: Row) -> bool:
        """Whether `one` must stand after `other`."""
        for column, descending, first in by:
            absent, other_absent = one.get(column) is None, other.get(column) is None
            if absent != other_absent:
                return absent is not first
            if absent:
                continue
            own, others = rank(one[column]), rank(other[column])
            if own != others:
                return (own < others) if descending else (own > others)
        return False

    expected: list[Row] = []
    for row in rows:
        place = len(expected)
        while place and after(expected[place - 1], row):
            place -= 1
        expected.insert(place, row)
    rules = [
        {"column": column, "descending": descending, "nulls": "first" if first else "last"}
        for column, descending, first in by
    ]
    exactly(process(rows, "sort", by=rules), expected)


def holds(row: Row, condition: Row) -> bool:
    if "and" in condition:
        return all(holds(row, each) for each in condition["and"])
    if "or" in condition:
        return any(holds(row, each) for each in condition["or"])
    if "not" in condition:
        return not holds(row, condition["not"])
    has, value = condition["column"] in row, row.get(condition["column"])
    op: str = condition["op"]
    wanted: Any = condition.get("value")
    if op in ("is_null", "is_missing", "has_value"):
        return {"is_null": has and value is None, "is_missing": not has, "has_value": value is not None}[op]
    if op in ("eq", "ne"):
        return (has and same(value, wanted)) is (op == "eq")
    if op in ("in", "not_in"):
        return (has and any(same(value, each) for each in wanted)) is (op == "in")
    if op == "contains" and isinstance(value, list):
        return any(same(each, wanted) for each in value)
    if op in ("contains", "starts_with", "ends_with"):
        if not isinstance(value, str) or not isinstance(wanted, str):
            return False
        place = value.find(wanted) if op != "ends_with" else value.rfind(wanted)
        return {
            "contains": place >= 0,
            "starts_with": place == 0,
            "ends_with": value[len(value) - len(wanted) :] == wanted,
        }[op]
    if rank(value)[0] != rank(wanted)[0] if value is not None else True:
        return False
    own, bound = rank(value)[1], rank(wanted)[1]
    return bool({"gt": own > bound, "ge": own >= bound, "lt": own < bound, "le": own <= bound}[op])


def check_filter(rows: list[Row], condition: Row) -> None:
    """Looking at each row by itself gives the same, unless the condition can hold for no row at all."""
    result = outcome(lambda: process(rows, "filter", where=condition))
    if result is CallerError:
        # A number compared with a column of texts, or the other way round: somewhere in the condition.
        assert any(f'"op": "{op}"' in json.dumps(condition) for op in ("gt", "ge", "lt", "le"))
    else:
        exactly(result, [row for row in rows if holds(row, condition)])


def groups(rows: list[Row], by: list[str]) -> list[list[Row]]:
    """Rows that are equal in `by`, a missing column equal to a missing one only."""
    found: list[list[Row]] = []
    for row in rows:
        for group in found:
            if all((c in row) == (c in group[0]) and (c not in row or same(row[c], group[0][c])) for c in by):
                group.append(row)
                break
        else:
            found.append([row])
    return found


def check_group_aggregate(rows: list[Row], by: list[str]) -> None:
    """Comparing every row with every group, and adding fractions, gives the same."""
    ops = ["count", "sum", "mean", "median", "min", "max", "first", "last"]
    aggregates = [{"op": "count"}, *({"op": op, "column": "n", "as": f"of_{op}"} for op in ops)]
    expected = []
    for group in groups(rows, by) if by else [rows]:
        numbers = [row["n"] for row in group if row.get("n") is not None]
        total, ordered = expected_sum(numbers), sorted(numbers, key=Fraction)
        middle = [ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]] if numbers else []
        expected.append(
            {column: group[0][column] for column in by if column in group[0]}
            | {"count": len(group), "of_count": len(numbers), "of_sum": total}
            | {"of_mean": expected_mean(numbers), "of_median": middle[0] if len(numbers) % 2 else expected_mean(middle)}
            | {"of_min": min(numbers, default=None, key=Fraction), "of_max": max(numbers, default=None, key=Fraction)}
            | {"of_first": numbers[0] if numbers else None, "of_last": numbers[-1] if numbers else None}
        )
    result = outcome(lambda: process(rows, "group_aggregate", by=by, aggregates=aggregates))
    if any(CallerError in row.values() for row in expected):
        assert result is CallerError
    else:
        exactly(result, expected)


def expected_mean(numbers: list[Any]) -> Any:
    if not numbers:
        return None
    total = expected_sum(numbers)
    if isinstance(total, float):
        return total / len(numbers)
    exact = sum(map(Fraction, numbers), Fraction(0)) / len(numbers)
    if exact.denominator == 1 and total is not CallerError:
        return int(exact)
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return CallerError


def check_deduplicate(rows: list[Row], by: list[str] | None, keep: str) -> None:
    """Comparing every row with every other gives the same."""
    columns = list(COLUMNS) if by is None else by
    kept = [group[0 if keep == "first" else -1] for group in groups(rows, columns)]
    options = {"keep": keep} | ({} if by is None else {"by": by})
    exactly(process(rows, "deduplicate", **options), [row for row in rows if any(row is each for each in kept)])


def check_join(left: list[Row], right: list[Row], on: list[str], how: str) -> None:
    """Two loops, one in the other, give the same."""

    def match(one: Row, other: Row) -> bool:
        return all(one.get(c) is not None and other.get(c) is not None and same(one[c], other[c]) for c in on)

    def renamed(row: Row) -> Row:
        return {name if name in on else f"{name}_right": value for name, value in row.items()}

    expected = []
    for row in left:
        matches = [other for other in right if match(row, other)]
        if how in ("semi", "anti"):
            expected += [row] if bool(matches) is (how == "semi") else []
            continue
        expected += [
            row | {name: value for name, value in renamed(other).items() if name not in on} for other in matches
        ]
        expected += [row] if not matches and how in ("left", "full") else []
    if how in ("right", "full"):
        expected += [renamed(other) for other in right if not any(match(row, other) for row in left)]
    exactly(process(left, "join", right=right, on=on, how=how), expected)


def check_histogram(rows: list[Row], options: Row) -> None:
    """The bins that are shown, taken as they are, hold as many values as they say, between edges that are right."""
    values = [row["n"] for row in rows if row.get("n") is not None]
    result = process(rows, "histogram", column="n", **options)
    bins = result["bins"]
    assert (result["values"], result["without_value"]) == (len(values), len(rows) - len(values))
    for number, each in enumerate(bins):
        last = number == len(bins) - 1
        low, high = Fraction(each["from"]), Fraction(each["to"])
        assert each["count"] == sum(low <= value < high or (last and value == high) for value in map(Fraction, values))
        assert low < high or len(bins) == 1
        assert last or each["to"] == bins[number + 1]["from"]
    assert result["below"] + result["above"] + sum(each["count"] for each in bins) == len(values)
    if "edges" in options:
        exactly([each["from"] for each in bins] + [bins[-1]["to"]], options["edges"])
    elif values:
        assert (bins[0]["from"], bins[-1]["to"]) == (min(values, key=Fraction), max(values, key=Fraction))
        assert len(bins) <= options.get("bins", 10)
    else:
        assert bins == []


def check_describe(rows: list[Row]) -> None:
    """Counting by hand gives the same."""
    result = outcome(lambda: process(rows, "describe"))
    columns: list[str] = []
    for row in rows:
        columns += [name for name in row if name not in columns]
    for column in columns:
        values = [row[column] for row in rows if row.get(column) is not None]
        numeric = bool(values) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )
        if result is CallerError:  # some sum, mean or deviation is larger than numbers can be
            assert any(isinstance(row.get(name), float) for row in rows for name in columns)
            return
        about = result["about"][column]
        assert about["count"] == len(values)
        assert about["missing"] == sum(column not in row for row in rows)
        assert about["null"] == len(rows) - about["missing"] - len(values)
        different = groups([{"v": value} for value in values], ["v"])
        assert about["distinct"] == len(different)
        if len(different) < len(values):
            assert about["most_common"][0]["count"] == max(map(len, different))
        assert ("sum" in about) is numeric
        if numeric:
            exactly([about["sum"], about["mean"]], [expected_sum(values), expected_mean(values)])
            exactly([about["min"], about["max"]], [min(values, key=Fraction), max(values, key=Fraction)])
            if len(values) > 1:
                assert math.isclose(about["stdev"], statistics.stdev(map(Fraction, values)), rel_tol=1e-12)
    assert result["columns"] == columns


def check_time_bucket(seconds: list[int], zone: str, unit: str) -> None:
    """What a clock of the zone shows at each time, cut off, gives the same groups."""
    clock = zoneinfo.ZoneInfo(zone)
    times = [(datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).astimezone(clock) for second in seconds]
    seen: dict[Any, int] = {}
    for time in sorted(times, key=lambda time: time.astimezone(UTC)):
        week = time.isocalendar()
        label = {
            "hour": (time.year, time.month, time.day, time.hour, time.fold),
            "day": (time.year, time.month, time.day),
            "week": (week.year, week.week),
            "month": (time.year, time.month),
            "quarter": (time.year, (time.month + 2) // 3),
            "year": time.year,
        }[unit]
        seen[label] = seen.get(label, 0) + 1
    options = {"column": "t", "unit": unit, "timezone": zone}
    for form in ([{"t": time.isoformat()} for time in times], [{"t": time.timestamp()} for time in times]):
        result = process(form, "time_bucket", **options)
        if zone != "Australia/Lord_Howe" or unit != "hour":  # whose clock repeats half an hour
            assert [row["count"] for row in result] == list(seen.values())
        assert sum(row["count"] for row in result) == len(times)


def check_jmespath(data: Any, expression: str) -> None:
    """The library on what Python's json reads gives the same."""
    exactly(process(data, "jmespath", expression=expression), jmespath.search(expression, json.loads(json.dumps(data))))


def check_csv(names: list[str], cells: list[list[str]], delimiter: str, line_end: str) -> None:
    """Python's csv reads what is written, parse_csv reads what Python's csv writes, and each other's."""
    rows = [dict(zip(names, [*record, *names], strict=False)) for record in cells]
    written = (
        text_of(rows, "write_csv", {"delimiter": delimiter, "columns": names, "line_end": line_end}) if rows else ""
    )
    records = [list(row.values()) for row in rows]
    if rows:
        assert list(csv.reader(io.StringIO(written, newline=""), delimiter=delimiter)) == [names, *records]
        exactly(process(written, "parse_csv", delimiter=delimiter), rows)
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([names, *records])
    exactly(process(file.getvalue(), "parse_csv", delimiter=delimiter), rows)


def check_json_lines(rows: list[Row]) -> None:
    """Python's json reads each line that is written, and parse_jsonl what Python's json writes."""
    lines = text_of(rows, "write_jsonl").split("\n")[:-1]
    exactly([json.loads(line) for line in lines], rows)
    exactly(process("\n".join(map(json.dumps, rows)), "parse_jsonl"), rows)


def check_anything(data: Any, algorithm: str, options: Row) -> None:
    """Whatever comes, the answer is a result whose JSON is JSON, or an error of the caller's of one sentence."""
    arguments = json.dumps({"data": data, "algorithm": algorithm, "options": options})
    error = None
    try:
        text, head = run_text(arguments)
    except CallerError as caught:
        error = caught
    if error is not None:
        assert error.message
        assert "\n" not in error.message
        assert len(error.message) < 3_000
    elif head["content_type"] == "application/json":
        json.loads(text, parse_constant=pytest.fail)


def check_any_text(text: str) -> None:
    """Whatever text comes as arguments, or as CSV or JSON Lines, no other error comes of it."""
    for arguments in (text, *(json.dumps({"data": text, "algorithm": name}) for name in ("parse_csv", "parse_jsonl"))):
        outcome(lambda arguments=arguments: run_text(arguments))  # type: ignore[misc]
