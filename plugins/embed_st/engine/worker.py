"""Threads for work that takes longer than a hop to them: short work before long, and nobody forever behind."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")

# Work gives way to what comes within so much time for each unit of its size. Ten times as long as a character takes to
# be tokenised: a text of a million lets others pass for ten seconds.
_SECONDS_EACH = 10e-6


class _Waiting(NamedTuple):
    turn: float
    number: int
    future: asyncio.Future[Any]
    work: Callable[[], object]


class Worker:
    """`run` from any task; `close` at the end."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name, self._threads = name, threads
        self._changed = threading.Condition()
        self._queue: list[_Waiting] = []
        self._number = count()
        self._started = self._closed = False

    async def run(self, work: Callable[..., Result], *values: object, size: int) -> Result:
        """`work(*values)` in a thread. It is not begun where the task that waits for it is cancelled before."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._changed:
            if not self._started:
                self._started = True
                for _ in range(self._threads):
                    threading.Thread(target=self._work, name=self._name, daemon=True).start()
            turn = time.monotonic() + size * _SECONDS_EACH
            heapq.heappush(self._queue, _Waiting(turn, next(self._number), future, partial(work, *values)))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """What still waits is never answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._queue or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                _, _, future, work = heapq.heappop(self._queue)
            if not future.cancelled():
                _settle(future, work)
            del future, work  # they hold the texts


def _settle(future: asyncio.Future[Any], work: Callable[[], object]) -> None:
    result: object = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised

    def settle() -> None:
        if future.done():
            return  # cancelled meanwhile
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed
        future.get_loop().call_soon_threadsafe(settle)
