"""The LLM as the engine wants it: a prompt in, text out."""

from __future__ import annotations

from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import LLMProviderStub

from shared.client import Address, channel
from shared.errors import CallerError, Code, InvalidArgument
from shared.units import Addresses

from .engine import Ask, Run


class LLMFailed(CallerError):
    code = Code.UNAVAILABLE
    reason = "LLM_FAILED"


def asking(llms: Addresses) -> Ask:
    """Asks the LLM plugin that a run names, else the first. To be called where the event loop runs."""
    addresses = {name: Address.read(llm) for name, llm in llms.items()}
    stubs: dict[str, Any] = {name: LLMProviderStub(channel(llm, aio=True)) for name, llm in addresses.items()}

    async def ask(prompt: str, run: Run) -> str:
        name = run.llm or next(iter(stubs))
        if name not in stubs:
            raise InvalidArgument(f"there is no LLM {name}; the setting llm has {', '.join(stubs)}", field="llm")
        options = pb.GenerationOptions(temperature=run.temperature)
        request = pb.GenerateTextRequest(prompt=prompt, model=run.model, options=options)
        try:
            reply = await stubs[name].GenerateText(request, metadata=addresses[name].metadata)
        except grpc.aio.AioRpcError as error:
            raise LLMFailed(f"the LLM {name} failed: {error.details()}; take the step again") from None
        run.tokens += reply.usage.total_tokens
        return str(reply.text)

    return ask


async def echo(prompt: str, run: Run) -> str:
    """For a first look without an LLM."""
    return prompt
