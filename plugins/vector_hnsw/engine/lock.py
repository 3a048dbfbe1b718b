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
        self._changed = threading.Condition()
        self._turn = 0  # turns of writing that have ended
        self._readers = 0
        self._writing = False
        self._waiting_readers = 0
        self._waiting_writers = 0
        self._first = 0  # readers who waited through the last turn and go before the next

    @contextmanager
    def read(self, wait: bool = True) -> Iterator[bool]:
        """Yields True inside. Without `wait` it never blocks, and yields False, outside, where it would have to."""
        with self._changed:
            inside = not (self._writing or self._waiting_writers)
            if not inside and wait:
                self._wait_one_turn()
                inside = True
            self._readers += inside
        try:
            yield inside
        finally:
            if inside:
                with self._changed:
                    self._readers -= 1
                    if not self._readers:
                        self._changed.notify_all()

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
