"""Connections and streams that are opened and then do nothing, as many as there can be."""

from __future__ import annotations

from collections import deque
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

HELD = 300  # connections, the oldest closed for a new one
STREAMS = 200  # at once, on one of them


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    held: deque[Connection] = deque()
    try:
        while True:
            connection = Connection(target.address)
            held.append(connection)
            try:
                for _ in range(random.choice((0, 1, 1, STREAMS))):
                    connection.open(random.choice(every).path, target.maybe_token(random))
            except OSError:
                pass  # cut off by the server
            yield Sent("streams without a message", bytes(connection.sent))
            while len(held) > HELD:
                held.popleft().close()
    finally:
        for connection in held:
            connection.close()
