"""How requests arrive: read here as bytes, in time, within bounds, and made into messages.

gRPC would wait for a message without end, and make anything of it that it can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.message import Message

from . import under_way, wire
from .errors import DeadlineExceeded, Malformed, Overloaded, TooLarge
from .give_way import to_its_end

Context = grpc.aio.ServicerContext[Any, Any]


class Requests:
    """Those that a server works on: how many bytes they have, at most `most_bytes`, and the threads that parse them."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self.parsing = ThreadPoolExecutor(2, thread_name_prefix="parsing")


class Receiving:
    """How the requests of one RPC arrive: in time, within bounds, readable."""

    def __init__(
        self,
        requests: Requests,
        handler: Any,
        *,
        patience: float,
        most_items: Mapping[str, int] = MappingProxyType({}),
        largest: int | None = None,
    ) -> None:
        """`handler` is gRPC's. `patience`: seconds that the first message may take; `most_items`: how often fields of
        one may repeat; `largest`: bytes of one."""
        self._requests, self._patience, self._most_items, self._largest = requests, patience, most_items, largest
        # A generated class's FromString, which says of what class it is; or somebody's own deserializer.
        self._deserialize: Any = handler.request_deserializer
        kind = getattr(handler.request_deserializer, "__self__", None)
        self._kind = kind if isinstance(kind, type) and issubclass(kind, Message) else None

    def let_go(self, held: Held, size: int) -> None:
        """So many bytes of it are not needed any more."""
        held.bytes -= size
        self._requests.held_bytes -= size

    async def receive(self, context: Context, held: Held | None = None) -> Any:
        """A message. Raises Malformed where none comes, or none that can be read."""
        message = await self.next(context, held, self._patience, is_first=True)
        if message is grpc.aio.EOF:
            raise Malformed("the call came without a message; send one", reason="NO_MESSAGE")
        return message

    async def next(self, context: Context, held: Held | None, patience: float, *, is_first: bool) -> Any:
        """A message, or grpc.aio.EOF. `patience`: seconds that it may take, 0 for any number."""
        data = await _read(context, patience, is_first)
        if data is grpc.aio.EOF:
            return data
        if self._largest is not None and len(data) > self._largest:
            raise TooLarge(f"the request has {len(data)} bytes, more than the {self._largest} of such a request")
        if held is not None:
            self._hold(held, len(data))
        if self._kind is None:
            return self._deserialize(data) if self._deserialize else data
        if wire.is_small(data):
            return wire.parse(self._kind, data, self._most_items)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._requests.parsing, to_its_end, wire.parse, self._kind, data, self._most_items
        )

    def _hold(self, held: Held, size: int) -> None:
        requests, most = self._requests, self._requests.most_bytes
        if requests.held_bytes + size > most and requests.held_bytes:
            raise Overloaded(
                f"requests of {requests.held_bytes} bytes are worked on, and max_held_bytes is {most}; try again",
                retry_after=1,
            )
        requests.held_bytes += size
        held.bytes += size


class Held:
    """How many bytes of requests the plugin holds for a call, until `let_go`."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


async def _read(context: Context, patience: float, is_first: bool) -> Any:
    """The bytes of a message, or grpc.aio.EOF. `shared/patience.py` ends the wait where it has to end."""
    call = under_way.current.get(None)
    if call is None:  # of a grpcio that was not tested
        try:
            async with asyncio.timeout(patience or None):
                return await context.read()
        except TimeoutError:
            raise DeadlineExceeded(f"no whole message came within {patience:g} s", reason="MESSAGE_TIMEOUT") from None
    if call.first is not None:
        data, call.first = call.first, None
        return data
    call.reader = asyncio.current_task()
    call.patience, call.is_first, call.awaits_since = patience, is_first, under_way.now()
    try:
        return await context.read()
    except asyncio.CancelledError:
        if call.error is None:
            raise
        if call.reader is not None:
            call.reader.uncancel()
        raise call.error from None
    finally:
        call.awaits_since = 0.0
