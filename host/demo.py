"""`python -m host demo`, which `make run` is: all that the host does, once, as a first look."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from host import commands, demo_endpoint, demo_model, run_file, show
from host.agents import command as agents
from host.agents.terminal import Terminal
from host.config import Agent, Database, HostConfig


def demo(config: HostConfig, folder: Path | None, question: str, keep: bool) -> int:
    """With the plugins of the running host where there is one.

    Without `folder` it indexes the Markdown files beside the YAML. Each folder has a collection of its own, so that
    only that folder answers.
    """
    again = ["demo", *([str(folder)] if folder else []), "-q", "your own question"]
    include = () if folder else ("*.md",)
    folder = folder or config.folder
    database = _of_folder(config.database(), folder)
    agent = next((one for one in config.agents.values() if one.database), None)
    with ExitStack() as stack:
        run = run_file.read(config.state)
        shared = run is not None and run.config == str(config.file)
        is_scripted = agent is not None and not shared and _has_no_endpoint(agent)
        if agent and is_scripted:
            stack.enter_context(_scripted(agent))
        if not shared:
            stack.enter_context(commands.serving(config, quiet=True))
        commands.index(config, folder, database, include)
        show.out.print(f"\nQ: {question}\n", style="bold", markup=False)
        commands.search(config, question, 3, database, False)
        _tools(config)
        status = _ask(config, agent, database, question, is_scripted) if agent else 0
        print("\nTo try next:")
        commands_next = [again, ["index", "FOLDER"], ["search", "your own question"], ["serve"]]
        if agent:
            commands_next.insert(3, ["chat", agent.name])
        for arguments in commands_next:
            print("  " + _command(config, arguments))
        if keep and not shared:
            with commands.until_ctrl_c():
                print("The plugins stay up; Ctrl-C stops them.", flush=True)
                commands.wait()
    return status


def _of_folder(database: Database, folder: Path) -> Database:
    suffix = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return replace(database, collection=f"{database.collection[:100]}-demo-{suffix}")


def _tools(config: HostConfig) -> None:
    if any(plugin.kind == "tool_provider" for plugin in config.plugins.values()):
        show.out.print("Tools that an agent can use:", style="bold")
        agents.tools(config, as_json=False, briefly=True)


def _ask(config: HostConfig, agent: Agent, database: Database, question: str, is_scripted: bool) -> int:
    show.out.print(f"\nThe agent {agent.name} is asked the same:", style="bold", markup=False)
    if is_scripted:
        print(
            "No endpoint for a language model is set, so it runs on the scripted model that ships with the host.\n"
            "OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL in the environment give it a real one."
        )
    print(flush=True)
    asked = replace(agent, database=database)
    return agents.ask(config, asked, question, Terminal(sys.stdout, sys.stdout, stream=True).show)


def _has_no_endpoint(agent: Agent) -> bool:
    plugin = agent.llm.plugin
    if plugin.module.rpartition(".")[2] != "llm_openai":
        return False
    if os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY"):
        return False
    return not any(plugin.setting(key) for key in ("endpoint", "api_key", "api_key_file", "fallbacks"))


@contextmanager
def _scripted(agent: Agent) -> Iterator[None]:
    """Within, the LLM plugin of `agent`, when started, asks the scripted model."""
    prefix = agent.llm.plugin.environment_prefix
    with demo_endpoint.running() as url:
        variables = {f"{prefix}ENDPOINT": url, f"{prefix}MODEL": demo_model.NAME}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _command(config: HostConfig, arguments: list[str]) -> str:
    """The command line, as it works in the current folder."""
    here = Path.cwd()
    python = Path(sys.executable)
    parts = [str(python.relative_to(here)) if python.is_relative_to(here) else str(python), "-m", "host", *arguments]
    if config.file != here / "hector.yaml":
        parts += ["--config", str(config.file.relative_to(here) if config.file.is_relative_to(here) else config.file)]
    return shlex.join(parts)
