"""Holds a process to a share of one core, so that an attack shows what it does and not only that it takes CPU time."""

from __future__ import annotations

import threading
import time

BURST = 0.05  # seconds of CPU time that may be used ahead


class Pace:
    def __init__(self, share: float) -> None:
        """`share` of one core, for all threads of this process together, from now on."""
        self._share = share
        self._began = time.monotonic()
        self._used = time.process_time()
        self._turn = threading.Lock()

    def wait(self) -> None:
        """Returns once this process is within its share."""
        with self._turn:  # else all that wait would go on together
            while (ahead := self._ahead()) > 0:
                time.sleep(ahead / self._share)

    def _ahead(self) -> float:
        """Seconds of CPU time that were used and not yet allowed."""
        return time.process_time() - self._used - self._share * (time.monotonic() - self._began) - BURST
