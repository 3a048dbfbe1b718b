"""What reasoning_react calls, scripted: an LLM provider and tool providers on real sockets, in the test's own loop.

    async with peer(Tools({"add": add})) as address:
        ...

A handler gets the request and the gRPC context, and gives a reply or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from shared.errors import CallerError, PluginError
from shared.status import abort, failure

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[[Any, Context], Any]


class LLM(rpc.LLMProviderServicer):
    """Plays `turns` one after the other, the last one for good: each a list of messages (an error in it is raised
    there), or a script that makes one. Without `streams` there is no StreamText."""

    def __init__(
        self, *turns: Any, models: Iterable[pb.ModelInfo] | PluginError | None = None, streams: bool = True
    ) -> None:
        self.turns, self.models, self.streams = list(turns), models, streams
        self.requests: list[Any] = []
        self.listed = 0
        self.ended = asyncio.Event()  # a stream, whichever way

    def _next(self) -> Any:
        return self.turns[min(len(self.requests), len(self.turns)) - 1]

    async def StreamText(self, request: pb.StreamTextRequest, context: Context) -> AsyncIterator[pb.StreamTextResponse]:
        if not self.streams:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        self.requests.append(request)
        turn = self._next()
        try:
            for message in turn(request, context) if callable(turn) else turn:
                if isinstance(message, PluginError):
                    await abort(context, message)
                if isinstance(message, Awaitable):
                    await message
                else:
                    yield message
        finally:
            self.ended.set()

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        self.requests.append(request)
        reply = self._next()
        if isinstance(reply, PluginError):
            await abort(context, reply)
        return reply  # type: ignore[no-any-return]

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        self.listed += 1
        if isinstance(self.models, PluginError):
            await abort(context, self.models)
        if self.models is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        assert not isinstance(self.models, PluginError)
        return pb.ListModelsResponse(models=self.models)


class Tools(rpc.ToolProviderServicer):
    """`scripts` by tool name; a tool's facts are in `about`. `calls` has every ExecuteTool."""

    def __init__(self, scripts: Mapping[str, Script], about: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.scripts, self.about = dict(scripts), dict(about or {})
        self.calls: list[pb.ExecuteToolRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.listed = 0
        self.refuses_lists: PluginError | None = None
        self.ended = asyncio.Event()  # a call, whichever way

    async def ListTools(self, request: pb.ListToolsRequest, context: Context) -> pb.ListToolsResponse:
        self.listed += 1
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.refuses_lists:
            await abort(context, self.refuses_lists)
        return pb.ListToolsResponse(
            tools=[pb.Tool(**{"name": name} | dict(self.about.get(name, {}))) for name in self.scripts]
        )

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Context) -> pb.ExecuteToolResponse:
        copy = pb.ExecuteToolRequest()
        copy.CopyFrom(request)
        self.calls.append(copy)
        script = self.scripts.get(request.tool)
        if script is None:
            return pb.ExecuteToolResponse(error=f"Unknown tool: {request.tool}")
        try:
            reply = script(request, context)
            if isinstance(reply, Awaitable):
                reply = await reply
            return reply if isinstance(reply, pb.ExecuteToolResponse) else gave(reply)
        except CallerError as error:
            return failure(pb.ExecuteToolResponse(result=getattr(error, "body", "")), error)
        except PluginError as error:
            await abort(context, error)
            raise AssertionError from None
        finally:
            self.ended.set()


def gave(text: str, **more: Any) -> pb.ExecuteToolResponse:
    return pb.ExecuteToolResponse(success=True, result=text, **more)


def said(*texts: str, **last: Any) -> list[pb.StreamTextResponse]:
    """A whole stream."""
    return [
        *(pb.StreamTextResponse(text=text) for text in texts),
        pb.StreamTextResponse(done=True, **{"finish_reason": pb.FINISH_REASON_STOP} | last),
    ]


@contextlib.asynccontextmanager
async def peer(servicer: LLM | Tools, port: int = 0) -> AsyncIterator[Peer]:
    """The servicer on a port of 127.0.0.1."""
    running = Peer(servicer)
    await running.start(port)
    try:
        yield running
    finally:
        await running.die()


class Peer:
    def __init__(self, servicer: LLM | Tools) -> None:
        self._servicer = servicer
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        """Begins, or begins again, on the port that it had: none of those that the system gives whoever asks for any,
        and every connection that goes out, which could have it meanwhile."""
        while not (port or self.port):
            tried = random.randrange(10_000, 30_000)
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", tried))
                port = tried
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        if isinstance(self._servicer, LLM):
            rpc.add_LLMProviderServicer_to_server(self._servicer, self._server)
        else:
            rpc.add_ToolProviderServicer_to_server(self._servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port or self.port}")
        await self._server.start()

    async def die(self) -> None:
        """Ends what is under way, and every connection."""
        await self._server.stop(0)
