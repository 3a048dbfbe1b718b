"""Frames in an order, of a size or on a stream that the protocol does not allow."""

from __future__ import annotations

import contextlib
import struct
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import HEALTH
from tests.fuzz.mutate import mutate

STREAMS = (0, 0, 1, 1, 2, 3, 5, 99, 2**31 - 1)


def run(target: Target, random: Random) -> Steps:
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            if random.random() < 0.7:
                stream = connection.open(HEALTH)
                connection.message(stream, b"", end=random.random() < 0.5)
            for _ in range(random.choice((1, 3, 20))):
                connection.send(_frame(connection, random))
            connection.read(0.002)
            yield Sent("frames", bytes(connection.sent))


def _frame(connection: Connection, random: Random) -> bytes:
    stream = random.choice(STREAMS)
    block = connection.headers(HEALTH)
    word = random.choice((0, 1, 5, 2**31 - 1, 2**32 - 1))
    known = (
        _raw(0, 0, stream, random.randbytes(random.choice((0, 1, 5, 100)))),
        _raw(3, 0, stream, struct.pack(">I", word)),
        _raw(8, 0, stream, struct.pack(">I", word)),
        _raw(2, 0, stream, struct.pack(">IB", stream, 255)),  # depends on itself
        _raw(5, 0x4, stream, struct.pack(">I", 2) + block),  # a promise, which only servers make
        _raw(1, 0x4, stream, block),
        _raw(1, 0x4 | 0x8 | 0x20, stream, b"\xff" + block),  # padded longer than it is
        _raw(9, 0x4, stream, block),  # CONTINUATION of nothing
        _raw(4, 0x1, stream, b"\x00" * 6),  # an acknowledgement with settings in it
        _raw(4, 0, stream, struct.pack(">HI", random.randrange(16), random.randrange(2**32))),
        _raw(6, 0, stream, bytes(random.choice((0, 7, 8, 9)))),
        _raw(7, 0, stream, bytes(8)),
        _raw(random.randrange(256), random.randrange(256), stream, random.randbytes(random.choice((0, 8, 1_000)))),
        _raw(0, 0, stream, bytes(16_385)),
    )
    frame = random.choice(known)
    return mutate(frame, random)[:20_000] if random.random() < 0.3 else frame


def _raw(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body
