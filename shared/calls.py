"""What happens around every call: credential, readiness, admission, time limit, errors, reply size, one log line.

It is one gRPC server interceptor. The health service is exempt from all of it, so that it answers whatever else is
going on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import Descriptor

from shared import logs
from shared.config import BaseConfig
from shared.credentials import check_token
from shared.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    Overloaded,
    PluginError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from shared.status import abort

HEALTH = "/grpc.health.v1.Health/"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """One for a server. `ready` belongs to whoever runs the server (`shared/server.py`)."""

    def __init__(self, config: BaseConfig, too_large_hints: Mapping[str, str]) -> None:
        """`too_large_hints`: for an RPC's name, what to do when its reply is past `max_reply_bytes`."""
        self.ready = False
        self.under_way = 0
        self.config = config
        self._hints = too_large_hints
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if method.startswith(HEALTH):
            return await continuation(handler_call_details)
        # Before anything of the request is read: who may not call cannot make the server hold and parse a message.
        if refusal := self._refusal(handler_call_details.invocation_metadata or ()):
            return self._refusing(method, refusal)
        handler = self._handlers.get(method)
        if handler is None:
            found = await continuation(handler_call_details)
            if found is None:
                return self._refusing(method, Unimplemented(f"this plugin does not have {_short(method)}"))
            # Handlers never change once the server runs, so each is wrapped once.
            handler = self._handlers[method] = self._wrapped(method, found)
        return handler

    def _refusal(self, metadata: Any) -> PluginError | None:
        if self.config.token and (refusal := check_token(self.config.token, metadata)):
            return refusal
        if not self.ready:
            return Unavailable(
                "the plugin is still loading; wait until its health is SERVING", reason="LOADING", retry_after=1
            )
        return None

    def _refusing(self, method: str, error: PluginError) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(requests: Any, context: Context) -> None:
            async def answer() -> NoReturn:
                raise error

            await self._around(method, context, answer)

        # Every kind of call can be answered as a stream, and only of a stream nothing is read first.
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(call)
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
            async def answer() -> tuple[bytes, str]:
                async with _Limits(self, context, method):
                    reply = await behaviour(request, context)
                    return self._sized(method, serialize(reply)), _code_in(reply)

            return await self._around(method, context, answer)

        return call

    def _stream(self, method: str, behaviour: Any, serialize: Any) -> Behaviour:
        # Written as a coroutine that writes, not as a generator: the time limit then also bounds a client that
        # does not read.
        async def call(request: Any, context: Context) -> None:
            async def answer() -> tuple[None, str]:
                # Closed here, whatever ends the call: left to the garbage collector, the behaviour's `finally` would
                # run at some later time, outside of the call.
                async with _Limits(self, context, method), contextlib.aclosing(behaviour(request, context)) as replies:
                    async for reply in replies:
                        await context.write(self._sized(method, serialize(reply)))
                return None, "OK"

            await self._around(method, context, answer)

        return call

    async def _around(
        self, method: str, context: Context, answer: Callable[[], Awaitable[tuple[bytes | None, str]]]
    ) -> bytes | None:
        """What `answer` gives, or its error sent. It also says the code that stands in the log."""
        started = time.perf_counter()
        logs.request_id.set(_request_id(context.invocation_metadata() or ()))
        code = "OK"
        error: PluginError
        try:
            reply, code = await answer()
            return reply
        except PluginError as raised:
            error, code = raised, raised.code.name
        except grpc.aio.AbortError:
            code = getattr(context.code(), "name", "UNKNOWN")
            raise
        except (Exception, asyncio.CancelledError) as raised:
            if isinstance(raised, asyncio.CancelledError) and _was_cancelled():
                left = context.time_remaining()
                code = "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
                raise
            if isinstance(raised, grpc.aio.InternalError):
                # gRPC's own, for a message to a client that has gone.
                code = "CANCELLED"
                raise asyncio.CancelledError from raised
            if isinstance(raised, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
                # Raised by the generated base class, for an RPC that the servicer does not have.
                error = Unimplemented(f"this plugin does not have {_short(method)}")
            else:
                logs.event("bug", level=logging.ERROR, method=_short(method), exc_info=True)
                error = _internal(method)
            code = error.code.name
        finally:
            # Before the answer goes out: that can take as long as the client does not read.
            ms = round((time.perf_counter() - started) * 1000, 2)
            logs.event("call", method=_short(method), code=code, ms=ms)
        if isinstance(error, Unauthenticated | Overloaded | TooLarge):
            _security(context, method, error)
        return await abort(context, error)

    def _sized(self, method: str, reply: bytes) -> bytes:
        limit = self.config.max_reply_bytes
        if len(reply) > limit:
            hint = self._hints.get(_short(method), "ask for less at once")
            raise TooLarge(
                f"the reply has {len(reply)} bytes, more than max_reply_bytes of {limit}: {hint}",
                reason="REPLY_TOO_LARGE",
            )
        return reply


class _Limits:
    """One of `max_concurrent` places, for `timeout` at most. A class, since every call pays for it: a generator would
    take longer than the rest of this module."""

    __slots__ = ("_bound", "_calls", "_context", "_method")

    def __init__(self, calls: CallInterceptor, context: Context, method: str) -> None:
        self._calls, self._context, self._method = calls, context, method

    async def __aenter__(self) -> None:
        calls, config = self._calls, self._calls.config
        if calls.under_way >= config.max_concurrent:
            raise Overloaded(
                f"{config.max_concurrent} calls are under way, which is this plugin's max_concurrent; try again",
                retry_after=1,
            )
        calls.under_way += 1
        self._bound = asyncio.timeout(config.timeout or None)
        await self._bound.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._calls.under_way -= 1
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError:
            seconds = self._calls.config.timeout
            late = DeadlineExceeded(
                f"the call took longer than this plugin's timeout of {seconds:g} s; send less at once or raise it"
            )
            _security(self._context, self._method, late)
            raise late from None


def _code_in(reply: Any) -> str:
    """OK, or where the reply has `success`, and that is false, the code in its `status`."""
    if isinstance(reply, bytes):  # packed by the plugin itself, which does that with nothing but successes
        return "OK"
    if not _says_how_it_went(reply.DESCRIPTOR) or reply.success:
        return "OK"
    return Code(reply.status.code).name if 0 < reply.status.code <= max(Code) else "UNKNOWN"


@functools.cache
def _says_how_it_went(message: Descriptor) -> bool:
    return {"success", "status"} <= set(message.fields_by_name)


def _was_cancelled() -> bool:
    """True: by the client, its deadline or a shutdown. Else the exception is the behaviour's own, and a bug: gRPC would
    send nothing at all for it, and the client would wait for ever."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _security(context: Context, method: str, error: PluginError) -> None:
    logs.event("security", level=logging.WARNING, method=_short(method), reason=error.reason, peer=context.peer())


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
