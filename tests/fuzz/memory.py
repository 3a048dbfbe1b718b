"""How much memory a plugin takes: its resident set, most while it is attacked, and what stays when all is quiet.

What counts as "back to what it was": a warm-up attacks with every kind, for as long as each later round. What is
resident after a quiet time then is what the plugin needs, with caches filled and the allocator's free pages kept. After
any number of further rounds and an equal quiet time no more than a tenth may have come on top. Both are the least of
several readings. The warm-up may hide no damage of its own: a peak above PEAK at any time is a finding too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PEAK = 3 * 2**29  # bytes above those of the start: 1.5 GiB
GROWTH = 0.10  # most that may be left at the end on top of what there was after the warm-up, as a part of that
EVERY = 0.05  # seconds between two readings


def resident(pid: int) -> int:
    """Bytes; 0 where the process has gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def settled(pid: int, seconds: float, at_most: float = 0.0) -> int:
    """The least that was resident in so many seconds; earlier, as soon as it is `at_most` bytes."""
    least, end = resident(pid), time.monotonic() + seconds
    while time.monotonic() < end and least > at_most:
        time.sleep(EVERY)
        least = min(least, resident(pid))
    return least


class Peak:
    """The most that was resident since the last `take`."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most = pid, 0
        self.stop = threading.Event()

    def take(self) -> int:
        most, self._most = max(self._most, resident(self._pid)), 0
        return most

    def keep_reading(self) -> None:
        while not self.stop.wait(EVERY):
            self._most = max(self._most, resident(self._pid))


@contextlib.contextmanager
def peak(pid: int) -> Iterator[Peak]:
    """Reads the process's memory all the time, until the end of the block."""
    reading = Peak(pid)
    thread = threading.Thread(target=reading.keep_reading, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        reading.stop.set()
        thread.join()
