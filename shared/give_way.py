"""Long work in threads lets the event loop have its turns.

Python runs one thread at a time. One that computes keeps the others waiting for 5 ms at each of their turns, and a call
takes several turns of the event loop and of gRPC's threads: beside one busy thread an answer of 2 ms takes 50 to 300.
A shorter interval for all (`sys.setswitchinterval`) costs a batch of searches two fifths, so only long work gives way;
and of threads with long work one works at a time, since the pause of one is otherwise used by the next.

A lower priority of the system's for such threads was tried and taken out. Where other processes keep the cores busy, a
thread that waits for a core with the interpreter in its hands keeps everybody waiting: beside callers that list much
and read nothing, searches took 280 ms and health up to 5 s with it, 13 ms and 0.1 s without. And work that lets go of
the interpreter is not done at all: texts of a megabyte were tokenised once a second without it, and not one in 40 with.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WORK = 0.001  # seconds between two pauses
_PAUSE = 0.0001  # seconds; a pause of none lets nobody in, since whoever waits is slower to wake
_SHARE = 0.01  # seconds that a thread works while others with long work wait
_LOOK = 0.001  # seconds between two looks of one that waits
_AWAY = 0.01  # seconds without a pause after which a thread does work without Python, or was not begun by `to_its_end`

_last = threading.local()


class _Turn:
    """Which thread with long work may go on; the threads come one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: dict[int, None] = {}  # threads that wait
        self._thread = 0
        self._since = self._seen = 0.0

    def is_of(self, thread: int, now: float) -> bool:
        with self._lock:
            if thread == self._thread:
                if not self._line or now - self._since < _SHARE:
                    self._seen = now
                    return True
                self._thread = 0
            self._line[thread] = None
            if (self._thread and now - self._seen < _AWAY) or next(iter(self._line)) != thread:
                return False
            del self._line[thread]
            self._thread, self._since, self._seen = thread, now, now
            return True

    def end(self, thread: int) -> None:
        if self._thread == thread:
            with self._lock:
                if self._thread == thread:  # still: others go on past one that seems to be away
                    self._thread = 0


_turn = _Turn()


def give_way() -> None:
    """To be called every 0.1 ms or so of work in a thread; in an event loop, where short work is done, it does nothing.

    Costs 0.2 us, and a tenth of the time of long work.
    """
    now = time.perf_counter()
    if now - getattr(_last, "pause", 0.0) > _WORK and asyncio._get_running_loop() is None:
        time.sleep(_PAUSE)
        while not _turn.is_of(threading.get_ident(), now := time.perf_counter()):
            time.sleep(_LOOK)
        _last.pause = now


def to_its_end(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Calls what may give way, in a thread: others need not wait to find out that its turn is over."""
    try:
        return function(*args, **kwargs)
    finally:
        _turn.end(threading.get_ident())
