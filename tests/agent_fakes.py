"""An LLM, tools and a strategy for tests of agents: in this process, scripted, every request kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import yaml
from grpc_reflection.v1alpha import reflection

from host.agents.agent import Conversation, OpenAgent, opened, plugins_of
from host.agents.events import Event
from host.agents.toolbox import Approve
from host.config import Agent, HostConfig, Llm, Plugin, Reasoning, ToolBlock
from host.connect import Connection
from shared.client import Address, channel
from shared.errors import InvalidArgument
from shared.status import DETAILS_KEY, to_status

Turn = str | Sequence[tuple[str, Any]]  # a text, or calls: (tool, arguments)
Script = Callable[[Any, int], Turn]  # of the request and its number, from 0


class FakeLLM(rpc.LLMProviderServicer):
    """Plays `script`; without `streams` it knows GenerateText alone, as the guide's sample does."""

    def __init__(self, script: Script, *, streams: bool = True, usage: bool = True, away: int = 0) -> None:
        self.requests: list[Any] = []
        self.cancelled = threading.Event()
        self.hangs = False
        self.away = away  # so many calls find nobody
        self.window = 10**9  # characters that it reads
        self._script, self._streams, self._usage = script, streams, usage

    def GenerateText(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        text, calls = self._turn(request)
        reply = pb.GenerateTextResponse(text=text, tool_calls=calls)
        if self._usage:
            reply.usage.CopyFrom(pb.TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15))
        return reply

    def StreamText(self, request: Any, context: Any) -> Iterator[Any]:
        if not self._streams:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        self.requests.append(request)
        if self.away:
            self.away -= 1
            del self.requests[-1]
            context.abort(grpc.StatusCode.UNAVAILABLE, "just restarting")
        if sum(len(message.content) for message in request.messages) > self.window:
            error = InvalidArgument("that is too long", reason="CONTEXT_LENGTH_EXCEEDED")
            context.set_trailing_metadata(((DETAILS_KEY, to_status(error).SerializeToString()),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "that is too long")
        is_whole = threading.Event()
        context.add_callback(lambda: None if is_whole.is_set() else self.cancelled.set())
        text, calls = self._turn(request)
        for word in text.split(" ") if text else ():
            yield pb.StreamTextResponse(text=word + " ")
        if self.hangs:
            self.cancelled.wait(120)
            return
        last = pb.StreamTextResponse(done=True, tool_calls=calls)
        if self._usage:
            last.usage.CopyFrom(pb.TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15))
        is_whole.set()
        yield last

    def _turn(self, request: Any) -> tuple[str, list[Any]]:
        turn = self._script(request, len(self.requests) - 1)
        if isinstance(turn, str):
            return turn, []
        texts = [arguments if isinstance(arguments, str) else json.dumps(arguments) for _, arguments in turn]
        return "", [
            pb.ToolCall(id=f"call_{n}", name=name, arguments_json=text)
            for n, ((name, _), text) in enumerate(zip(turn, texts, strict=True))
        ]


class FakeTools(rpc.ToolProviderServicer):
    """`add` has the guide's flat form; `echo` gives its text back; `wait` hangs; `fail` fails."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    def ListTools(self, request: Any, context: Any) -> Any:
        reply = pb.ListToolsResponse()
        reply.tools.add(name="add", description="Adds.").parameters.update({"a": "integer", "b": "integer"})
        schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        reply.tools.add(name="echo", description="Says it again.", parameters_json=json.dumps(schema), read_only=True)
        reply.tools.add(name="wait", description="Waits.")
        reply.tools.add(name="fail", description="Fails.")
        return reply

    def ExecuteTool(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        arguments = json.loads(request.parameters_json)
        assert set(request.parameters) == set(arguments)  # for plugins that know this field alone
        match request.tool:
            case "add":
                total = int(request.parameters["a"] + request.parameters["b"])
                return pb.ExecuteToolResponse(success=True, result=str(total))
            case "echo":
                return pb.ExecuteToolResponse(success=True, result=arguments["text"])
            case "wait":
                context.add_callback(self.cancelled.set)
                self.begun.set()
                self.cancelled.wait(120)
        return pb.ExecuteToolResponse(success=False, error="it broke; mend it")


class GuideStrategy(rpc.ReasoningStrategyServicer):
    """Knows the guide's fields alone: takes the input in three iterations."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Initialize(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return pb.InitializeResponse(success=True, state=b"0 ")

    def ProcessIteration(self, request: Any, context: Any) -> Any:
        number, _, said = request.state.decode().partition(" ")
        state = f"{int(number) + 1} {said or request.input}"
        return pb.ProcessIterationResponse(
            success=True, result=f"thought {state}", done=number == "2", state=state.encode()
        )

    def Finalize(self, request: Any, context: Any) -> Any:
        return pb.FinalizeResponse(success=True, result=f"answer to {request.state.decode()}")


class HangingStrategy(GuideStrategy):
    """Thinks aloud without end."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = threading.Event()

    def StreamIteration(self, request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        yield pb.IterationEvent(thought_delta="Hm, ")
        self.cancelled.wait(120)


class HostExecutes(GuideStrategy):
    """Has the host add, and then fail, and answers with what it was told; the first try of each step finds nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Any] = []

    def StreamIteration(self, request: Any, context: Any) -> Iterator[Any]:
        self.steps.append(request)
        if len(self.steps) % 2:
            yield pb.IterationEvent(thought_delta="I la")
            context.abort(grpc.StatusCode.UNAVAILABLE, "just restarting")
        number = len(self.steps) // 2
        reply = pb.ProcessIterationResponse(
            success=True, state=str(number).encode(), done=number == 2, iteration=number
        )
        yield pb.IterationEvent(thought_delta="I look.")
        if number == 1:
            for action_id, tool, arguments in (("a", "add", '{"a": 1, "b": 2}'), ("b", "fail", "{}")):
                action = pb.Action(id=action_id, tool=tool, parameters_json=arguments)
                yield pb.IterationEvent(action=action)
                reply.pending_actions.append(action)
            reply.step.actions.extend(reply.pending_actions)
        yield pb.IterationEvent(response=reply)

    def Finalize(self, request: Any, context: Any) -> Any:
        told = " and ".join(f"{one.action_id}: {one.content}" for one in sorted_by_id(self.steps[-1].observations))
        usage = pb.TokenUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
        return pb.FinalizeResponse(success=True, result=told, stop_reason=pb.STOP_REASON_ANSWERED, usage=usage)


def sorted_by_id(observations: Any) -> list[Any]:
    return sorted(observations, key=lambda one: str(one.action_id))


class World:
    """Served fakes, and agents on them."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self._folder = folder
        self._address = Address(address)

    def write_config(self, **agents: Any) -> Path:
        """The YAML of a host that uses the fakes; `agents`: the blocks."""
        kinds = {"llm_providers": "llm", "tool_providers": "tools", "reasoning_strategies": "strategy"}
        plugins = {kind: {name: {"address": self.address}} for kind, name in kinds.items()}
        llms = {name: {"type": "plugin:llm", "model": f"{name}-model"} for name in ("first", "second")}
        document = {"plugins": plugins, "llms": llms, "agents": agents}
        file = self._folder / "hector.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return file

    def plugin(self, name: str, kind: str) -> Plugin:
        return Plugin(name, kind, "", self._address, {}, self._folder)

    def agent(
        self, *, tools: bool = True, reasoning: bool = False, only: Sequence[ToolBlock] = (), **more: Any
    ) -> Agent:
        llm = Llm("llm", self.plugin("llm", "llm_provider"), "model-1")
        strategy = Reasoning(self.plugin("strategy", "reasoning_strategy"), 10, True) if reasoning else None
        offered: tuple[ToolBlock | Plugin, ...] = tuple(only) or (self.plugin("tools", "tool_provider"),)
        return Agent("agent", "Agent", llm, reasoning=strategy, tools=offered if tools else (), **more)

    def run(self, agent: Agent, question: str, approve: Approve | None = None, **more: Any) -> list[Event]:
        return asyncio.run(asyncio.wait_for(self.collect(agent, question, approve, **more), 120))

    def opened(
        self, agent: Agent, approve: Approve | None = None, located: Callable[[], Address] | None = None
    ) -> AbstractAsyncContextManager[OpenAgent]:
        """`located`: where the plugins are by now, if not here."""
        connections = {
            plugin.name: Connection(plugin.name, self._address, channel(self._address), located=located)
            for plugin in plugins_of(agent)
        }
        config = HostConfig(self._folder / "hector.yaml", {}, {}, {})
        return opened(config, agent, connections, approve, asks_always=approve is not None)

    async def collect(
        self,
        agent: Agent,
        question: str,
        approve: Approve | None = None,
        conversation: Conversation | None = None,
        on: Callable[[Event], None] = lambda event: None,
    ) -> list[Event]:
        """Every event of a run; `on` is called with each as it comes, and may end the run by raising."""
        seen: list[Event] = []
        async with (
            self.opened(agent, approve) as open_agent,
            aclosing(open_agent.run(question, conversation)) as events,
        ):
            async for event in events:
                seen.append(event)
                on(event)
        return seen


@contextmanager
def world(
    folder: Path, *, llm: Any = None, tools: Any = None, strategy: Any = None, reflects: bool = False
) -> Iterator[World]:
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    if llm:
        rpc.add_LLMProviderServicer_to_server(llm, server)
    rpc.add_ToolProviderServicer_to_server(tools or FakeTools(), server)
    if strategy:
        rpc.add_ReasoningStrategyServicer_to_server(strategy, server)
    if reflects:
        names = [service.full_name for service in pb.DESCRIPTOR.services_by_name.values()]
        reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield World(f"127.0.0.1:{port}", folder)
    finally:
        server.stop(0).wait()
