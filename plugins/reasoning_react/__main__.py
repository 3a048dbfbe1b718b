"""A reasoning strategy for Hector: ReAct that always ends in an answer.

python -m {package} --port 8085 --llm 127.0.0.1:8081 --tools 127.0.0.1:8084
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared import logs
from shared.cli import configure
from shared.start import run
from shared.units import Addresses

from . import PACKAGE
from .config import Config

if TYPE_CHECKING:
    import grpc

    from shared.client import Address

    from .engine.engine import Engine, Settings
    from .engine.ports import LLM
    from .engine.prompts import Prompts
    from .providers.llm import GrpcLLM
    from .providers.tools import GrpcTools

NEEDS = {"jsonschema_rs": "jsonschema-rs>=0.60,<0.70"}


def main() -> int:
    config = configure(
        Config,
        package=PACKAGE,
        section="reasoning_strategies",
        about=__doc__,
        needs=NEEDS,
        variables={"tools": "HECTOR_TOOLS"},  # a host that runs the tools itself says so there
        check=check,
    )
    from hector_plugins_pb2_grpc import add_ReasoningStrategyServicer_to_server

    from shared.server import serve

    from .servicer import TOO_LARGE_HINTS, Servicer, most_items

    prompts = prompts_of(config)
    strategy: Strategy | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def begin(server: grpc.aio.Server) -> None:
        nonlocal strategy, loop
        loop = asyncio.get_running_loop()
        strategy = build(config, prompts)
        servicer = Servicer(strategy.engine, timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
        add_ReasoningStrategyServicer_to_server(servicer, server)

    def close() -> None:
        assert loop is not None
        assert strategy is not None
        asyncio.run_coroutine_threadsafe(strategy.close(), loop).result()

    return serve(
        config,
        service="hector.plugins.v1.ReasoningStrategy",
        register=begin,
        close=close,
        too_large_hints=TOO_LARGE_HINTS,
        most_items=most_items(config.max_state_bytes),
    )


def check(config: Config) -> None:
    """For --check: what a start would refuse."""
    from shared.client import channel

    prompts_of(config)
    for address in (*_addresses(config.llm).values(), *_addresses(config.tools).values()):
        channel(address).close()


@dataclass(frozen=True)
class Strategy:
    """The engine, and what it calls."""

    engine: Engine
    llms: Mapping[str, GrpcLLM]
    tools: GrpcTools

    async def close(self) -> None:
        await self.engine.close()
        for llm in self.llms.values():
            await llm.close()
        await self.tools.close()


def build(config: Config, prompts: Prompts, watched: Callable[[LLM], LLM] = lambda llm: llm) -> Strategy:
    """As the settings want it, where the event loop runs. `watched`: what the engine is given in place of an LLM.

    Raises StartError."""
    from .engine.engine import Engine
    from .engine.state import Keys
    from .providers.llm import GrpcLLM
    from .providers.tools import GrpcTools

    llms = {name: GrpcLLM(name, address) for name, address in _addresses(config.llm).items()}
    tools = GrpcTools(_addresses(config.tools), max_result_chars=config.observation_chars)
    keys = Keys(_key(config), [key.reveal().encode() for key in config.older_state_keys])
    seen = {name: watched(llm) for name, llm in llms.items()}
    return Strategy(Engine(seen, tools, keys, prompts, settings(config)), llms, tools)


def settings(config: Config) -> Settings:
    from .engine.engine import Settings
    from .engine.run import Mode

    return Settings(
        model=config.model,
        temperature=config.temperature,
        mode=None if config.mode == "auto" else Mode(config.mode),
        max_iterations=config.max_iterations,
        max_tokens=config.max_tokens,
        max_tool_calls=config.max_tool_calls,
        max_seconds=config.max_seconds,
        tool_timeout=config.tool_timeout,
        max_repairs=config.max_repairs,
        kept_chars=config.kept_chars,
        context_length=config.context_length,
        max_state_bytes=config.max_state_bytes,
        state_ttl=config.state_ttl,
    )


def prompts_of(config: Config) -> Prompts:
    from .engine.prompts import load

    return load(Path(config.prompts) if config.prompts else None)


def _addresses(setting: Addresses) -> Mapping[str, Address]:
    from shared.client import Address

    return {name: Address.read(about) for name, about in setting.items()}


def _key(config: Config) -> bytes:
    if config.state_key:
        return config.state_key.reveal().encode()
    logs.event(
        "security",
        level=logging.WARNING,
        reason="STATE_KEY_GENERATED",
        effect="no run survives this server, and no other server can take its next step",
        remedy="set state_key; `openssl rand -hex 32` makes one",
    )
    return secrets.token_bytes(32)


if __name__ == "__main__":
    run(main)
