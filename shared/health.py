"""grpc.health.v1 for one plugin: all of its names share one status, and a Watch ends with the server.

The servicer that comes with grpcio-health-checking keeps a Watch open for ever, which a drain cannot tell from a
call under way, and waits for watchers that do not read before it changes a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING

# Of all clients; one more ends the oldest. Each can make gRPC hold 26 MB (docs/grpcio-unacknowledged-settings.md).
MOST_WATCHES = 100

Context = grpc.aio.ServicerContext[Any, Any]


class Health(HealthServicer):  # type: ignore[misc]
    """NOT_SERVING until `set_serving`, and again from `shut_down` on."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._status = NOT_SERVING
        self._ending = False
        self._watches: dict[asyncio.Event, None] = {}  # the oldest first; each is told of a change by its event

    def set_serving(self) -> None:
        self._change(SERVING)

    def shut_down(self) -> None:
        self._ending = True
        self._change(NOT_SERVING)

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no service of that name")
        return HealthCheckResponse(status=self._status)

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Newer than our floor of grpcio-health-checking, so its messages are looked up here, where it is called."""
        status = HealthCheckResponse(status=self._status)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._names, status))

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        changed = asyncio.Event()
        self._watches[changed] = None
        if len(self._watches) > MOST_WATCHES:
            oldest = next(iter(self._watches))
            del self._watches[oldest]
            oldest.set()
        sent = None
        try:
            while changed in self._watches:
                changed.clear()
                status = self._status if request.service in self._names else HealthCheckResponse.SERVICE_UNKNOWN
                if status != sent:
                    sent = status
                    yield HealthCheckResponse(status=status)
                elif self._ending:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the plugin is shutting down")
                else:
                    await changed.wait()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {MOST_WATCHES} clients watch; call Check"
            )
        finally:
            self._watches.pop(changed, None)

    def _change(self, status: Any) -> None:
        self._status = status
        for changed in self._watches:
            changed.set()
