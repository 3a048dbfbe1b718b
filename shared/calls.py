"""What happens around every call: credential, readiness, message, admission, time limit, errors, reply size, log.

It is one gRPC server interceptor. Nothing of a message is read before the credential was looked at; then it is read
here, as bytes, whatever kind of call it is, because gRPC would wait for it without end. The health service is exempt
from credential and admission, so that it answers whatever else is going on.
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
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor

from . import accept, logs, under_way
from .config import BaseConfig
from .credentials import check_token
from .errors import (
    CallerError,
    Code,
    Internal,
    Malformed,
    Overloaded,
    PluginError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .places import Places
from .receiving import Held, Receiving, Requests
from .status import abort, failure
from .turns import Clock, Late, Limits, Turns

HEALTH = "/grpc.health.v1.Health/"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# A health request is a name; more of it is not looked at, and not waited for longer.
_LARGEST_HEALTH, _HEALTH_SECONDS = 1024, 5.0
# Calls that anybody can make as fast as they like; of those that end so, this many a second are logged.
_CHEAP = (Unauthenticated, Unimplemented, Unavailable, Overloaded, Malformed)
_LOGGED_A_SECOND = 100
# Of those of strangers so many a second get an answer; without, one costs up to a third less.
_ANSWERED_A_SECOND = 500
_OF_SECURITY = (Unauthenticated, Overloaded, TooLarge, Late)
_LOADING = Unavailable("the plugin is still loading; wait until its health is SERVING", reason="LOADING", retry_after=1)
_UNKNOWN = Unimplemented("this plugin does not have the method that was called")

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]
Handler = Any  # grpc.RpcMethodHandler, which is generic for type checkers alone


class CallInterceptor(grpc.aio.ServerInterceptor):
    """One for a server. `ready` belongs to whoever runs the server (`shared/server.py`)."""

    def __init__(
        self,
        config: BaseConfig,
        calls: under_way.Calls,
        too_large_hints: Mapping[str, str],
        most_items: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """`too_large_hints`: for an RPC's name, what to do when its reply is past `max_reply_bytes`.

        `most_items`: for an RPC's name, how often fields of its request may repeat.
        """
        self.ready = False
        self._config = config
        self._calls = calls
        self._hints = too_large_hints
        self._most_items = most_items or {}
        self._places = Places(config.max_concurrent)
        self._clock = Clock(config.timeout)
        self._requests = Requests(config.max_held_bytes)
        self._handlers: dict[str, Handler] = {}
        self._patience: dict[str, accept.Awaited] = {}
        self._floods = _Floods()
        self._strangers = _Second()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The way in where `shared/accept.py` does not take the calls itself."""
        method = handler_call_details.method
        served = await continuation(handler_call_details)
        error = self.refusal(method if served else accept.UNKNOWN, handler_call_details.invocation_metadata or ())

        async def refuse(_: Any, context: Context) -> None:
            assert error is not None
            self.tell(method, error, context)
            await abort(context, error)

        if error:
            # Every kind of call can be answered as a stream, and only of a stream nothing is read first.
            return grpc.stream_stream_rpc_method_handler(refuse)
        handler = self._handlers.get(method)
        if handler is None:
            # Handlers never change once the server runs, so each is wrapped once.
            handler = self._handlers[method] = self.wrapped(method, served)
        return handler

    def refusal(self, method: str, metadata: Any) -> PluginError | None:
        """Before anything of a request is read: who may not call cannot make the server hold and parse a message."""
        if method.startswith(HEALTH):
            return None
        if self._config.token and (error := check_token(self._config.token, metadata)):
            return error
        if not self.ready:
            return _LOADING
        return _UNKNOWN if method == accept.UNKNOWN else None

    def request_id(self, metadata: Any) -> str:
        """The caller's own, where it is a sane one."""
        for key, value in metadata:
            if key == "x-request-id" and isinstance(value, str) and _SANE_ID.fullmatch(value):
                return value
        return f"{random.getrandbits(64):016x}"

    def _id_of(self, context: Context) -> str:
        call = under_way.current.get(None)
        return self.request_id(context.invocation_metadata() or ()) if call is None else call.request_id

    def tell(self, method: str, error: PluginError, context: Context) -> bool:
        """Logs a call that was refused, unless there have been many of late. False where there have been so many of
        strangers' that it is not worth an answer either."""
        if not self._floods.is_one():
            logs.request_id.set(self._id_of(context))
            logs.event("call", method=_short(method), code=error.code.name, ms=0.0)
            if isinstance(error, _OF_SECURITY):
                _security(context, method, error)
        # Where there is a token, whoever hears that a method is unknown has it.
        is_strangers = isinstance(error, Unauthenticated) or not self._config.token
        return not (isinstance(error, Unauthenticated | Unimplemented) and is_strangers and self._strangers.is_huge())

    def went(self, method: str, context: Context) -> None:
        """Logs that no whole message of a call came, unless there have been many such of late."""
        if not self._floods.is_one():
            logs.request_id.set(self._id_of(context))
            logs.event("call", method=_short(method), code="CANCELLED", ms=0.0)

    def patience(self, method: str) -> accept.Awaited:
        return self._patience[method]

    def wrapped(self, method: str, handler: Handler) -> Handler:
        if method.startswith(HEALTH):
            self._patience[method] = accept.Awaited(_HEALTH_SECONDS, "time of a health check")
            return self._exempt(method, handler)
        # The silence of a stream of requests is bounded by its own time limit.
        streams = bool(handler.request_streaming)
        setting = "timeout" if streams else "transfer_timeout"
        self._patience[method] = accept.Awaited(getattr(self._config, setting), setting, streams)
        return self._wrapped(method, handler)

    def _exempt(self, method: str, handler: Handler) -> Handler:
        receive = Receiving(self._requests, handler, patience=_HEALTH_SECONDS, largest=_LARGEST_HEALTH).receive
        serialize: Any = handler.response_serializer
        behaviour: Any = handler.unary_stream or handler.unary_unary

        async def call(_: Any, context: Context) -> bytes:
            try:
                request = await receive(context)
            except PluginError as error:
                return await abort(context, error)
            reply = bytes(serialize(await behaviour(request, context)))
            self._sending(len(reply), _HEALTH_SECONDS)
            return reply

        async def stream(_: Any, context: Context) -> None:
            try:
                request = await receive(context)
            except PluginError as error:
                await abort(context, error)
            async with contextlib.aclosing(behaviour(request, context)) as replies:
                async for status in replies:
                    reply = serialize(status)
                    self._sending(len(reply), _HEALTH_SECONDS)
                    await context.write(reply)
                    self._sending(0, 0)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(call)

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        # Replies are serialised here and handed on as bytes, so that their size is known while the call can still
        # be answered with a proper error, and without serialising twice.
        serialize: Any = handler.response_serializer
        most_items = self._most_items.get(_short(method), {})
        patience = self._config.transfer_timeout
        receiving = Receiving(self._requests, handler, patience=patience, most_items=most_items)
        behaviour: Any = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
        if handler.response_streaming:
            work = self._upload if handler.request_streaming else self._stream
            return grpc.stream_stream_rpc_method_handler(work(method, behaviour, receiving, serialize))
        return grpc.stream_unary_rpc_method_handler(self._unary(method, behaviour, receiving, serialize))

    def _unary(self, method: str, behaviour: Any, receiving: Receiving, serialize: Any) -> Behaviour:
        patience = self._config.transfer_timeout

        async def answer(request: Any, context: Context) -> tuple[bytes, str]:
            with Limits(self._places, self._clock):
                reply = await behaviour(request, context)
                return self._sized(method, serialize(reply)), _code_in(reply)

        async def call(_: Any, context: Context) -> Any:
            reply = await self._around(method, context, answer, receiving)
            self._sending(len(reply or b""), patience)
            return reply

        return call

    def _stream(self, method: str, behaviour: Any, receiving: Receiving, serialize: Any) -> Behaviour:
        # Written as a coroutine that writes, not as a generator: the time limit then also bounds a client that
        # does not read.
        async def answer(request: Any, context: Context) -> tuple[None, str]:
            # Closed here, whatever ends the call: left to the garbage collector, the behaviour's `finally` would
            # run at some later time, outside of the call.
            with Limits(self._places, self._clock):
                async with contextlib.aclosing(behaviour(request, context)) as replies:
                    async for reply in replies:
                        await self._write(method, context, serialize(reply))
            return None, "OK"

        async def call(_: Any, context: Context) -> None:
            await self._around(method, context, answer, receiving)

        return call

    def _upload(self, method: str, behaviour: Any, receiving: Receiving, serialize: Any) -> Behaviour:
        async def answer(_: Any, context: Context) -> tuple[None, str]:
            async with (
                Turns(self._places, self._clock, context, receiving) as turns,
                contextlib.aclosing(behaviour(turns.requests(), context)) as replies,
            ):
                async for reply in replies:
                    await self._write(method, context, serialize(reply))
                    turns.replied()
            return None, "OK"

        async def call(_: Any, context: Context) -> None:
            await self._around(method, context, answer)

        return call

    async def _write(self, method: str, context: Context, reply: bytes) -> None:
        # The stream's own time limit comes first; this is for one that has none left to say so.
        timeout = self._config.timeout
        self._sending(len(self._sized(method, reply)), timeout and timeout + under_way.REFUSAL_SECONDS)
        await context.write(reply)
        self._sending(0, 0)

    async def _around(
        self,
        method: str,
        context: Context,
        answer: Callable[[Any, Context], Awaitable[tuple[bytes | None, str]]],
        receiving: Receiving | None = None,
    ) -> bytes | None:
        """What `answer` gives for what `receiving` brings, or its error sent. It also says the code that is logged."""
        started = time.perf_counter()
        logs.request_id.set(self._id_of(context))
        code = "OK"
        error: PluginError | None = None
        request: Any = None
        held = Held()
        try:
            if receiving is not None:
                request = await receiving.receive(context, held)
                started = time.perf_counter()  # how fast the client sends is not the plugin's doing
            reply, code = await answer(request, context)
            return reply
        except PluginError as raised:
            error, code = raised.let_go(), raised.code.name
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
            # gRPC's way to abort a call leaves this frame to the next collection of garbage.
            request = None
            if receiving is not None:
                receiving.let_go(held, held.bytes)
            # Before the answer goes out: that can take as long as the client does not read.
            if not (is_flood := isinstance(error, _CHEAP) and self._floods.is_one()):
                logs.call(_short(method), code, time.perf_counter() - started)
        if isinstance(error, _OF_SECURITY) and not is_flood:
            _security(context, method, error)
        if isinstance(error, CallerError) and (reply_class := _failing_reply(method)):
            return bytes(failure(reply_class(), error).SerializeToString())
        # What was written before may still wait for the client to read, and then the error does so too.
        self._sending(0, under_way.REFUSAL_SECONDS, waits=True)
        return await abort(context, error)

    def _sized(self, method: str, reply: bytes) -> bytes:
        limit = self._config.max_reply_bytes
        if len(reply) > limit:
            hint = self._hints.get(_short(method), "ask for less at once")
            raise TooLarge(
                f"the reply has {len(reply)} bytes, more than max_reply_bytes of {limit}: {hint}",
                reason="REPLY_TOO_LARGE",
            )
        unread, most = self._calls.unread_bytes, self._config.max_held_bytes
        if unread and unread + len(reply) > most:
            raise Overloaded(
                f"replies of {unread} bytes wait for their clients to read, and max_held_bytes is {most}; try again",
                reason="REPLIES_NOT_READ",
                retry_after=1,
            )
        return reply

    def _sending(self, size: int, patience: float, *, waits: bool = False) -> None:
        """A reply of so many bytes, 0 for none any more, waits for the client to read it, so many seconds at most."""
        call = under_way.current.get(None)
        if call is not None:
            size *= 2  # gRPC has a copy of its own
            self._calls.unread_bytes += size - call.reply_bytes
            call.answer = asyncio.current_task()
            call.reply_bytes, call.reply_patience = size, patience or float("inf")
            call.replies_since = under_way.now() if size or waits else 0.0


class _Second:
    """How many there have been in this second."""

    def __init__(self) -> None:
        self._second = self._count = 0

    def one_more(self) -> int:
        second = int(under_way.now())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count

    def is_huge(self) -> bool:
        """Whether there have been so many that one more is not worth an answer."""
        return self.one_more() > _ANSWERED_A_SECOND


class _Floods(_Second):
    """Whoever is refused again and again does not fill the disk with log lines."""

    def __init__(self) -> None:
        super().__init__()
        self._not_logged = 0

    def is_one(self) -> bool:
        """Whether there were so many of late that one more is not worth a line of its own."""
        if self.one_more() <= _LOGGED_A_SECOND:
            return False
        if not self._not_logged:
            asyncio.get_running_loop().call_later(1, self._tell)
        self._not_logged += 1
        return True

    def _tell(self) -> None:
        logs.event("security", level=logging.WARNING, reason="FLOOD", calls_not_logged=self._not_logged)
        self._not_logged = 0


@functools.cache
def _failing_reply(method: str) -> Any:
    """The class of the RPC's replies where they have `success` and `status`, and come one by one; else None."""
    service, _, name = method.strip("/").rpartition("/")
    try:
        rpc = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None
    if rpc.server_streaming or not _says_how_it_went(rpc.output_type):
        return None
    return message_factory.GetMessageClass(rpc.output_type)


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


def _internal(method: str) -> Internal:
    current = logs.request_id.get()
    return Internal(
        f"{_short(method)} failed inside the plugin; its log has the cause under request_id {current}",
        metadata={"request_id": current},
    )


def _short(method: str) -> str:
    """For the log; of a method that nobody has, since its path may be anything, that it is one."""
    return method.rpartition("/")[2] or "unknown"
