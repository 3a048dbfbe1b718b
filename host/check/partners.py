"""A scripted LLMProvider and a scripted ToolProvider, for a reasoning strategy to think and act with.

The model answers by what the question holds: `check:answer WORD` is answered at once with WORD; `check:add A B` asks
the tool `add` first, and answers with the number in its `The sum is N.`; `check:both A B` asks it twice in one turn,
for A + B and A + A, and answers with both; `check:fail` asks it for what it cannot add, and answers with the error that
it is shown; `check:loop` asks for a tool for ever. `down` makes the model fail, `pause` is how long it thinks.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from google.protobuf import json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from hector_plugins_pb2_grpc import (
    LLMProviderServicer,
    ToolProviderServicer,
    add_LLMProviderServicer_to_server,
    add_ToolProviderServicer_to_server,
)

_ASKED = re.compile(r"check:(answer|add|both|fail|loop)(?: (\S+))?(?: (\S+))?")
_SUM = re.compile(r"The sum is (\d+)\.")
TOKENS = 15  # of each turn of the model
TOO_LARGE = "1000000 is too large to be added"
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}


class Partners:
    """Both servers, what they were asked, and whether the model is down."""

    def __init__(self) -> None:
        self.llm = self.tools = ""  # addresses
        self.has_llm = self.has_tools = True  # False: the plugin was not told of it
        self.down = False
        self.pause = 0.0  # seconds
        self.asked: deque[Any] = deque(maxlen=1000)  # requests to the model
        self.executed: deque[Any] = deque(maxlen=1000)  # ExecuteToolRequests


@contextmanager
def serving() -> Iterator[Partners]:
    partners = Partners()
    with (
        _served(add_LLMProviderServicer_to_server, _Model(partners), "LLMProvider") as partners.llm,
        _served(add_ToolProviderServicer_to_server, _Tools(partners), "ToolProvider") as partners.tools,
    ):
        yield partners


class _Model(LLMProviderServicer):
    def __init__(self, partners: Partners) -> None:
        self._partners = partners
        self._numbers = itertools.count(1)

    def GenerateText(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._turn(request, context, pb.GenerateTextResponse)

    def CallTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._turn(request, context, pb.CallToolResponse)

    def StreamText(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        whole = self._turn(request, context, pb.GenerateTextResponse)
        for word in re.findall(r"\S+\s*", whole.text):
            yield pb.StreamTextResponse(text=word)
        yield pb.StreamTextResponse(
            done=True,
            tool_calls=whole.tool_calls,
            finish_reason=whole.finish_reason,
            raw_finish_reason=whole.raw_finish_reason,
            usage=whole.usage,
            model=whole.model,
        )

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        model = pb.ModelInfo(id="check-model", capabilities=["tools"], context_length=100_000, is_default=True)
        return pb.ListModelsResponse(models=[model])

    def _turn(self, request: Any, context: grpc.ServicerContext, kind: type[Any]) -> Any:
        self._partners.asked.append(request)
        if self._partners.down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the model of the kit is down, as it is meant to be")
        time.sleep(self._partners.pause)
        usage = pb.TokenUsage(
            prompt_tokens=10, completion_tokens=5, total_tokens=TOKENS, source=pb.USAGE_SOURCE_PROVIDER
        )
        reply = kind(model="check-model", usage=usage, finish_reason=pb.FINISH_REASON_STOP, raw_finish_reason="stop")
        texts = [message.content for message in request.messages] + [request.prompt]
        questions = [match for text in texts for match in _ASKED.finditer(text)]
        if not questions:
            reply.text = "There was no question of the kit."
            return reply
        what, first, second = questions[-1].groups()
        sums = [match[1] for text in texts for match in _SUM.finditer(text)]
        if what == "answer":
            reply.text = first or "nothing"
        elif what in ("add", "both") and sums:
            reply.text = f"It is {' and '.join(dict.fromkeys(sums))}."
        elif what == "fail" and any(TOO_LARGE in text for text in texts):
            reply.text = f"It failed: {TOO_LARGE}."
        elif not request.tools:
            reply.text = "No tools are left to ask."
        else:
            name = next((tool.name for tool in request.tools if tool.name.endswith("add")), request.tools[0].name)
            a, b = int(first or 1), int(second or 1)
            number = next(self._numbers)
            pairs = {"add": [(a, b)], "both": [(a, b), (a, a)], "fail": [(1_000_000, 1)], "loop": [(number, 1)]}
            for position, (left, right) in enumerate(pairs[what]):
                reply.tool_calls.add(
                    id=f"call_{number}_{position}",
                    name=name,
                    arguments_json=json.dumps({"a": left, "b": right}),
                    arguments_valid=True,
                )
            reply.finish_reason, reply.raw_finish_reason = pb.FINISH_REASON_TOOL_CALLS, "tool_calls"
        return reply


class _Tools(ToolProviderServicer):
    def __init__(self, partners: Partners) -> None:
        self._partners = partners

    def ListTools(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ListToolsResponse(tools=[add_tool()])

    def GetToolSchema(self, request: Any, context: grpc.ServicerContext) -> Any:
        tool = add_tool()
        return pb.GetToolSchemaResponse(success=True, schema=tool.parameters, schema_json=tool.parameters_json)

    def ExecuteTool(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._partners.executed.append(request)
        values = json.loads(request.parameters_json or "{}") or json_format.MessageToDict(request.parameters)
        if request.tool != "add":
            return pb.ExecuteToolResponse(error=f"Unknown tool: {request.tool}")
        if max(values.values()) >= 1_000_000:
            return pb.ExecuteToolResponse(error=f"{TOO_LARGE}; take less")
        return pb.ExecuteToolResponse(success=True, result=f"The sum is {int(values['a']) + int(values['b'])}.")


def add_tool() -> Any:
    """The one tool: it adds two whole numbers."""
    tool = pb.Tool(name="add", description="Adds two whole numbers.", read_only=True, idempotent=True)
    tool.parameters_json = json.dumps(_SCHEMA)
    json_format.ParseDict(_SCHEMA, tool.parameters)
    return tool


@contextmanager
def _served(add: Any, servicer: Any, service: str) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8))
    add(servicer, server)
    healthy = health.HealthServicer()
    full_name = f"hector.plugins.v1.{service}"
    for name in ("", "plugin", full_name):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)
