"""Small plugins for the conformance kit's own tests: a right one of each kind, and many that are wrong in one thing.

    with serving(add_DatabaseProviderServicer_to_server, Database(), "DatabaseProvider") as address:
        ...

They are the plainest gRPC servers there are; each file ends with FAULTS: what is wrong, and the claim that finds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from shared.errors import Code


@dataclass(frozen=True)
class Fault:
    """A plugin that is wrong in one thing, and the name of the claim that finds it."""

    plugin: type[Any]
    claim: str
    level: str = "guide"
    seconds: float | None = None
    """What the kit waits, where it is the waiting in vain that finds it."""


@contextlib.contextmanager
def serving(
    add: Callable[[Any, grpc.Server], None],
    servicer: Any,
    service: str,
    *,
    names: tuple[str, ...] | None = None,
    reflected: bool = True,
    most_bytes: int = 64 << 20,
    pool: DescriptorPool | None = None,
) -> Iterator[str]:
    """The address at which `servicer` answers; health answers for `names`, requests have `most_bytes`,
    reflection describes what `pool` holds."""
    full_name = f"hector.plugins.v1.{service}"
    server = grpc.server(ThreadPoolExecutor(12), options=[("grpc.max_receive_message_length", most_bytes)])
    add(servicer, server)
    healthy = health.HealthServicer()
    for name in ("", "plugin", full_name) if names is None else names:
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if reflected:
        reflection.enable_server_reflection(
            (full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server, pool=pool
        )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def lenient(add: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """As `add`, but bytes that are no message are taken for an empty one."""

    class Server:
        def __init__(self, server: grpc.Server) -> None:
            self.server = server

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            pass

        def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
            changed = {
                name: handler._replace(request_deserializer=reader(handler)) for name, handler in handlers.items()
            }
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, changed),))

    def reader(handler: Any) -> Callable[[bytes], Any]:
        def read(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return handler.request_deserializer(b"")

        return read

    return lambda servicer, server: add(servicer, Server(server))


class Refused(Exception):
    """What a caller can act on."""

    def __init__(self, code: Code, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def failed(reply: type[Any], error: Refused) -> Any:
    """The reply that says so, as the contract has it."""
    from google.rpc import error_details_pb2, status_pb2

    status = status_pb2.Status(code=error.code, message=str(error))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.code.name, domain="plugins.hector.dev"))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return reply(success=False, error=str(error), status=status)


def answering(reply: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method that raises Refused answers with a `reply` that says so."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return method(self, request)
            except Refused as error:
                return self.failed(reply, error)

        return answer

    return wrap


__all__ = ["Fault", "Refused", "answering", "failed", "pb", "serving"]
