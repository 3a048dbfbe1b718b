"""`python -m plugins.reasoning_react.run` in tests: the command as a process, between scripted servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb

from tests.react_peers import LLM, Tools, peer, said
from tests.servers import environment

KEY = "0123456789abcdef0123456789abcdef"
USAGE = pb.TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
ADD = {
    "description": "Adds two numbers.",
    "parameters_json": json.dumps(
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
    ),
    "idempotent": True,
}


def asks(*arguments: str, text: str = "", tool: str = "add") -> list[pb.StreamTextResponse]:
    """A turn that asks for a tool."""
    calls = [pb.ToolCall(id=f"call_{n}", name=tool, arguments_json=one) for n, one in enumerate(arguments)]
    return said(text, tool_calls=calls, finish_reason=pb.FINISH_REASON_TOOL_CALLS, usage=USAGE)


def answers(text: str) -> list[pb.StreamTextResponse]:
    return said(text, usage=USAGE)


def add(request: pb.ExecuteToolRequest, context: Any) -> str:
    arguments = json.loads(request.parameters_json)
    return str(arguments["a"] + arguments["b"])


@dataclass
class Done:
    status: int
    out: str
    err: str


@dataclass
class World:
    """The two servers, and the command between them."""

    llm: LLM
    tools: Tools
    folder: Path
    options: tuple[str, ...]

    @contextlib.asynccontextmanager
    async def started(
        self, *args: str, env: dict[str, str] | None = None, module: str = "plugins.reasoning_react.run"
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, *args, *self.options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=environment({"REASONING_REACT__STATE_KEY": KEY} | (env or {})),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, *args: str, piped: bytes = b"", **more: Any) -> Done:
        async with self.started(*args, **more) as process:
            return await ended(process, piped)

    def trace(self, name: str = "run.json") -> Any:
        return json.loads((self.folder / name).read_text())


async def ended(process: asyncio.subprocess.Process, piped: bytes = b"") -> Done:
    out, err = await process.communicate(piped)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def world(folder: Path, *turns: Any, tools: dict[str, Any] | None = None) -> AsyncIterator[World]:
    llm, provider = LLM(*turns), Tools(tools or {"add": add}, {"add": ADD})
    async with peer(llm) as one, peer(provider) as other:
        yield World(llm, provider, folder, ("--llm", one.address, "--tools", other.address))


def in_order(text: str, *parts: str) -> None:
    at = 0
    for part in parts:
        where = text.find(part, at)
        assert where >= 0, f"{part!r} is not behind {text[:at][-60:]!r}:\n{text}"
        at = where + len(part)


SUM = (asks('{"a": 2, "b": 2}', text="I add."), answers("It is 4."))
