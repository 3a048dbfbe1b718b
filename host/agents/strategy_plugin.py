"""A reasoning plugin over gRPC: its calls, a step as a stream where it has one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyStub

from host.agents.failure import of_call, of_reply
from host.agents.peer import Dialled, Peer
from shared.errors import Code

_LARGEST_REPLY = 2**26  # bytes
_INITIALIZE_SECONDS = 60.0


class Strategy:
    """A reasoning plugin. Made where the event loop runs; raises StartError where a TLS file cannot be used."""

    def __init__(self, peer: Peer, llm: Peer | None, *, streams: bool) -> None:
        """`llm`: the plugin that it asks in its turn, where the host knows that. `streams`: whether steps are to be
        shown while they happen."""
        self.who = peer.who
        self._peer, self._llm = peer, llm
        self._dialled = Dialled(peer, ReasoningStrategyStub, _LARGEST_REPLY)
        self._streams = streams  # until it says that it does not

    async def close(self) -> None:
        await self._dialled.close()

    async def initialize(self, request: pb.InitializeRequest) -> bytes:
        reply = await self._call("Initialize", request, _INITIALIZE_SECONDS)
        return bytes(reply.state)

    async def finalize(self, state: bytes, seconds: float) -> pb.FinalizeResponse:
        reply: pb.FinalizeResponse = await self._call("Finalize", pb.FinalizeRequest(state=state), seconds)
        return reply

    async def step(
        self, request: pb.ProcessIterationRequest, seconds: float
    ) -> AsyncGenerator[pb.IterationEvent, None]:
        """The last event is the response. Raises AgentFailed. Closed or cancelled, it ends the step upstream."""
        async with self._calling():
            if self._streams:
                timeout = min(seconds, self._peer.longest)
                call = self._dialled.stub.StreamIteration(
                    request, metadata=self._peer.address.metadata, timeout=timeout, wait_for_ready=False
                )
                try:
                    async for event in call:
                        if event.WhichOneof("event") == "response" and not event.response.success:
                            raise of_reply(self.who, event.response)
                        yield event
                        if event.WhichOneof("event") == "response":
                            return
                    return
                except grpc.aio.AioRpcError as error:
                    failure = of_call(self.who, error)
                    if failure.code is not Code.UNIMPLEMENTED:
                        raise failure from None
                    self._streams = False
                finally:
                    call.cancel()
        yield pb.IterationEvent(response=await self._call("ProcessIteration", request, seconds))

    async def _call(self, rpc: str, request: Any, seconds: float) -> Any:
        timeout = min(seconds, self._peer.longest)
        try:
            async with self._calling():
                call = getattr(self._dialled.stub, rpc)
                reply = await call(request, metadata=self._peer.address.metadata, timeout=timeout, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise of_call(self.who, error) from None
        if not reply.success:
            raise of_reply(self.who, reply)
        return reply

    @contextlib.asynccontextmanager
    async def _calling(self) -> AsyncIterator[None]:
        async with self._peer.calling(), self._llm.calling() if self._llm else contextlib.nullcontext():
            yield
