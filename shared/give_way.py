"""Long work in a thread lets the event loop have its turns.

Python runs one thread at a time. One that computes keeps the others waiting for 5 ms at each of their turns, and a call
takes several turns of the event loop and of gRPC's threads: beside one busy thread an answer of 2 ms takes 50 to 300.
A shorter interval for all (`sys.setswitchinterval`) costs a batch of searches two fifths, so only long work gives way.
"""

from __future__ import annotations

import asyncio
import threading
import time

_WORK = 0.001  # seconds between two pauses
_PAUSE = 0.0001  # seconds; a pause of none lets nobody in, since whoever waits is slower to wake

_last = threading.local()


def give_way() -> None:
    """To be called every 0.1 ms or so of work in a thread; in an event loop, where short work is done, it does nothing.

    Costs 0.2 us, and a tenth of the time of long work.
    """
    now = time.perf_counter()
    if now - getattr(_last, "pause", 0.0) > _WORK and asyncio._get_running_loop() is None:
        time.sleep(_PAUSE)
        _last.pause = time.perf_counter()
