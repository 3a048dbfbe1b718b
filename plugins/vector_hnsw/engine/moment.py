"""A time at which memory and store are the same, for the thread that is in it.

Where an engine that writes has a lock that every write holds, one that reads has this: it stands in the same place.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from shared.errors import Unavailable

PATIENCE = 10.0  # seconds that a call waits for memory to be brought up
_LEAST = 0.1  # seconds that it waits where others have waited for `PATIENCE` already, in vain
_AGAIN = 0.01  # seconds until it looks again


class Moment:
    """Within, memory is the store as it is at one time, and this thread reads the store as of then. One thread at a
    time; the one that is in it may enter again.

    Raises Unavailable where memory cannot be brought up within `PATIENCE`, and soon where it could not be for so long:
    calls that come after each other for a thread would else wait one after the other.
    """

    def __init__(self, begin: Callable[[ExitStack, bool, bool], bool]) -> None:
        """`begin` pins the store and brings memory up; False where that would take long, and is asked for in a call
        (the first True), unless it is the rest of what others have brought up since that call began (the second)."""
        self._begin = begin
        self._shut_since: float | None = None  # when somebody came whom nobody has followed in yet
        self._round_began = 0.0  # the last in which a thread without a call has brought memory up
        self._lock = threading.Lock()
        self._pin = ExitStack()
        self._here = threading.local()
        self.is_wanted = threading.Event()  # what would take long is waited for

    @property
    def is_now(self) -> bool:
        """Whether this thread is in it."""
        return bool(getattr(self._here, "depth", 0))

    @contextmanager
    def in_a_call(self) -> Iterator[None]:
        """Within, this thread has somebody waiting: it waits for `PATIENCE` in all, and leaves what takes long to
        others, but for the rest: who goes on writing would keep it waiting for ever."""
        if self._patience is not None:
            yield
            return
        self._here.patience, self._here.since = PATIENCE, time.monotonic()
        try:
            yield
        finally:
            self._here.patience = None

    @property
    def _patience(self) -> float | None:
        """Seconds that the call of this thread may still wait; None outside of one."""
        patience: float | None = getattr(self._here, "patience", None)
        return patience

    def __enter__(self) -> None:
        if self.is_now:
            self._here.depth += 1
            return
        began, patience = time.monotonic(), self._patience
        end = began + (PATIENCE if patience is None else patience)
        if self._shut_since is None:
            self._shut_since = began
        elif patience is not None and began > self._shut_since + PATIENCE:
            end = min(end, began + _LEAST)
        try:
            while not self._try(end):
                self.is_wanted.set()
                if time.monotonic() > end:
                    raise behind()
                time.sleep(_AGAIN)
            self._shut_since = None
        finally:
            if patience is not None:
                self._here.patience = max(0.0, end - time.monotonic())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._here.depth -= 1
        if not self._here.depth:
            self._leave()

    def _try(self, end: float) -> bool:
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise behind()
        has_begun, began, in_a_call = False, time.monotonic(), self._patience is not None
        try:
            has_begun = self._begin(self._pin, in_a_call, in_a_call and self._round_began > self._here.since)
            if has_begun:
                self._here.depth = 1
                if not in_a_call:
                    self._round_began = began
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise behind() from None
        finally:
            if not has_begun:
                self._leave()
        return has_begun

    def _leave(self) -> None:
        try:
            self._pin.close()
        finally:
            self._lock.release()


def behind() -> Unavailable:
    return Unavailable(
        "this reader has not taken in yet all that was written; send it again in a moment, or to the writer's port",
        reason="READER_BEHIND",
        retry_after=1.0,
    )
