"""What happens around every call: credential, readiness, admission, time limit, errors, reply size, one log line.

It is one gRPC server interceptor. The health service is exempt from all but the log, so that it answers whatever
else is going on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc

from shared import logs
from shared.config import BaseConfig
from shared.credentials import check_token
from shared.errors import DeadlineExceeded, Internal, Overloaded, PluginError, TooLarge, Unavailable, Unimplemented
from shared.status import abort

HEALTH = "/grpc.health.v1.Health/"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """One for a server. `ready` and `in_flight` belong to whoever runs the server (`shared/server.py`)."""

    def __init__(self, config: BaseConfig, too_large_hints: Mapping[str, str]) -> None:
        """`too_large_hints`: for an RPC's name, what to do when its reply is past `max_reply_bytes`."""
        self.ready = False
        self.in_flight = 0
        self._config = config
        self._hints = too_large_hints
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            found = await continuation(handler_call_details)
            if found is None or method.startswith(HEALTH):
                return found
            # Handlers never change once the server runs, so each is wrapped once.
            handler = self._handlers[method] = self._wrapped(method, found)
        return handler

    def _wrapped(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        # Replies are serialised here and handed on as bytes, so that their size is known while the call can still
        # be answered with a proper error, and without serialising twice.
        make: Any
        if handler.response_streaming:
            behaviour = self._stream(method, handler.stream_stream or handler.unary_stream, handler.response_serializer)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            behaviour = self._unary(method, handler.stream_unary or handler.unary_unary, handler.response_serializer)
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(behaviour, handler.request_deserializer)
        return wrapped

    def _unary(self, method: str, behaviour: Any, serialize: Any) -> Behaviour:
        async def call(request: Any, context: Context) -> Any:
            async def answer() -> bytes:
                return self._sized(method, serialize(await behaviour(request, context)))

            return await self._around(method, context, answer)

        return call

    def _stream(self, method: str, behaviour: Any, serialize: Any) -> Behaviour:
        # Written as a coroutine that writes, not as a generator: the time limit then also bounds a client that
        # does not read.
        async def call(request: Any, context: Context) -> None:
            async def answer() -> None:
                replies: AsyncIterator[Any] = behaviour(request, context)
                async for reply in replies:
                    await context.write(self._sized(method, serialize(reply)))

            await self._around(method, context, answer)

        return call

    async def _around(self, method: str, context: Context, answer: Callable[[], Awaitable[Any]]) -> Any:
        started = time.perf_counter()
        code = "OK"
        metadata = context.invocation_metadata() or ()
        logs.request_id.set(_request_id(metadata))
        self.in_flight += 1
        try:
            self._admit(method, metadata)
            return await self._bounded(answer)
        except PluginError as error:
            code = error.code.name
            await abort(context, error)
        except asyncio.CancelledError:
            left = context.time_remaining()
            code = "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = context.code().name
            raise
        except NotImplementedError:
            # What the generated base class raises for an RPC that a servicer does not have.
            code = "UNIMPLEMENTED"
            await abort(context, Unimplemented(f"this plugin does not have {_short(method)}"))
        except Exception:
            code = "INTERNAL"
            logs.event("bug", level=logging.ERROR, method=_short(method), exc_info=True)
            await abort(context, _internal(method))
        finally:
            self.in_flight -= 1
            ms = round((time.perf_counter() - started) * 1000, 2)
            logs.event("call", method=_short(method), code=code, ms=ms)

    def _admit(self, method: str, metadata: Any) -> None:
        config = self._config
        if config.token and (refusal := check_token(config.token, metadata)):
            logs.event("security", level=logging.WARNING, method=_short(method), reason=refusal.reason)
            raise refusal
        if not self.ready:
            raise Unavailable(
                "the plugin is still loading; wait until its health is SERVING", reason="LOADING", retry_after=1
            )
        if self.in_flight > config.max_concurrent:
            logs.event("security", level=logging.WARNING, method=_short(method), reason="OVERLOADED")
            raise Overloaded(
                f"{config.max_concurrent} calls are under way, which is this plugin's max_concurrent; try again",
                retry_after=1,
            )

    async def _bounded(self, answer: Callable[[], Awaitable[Any]]) -> Any:
        limit = self._config.timeout
        if not limit:
            return await answer()
        try:
            async with asyncio.timeout(limit) as bound:
                return await answer()
        except TimeoutError:
            if not bound.expired():
                raise
            raise DeadlineExceeded(
                f"the call took longer than this plugin's timeout of {limit:g} s; send less at once or raise it"
            ) from None

    def _sized(self, method: str, reply: bytes) -> bytes:
        limit = self._config.max_reply_bytes
        if len(reply) > limit:
            hint = self._hints.get(_short(method), "ask for less at once")
            raise TooLarge(
                f"the reply has {len(reply)} bytes, more than max_reply_bytes of {limit}: {hint}",
                reason="REPLY_TOO_LARGE",
            )
        return reply


def _request_id(metadata: Any) -> str:
    for key, value in metadata:
        if key == "x-request-id" and isinstance(value, str) and _SANE_ID.fullmatch(value):
            return value
    return f"{random.getrandbits(64):016x}"


def _internal(method: str) -> Internal:
    current = logs.request_id.get()
    return Internal(
        f"{_short(method)} failed inside the plugin; its log has the cause under request_id {current}",
        metadata={"request_id": current},
    )


def _short(method: str) -> str:
    return method.rpartition("/")[2]
