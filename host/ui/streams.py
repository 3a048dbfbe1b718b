"""Work that blocks, beside the event loop; and answers that are sent piece by piece and end when the page goes.

Each piece of work has a thread of its own: one that hangs, as on a plugin that is silent, keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar

from starlette.responses import Response

from host.ui.guard import Receive, Scope, Send
from host.ui.secrets import without_secrets
from shared.visible import visible_json

_AHEAD = 16  # pieces that a thread may be ahead of whoever reads
_MOST_THREADS = 64  # at a time
T = TypeVar("T")
_running = threading.BoundedSemaphore(_MOST_THREADS)


class Busy(Exception):
    """Too much is under way."""


async def in_daemon(work: Callable[[], T]) -> T:
    """The result of `work`, of a thread that keeps nobody waiting once it is not wanted any more. Raises Busy."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # it is raised where it is awaited
            with contextlib.suppress(Exception):
                result.set_exception(error)
        else:
            with contextlib.suppress(Exception):  # nobody waits any more
                result.set_result(value)

    _start(run)
    return await asyncio.wrap_future(result)


@asynccontextmanager
async def held(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """`context`, entered and left in a thread. Raises Busy. Nobody waits until it has been left."""
    entered: Future[T] = Future()
    over = threading.Event()

    def hold() -> None:
        try:
            with context as value:
                entered.set_result(value)
                over.wait()
        except BaseException as error:
            with contextlib.suppress(Exception):  # it was entered, or nobody waits any more
                entered.set_exception(error)

    _start(hold)
    try:
        yield await asyncio.wrap_future(entered)
    finally:
        over.set()


async def pumped(iterate: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    """The items of `iterate()`, which runs in a thread. Raises Busy. Closed early, it is asked for no more of them."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    over = threading.Event()

    def put(item: tuple[T] | BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(items.put_nowait, item)

    def run() -> None:
        try:
            for item in iterate():
                room.acquire()
                if over.is_set():
                    return
                put((item,))
        except BaseException as error:
            put(error)
        else:
            put(None)

    _start(run)
    try:
        while (item := await items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
            room.release()
    finally:
        over.set()
        room.release()


def _start(run: Callable[[], None]) -> None:
    if not _running.acquire(blocking=False):
        raise Busy

    def bounded() -> None:
        try:
            run()
        finally:
            _running.release()

    threading.Thread(target=bounded, name="ui", daemon=True).start()


class Lines(Response):
    """JSON objects, one a line, each sent as it comes. When the page goes, the generator is closed."""

    media_type = "application/x-ndjson"

    def __init__(
        self, items: AsyncGenerator[Mapping[str, Any], None], hide: Callable[[str], str], ending: asyncio.Event
    ) -> None:
        """`ending` is set when the server is about to stop."""
        super().__init__()
        del self.headers["content-length"]
        self._items, self._hide, self._ending = items, hide, ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        going = asyncio.ensure_future(gone(receive, self._ending))
        try:
            await asyncio.wait([sending, going], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            going.cancel()
            sending.cancel()
            await asyncio.gather(going, sending, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._items) as items:
            async for item in items:
                await send(_piece(line(item, self._hide)))


def line(item: Mapping[str, Any], hide: Callable[[str], str]) -> bytes:
    """One line of JSON, without secrets and without what cannot be encoded."""
    return (visible_json(json.dumps(without_secrets(item, hide), ensure_ascii=False)) + "\n").encode()


def _piece(body: bytes) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def gone(receive: Receive, ending: asyncio.Event) -> None:
    """Returns when the page has gone, or the server is about to. The request has been read."""

    async def closed() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    either = [asyncio.ensure_future(closed()), asyncio.ensure_future(ending.wait())]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in either:
            one.cancel()
