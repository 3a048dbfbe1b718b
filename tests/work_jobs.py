"""Jobs for the processes of plugins/tools_http/engine/workers.py: what input can make of a library."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from shared.errors import CallerError, Code, InvalidArgument


def echo(payload: bytes) -> bytes:
    return payload


def own_pid(payload: bytes) -> bytes:
    return b"%d" % os.getpid()


def environment(payload: bytes) -> bytes:
    return repr(dict(os.environ)).encode()


def modules(payload: bytes) -> bytes:
    return ",".join(sys.modules).encode()


def sleep(payload: bytes) -> bytes:
    time.sleep(float(payload))
    return payload


def in_c(payload: bytes) -> bytes:
    """Never ends, and lets no other thread of its process run."""
    return b"%d" % sum(iter(int, 1))


def eat(payload: bytes) -> bytes:
    kept = [bytearray(2**20) for _ in range(int(payload))]
    return b"%d" % len(kept)


def die(payload: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)
    return b""


def leave(payload: bytes) -> bytes:
    os._exit(3)


def panic(payload: bytes) -> bytes:
    raise Panic


class Panic(BaseException):
    """What libraries in Rust raise where they find no memory."""


def fail(payload: bytes) -> bytes:
    raise ValueError(payload.decode())


def refuse(payload: bytes) -> bytes:
    raise InvalidArgument(
        "say what you want", reason="NOT_SAID", field="wanted", metadata={"nearest": payload.decode()}
    )


def refuse_as_other(payload: bytes) -> bytes:
    error = CallerError("x" * 100_000, reason="LONG")
    error.code = Code.OUT_OF_RANGE
    raise error


def deep(payload: bytes) -> bytes:
    return deep(payload)


def chatter(payload: bytes) -> bytes:
    print("this goes nowhere")
    os.write(1, b"nor does this")
    os.write(2, b"or this")
    return b"done"


def write(payload: bytes) -> bytes:
    try:
        Path(payload.decode()).write_bytes(b"x")
    except OSError as error:
        return type(error).__name__.encode()
    return b"written"
