"""Waits for gRPC that can be broken off without a loss of memory.

A coroutine of grpc.aio that is cancelled while it waits for a message never takes it from gRPC's core. If it comes all
the same, since the client cannot be told yet that it is not wanted, its memory is lost for good. So the task that waits
is let go, and gRPC's coroutine goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

from .under_way import Call

T = TypeVar("T")


@types.coroutine
def breakable(call: Call, waiting: Coroutine[Any, None, T]) -> Generator[Any, None, T]:
    """What `waiting` gives. Where the task is cancelled `waiting` is not, but goes on until the call is dropped."""
    while True:
        try:
            future = waiting.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        future._asyncio_future_blocking = False  # which told that a task would wait for it
        try:
            yield _Wait(future)
        except asyncio.CancelledError:
            if call.dropped:
                waiting.close()
            else:
                call.broken_off = waiting
                future.add_done_callback(lambda _: _finish(call, waiting))
            raise
        except Exception:  # noqa: S110 - of the future, which raises it in `waiting` as well
            pass


def _finish(call: Call, waiting: Coroutine[Any, None, Any]) -> None:
    call.broken_off = None
    with contextlib.suppress(Exception, asyncio.CancelledError):
        waiting.send(None)


class _Wait:
    """What a task waits for in place of `future`, with as much of a future as a task needs."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_future")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._asyncio_future_blocking = True
        self._future = future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._future.get_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        self._callback, self._context = callback, context
        self._future.add_done_callback(callback, context=context)

    def cancel(self, msg: object = None) -> bool:
        """The task goes on as if the future had been cancelled."""
        if not self._future.remove_done_callback(self._callback):
            return False  # it is done
        cancelled = self.get_loop().create_future()
        cancelled.add_done_callback(self._callback, context=self._context)
        return cancelled.cancel(msg)
