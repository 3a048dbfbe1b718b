"""Points in time as data has them, and the buckets of a time zone's clock that they fall into."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from shared.errors import InvalidArgument, quoted
from shared.nearest import nearest

from .values import kind_of, shown

EPOCH_UNITS = {"s": 10**6, "ms": 10**3, "us": 1}
"""Units of numbers that count from 1970, and the microseconds of each."""

DIVIDED_BY = {"minute": 60, "hour": 24, "day": 1, "week": 1, "month": 1, "quarter": 1, "year": 1}
"""Units of buckets, and what a size of so many must divide, so that they begin anew every hour or day."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 40  # characters of a time as text


@dataclass(frozen=True)
class Buckets:
    """Buckets of `size` units on the clock of a zone: from what it shows at their start to what it shows at their end.

    A text without an offset is what that clock shows: where it shows a time twice the earlier one is meant, and where
    it skips one, the time with the offset before.
    """

    clock: zoneinfo.ZoneInfo
    unit: str
    size: int
    epoch_unit: str

    def start(self, value: Any, where: str) -> str:
        """The start of a time's bucket, in ISO 8601 with its offset. Raises InvalidArgument for what is no time."""
        try:
            time = self._time(value)
            if time is not None:
                return _STARTS[self.unit](time.replace(microsecond=0, second=0), self.size).isoformat()
        except (ValueError, OverflowError):
            pass
        raise InvalidArgument(
            f"{where}: {shown(value)} is {kind_of(value)} that cannot be read as a time: write ISO 8601 such as "
            "'2024-05-01T12:30:00Z', or a number since 1970 with epoch_unit, in the years 1 to 9999",
            reason="NOT_A_TIME",
            field=where,
        )

    def _time(self, value: Any) -> datetime | None:
        if type(value) is str and len(value) <= _LONGEST:
            time = datetime.fromisoformat(value.strip())
            if time.tzinfo is None:
                time = time.replace(tzinfo=self.clock).astimezone(UTC)
            return time.astimezone(self.clock)
        if type(value) is int or type(value) is float:
            # Fractions, because a double times 10^6 can be rounded up into the next bucket.
            microseconds = int(Fraction(value) * EPOCH_UNITS[self.epoch_unit] // 1)
            return (_EPOCH + timedelta(microseconds=microseconds)).astimezone(self.clock)
        return None


def zone(name: str, option: str) -> zoneinfo.ZoneInfo:
    """The time zone of that name. Raises InvalidArgument where there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = nearest(name, zoneinfo.available_timezones(), 1)
        hint = f"the nearest is {quoted(close[0])}" if close else "they are such as 'Europe/Berlin' or 'UTC'"
        raise InvalidArgument(
            f"{option}: {quoted(name)} is no time zone; {hint}", reason="UNKNOWN_TIME_ZONE", field=option
        ) from None


def _day(time: datetime) -> datetime:
    # Where a clock shows midnight twice, the first; where it skips it, what it shows first on that day.
    return time.replace(hour=0, minute=0, fold=0).astimezone(UTC).astimezone(time.tzinfo)


_STARTS: dict[str, Callable[[datetime, int], datetime]] = {
    # These two keep which of two equal times of the clock it is, its `fold`.
    "minute": lambda time, size: time.replace(minute=time.minute - time.minute % size),
    "hour": lambda time, size: time.replace(minute=0, hour=time.hour - time.hour % size),
    "day": lambda time, _: _day(time),
    "week": lambda time, _: _day(time - timedelta(days=time.weekday())),
    "month": lambda time, _: _day(time.replace(day=1)),
    "quarter": lambda time, _: _day(time.replace(day=1, month=time.month - (time.month - 1) % 3)),
    "year": lambda time, _: _day(time.replace(day=1, month=1)),
}
