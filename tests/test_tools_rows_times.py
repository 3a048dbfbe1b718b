"""time_bucket: hours, days and weeks as a time zone's clock has them, where it jumps too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.rows_calls import process, refusal


def buckets(times: list[Any], **options: Any) -> list[tuple[str | None, int]]:
    result = process([{"t": time} for time in times], "time_bucket", column="t", **options)
    return [(row["bucket"], row["count"]) for row in result]


def every_half_hour(start: str, hours: int) -> list[str]:
    first = datetime.fromisoformat(start)
    return [(first + timedelta(minutes=30 * step)).isoformat() for step in range(2 * hours)]


@pytest.mark.parametrize(
    ("time", "options", "expected"),
    [
        ("2024-05-17T13:47:59.999999Z", {"unit": "minute"}, "2024-05-17T13:47:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "minute", "size": 15}, "2024-05-17T13:45:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "hour"}, "2024-05-17T13:00:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "hour", "size": 6}, "2024-05-17T12:00:00+00:00"),
        ("2024-05-17T23:47:59Z", {"unit": "day", "timezone": "Europe/Berlin"}, "2024-05-18T00:00:00+02:00"),
        ("2024-05-17T13:47:59Z", {"unit": "week"}, "2024-05-13T00:00:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "month"}, "2024-05-01T00:00:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "quarter"}, "2024-04-01T00:00:00+00:00"),
        ("2024-05-17T13:47:59Z", {"unit": "year"}, "2024-01-01T00:00:00+00:00"),
        ("2024-05-17", {"unit": "day", "timezone": "America/New_York"}, "2024-05-17T00:00:00-04:00"),
        ("2024-05-17 13:47", {"unit": "hour", "timezone": "Asia/Kathmandu"}, "2024-05-17T13:00:00+05:45"),
        ("2024-05-17T13:47+05:30", {"unit": "hour"}, "2024-05-17T08:00:00+00:00"),
        ("20240517T134700Z", {"unit": "hour"}, "2024-05-17T13:00:00+00:00"),
        ("2024-W20-5", {"unit": "day"}, "2024-05-17T00:00:00+00:00"),
        (0, {"unit": "day"}, "1970-01-01T00:00:00+00:00"),
        (-1, {"unit": "day"}, "1969-12-31T00:00:00+00:00"),
        (-0.5, {"unit": "day"}, "1969-12-31T00:00:00+00:00"),
        (-1e-7, {"unit": "day"}, "1969-12-31T00:00:00+00:00"),
        (1715953679, {"unit": "minute"}, "2024-05-17T13:47:00+00:00"),
        (59.99999999999999, {"unit": "minute"}, "1970-01-01T00:00:00+00:00"),
        (1715953679000, {"unit": "minute", "epoch_unit": "ms"}, "2024-05-17T13:47:00+00:00"),
        (1715953679000000, {"unit": "minute", "epoch_unit": "us"}, "2024-05-17T13:47:00+00:00"),
        ("0001-01-01T00:00:00Z", {"unit": "week"}, "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59Z", {"unit": "year"}, "9999-01-01T00:00:00+00:00"),
        # A clock that shows 2:30 twice, and one that skips it.
        ("2024-10-27T02:30:00", {"unit": "hour", "timezone": "Europe/Berlin"}, "2024-10-27T02:00:00+02:00"),
        ("2024-03-31T02:30:00", {"unit": "hour", "timezone": "Europe/Berlin"}, "2024-03-31T03:00:00+02:00"),
        # Midnight that a clock skips, and one that it shows twice.
        ("2018-11-04T12:00:00-02:00", {"unit": "day", "timezone": "America/Sao_Paulo"}, "2018-11-04T01:00:00-02:00"),
        ("2024-11-03T12:00:00-05:00", {"unit": "day", "timezone": "America/Havana"}, "2024-11-03T00:00:00-04:00"),
        ("2024-11-03T00:30:00-05:00", {"unit": "day", "timezone": "America/Havana"}, "2024-11-03T00:00:00-04:00"),
    ],
)
def test_buckets(time: Any, options: dict[str, Any], expected: str) -> None:
    """Each unit begins where the zone's clock says, for texts with and without an offset and for numbers since 1970."""
    assert buckets([time], **options) == [(expected, 1)]


def test_days_of_23_and_25_hours() -> None:
    """The day on which clocks go forward has 23 hours, the one on which they go back 25."""
    spring = every_half_hour("2024-03-30T23:00:00+00:00", 48)
    assert buckets(spring, unit="day", timezone="Europe/Berlin")[:2] == [
        ("2024-03-31T00:00:00+01:00", 46),
        ("2024-04-01T00:00:00+02:00", 48),
    ]
    autumn = every_half_hour("2024-10-26T22:00:00+00:00", 49)
    assert buckets(autumn, unit="day", timezone="Europe/Berlin") == [
        ("2024-10-27T00:00:00+02:00", 50),
        ("2024-10-28T00:00:00+01:00", 48),
    ]


def test_an_hour_that_comes_twice_is_two() -> None:
    """The two hours that a clock shows alike are two buckets, in their order."""
    times = every_half_hour("2024-10-27T00:00:00+00:00", 3)
    assert buckets(times, unit="hour", timezone="Europe/Berlin") == [
        ("2024-10-27T02:00:00+02:00", 2),
        ("2024-10-27T02:00:00+01:00", 2),
        ("2024-10-27T03:00:00+01:00", 2),
    ]


@pytest.mark.parametrize(
    ("time", "bucket", "week"),
    [
        ("2024-12-30", "2024-12-30T00:00:00+00:00", "2025-W01"),
        ("2021-01-03", "2020-12-28T00:00:00+00:00", "2020-W53"),
        ("2023-01-01", "2022-12-26T00:00:00+00:00", "2022-W52"),
    ],
)
def test_iso_weeks(time: str, bucket: str, week: str) -> None:
    """A week begins on Monday and has the number and the year of ISO 8601."""
    assert process([{"t": time}], "time_bucket", column="t", unit="week") == [
        {"bucket": bucket, "iso_week": week, "count": 1}
    ]


def test_rows_without_a_time_come_last() -> None:
    """Null and missing times are one bucket, null, after all others; aggregates are as those of groups."""
    data = [{"n": 1}, {"t": None, "n": 2}, {"t": "2024-01-02", "n": 4}, {"t": "2024-01-01", "n": 8}]
    result = process(data, "time_bucket", column="t", unit="day", aggregates=[{"op": "sum", "column": "n", "as": "n"}])
    assert [(row["bucket"], row["n"]) for row in result] == [
        ("2024-01-01T00:00:00+00:00", 8),
        ("2024-01-02T00:00:00+00:00", 4),
        (None, 3),
    ]


@pytest.mark.parametrize(
    "time",
    ["", "yesterday", "2024-13-01", "2024-02-30", "17000000000000000000", "24:00", True, [], {}, 10**30, -(10**30),
     1e300, "2024-01-01T00:00:00+25:00", "x" * 10_000],
    ids=lambda time: str(time)[:20],
)  # fmt: skip
def test_what_is_no_time(time: Any) -> None:
    """What cannot be read as a time is refused by its row, with what can."""
    error = refusal([{"t": 0}, {"t": time}], "time_bucket", column="t", unit="day")
    assert error.reason == "NOT_A_TIME"
    assert error.message.startswith("data[1]: ")
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("time", "options"),
    [
        ("0001-01-01T00:00:00Z", {"unit": "hour", "timezone": "America/New_York"}),
        ("9999-12-31T23:59:59Z", {"unit": "hour", "timezone": "Asia/Tokyo"}),
        ("0001-01-01", {"unit": "day", "timezone": "Asia/Tokyo"}),
    ],
)
def test_times_at_the_ends_of_the_calendar(time: str, options: dict[str, Any]) -> None:
    """A time whose bucket falls out of the years 1 to 9999 is refused."""
    assert refusal([{"t": time}], "time_bucket", column="t", **options).reason == "NOT_A_TIME"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unit": "day", "timezone": "Europe/Belin"}, "nearest is 'Europe/Berlin'"),
        ({"unit": "day", "timezone": "../../etc/passwd"}, "no time zone"),
        ({"unit": "day", "timezone": "/etc/passwd"}, "no time zone"),
        ({"unit": "day", "timezone": ""}, "no time zone"),
        ({"unit": "day", "timezone": "a\x00b"}, "no time zone"),
        ({"unit": "day", "timezone": "Europe"}, "no time zone"),
        ({"unit": "day", "timezone": "x" * 10_000}, "no time zone"),
        ({"unit": "days"}, "nearest is 'day'"),
        ({"unit": "minute", "size": 7}, "does not divide 60"),
        ({"unit": "hour", "size": 5}, "does not divide 24"),
        ({"unit": "day", "size": 2}, "does not divide 1"),
        ({"unit": "day", "epoch_unit": "ns"}, "epoch_unit"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    """Time zones by their names only, and sizes that fit into the hour or the day."""
    assert says in refusal([{"t": 0}], "time_bucket", column="t", **options).message


def test_every_instant_lies_in_its_bucket() -> None:
    """Over a year in steps, no time lies before its bucket's start, and starts grow with times."""
    first = datetime(2024, 1, 1, tzinfo=UTC)
    times = [first + timedelta(minutes=1807 * step) for step in range(290)]
    for zone in ("Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "Pacific/Apia"):
        for unit in ("minute", "hour", "day", "week", "month", "quarter", "year"):
            data = [{"t": time.isoformat()} for time in times]
            aggregates = [{"op": "min", "column": "t", "as": "first"}, {"op": "count"}]
            result = process(data, "time_bucket", column="t", unit=unit, timezone=zone, aggregates=aggregates)
            starts = [datetime.fromisoformat(row["bucket"]) for row in result]
            assert starts == sorted(starts)
            assert sum(row["count"] for row in result) == len(times)
            for row, start in zip(result, starts, strict=True):
                assert start <= datetime.fromisoformat(row["first"])
