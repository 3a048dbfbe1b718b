"""Streams that are reset as soon as they are open, with and without a message."""

from __future__ import annotations

import contextlib
from random import Random

from hyperframe.frame import HeadersFrame, RstStreamFrame

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

IN_A_STEP = 100
STEPS = 50  # on one connection


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            stream = 1
            for _ in range(STEPS):
                block = connection.headers(random.choice(every).path, target.maybe_token(random))
                frames: list[bytes] = []
                for _ in range(IN_A_STEP):
                    headers = HeadersFrame(stream, block, flags=["END_HEADERS"])
                    frames += [headers.serialize(), RstStreamFrame(stream, error_code=8).serialize()]
                    stream += 2
                connection.send(*frames)
                connection.read()
                yield Sent(f"{IN_A_STEP} streams, opened and reset", bytes(connection.sent))
                if connection.ended:
                    break
