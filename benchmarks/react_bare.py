"""A gRPC server with nothing in it: makes a step's calls and hands on what they bring, without a look at it.

python -m benchmarks.react_bare ADDRESS    prints its own; ADDRESS is that of benchmarks.react_servers

What it takes of the machine, every strategy takes that is one process and speaks gRPC from Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from benchmarks.arguments import parser
from benchmarks.react_servers import RESULT_CHARS

Context = grpc.aio.ServicerContext[Any, Any]


class Bare(rpc.ReasoningStrategyServicer):
    """A run's state is its model's name, and how many results there are, with as many characters as they have."""

    def __init__(self, servers: str) -> None:
        channel = grpc.aio.insecure_channel(servers)
        self._llm: Any = rpc.LLMProviderStub(channel)
        self._tool: Any = rpc.ToolProviderStub(channel)

    async def Initialize(self, request: pb.InitializeRequest, context: Context) -> pb.InitializeResponse:  # noqa: N802 - an RPC
        self._tools = list((await self._tool.ListTools(pb.ListToolsRequest())).tools)
        return pb.InitializeResponse(success=True, state=f"{request.model} 0 ".encode())

    async def ProcessIteration(  # noqa: N802 - an RPC
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> pb.ProcessIterationResponse:
        model, count, _ = request.state.split(b" ")
        turn = pb.StreamTextRequest(model=model.decode(), messages=_messages(int(count)), tools=self._tools)
        calls = [call async for message in self._llm.StreamText(turn) for call in message.tool_calls]
        if not calls:
            return pb.ProcessIterationResponse(success=True, done=True, state=request.state)
        call = pb.ExecuteToolRequest(tool=calls[0].name, parameters_json=calls[0].arguments_json, call_id=calls[0].id)
        result = (await self._tool.ExecuteTool(call)).result
        results = int(count) + 1
        state = b"%s %d %s" % (model, results, b"x" * RESULT_CHARS * results)
        return pb.ProcessIterationResponse(success=True, result=result, state=state)


def _messages(results: int) -> Iterator[pb.ChatMessage]:
    yield pb.ChatMessage(role="system", content="You answer questions. " * 50)
    yield pb.ChatMessage(role="user", content="How much is it?")
    for number in range(results):
        call = pb.ToolCall(id=f"call_{number}", name="lookup", arguments_json=f'{{"n": {number}}}')
        yield pb.ChatMessage(role="assistant", tool_calls=[call])
        content = f"result number {number}: ".ljust(RESULT_CHARS, "x")
        yield pb.ChatMessage(role="tool", tool_call_id=call.id, name=call.name, content=content)


async def main(servers: str) -> None:
    server = grpc.aio.server()
    rpc.add_ReasoningStrategyServicer_to_server(Bare(servers), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("servers", metavar="ADDRESS")
    asyncio.run(main(options.parse_args().servers))
