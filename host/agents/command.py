"""`python -m host call`, `chat` and `tools`. Each returns the exit status and raises StartError.

Exit status of `call`: 0 the model answered, 1 it failed, 2 settings, 3 the run ended at a limit with the best answer
there is, 130 Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from host.agents.agent import Conversation, OpenAgent, opened, plugins_of
from host.agents.approval import has_terminal, in_terminal
from host.agents.events import AnswerDelta, Done, Event, Failed, ThoughtDelta, as_json
from host.agents.failure import AgentFailed
from host.agents.peer import Peer
from host.agents.terminal import Terminal, complaint
from host.agents.tool_server import Tool, ToolServer
from host.agents.toolbox import Approve
from host.config import ANY_KIND, TOOL_KIND, Agent, HostConfig, ToolBlock
from host.connect import Connection, connect
from host.kinds import is_a
from shared.errors import Code, StartError
from shared.structs import dump
from shared.visible import visible

Show = Callable[[Event], None]
_BRIEF = 100  # characters of a description
_LEAVE, _ANEW = ("/quit", "/exit", "/q"), "/new"


def call(
    config: HostConfig, name: str, question: str, *, llm: str | None, stream: bool, approve: bool, as_json: bool
) -> int:
    """One question to one agent."""
    show = _lines(stream) if as_json else Terminal(sys.stdout, sys.stderr, stream).show
    try:
        agent = _agent(config, name, llm)
        if not question.strip():
            raise StartError('the question is empty; say what to ask, as in `call my_agent "Hello"`')
        return ask(config, agent, question, show, approve=approve)
    except StartError as error:  # stderr is told by whoever catches it
        if as_json:
            show(Failed(str(error), Code.FAILED_PRECONDITION.name, ""))
        raise


def ask(config: HostConfig, agent: Agent, question: str, show: Show, *, approve: bool = False) -> int:
    """The exit status."""
    asked = _approver(agent, approve)
    with connect(config, plugins_of(agent)) as connections, asyncio.Runner() as runner:

        async def run() -> int:
            async with opened(config, agent, connections, asked, asks_always=approve) as open_agent:
                return await _run(open_agent, question, None, show)

        try:
            return runner.run(run())
        except KeyboardInterrupt:
            show(Failed("stopped", Code.CANCELLED.name, ""))
            return 130
        except AgentFailed as error:
            show(Failed(str(error), error.code.name, error.reason))
            return 1


def _lines(stream: bool) -> Show:
    """One JSON object a line; pieces of text with `stream` alone."""

    def show(event: Event) -> None:
        if stream or not isinstance(event, ThoughtDelta | AnswerDelta):
            print(json.dumps(as_json(event), ensure_ascii=False), flush=True)
        if isinstance(event, Failed):
            print(complaint(event), file=sys.stderr)

    return show


def chat(config: HostConfig, name: str, *, llm: str | None, approve: bool) -> int:
    """A conversation: one question a line, until the end of the input. Ctrl-C ends an answer, or the conversation."""
    agent = _agent(config, name, llm)
    asked = _approver(agent, approve)
    with connect(config, plugins_of(agent)) as connections, asyncio.Runner() as runner:
        context = opened(config, agent, connections, asked, asks_always=approve)
        open_agent = runner.run(context.__aenter__())
        try:
            if sys.stdin.isatty():
                print(
                    f"{visible(agent.title)}. {_ANEW} forgets what was said, {_LEAVE[0]} or Ctrl-D ends.",
                    file=sys.stderr,
                )
            return _talk(runner, open_agent)
        finally:
            with contextlib.suppress(KeyboardInterrupt):
                runner.run(context.__aexit__(None, None, None))


def _talk(runner: asyncio.Runner, agent: OpenAgent) -> int:
    conversation = Conversation()
    while True:
        try:
            question = _asked()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            return 0
        if question is None or question.strip() in _LEAVE:
            return 0
        if question.strip() == _ANEW:
            conversation = Conversation()
        elif question.strip():
            try:
                runner.run(_run(agent, question, conversation, Terminal(sys.stdout, sys.stderr, True).show))
            except KeyboardInterrupt:
                print("stopped", file=sys.stderr)
            except StartError as error:  # the next question may do better
                print(f"error: {visible(str(error))}", file=sys.stderr)


def _asked() -> str | None:
    """The next question; None at the end of the input."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # line editing and history

        try:
            return input("\n> ")
        except EOFError:
            print(file=sys.stderr)
            return None
    line = sys.stdin.readline()
    return line.strip() if line else None


async def _run(agent: OpenAgent, question: str, conversation: Conversation | None, show: Show) -> int:
    """The exit status. Raises AgentFailed."""
    async with contextlib.aclosing(agent.run(question, conversation)) as events:
        async for event in events:
            show(event)
            if isinstance(event, Done):
                return 0 if event.is_answered else 3
    raise AssertionError("a run ends in Done")


def _agent(config: HostConfig, name: str, llm: str | None) -> Agent:
    agent = config.agent(name)
    return replace(agent, llm=config.llm(llm)) if llm else agent


def _approver(agent: Agent, always: bool) -> Approve | None:
    """Raises StartError where all calls are to be asked about and there is no terminal."""
    asks = any(isinstance(tool, ToolBlock) and tool.enable_approval for tool in agent.tools)
    if always or (asks and has_terminal()):
        return in_terminal()
    return None


# ---------------------------------------------------------------- tools


def tools(config: HostConfig, *, as_json: bool, briefly: bool = False) -> int:
    """Every tool of every tool plugin; `briefly`: without its arguments."""
    plugins = [plugin for plugin in config.plugins.values() if plugin.kind in (TOOL_KIND, ANY_KIND)]
    with connect(config, plugins) as connected:
        connections = {
            name: connection
            for name, connection in connected.items()
            if is_a(TOOL_KIND, config.plugins[name], connection.address)
        }
        if not connections:
            raise StartError(f"{config.file} has no tool plugin; add one under plugins.tool_providers")
        listed = asyncio.run(_listed(config, connections))
    for name, offered in listed.items():
        for tool in offered:
            print(_tool_json(name, tool) if as_json else _tool_text(name, tool, briefly))
        if not offered and not as_json:
            print(f"plugin {name} has no tools")
    return 0


async def _listed(config: HostConfig, connections: Mapping[str, Connection]) -> dict[str, Sequence[Tool]]:
    listed: dict[str, Sequence[Tool]] = {}
    for name, connection in connections.items():
        server = ToolServer(Peer.of(config, config.plugins[name], connection))
        try:
            listed[name] = await server.list()
        finally:
            await server.close()
    return listed


def _tool_json(plugin: str, tool: Tool) -> str:
    about = {"plugin": plugin, "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    flags = {"read_only": tool.read_only, "destructive": tool.destructive, "idempotent": tool.idempotent}
    return dump(about | flags)


def _tool_text(plugin: str, tool: Tool, briefly: bool = False) -> str:
    """
    >>> print(_tool_text("web", Tool("fetch", "Reads a page.", {"properties": {"url": {"type": "string"}}})))
    fetch  (web)
        Reads a page.
        url?: string
    """
    flags = [word for word in ("read_only", "destructive", "idempotent") if getattr(tool, word)]
    lines = [f"{tool.name}  ({', '.join([plugin, *(word.replace('_', ' ') for word in flags)])})"]
    about = tool.description.strip()
    if briefly:
        return visible("\n".join([*lines, f"    {textwrap.shorten(about, _BRIEF, placeholder=' …')}"]))
    lines += [f"    {line}" for line in about.splitlines()[:3]]
    properties = tool.parameters.get("properties")
    required = tool.parameters.get("required")
    for name, schema in properties.items() if isinstance(properties, Mapping) else ():
        kind = schema.get("type", "any") if isinstance(schema, Mapping) else "any"
        kinds = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
        about = str(schema.get("description", "")) if isinstance(schema, Mapping) else ""
        mark = "" if isinstance(required, list) and name in required else "?"
        lines.append(f"    {name}{mark}: {kinds}{f'  {about.splitlines()[0]}' if about else ''}")
    return visible("\n".join(lines))
