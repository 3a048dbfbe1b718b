"""How long a call may take, and how many are under way at once: for a call, and for each message of a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from .errors import DeadlineExceeded, Overloaded
from .places import Places
from .receiving import Held, Receiving

Context = grpc.aio.ServicerContext[Any, Any]


class Late(DeadlineExceeded):
    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the call took longer than this plugin's timeout of {seconds:g} s; send less at once or raise it"
        )


class Limits:
    """One of `max_concurrent` places, for `timeout` at most. A class, since every call pays for it: a generator would
    take longer than the rest of this module."""

    __slots__ = ("_bound", "_places", "_seconds")

    def __init__(self, places: Places, seconds: float) -> None:
        """`seconds`: 0 for no bound."""
        self._places, self._seconds = places, seconds

    async def __aenter__(self) -> None:
        if not self._places.take():
            raise Overloaded(
                f"{self._places.most} calls are under way, which is this plugin's max_concurrent; try again",
                retry_after=1,
            )
        self._bound = asyncio.timeout(self._seconds or None)
        await self._bound.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._places.give_back()
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError:
            raise Late(self._seconds) from None


class Turns:
    """What `Limits` is to a call, to a stream of requests: a place only while a reply is owed, and `timeout` for each
    message and each silence."""

    def __init__(self, places: Places, seconds: float, context: Context, receiving: Receiving) -> None:
        self._places, self._seconds, self._context, self._receiving = places, seconds, context, receiving
        self._owed: deque[int] = deque()  # the sizes of messages that were not replied to

    async def __aenter__(self) -> Turns:
        self._has_place = self._closed = False
        self._held = Held()
        self._bound = asyncio.timeout(self._seconds or None)
        await self._bound.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._closed = True
        self._receiving.let_go(self._held, self._held.bytes)
        self._give_back()
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError:
            raise Late(self._seconds) from None

    async def requests(self) -> AsyncIterator[Any]:
        while True:
            before = self._held.bytes
            # The silence is bounded by the stream's own time limit.
            message = await self._receiving.next(self._context, self._held, 0, is_first=False)
            if message is grpc.aio.EOF:
                return
            self._owed.append(self._held.bytes - before)
            self._again()
            if not self._has_place:
                await self._places.wait()
                self._has_place = True
                if self._closed:  # meanwhile; a servicer may read in a task of its own
                    self._give_back()
            yield message

    def replied(self) -> None:
        """The oldest of the messages that wait for a reply has got it."""
        self._again()
        if self._owed:
            self._receiving.let_go(self._held, self._owed.popleft())
        if not self._owed:
            self._give_back()

    def _again(self) -> None:
        """Time begins anew."""
        if self._seconds:
            self._bound.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def _give_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.give_back()
