"""Valid messages of every call, with bytes changed, cut, repeated and nested. An answer may be any but a bug's."""

from __future__ import annotations

import contextlib
from random import Random

from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import Method, methods
from tests.fuzz.mutate import mutate
from tests.fuzz.random_messages import random_message

IN_FLIGHT = 32
CALLS = 2_000  # on one connection
DELETES = ("/DeleteCollection", "/RestoreSnapshot")


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    # Rarely what would leave the other calls nothing to work on.
    own = [method for method in every if method.own for _ in range(1 if method.path.endswith(DELETES) else 30)]
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            in_flight: dict[int, Sent] = {}
            for _ in range(CALLS):
                method = random.choice(own if random.random() < 0.9 else every)
                stream, sent = _call(connection, target, method, random)
                in_flight[stream] = sent
                yield sent
                connection.read()
                for stream in [stream for stream in in_flight if stream in connection.statuses]:
                    sent = in_flight.pop(stream)
                    if bug := bug_of(connection, stream):
                        yield Problem(f"{bug} to {sent.what}", sent)
                while len(in_flight) > IN_FLIGHT:
                    connection.reset(next(iter(in_flight)))
                    in_flight.pop(next(iter(in_flight)))
                if connection.ended:
                    break


def _call(connection: Connection, target: Target, method: Method, random: Random) -> tuple[int, Sent]:
    token = target.token if random.random() < 0.95 else ""
    stream = connection.open(method.path, token)
    count = random.choice((1, 1, 2, 5)) if method.streams_in else 1
    message = b""
    for number in range(count):
        message = mutate(random_message(method.input, random).SerializeToString(), random)
        connection.message_whole(stream, message, end=number == count - 1, seconds=0.2)
    if random.random() < 0.05:
        connection.reset(stream)
    return stream, Sent(f"{count} of {method.input.full_name}", message, method.path)
