"""The tool provider with tools of a test's own, called through a socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc

from plugins.tools_http.config import Config
from plugins.tools_http.engine.engine import Engine, Settings
from plugins.tools_http.engine.redaction import Redactor
from plugins.tools_http.engine.tool import Call, Output, Tool
from plugins.tools_http.servicer import MOST_ITEMS, TOO_LARGE_HINTS, Servicer, register
from tests.servers import SECONDS, Served, served

SERVICE = "hector.plugins.v1.ToolProvider"
OPEN: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}


@dataclass
class Tools:
    """A client of a provider."""

    served: Served
    engine: Engine

    def __post_init__(self) -> None:
        self.stub = rpc.ToolProviderStub(self.served.channel())

    def call(self, tool: str, arguments: Any = None, **more: Any) -> pb.ExecuteToolResponse:
        """`arguments` as JSON; text goes as it is."""
        return self.stub.ExecuteTool(request(tool, arguments, **more), timeout=SECONDS)

    def log_lines(self, event: str) -> list[dict[str, str]]:
        """The fields of each line of this event, of values without quotes."""
        lines = [line.split("event=", 1)[1].split(" ") for line in self.served.log().splitlines() if "event=" in line]
        return [dict(pair.split("=", 1) for pair in words[1:] if "=" in pair) for words in lines if words[0] == event]


def request(tool: str, arguments: Any = None, **more: Any) -> pb.ExecuteToolRequest:
    text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
    return pb.ExecuteToolRequest(tool=tool, parameters_json=text, **more)


def tool(
    run: Callable[[dict[str, Any], Call], Awaitable[Output]] | None = None,
    *,
    name: str = "toy",
    parameters: Mapping[str, Any] = OPEN,
    **more: Any,
) -> Tool:
    return Tool(name=name, description="A toy.", parameters=parameters, run=run, **more)


@contextlib.contextmanager
def serving(*tools: Tool, secrets: Sequence[str] = (), **settings: Any) -> Iterator[Tools]:
    """The servicer of an engine with these tools; `settings` are the engine's."""
    config = Config(port=0, max_reply_bytes=settings.get("max_reply_bytes", 4 * 2**20))
    engine = Engine(tools, Settings(**settings), Redactor(secrets))
    servicer = Servicer(engine, timeout=settings.get("timeout", 120.0), max_reply_bytes=config.max_reply_bytes)

    with served(
        config,
        SERVICE,
        lambda server: register(server, servicer),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=MOST_ITEMS,
    ) as running:
        yield Tools(running, engine)
