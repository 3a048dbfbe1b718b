"""Whether a server is ready: grpc.health.v1, asked again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from shared.client import Address, channel

SERVING = "SERVING"
_POLL_SECONDS = 0.05


def wait_until_serving(address: Address, seconds: float, give_up: Callable[[], bool] = lambda: False) -> str:
    """Asks until the server is SERVING, `seconds` are over or `give_up()`; the last answer, such as "NOT_SERVING".

    A server without the health service, as the guide's samples are, is SERVING when it answers at all. One that
    does not answer is UNREACHABLE.
    """
    deadline = time.monotonic() + seconds
    with channel(address) as opened:
        stub = HealthStub(opened)
        while (answer := _ask(stub, address)) != SERVING and time.monotonic() < deadline and not give_up():
            time.sleep(_POLL_SECONDS)
    return answer


def _ask(stub: HealthStub, address: Address) -> str:
    try:
        reply = stub.Check(HealthCheckRequest(), timeout=1, metadata=address.metadata)
    except grpc.RpcError as error:
        return SERVING if error.code() == grpc.StatusCode.UNIMPLEMENTED else "UNREACHABLE"
    return str(HealthCheckResponse.ServingStatus.Name(reply.status))
