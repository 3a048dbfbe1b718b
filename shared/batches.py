"""Gives back the memory of each batch of operations that gRPC's core was asked for.

grpc.aio frees what it made for a batch only when the batch has succeeded and somebody still waits for it. A reply whose
client has gone kept some 400 bytes for good, so that strangers could take 4 MB a second by health checks that they did
not wait for; a message that came after its task was cancelled was kept whole. Here each batch that core takes goes to
its end, with somebody who waits or without, unless its call is ended while a message may be coming.

It leans on grpcio's inside: `shared/accept.py` names the versions.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from typing import Any

from grpc._cython import cygrpc

from .under_way import Call, current

Batch = Coroutine[asyncio.Future[None], None, None]  # grpc.aio's own coroutine, which waits for core once

_begin = cygrpc.execute_batch


def go_to_their_end() -> None:
    """From here on, for all of grpc.aio in this process."""
    cygrpc.execute_batch = execute_batch


async def execute_batch(state: Any, operations: tuple[Any, ...], loop: Any) -> None:
    """As grpc.aio's own. Where the task that waits is cancelled, a batch that core has taken goes on until core is done
    with it, or until the call is dropped."""
    batch: Batch = _begin(state, operations, loop)
    future = batch.send(None)
    future._asyncio_future_blocking = False  # which told that a task would wait for it
    try:
        await _done(future)
    except asyncio.CancelledError:
        # A call that is made within one that is served is no part of it.
        call = current.get(None) if isinstance(state, cygrpc.RPCState) else None
        _abandon(call, partial(_let_go, batch, future, operations), batch, future)
        raise
    except Exception:
        _free(batch, future)
        raise
    _resume(batch)


@types.coroutine
def _done(future: asyncio.Future[None]) -> Generator[Any, None, None]:
    yield _Wait(future)


def _abandon(call: Call | None, let_go: Callable[[], None], batch: Batch, future: asyncio.Future[None]) -> None:
    if call is not None and call.dropped:
        let_go()
        return
    if call is not None:
        call.abandoned.append(let_go)
    future.add_done_callback(partial(_ended, batch, call, let_go))


def _ended(batch: Batch, call: Call | None, let_go: Callable[[], None], future: asyncio.Future[None]) -> None:
    if call is not None:
        if let_go not in call.abandoned:
            return  # the call was dropped in the same turn of the loop
        call.abandoned.remove(let_go)
    _free(batch, future)


def _let_go(batch: Batch, future: asyncio.Future[None], operations: tuple[Any, ...]) -> None:
    """Ends the coroutine of a call that is served, and with it its hold on the call's state, before core is done."""
    receives = any(isinstance(operation, cygrpc.ReceiveMessageOperation) for operation in operations)
    if receives and not future.done():
        # Core may be writing the message at this moment. Some 100 bytes are lost, and a message that comes just now.
        batch.close()
    else:
        _free(batch, future)  # core has taken what is sent when the batch began
    _make_anew(future)  # grpc.aio tells a cancelled future nothing
    future.cancel()


def _free(batch: Batch, future: asyncio.Future[None]) -> None:
    """Has the coroutine end as after a success, which is when it frees its memory."""
    _make_anew(future)
    future.set_result(None)
    _resume(batch)


def _make_anew(future: asyncio.Future[None]) -> None:
    """As it was when nothing waited for it and nothing had come."""
    asyncio.Future.__init__(future, loop=future.get_loop())


def _resume(batch: Batch) -> None:
    try:
        batch.send(None)
    except StopIteration:
        return
    raise AssertionError("grpc.aio waits twice in a batch")


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
