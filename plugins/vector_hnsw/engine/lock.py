"""Many readers or one writer, and neither keeps the other out for ever.

hnswlib must not be searched while it inserts or grows. Inserts come in short turns, each under this lock; when a
turn ends, the readers that waited go first, then the next turn. The standard library has no such lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting_readers = 0
        self._waiting_writers = 0
        self._first = 0  # readers who waited through the last turn of writing and go before the next

    @property
    def writing(self) -> bool:
        """Whether a reader who came now might have to wait. A hint: it may have changed when you look."""
        return self._writing or self._waiting_writers > 0

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._changed:
            if self._writing or self._waiting_writers:
                self._waiting_readers += 1
                while self._writing or (self._waiting_writers and not self._first):
                    self._changed.wait()
                self._waiting_readers -= 1
                self._first = max(0, self._first - 1)
            self._readers += 1
        try:
            yield
        finally:
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
                self._first = self._waiting_readers
                self._changed.notify_all()
