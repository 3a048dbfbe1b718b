"""Valid messages of every call, with bytes changed, cut, repeated and nested. An answer may be any but a bug's."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import Method, methods
from tests.fuzz.mutate import mutate
from tests.fuzz.random_messages import random_message
from tests.servers import dial, with_token

IN_FLIGHT = 32
CALLS = 2_000  # on one connection
DELETES = ("/DeleteCollection", "/RestoreSnapshot")


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    # Rarely what would leave the other calls nothing to work on.
    states = _states(target)
    own = [method for method in every if method.own for _ in range(1 if method.path.endswith(DELETES) else 30)]
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            in_flight: dict[int, Sent] = {}
            for _ in range(CALLS):
                method = random.choice(own if random.random() < 0.9 else every)
                stream, sent = _call(connection, target, method, states, random)
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


def _states(target: Target) -> list[bytes]:
    """Of runs that have begun, and of one that is over: nobody could make up one that is taken."""
    if target.plugin != "reasoning_react":
        return []
    try:
        with dial(target.address) as channel:
            stub: Any = rpc.ReasoningStrategyStub(with_token(channel, target.token))
            begun = [
                stub.Initialize(pb.InitializeRequest(query=query, host_executes=True, tools=[tool]), timeout=10).state
                for query in ("x", "")
                for tool in (pb.Tool(name="look"), pb.Tool(name="add", parameters_json='{"required": ["a"]}'))
            ]
            return [*begun, stub.ProcessIteration(pb.ProcessIterationRequest(state=begun[0]), timeout=10).state]
    except grpc.RpcError as error:
        raise OSError("it does not answer") from error


def _call(
    connection: Connection, target: Target, method: Method, states: list[bytes], random: Random
) -> tuple[int, Sent]:
    token = target.token if random.random() < 0.95 else ""
    stream = connection.open(method.path, token)
    count = random.choice((1, 1, 2, 5)) if method.streams_in else 1
    message = b""
    for number in range(count):
        made: Any = random_message(method.input, random)
        is_of_run = bool(states) and "state" in method.input.fields_by_name and random.random() < 0.7
        if is_of_run:
            made.state = random.choice(states)
        message = made.SerializeToString()
        if not is_of_run or random.random() < 0.3:
            message = mutate(message, random)
        connection.message_whole(stream, message, end=number == count - 1, seconds=0.2)
    if random.random() < 0.05:
        connection.reset(stream)
    return stream, Sent(f"{count} of {method.input.full_name}", message, method.path)
