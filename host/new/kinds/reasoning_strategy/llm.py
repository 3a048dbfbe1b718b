"""The LLM as the engine wants it: a prompt in, text out."""

from __future__ import annotations

from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import LLMProviderStub

from shared.client import Address, channel
from shared.errors import CallerError, Code

from .engine import Ask


class LLMFailed(CallerError):
    code = Code.UNAVAILABLE
    reason = "LLM_FAILED"


def asking(address: str) -> Ask:
    """Asks the LLM plugin at `address`. To be called where the event loop runs."""
    stub: Any = LLMProviderStub(channel(Address(address), aio=True))

    async def ask(prompt: str, temperature: float | None) -> str:
        request = pb.GenerateTextRequest(prompt=prompt, options=pb.GenerationOptions(temperature=temperature))
        try:
            return str((await stub.GenerateText(request)).text)
        except grpc.aio.AioRpcError as error:
            raise LLMFailed(f"the LLM at {address} failed: {error.details()}; take the step again") from None

    return ask


async def echo(prompt: str, temperature: float | None) -> str:
    """For a first look without an LLM."""
    return prompt
