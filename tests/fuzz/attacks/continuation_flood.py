"""Header blocks without an end, and blocks that are far larger when decoded than on the wire."""

from __future__ import annotations

import contextlib
from random import Random

from hyperframe.frame import ContinuationFrame, HeadersFrame

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import HEALTH

FRAMES = 50  # in a step


def run(target: Target, random: Random) -> Steps:
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            first = connection.headers(HEALTH, "", [("x-large", "y" * 4_000)])
            connection.send(HeadersFrame(1, first))
            # An index of the table that the first block filled: one byte here, 4 kB at the server; and one of the table
            # that every connection has, whose value is empty, so that more of them are let in.
            literal = connection.headers(HEALTH, "", [("x", "z" * 10_000)])
            piece = random.choice((b"", b"\xbe" * 16_000, b"\x8f" * 16_000, literal))
            for _ in range(random.choice((1, 20))):
                try:
                    connection.send(*[ContinuationFrame(1, piece)] * FRAMES)
                    connection.read()
                except OSError:
                    break
                yield Sent(f"{FRAMES} CONTINUATION frames of {len(piece)} bytes", bytes(connection.sent))
                if connection.ended:
                    break
        yield Sent("closed")
