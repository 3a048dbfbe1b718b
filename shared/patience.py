"""How long, how many and how large the things may be that wait for somebody else: messages that do not arrive, replies
that are not read. Looked at ten times a second; what is past a bound is ended, the oldest first.

How much a message that has not arrived yet holds is known to gRPC alone. So the growth of the whole process counts
while there are such messages: past `max_held_bytes` those that have waited for a moment are refused, and may be sent
again. A floor that rises slowly, and at once where nothing is won by it, forgives growth that comes from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from . import logs
from .config import BaseConfig
from .errors import DeadlineExceeded, Overloaded
from .under_way import Call, Calls, now

MOST_AWAITED = 1024  # calls whose message has not arrived, idle streams among them
_TICK = 0.1  # seconds
_AT_ONCE = 100  # calls that are ended in one turn of the loop, which takes some 20 ms
_NEXT = 0.02  # seconds until the next ones are
_MOMENT = 0.25  # seconds that a message or reply takes without anybody wondering
_FORGIVEN = 60.0  # seconds in which the process may grow by max_held_bytes beside messages that do not arrive
_NOT_WON = 3.0  # seconds of refusing after which growth that goes on must come from elsewhere
_MANY_CALLS = 200  # a second: more can leave much memory free
_QUIET = (0.5, 3.0, 10.0)  # seconds after many calls, or large ones, after which free memory goes back to the system
_STATM = Path("/proc/self/statm")


class Patience:
    """`watch` runs as long as the server does. One for a server."""

    def __init__(self, calls: Calls, config: BaseConfig) -> None:
        self._calls = calls
        self._most_bytes = config.max_held_bytes
        self._floor = _resident()
        self._looked_at = now()
        self._over_since = 0.0  # since when it has been too much
        self._taken = 0  # calls, so far
        self._trims: list[float] = []  # when there is memory to give back

    async def watch(self) -> None:
        many = False
        while True:
            await asyncio.sleep(_NEXT if many else _TICK)
            many = self.look(now())

    def look(self, at: float) -> bool:
        """Ends what is past its bounds at this moment, or some of it, and then returns True."""
        awaited = [call for call in self._calls if call.awaits_since]
        self._end_the_slow(at, awaited)
        self._refuse(
            awaited[: min(max(0, len(awaited) - MOST_AWAITED), _AT_ONCE)],
            f"more than {MOST_AWAITED} calls had not sent their message yet, and this one had waited longest",
        )
        late = [call for call in awaited if at - call.awaits_since > _MOMENT]
        self._bound_memory(at, late)
        dropped = self._bound_replies(at)
        self._give_back(at, noisy=dropped or self._calls.large or any(call.is_first for call in late))
        self._calls.large = False
        self._looked_at = at
        return len(awaited) - MOST_AWAITED > _AT_ONCE

    def _end_the_slow(self, at: float, awaited: Iterable[Call]) -> None:
        for call in awaited:
            if call.patience and at - call.awaits_since > call.patience:
                call.refuse(
                    DeadlineExceeded(
                        f"no whole message came within the {call.waits_as} of {call.patience:g} s; send it faster",
                        reason="MESSAGE_TIMEOUT",
                    )
                )

    def _bound_memory(self, at: float, late: list[Call]) -> None:
        resident = _resident()
        if not late or resident < self._floor:
            self._floor, self._over_since = resident, 0.0
        elif resident - self._floor <= self._most_bytes:
            forgiven = self._most_bytes * (at - self._looked_at) / _FORGIVEN
            self._floor += min(resident - self._floor, int(forgiven))
            self._over_since = 0.0
        else:
            self._refuse(
                [call for call in late if call.is_first] or late,
                "messages that had not wholly arrived took more memory than the plugin's max_held_bytes",
            )
            self._over_since = self._over_since or at
            if at - self._over_since > _NOT_WON:
                self._floor, self._over_since = resident, 0.0

    def _bound_replies(self, at: float) -> bool:
        """Whether any was dropped."""
        dropped = False
        # Half of what there may be is kept free for those who do read.
        held, most = self._calls.unread_bytes, self._most_bytes // 2
        for call in [call for call in self._calls if call.replies_since]:
            seconds = at - call.replies_since
            if seconds > call.reply_patience or (held > most and seconds > _MOMENT):
                held -= call.reply_bytes
                logs.event("security", level=logging.WARNING, reason="REPLY_NOT_READ", seconds=round(seconds, 1))
                call.drop()
                dropped = True
        return dropped

    def _give_back(self, at: float, noisy: bool) -> None:
        """What calls have left free goes back to the system in quiet moments, since it can take 100 ms. More than once,
        since gRPC itself frees some of it late."""
        taken, self._taken = self._calls.taken - self._taken, self._calls.taken
        if noisy or taken > _MANY_CALLS * (at - self._looked_at):
            self._trims = [at + seconds for seconds in _QUIET]
        elif self._trims and at > self._trims[0]:
            del self._trims[0]
            threading.Thread(target=_trim, name="trim", daemon=True).start()

    def _refuse(self, calls: Iterable[Call], why: str) -> None:
        error = Overloaded(f"{why}; try again", reason="MESSAGES_NOT_ARRIVING", retry_after=1)
        for call in calls:
            call.refuse(error)


def _trim() -> None:
    with contextlib.suppress(AttributeError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Bytes of memory that the process takes; 0 where the system does not say, and then nothing is made of it."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
