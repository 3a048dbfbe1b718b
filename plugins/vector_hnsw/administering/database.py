"""The calls of a running plugin, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from hector_plugins_pb2_grpc import DatabaseProviderStub

from shared.client import Address
from shared.errors import StartError

CALL_SECONDS = 600.0


class Database:
    """The plugin's calls; what it refuses becomes a StartError, one line."""

    def __init__(self, opened: grpc.Channel, address: Address) -> None:
        self.stub = DatabaseProviderStub(opened)
        self.address = address

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            reply = method(request, timeout=CALL_SECONDS, metadata=self.address.metadata)
        except grpc.RpcError as error:
            raise self.failed(error) from None
        return self.checked(reply)

    def stream(self, method: Callable[..., Any], requests: Iterable[Any]) -> Iterator[Any]:
        mistakes: list[StartError] = []

        def sent() -> Iterator[Any]:
            # gRPC takes them in a thread of its own, where an error would be lost.
            try:
                yield from requests
            except StartError as error:
                mistakes.append(error)

        try:
            for reply in method(sent(), metadata=self.address.metadata):
                yield self.checked(reply)
        except grpc.RpcError as error:
            raise self.failed(error) from None
        if mistakes:
            raise mistakes[0]

    def checked(self, reply: Any) -> Any:
        if not reply.success:
            raise StartError(reply.error)
        return reply

    def failed(self, error: Any) -> StartError:
        return StartError(f"{self.address.address}: {error.code().name}: {error.details()}")
