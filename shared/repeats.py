"""Calls that come again: one that has a `call_id` runs once, and is answered from memory when it is repeated.

What runs belongs to nobody: each caller waits for it, and one that goes takes nothing away from the others. When the
last one goes, a run that may be made again is ended and forgotten. Any other goes on to its end, since nobody could say
whether what it does outside was done: the caller who repeats the call gets its answer. Where there is none, because it
was cut off or had a bug, the repeated call is told just that, and is not run a second time.

The server's bounds on calls do not see runs that nobody waits for, so they are bounded here: past a bound no run begins
that could become one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import CallerError, Code, InvalidArgument, Overloaded, TooLarge, Unavailable

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
    held: int = 0  # bytes, while it runs
    waiting: int = 0
    outlives: bool = False  # its callers
    is_abandoned: bool = False  # it runs, and nobody waits for it any more


@dataclass(frozen=True)
class Run(Generic[T]):
    """What has to be known of a call that may have to run."""

    work: Callable[[], Awaitable[T]]
    size: Callable[[T], int]  # of its answer in bytes
    keep: Callable[[T], bool]  # whether that is the answer also when the call comes again
    repeatable: bool  # to run it twice does no harm
    held: int = 0  # bytes that it takes while it runs, about


class Repeats(Generic[T]):
    """The answers, and the runs that will give them. Used by the event loop's thread alone."""

    def __init__(self, most: int, most_bytes: int, seconds: float, *, most_runs: int, most_held: int) -> None:
        """At most `most` answers of `most_bytes` are kept, for `seconds`. `most_runs` bounds the runs that may not be
        made again, whether anybody waits for them or not, and `most_held` the bytes of those that nobody waits for."""
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._most, self._most_bytes, self._seconds = most, most_bytes, seconds
        self._most_runs, self._most_held = most_runs, most_held
        self._bytes = 0
        self._runs = 0  # under way, that may not be made again
        self._held = 0  # bytes of those that nobody waits for

    def __len__(self) -> int:
        return len(self._entries)

    async def answer(self, call_id: str, digest: bytes, run: Run[T]) -> tuple[T, bool]:
        """The answer, and whether it is another run's. Raises InvalidArgument where the id was another call's, and
        what the run raises; OutcomeUnknown where that is not known any more; Overloaded, before the run begins, where
        too many go on without a caller."""
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
        entry: _Entry[T] = _Entry(digest, time.monotonic(), held=run.held, outlives=not run.repeatable)
        if entry.outlives:
            if self._runs >= self._most_runs or (self._held and self._held + run.held > self._most_held):
                raise Overloaded(
                    "too many calls with a call_id are still carried out whose callers have gone; nothing was done, "
                    "try again",
                    retry_after=1,
                )
            self._runs += 1
        entry.task = asyncio.ensure_future(_as_coroutine(run.work))
        entry.task.add_done_callback(lambda task: self._done(call_id, entry, task, run))
        self._entries[call_id] = entry
        self._make_room()
        return entry

    async def _wait(self, call_id: str, entry: _Entry[T], repeatable: bool) -> T:
        assert entry.task is not None
        if entry.is_abandoned:
            self._held -= entry.held
            entry.is_abandoned = False
        entry.waiting += 1
        task = entry.task
        try:
            return await asyncio.shield(task)
        finally:
            entry.waiting -= 1
            if not entry.waiting and not task.done():
                if repeatable:
                    if self._entries.get(call_id) is entry:
                        del self._entries[call_id]
                    task.cancel()
                else:
                    entry.is_abandoned = True
                    self._held += entry.held

    def _done(self, call_id: str, entry: _Entry[T], task: asyncio.Task[T], run: Run[T]) -> None:
        """Keeps the answer, or that there is none, or nothing."""
        error = None if task.cancelled() else task.exception()
        if entry.outlives:
            self._runs -= 1
        if entry.is_abandoned:
            self._held -= entry.held
            entry.is_abandoned = False
        if self._entries.get(call_id) is not entry:
            return
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
            if oldest is None:  # all are under way: each has a caller, or is one of `_most_runs`
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
