"""Many readers or one writer, and neither keeps the other out for ever.

hnswlib must not be searched while it inserts or grows. Inserts come in short turns, each under this lock; when a
turn ends, the readers that waited go first, then the next turn. The standard library has no such lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """A reader waits for one turn of writing at most, a writer for the readers that came before it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._turn = 0  # turns of writing that have ended
        self._readers = 0
        self._writing = False
        self._waiting_readers = 0
        self._waiting_writers = 0
        self._first = 0  # readers who waited through the last turn and go before the next

    def enter(self, wait: bool = True) -> bool:
        """For a reader, who must `leave` if this is True. Without `wait` it never blocks, and is False instead."""
        with self._mutex:
            if self._writing or self._waiting_writers:
                if not wait:
                    return False
                self._wait_one_turn()
            self._readers += 1
            return True

    def leave(self) -> None:
        with self._mutex:
            self._readers -= 1
            if not self._readers and self._waiting_writers:
                self._changed.notify_all()

    @contextmanager
    def read(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._changed:
            self._waiting_writers += 1
            while self._writing or self._readers or self._first:
                self._changed.wait()
            self._waiting_writers -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._turn += 1
                self._first = self._waiting_readers
                self._changed.notify_all()

    def _wait_one_turn(self) -> None:
        came = self._turn
        self._waiting_readers += 1
        while came == self._turn:
            self._changed.wait()
        self._waiting_readers -= 1
        self._first -= 1
