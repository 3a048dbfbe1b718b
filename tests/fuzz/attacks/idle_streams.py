"""Streams of messages that are open and send nothing, or one message and then nothing, for as long as they may."""

from __future__ import annotations

from collections import deque
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods
from tests.fuzz.random_messages import random_message

HELD = 20  # connections, the oldest closed for a new one
STREAMS = 30  # on each of them: 600 in all, where a plugin takes 256 calls


def run(target: Target, random: Random) -> Steps:
    streaming = [method for method in methods(target.plugin) if method.streams_in or method.path.endswith("Watch")]
    held: deque[Connection] = deque()
    try:
        while True:
            connection = Connection(target.address)
            held.append(connection)
            try:
                for _ in range(STREAMS):
                    method = random.choice(streaming)
                    stream = connection.open(method.path, target.token)
                    if random.random() < 0.3:
                        message = random_message(method.input, random).SerializeToString()
                        connection.message(stream, message)
                connection.read()
            except OSError:
                pass  # cut off by the server
            yield Sent("idle streams", bytes(connection.sent))
            if len(held) > HELD:
                held.popleft().close()
    finally:
        for connection in held:
            connection.close()
