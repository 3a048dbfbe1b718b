"""An LLM provider and a tool provider that answer at once, so that what is measured is what stands between them.

python -m benchmarks.react_servers    prints the address that both are at

The model `steps-N` asks for the tool `lookup` N times, each time with another number, and then answers; it counts the
results in the messages that it is given. `text-N` does so in its text. A tool's result has 2,000 characters. With
`-MS` behind (`steps-5-20`) the model takes so many milliseconds for each turn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from benchmarks.arguments import parser

RESULT_CHARS = 2_000
ANSWER = "It is all in there."
PARAMETERS = json.dumps(
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
)
USAGE = pb.TokenUsage(prompt_tokens=100, completion_tokens=20, total_tokens=120)
Context = grpc.aio.ServicerContext[Any, Any]


class Model(rpc.LLMProviderServicer):
    async def StreamText(  # noqa: N802 - an RPC
        self, request: pb.StreamTextRequest, context: Context
    ) -> AsyncIterator[pb.StreamTextResponse]:
        kind, steps, *wait = request.model.split("-")
        if wait:
            await asyncio.sleep(int(wait[0]) / 1000)
        results = sum("result number" in message.content for message in request.messages)
        is_last = results >= int(steps)
        last = pb.StreamTextResponse(done=True, usage=USAGE, finish_reason=pb.FINISH_REASON_STOP)
        arguments = json.dumps({"n": results})
        if is_last:
            yield pb.StreamTextResponse(text=f"Thought: I know enough.\nFinal Answer: {ANSWER}")
        elif kind == "text":
            yield pb.StreamTextResponse(text=f"Thought: one more.\nAction: lookup\nAction Input: {arguments}")
        else:
            call = pb.ToolCall(id=f"call_{results}", name="lookup", arguments_json=arguments)
            last.tool_calls.append(call)
            last.finish_reason = pb.FINISH_REASON_TOOL_CALLS
        yield last

    async def ListModels(  # noqa: N802 - an RPC
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()


class Lookup(rpc.ToolProviderServicer):
    async def ListTools(  # noqa: N802 - an RPC
        self, request: pb.ListToolsRequest, context: Context
    ) -> pb.ListToolsResponse:
        tool = pb.Tool(name="lookup", description="Looks a number up.", parameters_json=PARAMETERS, read_only=True)
        return pb.ListToolsResponse(tools=[tool])

    async def ExecuteTool(  # noqa: N802 - an RPC
        self, request: pb.ExecuteToolRequest, context: Context
    ) -> pb.ExecuteToolResponse:
        head = f"result number {json.loads(request.parameters_json)['n']}: "
        return pb.ExecuteToolResponse(success=True, result=head.ljust(RESULT_CHARS, "x"))


async def main() -> None:
    server = grpc.aio.server()
    rpc.add_LLMProviderServicer_to_server(Model(), server)
    rpc.add_ToolProviderServicer_to_server(Lookup(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser(__doc__).parse_args()
    asyncio.run(main())
