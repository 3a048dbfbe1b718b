"""A tiny LLM plugin for the tests of `shared/`: the first word of the prompt says what a call does.

As a process: `python -m tests.toy_plugin --port 0`. In a test: `register(Toy())` with `tests.servers.served`.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import LLMProviderServicer, add_LLMProviderServicer_to_server

from shared import logs
from shared.cli import configure
from shared.config import BaseConfig, setting
from shared.errors import NotFound, StartError
from shared.server import run, serve
from shared.units import Duration

SERVICE = "hector.plugins.v1.LLMProvider"
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    loading: str = setting("quick", "How loading goes.", choices=("quick", "refused", "buggy", "endless"))
    closing: Duration = setting("0s", "How long saving takes.")


async def _until(file: str) -> None:
    while not Path(file).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)


async def _burn() -> None:
    began = time.thread_time()
    while time.thread_time() < began + 0.2:
        pass


async def _doze() -> None:
    time.sleep(1)  # noqa: ASYNC251


async def _hold_gil() -> None:
    """Another thread holds it, for a few seconds of CPU time: matching a regular expression never lets go of it."""
    await asyncio.to_thread(re.match, "(a+)+$", "a" * 26 + "b")


_STALLS = {"burn": _burn, "doze": _doze, "gil": _hold_gil}


class Toy(LLMProviderServicer):
    """CallTool and ListModels stay as the generated base class has them."""

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        logs.event("accepted", call=request.model)
        what, _, rest = request.prompt.partition(" ")
        if what == "sleep":
            await asyncio.sleep(float(rest))
        elif what == "block":  # keeps a thread busy that nothing can cancel
            await asyncio.to_thread(time.sleep, float(rest))
        elif what == "until":  # there is a file of that name
            await _until(rest)
        elif what == "stall":  # the event loop itself, in the way that is named
            await _STALLS[rest]()
        elif what == "bytes":
            return pb.GenerateTextResponse(text="x" * int(rest))
        elif what == "refuse":
            raise NotFound(rest, field="model")
        elif what == "bug":
            raise RuntimeError(rest)
        elif what == "unfinished":
            raise NotImplementedError(rest)
        elif what == "astray":  # as when something that was awaited was cancelled by somebody else
            raise asyncio.CancelledError
        elif what == "abort":
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, rest)
        elif what == "request_id":
            await asyncio.sleep(float(rest or 0))
            return pb.GenerateTextResponse(text=logs.request_id.get())
        return pb.GenerateTextResponse(text=rest)

    async def StreamText(self, request: pb.StreamTextRequest, context: Context) -> AsyncIterator[pb.StreamTextResponse]:
        logs.event("accepted", call=request.model)
        what, _, rest = request.prompt.partition(" ")
        try:
            if what == "flood":
                while True:
                    yield pb.StreamTextResponse(text="x" * 100_000)
            yield pb.StreamTextResponse(text="first")
            if what == "bytes":
                yield pb.StreamTextResponse(text="x" * int(rest))
            elif what == "sleep":
                await asyncio.sleep(float(rest))
            elif what == "until":
                await _until(rest)
            elif what == "bug":
                raise RuntimeError(rest)
            yield pb.StreamTextResponse(done=True)
        finally:
            logs.event("stream_closed", call=request.model)


def register(servicer: LLMProviderServicer, server: grpc.aio.Server) -> None:
    add_LLMProviderServicer_to_server(servicer, server)


def main() -> int:
    config = configure(Config, package="tests.toy_plugin", section="llm_providers", about=__doc__)

    def load() -> None:
        if config.loading == "refused":
            raise StartError("the model is not there;\n  get it first")
        if config.loading == "buggy":
            raise RuntimeError("loading has a bug")
        if config.loading == "endless":
            threading.Event().wait()

    def close() -> None:
        time.sleep(config.closing)
        logs.event("closed")

    return serve(
        config,
        service=SERVICE,
        register=lambda server: register(Toy(), server),
        load=load,
        close=close,
        too_large_hints={"GenerateText": "lower max_tokens", "StreamText": "stream smaller pieces"},
    )


if __name__ == "__main__":
    run(main)
