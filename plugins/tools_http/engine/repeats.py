"""Calls that come again: one that has a `call_id` runs once, and is answered from memory when it is repeated.

What runs belongs to nobody: each caller waits for it, and one that goes takes nothing away from the others. When the
last one goes, a run that may be made again is ended and forgotten. Any other goes on to its end, since nobody could say
whether what it does outside was done: the caller who repeats the call gets its answer. Where there is none, because it
was cut off or had a bug, the repeated call is told just that, and is not run a second time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import CallerError, Code, InvalidArgument, Overloaded, TooLarge, Unavailable

T = TypeVar("T")

_NOT_BEGUN = (Overloaded, Unavailable, TooLarge)  # nothing was done yet


class OutcomeUnknown(CallerError):
    """A call that may not be made twice has ended without an answer."""

    code = Code.ABORTED
    reason = "OUTCOME_UNKNOWN"


@dataclass
class _Entry(Generic[T]):
    digest: bytes
    made: float
    task: asyncio.Task[T] | None = None
    answer: T | None = None
    size: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Run(Generic[T]):
    """What has to be known of a call that may have to run."""

    work: Callable[[], Awaitable[T]]
    size: Callable[[T], int]  # of its answer in bytes
    keep: Callable[[T], bool]  # whether that is the answer also when the call comes again
    repeatable: bool  # to run it twice does no harm


class Repeats(Generic[T]):
    """The answers, and the runs that will give them. Used by the event loop's thread alone."""

    def __init__(self, most: int, most_bytes: int, seconds: float, most_unattended: int = 64) -> None:
        """`most_unattended` runs go on for nobody: of more the oldest is ended, and its outcome is not known."""
        self._most_unattended = most_unattended
        self._unattended: OrderedDict[str, asyncio.Task[T]] = OrderedDict()
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._most, self._most_bytes, self._seconds = most, most_bytes, seconds
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def answer(self, call_id: str, digest: bytes, run: Run[T]) -> tuple[T, bool]:
        """The answer, and whether it is another run's. Raises InvalidArgument where the id was another call's, and
        what the run raises; OutcomeUnknown where that is not known any more."""
        while True:
            self._forget_old()
            entry = self._entries.get(call_id)
            mine = entry is None
            if entry is None:
                entry = self._start(call_id, digest, run)
            elif entry.digest != digest:
                raise InvalidArgument(
                    "call_id was used before for another call; give each call an id of its own, and repeat one only "
                    "with the same tool and arguments",
                    reason="CALL_ID_REUSED",
                    field="call_id",
                )
            if entry.task is None:
                if entry.answer is None:
                    raise OutcomeUnknown(
                        "the first call with this call_id ended without an answer, and what it did is not known; see "
                        "whether it took effect before you call again with another call_id",
                        field="call_id",
                    )
                return entry.answer, True
            try:
                return await self._wait(call_id, entry, run.repeatable), not mine
            except asyncio.CancelledError:
                if not _ended_by_another(entry) or mine:
                    raise
            except Exception:
                # The one that it ran for may have had less time than this one has.
                if mine or not run.repeatable:
                    raise

    def _start(self, call_id: str, digest: bytes, run: Run[T]) -> _Entry[T]:
        entry: _Entry[T] = _Entry(digest, time.monotonic())
        entry.task = asyncio.ensure_future(_as_coroutine(run.work))
        entry.task.add_done_callback(lambda task: self._done(call_id, entry, task, run))
        self._entries[call_id] = entry
        self._make_room()
        return entry

    async def _wait(self, call_id: str, entry: _Entry[T], repeatable: bool) -> T:
        assert entry.task is not None
        entry.waiting += 1
        self._unattended.pop(call_id, None)
        task = entry.task
        try:
            return await asyncio.shield(task)
        finally:
            entry.waiting -= 1
            if not entry.waiting and not task.done():
                if not repeatable:
                    self._leave(call_id, task)
                else:
                    if self._entries.get(call_id) is entry:
                        del self._entries[call_id]
                    task.cancel()

    def _leave(self, call_id: str, task: asyncio.Task[T]) -> None:
        """It goes on for nobody. Callers that come and go would else fill all connections, and no other could call."""
        self._unattended[call_id] = task
        while len(self._unattended) > self._most_unattended:
            self._unattended.popitem(last=False)[1].cancel()

    def _done(self, call_id: str, entry: _Entry[T], task: asyncio.Task[T], run: Run[T]) -> None:
        """Keeps the answer, or that there is none, or nothing."""
        error = None if task.cancelled() else task.exception()
        if self._entries.get(call_id) is not entry:
            return
        self._unattended.pop(call_id, None)
        entry.task = None
        if not task.cancelled() and error is None and run.keep(task.result()):
            entry.answer = task.result()
            entry.size = run.size(entry.answer)
            self._bytes += entry.size
            self._make_room()
        elif run.repeatable or isinstance(error, _NOT_BEGUN) or (error is None and not task.cancelled()):
            del self._entries[call_id]

    def _make_room(self) -> None:
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            oldest = next((call_id for call_id, entry in self._entries.items() if entry.task is None), None)
            if oldest is None:  # all are under way, and of those the server bounds the number
                return
            self._forget(oldest)

    def _forget_old(self) -> None:
        latest = time.monotonic() - self._seconds
        for call_id, entry in list(self._entries.items())[:2]:
            if entry.made <= latest and entry.task is None:
                self._forget(call_id)

    def _forget(self, call_id: str) -> None:
        self._bytes -= self._entries.pop(call_id).size

    def close(self) -> None:
        for entry in self._entries.values():
            if entry.task is not None:
                entry.task.cancel()


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _ended_by_another(entry: _Entry[T]) -> bool:
    """Whether it is the run that was cancelled, and not who waits for it."""
    current = asyncio.current_task()
    return bool(entry.task is None or entry.task.cancelled()) and not (current and current.cancelling())
