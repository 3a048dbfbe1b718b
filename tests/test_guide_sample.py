"""The Python LLM sample of the published plugin guide runs on our contract."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub

from tests.servers import SECONDS, Plugin, start_plugin

# As published, indentation restored. Ours: `import os`, which it forgot, and the listen address.
SAMPLE = """\
import os
import grpc
from concurrent import futures
import asyncio
from hector_plugins_pb2 import *
from hector_plugins_pb2_grpc import *

class CustomLLMProvider(LLMProviderServicer):
    def __init__(self, api_key: str):
        self.api_key = api_key

    async def GenerateText(self, request, context):
        # Custom LLM API call
        response = await self.call_custom_llm(request.prompt, request.model)
        return GenerateTextResponse(
            text=response.text,
            usage=TokenUsage(
                prompt_tokens=response.prompt_tokens,
                completion_tokens=response.completion_tokens,
                total_tokens=response.total_tokens
            )
        )

    async def StreamText(self, request, context):
        # Streaming implementation
        async for token in self.stream_custom_llm(request.prompt, request.model):
            yield StreamTextResponse(
                text=token,
                done=False
            )
        yield StreamTextResponse(
            text="",
            done=True
        )

async def serve():
    server = grpc.aio.server(futures.ThreadPoolExecutor(max_workers=10))
    add_LLMProviderServicer_to_server(CustomLLMProvider(os.getenv("CUSTOM_LLM_API_KEY")), server)
    listen_addr = 'LISTEN_ADDRESS'
    server.add_insecure_port(listen_addr)
    print(f"Custom LLM provider starting on {listen_addr}")
    await server.start()
    await server.wait_for_termination()

if __name__ == '__main__':
    asyncio.run(serve())
"""

# What the guide leaves to the reader, in a subclass that takes the place of the sample's class.
RUN = """\
import asyncio
import sample
from types import SimpleNamespace

class WithUpstream(sample.CustomLLMProvider):
    async def call_custom_llm(self, prompt, model):
        words = prompt.split()
        text = f"{model} with {self.api_key} heard {prompt}"
        return SimpleNamespace(
            text=text, prompt_tokens=len(words), completion_tokens=3, total_tokens=len(words) + 3
        )

    async def stream_custom_llm(self, prompt, model):
        for word in prompt.split():
            await asyncio.sleep(0)
            yield word

sample.CustomLLMProvider = WithUpstream
asyncio.run(sample.serve())
"""


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Plugin]:
    """The sample as a process, on a unix socket: unlike a port, its address is known beforehand."""
    address = f"unix:{tmp_path / 's'}"
    (tmp_path / "sample.py").write_text(SAMPLE.replace("LISTEN_ADDRESS", address))
    (tmp_path / "run.py").write_text(RUN)
    argv = [sys.executable, str(tmp_path / "run.py")]
    with start_plugin(argv, env={"CUSTOM_LLM_API_KEY": "a-key"}, cwd=tmp_path, wait="nothing") as plugin:
        plugin.address = address
        yield plugin


def test_generate_text(sample: Plugin) -> None:
    """GenerateText of the guide's sample answers with text and usage."""
    request = pb.GenerateTextRequest(prompt="good morning", model="m1")
    reply = LLMProviderStub(sample.channel()).GenerateText(request, timeout=SECONDS, wait_for_ready=True)
    assert reply.text == "m1 with a-key heard good morning"
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2, 3, 5)


def test_stream_text(sample: Plugin) -> None:
    """StreamText of the guide's sample gives its tokens, then `done` with empty text."""
    request = pb.StreamTextRequest(prompt="one two three", model="m1")
    replies = list(LLMProviderStub(sample.channel()).StreamText(request, timeout=SECONDS, wait_for_ready=True))
    assert [reply.text for reply in replies] == ["one", "two", "three", ""]
    assert [reply.done for reply in replies] == [False, False, False, True]


def test_the_sample_is_the_guides() -> None:
    """The two import lines stand as in the guide, and the listen address is changed in one place."""
    lines = SAMPLE.splitlines()
    at = lines.index("from hector_plugins_pb2 import *")
    assert lines[at + 1] == "from hector_plugins_pb2_grpc import *"
    assert [line for line in lines if "LISTEN_ADDRESS" in line] == ["    listen_addr = 'LISTEN_ADDRESS'"]
