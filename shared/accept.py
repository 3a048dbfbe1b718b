"""Takes calls from gRPC one by one, so that no stranger's path ends the server and no call outlives its welcome.

grpc.aio reads the path of each call as UTF-8 inside its one accept loop: a single request for `/\\xff` ends that loop,
and with it the server (`docs/grpcio-utf8-path.md`). It also has no way to end a call whose client does not read its
reply. Here every method has loops of its own, a call of any other method is answered without a look at its path, and
each call is known (`shared/under_way.py`), so that it can be ended.

This leans on what is inside of grpcio, which can change with any minor version. `HOLDS` names those it was tested
with. With another one `aio_server` gives the plain server, and `shared/server.py` says so at the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from . import batches, call_metadata, quiet
from .errors import PluginError
from .status import as_trailers, grpc_code
from .under_way import REFUSAL_SECONDS, Call, Calls, current, now

HOLDS = ("1.84", "1.85")
# What a call of a method that nobody registered is called: its real path may be anything.
UNKNOWN = "/"


def holds() -> bool:
    """Whether this grpcio is one that was tested."""
    return grpc.__version__.rpartition(".")[0] in HOLDS


class Awaited(NamedTuple):
    seconds: float  # that a call may wait for its first message; 0 for any number
    setting: str  # that says so
    streams: bool = False  # whether others may follow, and a client may take its time


class Gate(Protocol):
    """Who may come in, and what handles them. For a grpcio that was not tested it is an interceptor too."""

    def request_id(self, metadata: Any) -> str:
        """What a call is named in the log."""
        ...

    def refusal(self, method: str, metadata: Any) -> PluginError | None:
        """Why a call may not come in; None where it may."""
        ...

    def tell(self, method: str, error: PluginError, context: Any) -> bool:
        """Logs that a call was refused. False where there are so many that one that has just come gets no answer."""
        ...

    def wrapped(self, method: str, handler: Any) -> Any:
        """What a method's handler becomes: one of a stream of requests, so that gRPC reads none by itself."""
        ...

    def went(self, method: str, context: Any) -> None:
        """Logs that a call ended before a whole message had come."""
        ...

    def patience(self, method: str) -> Awaited:
        """How a call of the method waits for its first message."""
        ...


def aio_server(gate: Gate, options: Sequence[tuple[str, Any]], calls: Calls) -> Any:
    """A grpc.aio.Server behind `gate` that keeps `calls`; of a grpcio that was not tested the plain one, whose calls
    are not known.

    Services must be added with `add_…Servicer_to_server` of the generated code, which registers each method.
    """
    if not holds():
        interceptors: Any = [gate]
        return grpc.aio.server(interceptors=interceptors, options=list(options))
    batches.go_to_their_end()
    call_metadata.bound()
    quiet.be_quiet()
    return _Server(gate, options, calls)


_log = logging.getLogger("hector")


# Few calls of a method are taken at once, so that a flood of it waits in gRPC and not in the event loop, where it would
# be in everybody's way. Health checks are short, and to be answered whatever else is going on, also beside a flood of
# them: 8 at once, the host's own waited 1.8 s where 64 make it 0.3, and 8 s while everything was attacked, now 0.9.
_AT_ONCE = 4
_HEALTH_CHECKS_AT_ONCE = 64
# Where no message comes since the client has gone, gRPC says that it has within a millisecond; else the call has none.
_GONE_SECONDS = 0.05


class _Server(_server.Server):
    def __init__(self, gate: Gate, options: Sequence[tuple[str, Any]], calls: Calls) -> None:
        # As the base class does, but for the class of the inner server.
        self._loop = cygrpc.get_working_loop()
        self._server = _Accepting(self._loop, gate, tuple(options), calls)


class _Accepting(cygrpc.AioServer):  # type: ignore[misc]
    def __init__(
        self, loop: asyncio.AbstractEventLoop, gate: Gate, options: tuple[tuple[str, Any], ...], calls: Calls
    ) -> None:
        super().__init__(loop, None, (), (), options, None)
        self.loop, self.gate, self.calls = loop, gate, calls
        self.handlers: dict[str, Any] = {}

    def add_registered_method_handlers(self, method_handlers: dict[str, Any]) -> None:
        super().add_registered_method_handlers(method_handlers)
        self.handlers.update({method: self.gate.wrapped(method, each) for method, each in method_handlers.items()})

    def _make_request_call_future(self, method_bytes: bytes | None) -> asyncio.Future[Any]:
        """The base class waits for one call, and makes the next such future. This one takes all calls of the method,
        so the base class never sees one, and ends when the server does."""
        at_once = _HEALTH_CHECKS_AT_ONCE if method_bytes == b"/grpc.health.v1.Health/Check" else _AT_ONCE
        return asyncio.gather(*(self._accept(method_bytes) for _ in range(at_once)))

    async def _accept(self, method_bytes: bytes | None) -> None:
        method = UNKNOWN if method_bytes is None else method_bytes.decode()
        handler: Any = self.handlers.get(method)
        while True:
            if method_bytes is None:
                state = await self._request_call()
            else:
                state = await self._request_registered_call(method_bytes)
            context = cygrpc._ServicerContext(state, None, None, self.loop)
            call = Call()
            current.set(call)  # for the tasks that are made from here on
            self.calls[call] = None
            self.calls.taken += 1
            metadata = call_metadata.read(context)
            call.request_id = self.gate.request_id(metadata or ())
            error = call_metadata.TOO_MUCH if metadata is None else self.gate.refusal(method, metadata)
            if error is None:
                call.task = self.loop.create_task(self._begin(method, handler, state, call))
            elif self.gate.tell(method, error, context) and metadata is not None:
                # Strangers can have as many of these as they like, so nothing else is done for one: what gRPC does for
                # each call by itself, such as to ask when its client goes, costs as much again. Too much metadata gets
                # no answer: gRPC holds up to 60 MB for it, and would for as long as the client does not read.
                call.task = self.loop.create_task(self._refuse(state, call, error))
            self.calls.large |= metadata is None
            if call.task is None:
                del self.calls[call]
            else:
                call.task.add_done_callback(_Ended(self.calls, call))
            # What names the call's state keeps its memory, so nothing here may until the next call comes. A call that
            # nothing names is reset.
            del state, context, call, metadata, error

    async def _begin(self, method: str, handler: Any, state: Any, call: Call) -> None:
        """Waits for the first message, and only then does what gRPC does for each call, which takes more tasks: of
        streams without a message a client can have as many as it likes."""
        call.patience, call.waits_as, streams = self.gate.patience(method)
        call.is_first = not streams
        message: Any = cygrpc.ReceiveMessageOperation(0)
        call.reader, call.awaits_since = call.task, now()
        try:
            await cygrpc.execute_batch(state, (message,), self.loop)
        except cygrpc.ExecuteBatchError:  # the client has gone, or sent more than it may
            self.gate.went(method, cygrpc._ServicerContext(state, None, None, self.loop))
            return
        except asyncio.CancelledError:
            if call.error is None or call.task is None:
                raise
            call.task.uncancel()
        finally:
            call.reader, call.awaits_since = None, 0.0
        if call.error is not None:
            self.gate.tell(method, call.error, cygrpc._ServicerContext(state, None, None, self.loop))
            await self._refuse(state, call, call.error)
            return
        call.first, message = message.message(), None  # so that it can be let go of while the call goes on
        if call.first is None:
            await self._answer_nothing(method, handler, state)
        else:
            answer = _ANSWER[handler.response_streaming](handler, state, self.loop)
            await cygrpc._schedule_rpc_coro(answer, state, self.loop, method)

    async def _answer_nothing(self, method: str, handler: Any, state: Any) -> None:
        """A call without a message. Most often its client has gone, and then there is nothing to be done."""
        close = cygrpc.ReceiveCloseOnServerOperation(0)
        closing = self.loop.create_task(cygrpc.execute_batch(state, (close,), self.loop))
        answering = None
        try:
            await asyncio.wait([closing], timeout=_GONE_SECONDS)
            if closing.done():
                self.gate.went(method, cygrpc._ServicerContext(state, None, None, self.loop))
            else:
                # As gRPC itself does it, but for the close that has been asked for already.
                answer = _ANSWER[handler.response_streaming](handler, state, self.loop)
                answering = self.loop.create_task(cygrpc._handle_exceptions(state, answer, self.loop, method))
                await closing
                if close.cancelled():
                    answering.cancel()
                await answering
        finally:
            for task in (closing, answering):
                if task is not None:
                    task.cancel()

    async def _refuse(self, state: Any, call: Call, error: PluginError) -> None:
        call.replies_since, call.reply_patience = now(), REFUSAL_SECONDS
        message, trailers = as_trailers(error)
        status = cygrpc.SendStatusFromServerOperation(trailers, grpc_code(error.code).value[0], message, 0)
        await cygrpc.execute_batch(state, (cygrpc.SendInitialMetadataOperation((), 0), status), self.loop)


_ANSWER = {False: cygrpc._handle_stream_unary_rpc, True: cygrpc._handle_stream_stream_rpc}


class _Ended:
    __slots__ = ("call", "calls")

    def __init__(self, calls: Calls, call: Call) -> None:
        self.calls, self.call = calls, call

    def __call__(self, task: asyncio.Task[None]) -> None:
        self.calls.pop(self.call, None)
        self.calls.unread_bytes -= self.call.reply_bytes
        self.call.task = self.call.answer = self.call.reader = None  # they refer to each other
        self.call.first = None  # of a call whose handler did not read it
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, cygrpc.ExecuteBatchError):
            _log.error("event=call_lost", exc_info=error)
