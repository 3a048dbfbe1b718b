"""A gRPC server with nothing in it: streams equal messages, as fast as Python can.

python -m benchmarks.llm_bare    prints its address
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from benchmarks.arguments import parser
from benchmarks.llm_endpoint import WORD


class Bare(rpc.LLMProviderServicer):
    async def StreamText(  # noqa: N802 - an RPC
        self, request: pb.StreamTextRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.StreamTextResponse]:
        for _ in range(int(request.model.removeprefix("chunks-"))):
            yield pb.StreamTextResponse(text=WORD)
        yield pb.StreamTextResponse(done=True)


async def main() -> None:
    server = grpc.aio.server()
    rpc.add_LLMProviderServicer_to_server(Bare(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser(__doc__).parse_args()
    asyncio.run(main())
