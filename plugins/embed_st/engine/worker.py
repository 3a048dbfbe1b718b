"""A thread for work that takes longer than a hop to it: short work before long, and nobody forever behind. Where the
work is quicker in one piece, what waits is done together."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")

# Work gives way to what comes within so much time for each unit of its size. Ten times as long as a character takes to
# be tokenised: a text of a million lets others pass for ten seconds.
_SECONDS_EACH = 10e-6


class _Waiting(NamedTuple):
    turn: float
    number: int
    future: asyncio.Future[Any]
    work: Callable[..., Any]
    values: tuple[Any, ...]
    size: int
    alike: Hashable


class Worker:
    """`run` from any task; `close` at the end."""

    def __init__(self, name: str, together: int = 0) -> None:
        """`together`: the size up to which work that is alike is done at once; 0, each is done alone."""
        self._name, self._together = name, together
        self._changed = threading.Condition()
        self._queue: list[_Waiting] = []
        self._number = count()
        self._started = self._closed = False

    async def run(self, work: Callable[..., Result], *values: Any, size: int, alike: Hashable = None) -> Result:
        """`work(*values)` in the thread. It is not begun where the task that waits for it is cancelled before.

        `alike`, if not None: `work` makes a list of a list, item by item, and does so for all that gives the same.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            turn = time.monotonic() + size * _SECONDS_EACH
            waiting = _Waiting(turn, next(self._number), future, work, values, size, alike)
            heapq.heappush(self._queue, waiting)
            self._changed.notify()
        return await future

    def close(self) -> None:
        """What still waits is never answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._queue or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                chosen = self._next()
            if chosen:
                _settle(chosen)
            del chosen  # it holds the texts

    def _next(self) -> list[_Waiting]:
        chosen: list[_Waiting] = []
        size = 0
        while self._queue:
            first = self._queue[0]
            if chosen and (first.alike is None or first.alike != chosen[0].alike or size + first.size > self._together):
                break
            heapq.heappop(self._queue)
            if not first.future.cancelled():
                chosen.append(first)
                size += first.size
        return chosen


def _settle(chosen: Sequence[_Waiting]) -> None:
    results: list[Any] = []
    error: Exception | None = None
    first = chosen[0]
    try:
        if len(chosen) == 1:
            results = [first.work(*first.values)]
        else:
            items = [item for waiting in chosen for item in waiting.values[0]]
            made = iter(first.work(items))
            results = [list(islice(made, len(waiting.values[0]))) for waiting in chosen]
    except Exception as raised:
        error = raised

    def settle() -> None:
        for place, waiting in enumerate(chosen):
            if waiting.future.done():
                continue  # cancelled meanwhile
            if error is None:
                waiting.future.set_result(results[place])
            else:
                waiting.future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed
        first.future.get_loop().call_soon_threadsafe(settle)
