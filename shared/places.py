"""A bounded number of places: a call takes one that is free or is refused, a stream waits its turn."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """Used in one event loop. A place that is given back goes to whoever has waited longest."""

    def __init__(self, most: int) -> None:
        self.most = self._free = most
        self._line: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Whether there was a free one."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Takes a place once there is one."""
        if self.take():
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
