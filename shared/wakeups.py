"""One turn of the event loop for all that gRPC has to tell at the moment, where grpc.aio takes a turn for each.

gRPC's own thread puts events in a queue and writes a byte to a socket for each. The loop's reader takes one byte and
works off the whole queue; the bytes of the other events wake the loop once more each, for nothing: up to a 20th of a
search's CPU time. Leave this module out and all works.

For a process of one loop. Several with grpc.aio share that socket, and one would take the bytes that wake another.

It leans on grpcio's inside: `shared/accept.py` names the versions.
"""

from __future__ import annotations

import array
import asyncio
import os
import sys
from typing import Any

if sys.platform != "win32":
    import fcntl
    import termios


def gather(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether grpc.aio's reader was found in this loop, the only one; to be called once there is a server."""
    selector: Any = getattr(loop, "_selector", None)
    if sys.platform == "win32" or selector is None:
        return False
    for key in list(selector.get_map().values()):
        reader = key.data[0] if isinstance(key.data, tuple) else None
        callback = getattr(reader, "_callback", None)
        if getattr(getattr(callback, "func", callback), "__name__", "") == "_handle_events":
            loop.add_reader(key.fd, _Reader(key.fd, callback))
            return True
    return False


class _Reader:
    def __init__(self, fd: int, handle: Any) -> None:
        self._fd, self._handle = fd, handle
        self._waiting = array.array("i", [0])

    def __call__(self) -> None:
        fcntl.ioctl(self._fd, termios.FIONREAD, self._waiting)
        if self._waiting[0] > 1:
            # All but the one byte that gRPC's reader takes. Each was written after its event was put in the queue.
            os.read(self._fd, self._waiting[0] - 1)
        self._handle()
