"""An agent of the YAML, opened: its plugins connected, its tools listed, its runs as streams of events.

    async with opened(config, config.agents["my_agent"], connections) as agent:
        async for event in agent.run("Is a write still there after a kill -9?"):
            ...

A run is cancelled by cancelling whoever iterates, or by closing the iterator: the calls under way end upstream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import hector_plugins_pb2 as pb

from host.agents import plain, strategy
from host.agents.citations import checked
from host.agents.events import Done, Event
from host.agents.limits import Limits
from host.agents.llm import Model
from host.agents.peer import Peer
from host.agents.retrieval import PROMPT, Retrieval, in_daemon
from host.agents.strategy_plugin import Strategy
from host.agents.tool_server import ToolServer
from host.agents.toolbox import Approve, Wanted
from host.agents.toolbox import opened as toolbox
from host.clients import Collection, Embedder
from host.config import TOOL_KIND, Agent, HostConfig, Plugin
from host.connect import Connection
from host.kinds import is_a
from host.search import Passage
from host.wiring import llm_name
from shared.errors import StartError

MOST_HISTORY = 100  # messages of a conversation that are kept; the oldest go first


@dataclass
class Conversation:
    """What was asked and answered before, oldest first, and the passages that the model was given, which keep their
    numbers."""

    messages: list[pb.ChatMessage] = field(default_factory=list)
    given: list[Passage] = field(default_factory=list)

    def add(self, question: str, answer: str) -> None:
        self.messages.append(pb.ChatMessage(role="user", content=question))
        self.messages.append(pb.ChatMessage(role="assistant", content=answer))
        del self.messages[:-MOST_HISTORY]


def plugins_of(agent: Agent) -> list[Plugin]:
    """All that have to run for it."""
    plugins = [agent.llm.plugin, *(tool if isinstance(tool, Plugin) else tool.plugin for tool in agent.tools)]
    if agent.reasoning:
        plugins.append(agent.reasoning.plugin)
    if agent.database and agent.embedder:
        plugins += [agent.database.plugin, agent.embedder.plugin]
    return list({plugin.name: plugin for plugin in plugins}.values())


@asynccontextmanager
async def opened(
    config: HostConfig,
    agent: Agent,
    connections: Mapping[str, Connection],
    approve: Approve | None = None,
    *,
    asks_always: bool = False,
) -> AsyncIterator[OpenAgent]:
    """`connections`: of `plugins_of(agent)`, by name. `approve` is asked before a tool is called that has
    `enable_approval`, or with `asks_always` before all calls. Raises StartError where a plugin is not as the YAML says.
    """
    async with AsyncExitStack() as stack:

        async def closing(thing: Model | Strategy | ToolServer) -> None:
            stack.push_async_callback(thing.close)

        def peer(plugin: Plugin) -> Peer:
            return Peer.of(config, plugin, connections[plugin.name])

        servers: dict[str, ToolServer] = {}
        wanted: list[Wanted] = []
        for tool in agent.tools:
            plugin = tool if isinstance(tool, Plugin) else tool.plugin
            if not await asyncio.to_thread(is_a, TOOL_KIND, plugin, connections[plugin.name].address):
                continue
            if plugin.name not in servers:
                servers[plugin.name] = ToolServer(peer(plugin))
                await closing(servers[plugin.name])
            if isinstance(tool, Plugin):
                wanted.append(Wanted(servers[plugin.name]))
            else:
                wanted.append(
                    Wanted(servers[plugin.name], tool.tool_name, tool.name, tool.description, tool.enable_approval)
                )
        search = None
        if agent.database and agent.embedder:
            chosen = agent.embedder  # it is asked what it has, and may be silent
            embedder = await in_daemon(lambda: Embedder(connections[chosen.plugin.name], chosen))
            database = connections[agent.database.plugin.name]
            search = _Search(embedder, Collection(database, agent.database.collection, embedder.model))
        reasoning = model = None
        if agent.reasoning:
            knows_llm = bool(llm_name(agent.reasoning.plugin, agent.llm))
            llm = peer(agent.llm.plugin) if knows_llm else None
            reasoning = Strategy(peer(agent.reasoning.plugin), llm, streams=agent.enable_streaming)
            await closing(reasoning)
        else:
            model = Model(agent.llm, peer(agent.llm.plugin), streams=agent.enable_streaming)
            await closing(model)
        await toolbox(wanted)  # what is missing is said now, not in the middle of a conversation
        yield OpenAgent(agent, wanted, search, reasoning, model, approve, asks_always)


@dataclass(frozen=True)
class _Search:
    embedder: Embedder
    collection: Collection


class OpenAgent:
    """Use `opened`."""

    def __init__(
        self,
        agent: Agent,
        wanted: Sequence[Wanted],
        search: _Search | None,
        reasoning: Strategy | None,
        model: Model | None,
        approve: Approve | None,
        asks_always: bool,
    ) -> None:
        self.agent, self._approve, self._asks_always = agent, approve, asks_always
        self._wanted, self._search = wanted, search
        self._reasoning, self._model = reasoning, model

    async def run(self, question: str, conversation: Conversation | None = None) -> AsyncGenerator[Event, None]:
        """To its end, which is Done; the conversation has question and answer then. Raises AgentFailed."""
        agent = self.agent
        if not question.strip():
            raise StartError("the question is empty")
        history = conversation.messages if conversation else []
        limits = Limits(agent.max_iterations, agent.max_tokens, agent.max_tool_calls, agent.max_seconds)
        retrieval = None
        wanted = list(self._wanted)
        if self._search:
            about = agent.database.name if agent.database else ""
            search = self._search
            retrieval = Retrieval(search.embedder, search.collection, agent.max_hits, agent.min_score, about)
            if conversation:
                retrieval.given = conversation.given
            wanted.append(Wanted(retrieval))
        tools = await toolbox(wanted, self._approve, asks_always=self._asks_always)
        of_tools = PROMPT if retrieval else ""
        if self._reasoning and agent.reasoning:
            name = llm_name(agent.reasoning.plugin, agent.llm)
            events = strategy.run(
                question, agent.prompt, of_tools, history, self._reasoning, agent.llm, name, tools, limits
            )
        else:
            assert self._model is not None
            prompt = "\n\n".join(filter(None, [agent.prompt, of_tools]))
            events = plain.run(question, prompt, history, self._model, tools, limits)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Done):
                    event = _with_citations(_with_an_answer(event), retrieval)
                    if conversation:
                        conversation.add(question, event.answer)
                yield event


def _with_an_answer(done: Done) -> Done:
    """A run that brought none says so, and does not count as answered."""
    if done.answer.strip():
        return done
    stop_reason = "LLM_FAILED" if done.is_answered else done.stop_reason
    return replace(done, answer="There is no answer: the model gave none.", stop_reason=stop_reason)


def _with_citations(done: Done, retrieval: Retrieval | None) -> Done:
    if retrieval is None:
        return done
    result = checked(done.answer, retrieval.given)
    return replace(
        done,
        citations=result.citations,
        unknown_citations=result.unknown,
        unfound_quotes=result.unfound_quotes,
    )
