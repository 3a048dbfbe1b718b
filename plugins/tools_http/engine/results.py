"""Long results, kept once and read on: by the `cursor` of a call, or by the tool `read_result`, which searches too.

Bounded in memory (the results that were used least go first) and in age (counted from the last use). A cursor is a
key of 128 random bits and a place: whoever does not have it cannot guess it, and it opens one result.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidArgument, NotFound

_CURSOR = re.compile(r"([A-Za-z0-9_-]{22})([.~])(\d{1,12})")
READ, SEARCH = ".", "~"  # a cursor of the first kind reads on, of the second it searches on
_OVERHEAD = 1_000  # bytes that a kept result takes besides its text


@dataclass
class Kept:
    """A long result, whole."""

    tool: str
    text: str
    content_type: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    used: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return sys.getsizeof(self.text) + _OVERHEAD

    def cursor(self, place: int, kind: str = READ) -> str:
        return f"{self.key}{kind}{place}"


class Results:
    """All that are kept. Used by the event loop's thread alone."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the one that was used last comes last
        self._most_bytes, self._seconds = most_bytes, seconds
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def bytes(self) -> int:
        return self._bytes

    def keep(self, result: Kept) -> bool:
        """False: it is more than may be kept, and nothing is."""
        if result.size > self._most_bytes or self._seconds <= 0:
            return False
        self._kept[result.key] = result
        self._bytes += result.size
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))
        self._forget_old()
        return True

    def find(self, key: str) -> Kept | None:
        """The result of a cursor's key, if it is still there; it has been used now."""
        self._forget_old()
        result = self._kept.get(key)
        if result is not None:
            self._kept.move_to_end(key)
            result.used = time.monotonic()
        return result

    def at(self, cursor: str, field: str) -> tuple[Kept, str, int]:
        """The result that a cursor opens, the cursor's kind and its place. Raises InvalidArgument and NotFound."""
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise InvalidArgument(
                "the cursor is none of ours; send the next_cursor of a reply as it is",
                reason="BAD_CURSOR",
                field=field,
            )
        result = self.find(match[1])
        if result is None:
            raise NotFound(
                "the result of this cursor is not kept any more; run the tool again, for less if it can be asked for",
                reason="RESULT_NOT_KEPT",
                field=field,
            )
        place = int(match[3])
        if place > len(result.text):
            raise InvalidArgument(
                f"the cursor is past the end of its result of {len(result.text):,} characters; send it as it came",
                reason="BAD_CURSOR",
                field=field,
            )
        return result, match[2], place

    def _forget(self, key: str) -> None:
        self._bytes -= self._kept.pop(key).size

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept and (oldest := next(iter(self._kept.values()))).used + self._seconds <= now:
            self._forget(oldest.key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kept:
            # Memory is given back at its time also where nobody calls any more.
            wait = next(iter(self._kept.values())).used + self._seconds - now
            self._timer = asyncio.get_running_loop().call_later(wait + 0.01, self._forget_old)


def as_json_size(value: Any, most: int) -> int:
    """About how many characters `value` takes as JSON; past `most` it stops counting."""
    size, waiting = 0, [value]
    while waiting and size <= most:
        item = waiting.pop()
        kind = type(item)
        if kind is str:
            size += len(item) + 3
        elif kind is dict:
            size += 2 + 3 * len(item) + sum(map(len, item))
            waiting += item.values()
        elif kind is list:
            size += 2
            waiting += item
        elif kind is int:
            size += item.bit_length() // 3 + 3
        else:
            size += 8
    return size
