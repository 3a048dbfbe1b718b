"""A pytest plugin that takes out whatever is there for speed alone, so that a suite shows that all works without it:

    python -m pytest -p tests.plain tests/test_vector_calls.py

Servers that a test starts as processes of their own keep theirs.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from plugins.vector_hnsw import fast
from plugins.vector_hnsw.engine import Query, SearchResult
from plugins.vector_hnsw.engine.batch import Batched
from plugins.vector_hnsw.engine.pace import Pace
from plugins.vector_hnsw.engine.rows import RowCache
from plugins.vector_hnsw.engine.together import Together
from shared import give_way
from shared.log_writer import Writer
from shared.turns import Bound, Clock

OUT = ("together", "batch", "ahead", "pace", "fast", "rows kept", "give_way", "one timer", "log thread")


def pytest_configure(config: pytest.Config) -> None:
    # Searches go alone, each in a thread; their items are read and packed anew each time, by protobuf.
    Together.search = _search_alone  # type: ignore[method-assign]
    Batched.search_many = lambda self, queries, wait=True: [None] * len(queries)  # type: ignore[method-assign]
    Pace.is_quick = lambda self, looked_at: False  # type: ignore[method-assign]
    fast.register = lambda server, servicer: None
    RowCache._keep = lambda self, rows, generation: None  # type: ignore[method-assign]
    # Long work never pauses, each call has a timer of its own, and a line is written by whoever logs it.
    give_way._WORK = float("inf")
    Clock.add, Clock.remove = _add, _remove  # type: ignore[method-assign]
    Writer.put = _put  # type: ignore[method-assign]


def pytest_report_header() -> str:
    return f"without {', '.join(OUT)}"


async def _search_alone(self: Together, collection: str, query: Query) -> SearchResult | None:
    return self._engine.search_now(collection, query)


_timers: dict[Bound, asyncio.TimerHandle] = {}


def _add(self: Clock, bound: Bound) -> None:
    if self.seconds:
        _timers[bound] = asyncio.get_running_loop().call_later(self.seconds, bound.end)


def _remove(self: Clock, bound: Bound) -> None:
    if timer := _timers.pop(bound, None):
        timer.cancel()


def _put(self: Writer, line: str) -> None:
    os.write(self.descriptor, line.encode("utf-8", "backslashreplace") + b"\n")
