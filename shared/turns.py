"""How long a call may take, and how many are under way at once: for a call, and for each message of a stream."""

from __future__ import annotations

import asyncio
import time
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


class Clock:
    """Cancels tasks that take too long. All have the same time, so the oldest is the first to be late and one timer
    does for all: a timer for each call, or message, would take longer than the rest of this module."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: 0 for any number."""
        self.seconds = seconds
        self._running: dict[Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, bound: Bound) -> None:
        self._running[bound] = None
        if self._timer is None and self.seconds:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._look)

    def remove(self, bound: Bound) -> None:
        self._running.pop(bound, None)

    def _look(self) -> None:
        self._timer, now = None, time.monotonic()
        for bound in [*self._running]:
            left = bound.since + self.seconds - now
            if left > 0:
                self._timer = asyncio.get_running_loop().call_later(left, self._look)
                return
            self.remove(bound)
            bound.end()


class Bound:
    """The time of the task that begins it, as the clock has it."""

    __slots__ = ("_cancelling", "_clock", "_is_late", "_task", "since")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def begin(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling, self._is_late = task, task.cancelling(), False
        self.since = time.monotonic()
        self._clock.add(self)

    def again(self) -> None:
        """It begins anew, for the same task."""
        if not self._is_late:
            self._clock.remove(self)  # the clock has them by their beginnings
            self.since = time.monotonic()
            self._clock.add(self)

    def end(self) -> None:
        """The time is over."""
        self._is_late = True
        self._task.cancel()

    def close(self, error: BaseException | None) -> None:
        """What was bounded has ended, with this error. Raises Late where the clock ended it."""
        self._clock.remove(self)
        # As asyncio.timeout does it: somebody else may have cancelled the task as well.
        if self._is_late and self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise Late(self._clock.seconds) from None


class Limits(Bound):
    """One of `max_concurrent` places, for as long as the clock allows. A class, since every call pays for it."""

    __slots__ = ("_places",)

    def __init__(self, places: Places, clock: Clock) -> None:
        super().__init__(clock)
        self._places = places

    def __enter__(self) -> None:
        if not self._places.take():
            raise Overloaded(
                f"{self._places.most} calls are under way, which is this plugin's max_concurrent; try again",
                retry_after=1,
            )
        self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._places.give_back()
        self.close(error)


class Turns:
    """What `Limits` is to a call, to a stream of requests: a place only while a reply is owed, and the clock's time for
    each message and each silence."""

    def __init__(self, places: Places, clock: Clock, context: Context, receiving: Receiving) -> None:
        self._places, self._context, self._receiving = places, context, receiving
        self._bound = Bound(clock)
        self._owed: deque[int] = deque()  # the sizes of messages that were not replied to

    async def __aenter__(self) -> Turns:
        self._has_place = self._closed = False
        self._held = Held()
        self._bound.begin()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._closed = True
        self._receiving.let_go(self._held, self._held.bytes)
        self._give_back()
        self._bound.close(error)

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
                if self._closed:  # meanwhile
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
        if not self._closed:  # a servicer may read in a task of its own
            self._bound.again()

    def _give_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.give_back()
