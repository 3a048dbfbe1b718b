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
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from shared import accept, logs, wire
from shared.config import BaseConfig
from shared.credentials import check_token
from shared.errors import (
    CallerError,
    Code,
    DeadlineExceeded,
    Internal,
    Malformed,
    Overloaded,
    PluginError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from shared.places import Places
from shared.status import abort, as_trailers, failure, grpc_code

HEALTH = "/grpc.health.v1.Health/"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# A health request is a name; more of it is not looked at, and not waited for longer.
_LARGEST_HEALTH, _HEALTH_SECONDS = 1024, 5.0
# Calls that anybody can make as fast as they like; of those that end so, this many a second are logged.
_CHEAP = (Unauthenticated, Unimplemented, Unavailable, Overloaded, Malformed)
_LOGGED_A_SECOND = 100
_ABORT_SECONDS = 5.0  # that a client which does not read is given to take an error

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]
Handler = Any  # grpc.RpcMethodHandler, which is generic for type checkers alone


class CallInterceptor(grpc.aio.ServerInterceptor):
    """One for a server. `ready` belongs to whoever runs the server (`shared/server.py`)."""

    def __init__(
        self,
        config: BaseConfig,
        calls: accept.Calls,
        too_large_hints: Mapping[str, str],
        most_items: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """`too_large_hints`: for an RPC's name, what to do when its reply is past `max_reply_bytes`.

        `most_items`: for an RPC's name, how often fields of its request may repeat.
        """
        self.ready = False
        self.config = config
        self.calls = calls
        self.places = Places(config.max_concurrent)
        self.held_bytes = 0  # of requests that are worked on
        self._hints = too_large_hints
        self.most_items = most_items or {}
        self._handlers: dict[str, Handler] = {}
        self._refusals: dict[tuple[str, str], Handler] = {}
        self._floods = _Floods()
        self.parsing = ThreadPoolExecutor(2, thread_name_prefix="parsing")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        is_health = method.startswith(HEALTH)
        # Before anything of the request is read: who may not call cannot make the server hold and parse a message.
        if not is_health and (refusal := self._refusal(handler_call_details.invocation_metadata or ())):
            return self._refusing(method, refusal)
        handler = self._handlers.get(method)
        if handler is None:
            served = await continuation(handler_call_details)
            if served is None:
                name = "the method that was called" if method == accept.UNKNOWN else _short(method)
                return self._refusing(method, Unimplemented(f"this plugin does not have {name}"))
            # Handlers never change once the server runs, so each is wrapped once.
            handler = self._handlers[method] = (self._exempt if is_health else self._wrapped)(method, served)
        return handler

    def _refusal(self, metadata: Any) -> PluginError | None:
        if self.config.token and (refusal := check_token(self.config.token, metadata)):
            return refusal
        if not self.ready:
            return Unavailable(
                "the plugin is still loading; wait until its health is SERVING", reason="LOADING", retry_after=1
            )
        return None

    def _refusing(self, method: str, error: PluginError) -> Handler:
        """Strangers can have as many of these as they like, so all is ready before one comes."""
        handler = self._refusals.get((method, error.reason))
        if handler is not None:
            return handler
        message, trailers = as_trailers(error)
        code = grpc_code(error.code)

        async def call(_: Any, context: Context) -> None:
            if not self._floods.is_one():
                logs.request_id.set(_request_id(context.invocation_metadata() or ()))
                logs.event("call", method=_short(method), code=error.code.name, ms=0.0)
                if isinstance(error, Unauthenticated):
                    _security(context, method, error)
            self._sending(0, _ABORT_SECONDS, waits=True)
            context.set_code(code)
            context.set_details(message)
            context.set_trailing_metadata(trailers)

        # Every kind of call can be answered as a stream, and only of a stream nothing is read first.
        handler = self._refusals[method, error.reason] = grpc.stream_stream_rpc_method_handler(call)
        return handler

    def _exempt(self, method: str, handler: Handler) -> Handler:
        receive = _Receiving(self, method, handler, _HEALTH_SECONDS, _LARGEST_HEALTH).receive
        serialize: Any = handler.response_serializer
        behaviour: Any = handler.unary_stream or handler.unary_unary

        async def call(_: Any, context: Context) -> bytes:
            try:
                request = await receive(context)
            except PluginError as error:
                return await abort(context, error)
            return bytes(serialize(await behaviour(request, context)))

        async def stream(_: Any, context: Context) -> None:
            try:
                request = await receive(context)
            except PluginError as error:
                await abort(context, error)
            async with contextlib.aclosing(behaviour(request, context)) as replies:
                async for reply in replies:
                    await context.write(serialize(reply))

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(call)

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        # Replies are serialised here and handed on as bytes, so that their size is known while the call can still
        # be answered with a proper error, and without serialising twice.
        serialize: Any = handler.response_serializer
        receiving = _Receiving(self, method, handler, self.config.transfer_timeout)
        behaviour: Any = handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
        if handler.response_streaming:
            work = self._upload if handler.request_streaming else self._stream
            return grpc.stream_stream_rpc_method_handler(work(method, behaviour, receiving, serialize))
        return grpc.stream_unary_rpc_method_handler(self._unary(method, behaviour, receiving, serialize))

    def _unary(self, method: str, behaviour: Any, receiving: _Receiving, serialize: Any) -> Behaviour:
        patience = self.config.transfer_timeout

        async def call(_: Any, context: Context) -> Any:
            async def answer(request: Any) -> tuple[bytes, str]:
                async with _Limits(self, context, method):
                    reply = await behaviour(request, context)
                    return self._sized(method, serialize(reply)), _code_in(reply)

            with receiving.held() as held:
                reply = await self._around(method, context, answer, functools.partial(receiving.receive, context, held))
            self._sending(len(reply or b""), patience)
            return reply

        return call

    def _stream(self, method: str, behaviour: Any, receiving: _Receiving, serialize: Any) -> Behaviour:
        # Written as a coroutine that writes, not as a generator: the time limit then also bounds a client that
        # does not read.
        async def call(_: Any, context: Context) -> None:
            async def answer(request: Any) -> tuple[None, str]:
                # Closed here, whatever ends the call: left to the garbage collector, the behaviour's `finally` would
                # run at some later time, outside of the call.
                async with _Limits(self, context, method), contextlib.aclosing(behaviour(request, context)) as replies:
                    async for reply in replies:
                        await self._write(method, context, serialize(reply))
                return None, "OK"

            with receiving.held() as held:
                await self._around(method, context, answer, functools.partial(receiving.receive, context, held))

        return call

    def _upload(self, method: str, behaviour: Any, receiving: _Receiving, serialize: Any) -> Behaviour:
        async def call(_: Any, context: Context) -> None:
            async def answer(_: Any) -> tuple[None, str]:
                async with (
                    _Turns(self, context, method, receiving) as turns,
                    contextlib.aclosing(behaviour(turns.requests(), context)) as replies,
                ):
                    async for reply in replies:
                        await self._write(method, context, serialize(reply))
                        turns.replied()
                return None, "OK"

            await self._around(method, context, answer)

        return call

    async def _write(self, method: str, context: Context, reply: bytes) -> None:
        # The stream's own time limit comes first; this is for one that has none left to say so.
        timeout = self.config.timeout
        self._sending(len(self._sized(method, reply)), timeout and timeout + _ABORT_SECONDS)
        await context.write(reply)
        self._sending(0, 0)

    async def _around(
        self,
        method: str,
        context: Context,
        answer: Callable[[Any], Awaitable[tuple[bytes | None, str]]],
        receive: Callable[[], Awaitable[Any]] | None = None,
    ) -> bytes | None:
        """What `answer` gives for what `receive` brings, or its error sent. It also says the code that is logged."""
        started = time.perf_counter()
        logs.request_id.set(_request_id(context.invocation_metadata() or ()))
        code = "OK"
        error: PluginError | None = None
        request: Any = None
        try:
            if receive is not None:
                request = await receive()
                started = time.perf_counter()  # how fast the client sends is not the plugin's doing
            reply, code = await answer(request)
            return reply
        except PluginError as raised:
            # Without the traceback, which would keep this frame, and with it request and reply, until the next
            # collection of garbage.
            error, code = raised.with_traceback(None), raised.code.name
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
            # Before the answer goes out: that can take as long as the client does not read.
            if not (is_flood := isinstance(error, _CHEAP) and self._floods.is_one()):
                ms = round((time.perf_counter() - started) * 1000, 2)
                logs.event("call", method=_short(method), code=code, ms=ms)
        if isinstance(error, Unauthenticated | Overloaded | TooLarge) and not is_flood:
            _security(context, method, error)
        if isinstance(error, CallerError) and (reply_class := _failing_reply(method)):
            return bytes(failure(reply_class(), error).SerializeToString())
        # What was written before may still wait for the client to read, and then the error does so too.
        self._sending(0, _ABORT_SECONDS, waits=True)
        return await abort(context, error)

    def _sized(self, method: str, reply: bytes) -> bytes:
        limit = self.config.max_reply_bytes
        if len(reply) > limit:
            hint = self._hints.get(_short(method), "ask for less at once")
            raise TooLarge(
                f"the reply has {len(reply)} bytes, more than max_reply_bytes of {limit}: {hint}",
                reason="REPLY_TOO_LARGE",
            )
        unread, most = self.calls.unread_bytes, self.config.max_held_bytes
        if unread and unread + len(reply) > most:
            raise Overloaded(
                f"replies of {unread} bytes wait for their clients to read, and max_held_bytes is {most}; try again",
                reason="REPLIES_NOT_READ",
                retry_after=1,
            )
        return reply

    def _sending(self, size: int, patience: float, *, waits: bool = False) -> None:
        """A reply of so many bytes, 0 for none any more, waits for the client to read it, so many seconds at most."""
        call = accept.current.get(None)
        if call is not None:
            size *= 2  # gRPC has a copy of its own
            self.calls.unread_bytes += size - call.reply_bytes
            call.answer = asyncio.current_task()
            call.reply_bytes, call.reply_patience = size, patience or float("inf")
            call.replies_since = accept.now() if size or waits else 0.0


class _Floods:
    """Whoever is refused again and again does not fill the disk with log lines."""

    def __init__(self) -> None:
        self._second = self._count = self._not_logged = 0

    def is_one(self) -> bool:
        """Whether there were so many of late that one more is not worth a line of its own."""
        second = int(accept.now())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= _LOGGED_A_SECOND:
            return False
        if not self._not_logged:
            asyncio.get_running_loop().call_later(1, self._tell)
        self._not_logged += 1
        return True

    def _tell(self) -> None:
        logs.event("security", level=logging.WARNING, reason="FLOOD", calls_not_logged=self._not_logged)
        self._not_logged = 0


class _Receiving:
    """How the requests of one RPC arrive: in time, within bounds, readable."""

    def __init__(
        self, calls: CallInterceptor, method: str, handler: Handler, patience: float, largest: int | None = None
    ) -> None:
        """`patience`: seconds that the first message may take; `largest`: bytes of one."""
        self._calls, self._patience, self._largest = calls, patience, largest
        # A generated class's FromString, which says of what class it is; or somebody's own deserializer.
        self._deserialize: Any = handler.request_deserializer
        kind = getattr(handler.request_deserializer, "__self__", None)
        self._kind = kind if isinstance(kind, type) and issubclass(kind, Message) else None
        self._most_items = calls.most_items.get(_short(method), {})

    @contextlib.contextmanager
    def held(self) -> Iterator[_Held]:
        """Counts what `receive` brings as held by the plugin until the end of the block."""
        held = _Held()
        try:
            yield held
        finally:
            self._calls.held_bytes -= held.bytes

    async def receive(self, context: Context, held: _Held | None = None) -> Any:
        """A message. Raises Malformed where none comes, or none that can be read."""
        message = await self.next(context, held, self._patience, is_first=True)
        if message is grpc.aio.EOF:
            raise Malformed("the call came without a message; send one", reason="NO_MESSAGE")
        return message

    async def next(self, context: Context, held: _Held | None, patience: float, *, is_first: bool) -> Any:
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
        return await loop.run_in_executor(self._calls.parsing, wire.parse, self._kind, data, self._most_items)

    def _hold(self, held: _Held, size: int) -> None:
        calls, most = self._calls, self._calls.config.max_held_bytes
        if calls.held_bytes + size > most and calls.held_bytes:
            raise Overloaded(
                f"requests of {calls.held_bytes} bytes are worked on, and max_held_bytes is {most}; try again",
                retry_after=1,
            )
        calls.held_bytes += size
        held.bytes += size


class _Held:
    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


async def _read(context: Context, patience: float, is_first: bool) -> Any:
    """The bytes of a message, or grpc.aio.EOF. `shared/patience.py` ends the wait where it has to end."""
    call = accept.current.get(None)
    if call is None:  # of a grpcio that was not tested
        try:
            async with asyncio.timeout(patience or None):
                return await context.read()
        except TimeoutError:
            raise DeadlineExceeded(f"no whole message came within {patience:g} s", reason="MESSAGE_TIMEOUT") from None
    call.reader = asyncio.current_task()
    call.patience, call.is_first, call.awaits_since = patience, is_first, accept.now()
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


class _Limits:
    """One of `max_concurrent` places, for `timeout` at most. A class, since every call pays for it: a generator would
    take longer than the rest of this module."""

    __slots__ = ("_bound", "_calls", "_context", "_method")

    def __init__(self, calls: CallInterceptor, context: Context, method: str) -> None:
        self._calls, self._context, self._method = calls, context, method

    async def __aenter__(self) -> None:
        calls, config = self._calls, self._calls.config
        if not calls.places.take():
            raise Overloaded(
                f"{config.max_concurrent} calls are under way, which is this plugin's max_concurrent; try again",
                retry_after=1,
            )
        self._bound = asyncio.timeout(config.timeout or None)
        await self._bound.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._calls.places.give_back()
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError:
            raise _late(self._calls.config.timeout, self._context, self._method) from None


class _Turns:
    """What `_Limits` is to a call, to a stream of requests: a place only while a reply is owed, and `timeout` for each
    message and each silence."""

    def __init__(self, calls: CallInterceptor, context: Context, method: str, receiving: _Receiving) -> None:
        self._calls, self._context, self._method, self._receiving = calls, context, method, receiving
        self._owed: deque[int] = deque()  # the sizes of messages that were not replied to

    async def __aenter__(self) -> _Turns:
        self._held = _Held()
        self._has_place = self._closed = False
        self._bound = asyncio.timeout(self._calls.config.timeout or None)
        await self._bound.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._closed = True
        self._calls.held_bytes -= self._held.bytes
        self._give_back()
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError:
            raise _late(self._calls.config.timeout, self._context, self._method) from None

    async def requests(self) -> AsyncIterator[Any]:
        while True:
            before = self._held.bytes
            # The silence is bounded by the stream's own time limit.
            message = await self._receiving.next(self._context, self._held, 0, is_first=False)
            if message is grpc.aio.EOF:
                return
            self._owed.append(self._held.bytes - before)
            self._again()
            if not self._has_place:
                await self._calls.places.wait()
                self._has_place = True
                if self._closed:  # meanwhile; a servicer may read in a task of its own
                    self._give_back()
            yield message

    def replied(self) -> None:
        """The oldest of the messages that wait for a reply has got it."""
        self._again()
        if self._owed:
            size = self._owed.popleft()
            self._calls.held_bytes -= size
            self._held.bytes -= size
        if not self._owed:
            self._give_back()

    def _again(self) -> None:
        """Time begins anew."""
        timeout = self._calls.config.timeout
        if timeout:
            self._bound.reschedule(asyncio.get_running_loop().time() + timeout)

    def _give_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._calls.places.give_back()


def _late(seconds: float, context: Context, method: str) -> DeadlineExceeded:
    late = DeadlineExceeded(
        f"the call took longer than this plugin's timeout of {seconds:g} s; send less at once or raise it"
    )
    _security(context, method, late)
    return late


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
