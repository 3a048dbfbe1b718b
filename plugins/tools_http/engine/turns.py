"""Who gets the next process that becomes free: jobs of one kind in their order, the kinds by turns.

So many long jobs of one kind, such as work on data, keep a page waiting for one of them at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Of things that are used by one at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._free: deque[T] = deque()
        self._waiting: dict[str, deque[asyncio.Future[T]]] = {}  # none is empty; the kind that is next comes first

    def waiting(self, kind: str) -> int:
        return len(self._waiting.get(kind, ()))

    def put(self, thing: T) -> None:
        """It is free."""
        while self._waiting:
            kind = next(iter(self._waiting))
            queue = self._waiting.pop(kind)
            future = queue.popleft()
            if queue:
                self._waiting[kind] = queue
            if not future.done():
                future.set_result(thing)
                return
        self._free.append(thing)

    async def get(self, kind: str) -> T:
        """The next one that is free, for a job of that kind. Cancelled, it takes none."""
        if self._free:
            return self._free.popleft()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._leave(kind, future)
            else:
                self.put(future.result())
            raise

    def _leave(self, kind: str, future: asyncio.Future[T]) -> None:
        queue = self._waiting.get(kind)
        if queue is not None and future in queue:
            queue.remove(future)
            if not queue:
                del self._waiting[kind]
