"""Messages that are announced and never come, or stop in the middle, on every method; the streams are left open."""

from __future__ import annotations

from collections import deque
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

HELD = 40  # connections, the oldest closed for a new one
STREAMS = 10  # on each of them
LENGTHS = (1, 100, 60 * 2**20, 64 * 2**20, 64 * 2**20 + 1, 2**31 - 1, 2**31, 2**32 - 1)
PIECE = bytes(2**20)


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    held: deque[tuple[Connection, int]] = deque()
    try:
        while True:
            if random.random() < 0.3:
                connection = Connection(target.address)
                for _ in range(random.choice((1, STREAMS))):
                    stream = connection.open(random.choice(every).path, target.maybe_token(random))
                    held.append((connection, stream))
                    if random.random() < 0.7:
                        connection.message(stream, b"x" * random.choice((0, 1, 4)), length=random.choice(LENGTHS))
                yield Sent("half a message", bytes(connection.sent))
            if held:  # more of one that is held
                connection, stream = random.choice(held)
                try:
                    sent = connection.data(stream, PIECE)
                except OSError:
                    sent = 0
                    connection.ended = True
                yield Sent(f"{sent} bytes more of a message", bytes(connection.sent))
            while held and (len(held) > HELD * STREAMS or held[0][0].ended):
                held.popleft()[0].close()
    finally:
        for connection, _ in held:
            connection.close()
