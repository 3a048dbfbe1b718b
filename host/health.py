"""Whether a server is ready, and later whether it still answers: grpc.health.v1, asked again and again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from shared.client import Address, channel
from shared.errors import StartError

SERVING, UNREACHABLE = "SERVING", "UNREACHABLE"
ASK_SECONDS = 5.0  # between an answer and the next question to a server that has been SERVING
ANSWER_SECONDS = 20.0  # a busy server may take so long
UNANSWERED = 3  # questions in a row after which it counts as dead: 15 s where its port is shut, 75 s where it is stuck
_POLL_SECONDS = 0.05
_NO_HEALTH = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)  # of the server as a whole


def wait_until_serving(
    address: Address, seconds: float, give_up: Callable[[], bool] = lambda: False, *, deaf: float = math.inf
) -> str:
    """Asks until the server is SERVING, `seconds` are over, `deaf` of them in a row without an answer, or `give_up()`;
    the last answer, such as "NOT_SERVING".

    A server without the health service, as the guide's samples are, is SERVING when it answers at all, and so is one
    that keeps a health of its services alone, as go-plugin's does. One that does not answer is UNREACHABLE; where it
    has answered within `deaf`, that counts, since a busy one may miss the last question.
    """
    deadline = time.monotonic() + seconds
    with channel(address) as opened:
        stub = HealthStub(opened)
        heard, told = time.monotonic(), UNREACHABLE
        while (answer := _ask(stub, address)) != SERVING and not give_up():
            now = time.monotonic()
            if answer != UNREACHABLE:
                heard, told = now, answer
            elif now >= heard + deaf:
                break
            if now >= deadline:
                return told
            time.sleep(_POLL_SECONDS)
    return answer


def _ask(stub: HealthStub, address: Address) -> str:
    try:
        reply = stub.Check(HealthCheckRequest(), timeout=1, metadata=address.metadata)
    except grpc.RpcError as error:
        return SERVING if error.code() in _NO_HEALTH else UNREACHABLE
    return str(HealthCheckResponse.ServingStatus.Name(reply.status))


class Heartbeat:
    """Asks a server that has been SERVING whether it still answers, without ever waiting.

    Whatever it answers is an answer, NOT_SERVING too: only silence and a shut port are not. Each question has a
    connection of its own, since an old one may work on where no new one is accepted.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._unanswered = 0
        self._next = time.monotonic() + ASK_SECONDS
        self._question: Any = None
        self._opened = ExitStack()

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def unanswered(self) -> int:
        """How many questions in a row got no answer. To be called often: it is what asks."""
        if self._question is None and time.monotonic() >= self._next:
            self._ask()
        elif self._question is not None and self._question.done():
            silent = self._question.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            self._unanswered = self._unanswered + 1 if silent else 0
            self._close()
            self._question, self._next = None, time.monotonic() + ASK_SECONDS
        return self._unanswered

    def _close(self) -> None:
        """In a thread of its own: gRPC may wait there, and whoever watches has other plugins to watch."""
        threading.Thread(target=self._opened.pop_all().close, daemon=True).start()

    def _ask(self) -> None:
        try:
            opened = self._opened.enter_context(channel(self._address))
        except StartError:  # the certificate's file is gone or being replaced, which says nothing about the server
            self._next = time.monotonic() + ASK_SECONDS
            return
        check = HealthStub(opened).Check
        self._question = check.future(
            HealthCheckRequest(), timeout=ANSWER_SECONDS, metadata=self._address.metadata, wait_for_ready=False
        )
