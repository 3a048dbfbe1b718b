"""Writes lines to stderr without ever waiting for a reader: a bounded queue, and a thread that empties it.

A process that is killed loses the lines of its last 10 ms.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable

MOST_LINES = 10_000  # queued at once
MOST_BYTES = 2 * 2**20  # of the queued lines, UTF-8
LONGEST_LINE = 256 * 1024  # bytes, UTF-8; the rest is left out and `cut=true` stands for it
_GATHER_SECONDS = 0.01  # lines of so long are written at once: a write for each would cost more than the lines
_AT_ONCE = 64 * 1024  # bytes in one write
_STEP, _LONGEST_STEP = 0.002, 0.1  # seconds between two looks of `flush`, and how many of them one counts at most


class Writer:
    """The queue, and the thread that writes to `descriptor`. While the queue is full lines are dropped; where they are
    missing stands what `dropped` says of their number."""

    def __init__(self, descriptor: int, dropped: Callable[[int], str]) -> None:
        self.descriptor = descriptor
        self._dropped_line = dropped
        # A signal's handler may log in the midst of a `put`, so the lock is one that its owner can take again.
        self._lock = threading.RLock()
        # A line, and how many lines it stands for: 1, or what the notice of dropped ones says.
        self._queue: collections.deque[tuple[bytes, int]] = collections.deque()
        self._bytes = 0  # queued, or being written
        self._accepted = self._settled = 0  # lines put into the queue, and of these written or given up, so far
        self._dropped = 0
        self._full = self._failing = False
        self._idle = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="logs", daemon=True).start()

    def put(self, line: str) -> None:
        """`line` has no line end."""
        data = line.encode("utf-8", "backslashreplace")
        if len(data) > LONGEST_LINE:
            data = data[:LONGEST_LINE].decode("utf-8", "ignore").encode() + b" cut=true"
        data += b"\n"
        with self._lock:
            if not self._full and (len(self._queue) >= MOST_LINES or self._bytes + len(data) > MOST_BYTES):
                self._full = True
            if self._full:
                self._dropped += 1
                return
            if self._dropped:
                self._append(self._notice(), self._dropped)
                self._dropped = 0
            self._append(data, 1)
            wake, self._idle = self._idle, False
        if wake:
            self._wake.put(None)

    def flush(self, seconds: float) -> None:
        """Returns when what was put so far is written or given up, or after `seconds`. Time in which the whole process
        stood still is none of them: the thread that writes had nothing of it either."""
        with self._lock:
            target = self._accepted
        left, looked = seconds, time.monotonic()
        while (self._settled < target or (self._dropped and not self._failing)) and left > 0:
            time.sleep(_STEP)
            now = time.monotonic()
            left -= min(now - looked, _LONGEST_STEP)
            looked = now

    def _append(self, data: bytes, stands_for: int) -> None:
        self._queue.append((data, stands_for))
        self._bytes += len(data)
        self._accepted += 1

    def _notice(self) -> bytes:
        return self._dropped_line(self._dropped).encode() + b"\n"

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._write(batch)
            else:
                self._wake.get()
            if self._bytes < _AT_ONCE:
                time.sleep(_GATHER_SECONDS)

    def _take(self) -> list[tuple[bytes, int]]:
        """What is to be written next; nothing, and then `put` wakes this thread."""
        with self._lock:
            if not self._queue and self._dropped and not self._failing:
                self._append(self._notice(), self._dropped)
                self._dropped = 0
            batch: list[tuple[bytes, int]] = []
            size = 0
            while self._queue and size < _AT_ONCE:
                batch.append(self._queue.popleft())
                size += len(batch[-1][0])
            self._idle = not batch
            return batch

    def _write(self, batch: list[tuple[bytes, int]]) -> None:
        data = b"".join([data for data, _ in batch])
        left, failed = memoryview(data), False
        while left and not failed:
            try:
                left = left[os.write(self.descriptor, left) :]
            except BlockingIOError:  # somebody else who has this pipe set it so
                time.sleep(_GATHER_SECONDS)
            except OSError:  # nobody can read any more, the disk is full
                failed = True
        with self._lock:
            self._bytes -= len(data)
            self._settled += len(batch)
            self._failing = failed
            if failed:
                self._dropped += sum(stands_for for _, stands_for in batch)
            # Not at once when a line has gone: a slow reader would get as many notices as lines.
            if self._bytes <= MOST_BYTES // 2 and len(self._queue) <= MOST_LINES // 2:
                self._full = False


def own_stderr() -> int:
    """A descriptor of stderr that is the writer's alone."""
    if sys.stderr is None:  # closed when Python started; by now 2 may be anything
        return os.open(os.devnull, os.O_WRONLY)
    return os.dup(2)


def never_wait_for_stderr() -> None:
    """gRPC's core writes to descriptor 2 as well, for instance when a TLS handshake fails, and would wait for a reader.

    Where 2 is a pipe it is opened anew, for this process alone, so that a write which does not fit fails at once.
    Linux only; elsewhere there is no way to open it anew.
    """
    with contextlib.suppress(OSError):
        if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(2).st_mode):
            anew = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK)
            os.dup2(anew, 2)
            os.close(anew)
