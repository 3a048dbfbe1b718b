"""Reads the metadata that a call came with, up to bounds.

Until a client acknowledges the server's settings, gRPC takes 16 MiB of metadata a call from it, and not the 16 kB that
they say (`docs/grpcio-unacknowledged-settings.md`). HPACK lets a stranger send that in 4 kB, which took 30 ms of the
event loop to read; in 352 kB there are 352,000 entries, which took 180 ms and 70 MB.

It leans on grpcio's inside: `shared/accept.py` names the versions.
"""

from __future__ import annotations

import threading
from typing import Any

from grpc._cython import cygrpc

from .errors import TooLarge

Metadata = tuple[tuple[str, str | bytes], ...]

MOST_BYTES = 16_384  # as gRPC says in its settings, and as HTTP/2 counts: with 32 for each entry
MOST_ENTRIES = 100  # each takes 3 us; within MOST_BYTES there would be 470
_OVERHEAD = 32
TOO_MUCH = TooLarge(
    f"a call may have {MOST_ENTRIES} entries and {MOST_BYTES} bytes of metadata; send less", reason="METADATA_TOO_LARGE"
)

_entry: Any = getattr(cygrpc, "_Metadatum", None)  # absent where grpcio is another


class _TooMuch(Exception):
    pass


class _Reading(threading.local):
    entries = 0  # that may still come
    left: int | None = None  # bytes that may; None where this thread reads without a bound


_reading = _Reading()


def bound() -> None:
    """Has grpc.aio make its entries here, in all of this process, so that `read` can stop it."""
    cygrpc._Metadatum = _bounded


def read(context: Any) -> Metadata | None:
    """What a call came with; None where that is more than it may."""
    _reading.entries, _reading.left = MOST_ENTRIES, MOST_BYTES
    try:
        metadata: Metadata = context.invocation_metadata()
        return metadata
    except _TooMuch:
        return None
    finally:
        _reading.left = None


def _bounded(key: str, value: str | bytes) -> Any:
    left = _reading.left
    if left is not None:
        _reading.left = left = left - len(key) - len(value) - _OVERHEAD
        _reading.entries = entries = _reading.entries - 1
        if left < 0 or entries < 0:
            raise _TooMuch
    return _entry(key, value)
