"""The guide's YAML as frozen dataclasses, every reference in it resolved."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from host.config.security import Security
from shared.client import Address
from shared.config import expand, suggest
from shared.errors import StartError
from shared.guide import SECTIONS
from shared.units import Secret, read_duration

# The guide's name for what stands in each section.
_KINDS = ("llm_provider", "database_provider", "embedder_provider", "tool_provider", "reasoning_strategy")
KINDS = dict(zip(SECTIONS, _KINDS, strict=True))
LLM_KIND, TOOL_KIND = "llm_provider", "tool_provider"
ANY_KIND = "plugin"  # a block straight under `plugins:` does not say what it is
# Where the guide's samples listen.
PORTS = dict(zip(_KINDS, range(8081, 8086), strict=True))
DEFAULT_ITERATIONS = 10
DEFAULT_TOKENS = 200_000
DEFAULT_TOOL_CALLS = 50
DEFAULT_SECONDS = 600.0
DEFAULT_HITS = 5
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Discovery:
    """`plugins: plugin_discovery:`, where manifests are looked for."""

    enabled: bool = False
    paths: tuple[str, ...] = ("./plugins", "~/.hector/plugins")
    scan_subdirectories: bool = False


@dataclass(frozen=True)
class Plugin:
    """One block under `plugins:`. Exactly one of `path` (the host starts it) and `address` (it runs) is set."""

    name: str
    kind: str  # a value of KINDS, or ANY_KIND
    path: str
    address: Address | None
    settings: Mapping[str, Any]  # its `config`, not expanded
    folder: Path  # of the YAML: relative paths start here
    listens_at: Address | None = None  # the `address` beside a `path`: where it listens, should it not print that
    usual_port: int | None = None  # where the guide's samples of its kind listen; None for a module
    arguments: tuple[str, ...] | None = None  # its `args`; None: what such a `path` gets by default
    env: Mapping[str, str | None] = field(default_factory=dict)  # further variables, not expanded; None: the host's own
    security: Security = field(default_factory=Security)
    readers: int = field(default=0, compare=False)  # processes beside it that only read what it writes
    reader_of: str = ""  # it is one of these, of the plugin of that name
    line: int = field(default=0, compare=False)  # of the file, where its block begins; 0: it has none

    @property
    def module(self) -> str:
        """`plugins.NAME`, or a word that is no file, where `path` is a Python module; else empty."""
        is_module = _MODULE.fullmatch(self.path) and not self.path.endswith(".py")
        return self.path if is_module and ("." in self.path or not (self.folder / self.path).is_file()) else ""

    @property
    def environment_prefix(self) -> str:
        """What the names of its variables start with: `NAME__` for a module, as the plugins here read them, and
        `NAME_`, NAME being the block's, for an executable, as the guide's samples do."""
        if self.module:
            return self.module.rpartition(".")[2].upper() + "__"
        return re.sub(r"\W", "_", self.name).upper() + "_" if self.path else ""

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take, at most, by its `security` or its own settings; None where neither says."""
        if self.security.timeout is not None:
            return self.security.timeout
        try:
            return read_duration(self.setting("timeout")) or None
        except (ValueError, StartError):  # it may be of a form that only the plugin knows
            return None

    def setting(self, key: str) -> str:
        """One of its own settings, as it will see it; empty where that is not set. Raises StartError."""
        prefix = self.environment_prefix
        given = os.environ.get(prefix + key.upper()) if prefix else None
        return str(expand(self.settings.get(key, ""))) if given is None else given

    def started_at(self, address: str) -> Address:
        """`address`, where it listens, with the credentials that its block asks for. Raises StartError."""
        if self.listens_at and self.listens_at != Address(self.listens_at.address):  # with credentials
            return replace(self.listens_at, address=address)
        certificate = self.setting("tls_cert")
        return Address(
            address,
            token=Secret(self.setting("token")),
            tls_ca=str(self.folder / certificate) if certificate else "",
        )


@dataclass(frozen=True)
class Database:
    """One block under `databases:`: a collection, and how documents are cut for it."""

    name: str
    plugin: Plugin
    collection: str
    dimension: int  # floats a vector; 0: whatever the embedder has
    chunk_chars: int  # characters a chunk, at most
    chunk_overlap: int  # characters that a chunk repeats of the one before, at most
    embedder: str  # a name under `embedders:`; empty: the only one


@dataclass(frozen=True)
class Embedder:
    """One block under `embedders:`."""

    name: str
    plugin: Plugin
    model: str  # empty: whatever the plugin has
    dimension: int  # floats a vector; 0: whatever the model has


@dataclass(frozen=True)
class Llm:
    """One block under `llms:`, or a model that an agent names outright."""

    name: str
    plugin: Plugin
    model: str  # empty: whatever the plugin has
    temperature: float | None = None  # None: the plugin's own
    max_tokens: int | None = None  # None: the plugin's own


@dataclass(frozen=True)
class ToolBlock:
    """One block under `tools:`."""

    name: str
    plugin: Plugin
    tool_name: str  # what the plugin calls it
    enable_approval: bool = False  # a person is asked before it runs
    description: str = ""  # for models; empty: the plugin's own


@dataclass(frozen=True)
class Reasoning:
    """An agent's `reasoning:`."""

    plugin: Plugin
    max_iterations: int
    enable_streaming: bool


@dataclass(frozen=True)
class Agent:
    """One block under `agents:`."""

    name: str
    title: str  # its `name:`, for people
    llm: Llm
    description: str = ""
    prompt: str = ""  # for the model, above every question; empty: none
    reasoning: Reasoning | None = None  # None: a plain tool loop
    tools: tuple[ToolBlock | Plugin, ...] = ()  # what it may use; a Plugin: all that this has, if it has any
    database: Database | None = None  # what it may look things up in
    embedder: Embedder | None = None  # set where `database` is
    max_hits: int = DEFAULT_HITS  # passages that one lookup gives, at most
    min_score: float | None = None  # passages below it are left out; None: none is
    max_iterations: int = DEFAULT_ITERATIONS  # turns of the model, at most
    enable_streaming: bool = True
    max_tokens: int = DEFAULT_TOKENS  # of a run, read and written
    max_tool_calls: int = DEFAULT_TOOL_CALLS  # of a run
    max_seconds: float = DEFAULT_SECONDS  # of a run


@dataclass(frozen=True)
class HostConfig:
    """The whole file. Plugins that are not enabled are left out."""

    file: Path  # absolute
    plugins: Mapping[str, Plugin]
    databases: Mapping[str, Database]
    embedders: Mapping[str, Embedder]
    llms: Mapping[str, Llm] = field(default_factory=dict)
    tools: Mapping[str, ToolBlock] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    discovery: Discovery = field(default_factory=Discovery)
    remarks: tuple[str, ...] = ()  # what in it may surprise, each with its line

    @property
    def folder(self) -> Path:
        """Where the file is: relative paths start here."""
        return self.file.parent

    @property
    def state(self) -> Path:
        """The folder for what the host itself keeps."""
        return self.folder / ".hector"

    def database(self, name: str | None = None) -> Database:
        """The named one, or the only one. Raises StartError."""
        return _pick(self.file, "databases", self.databases, name, "choose one with --database")

    def embedder(self, database: Database) -> Embedder:
        """The one that `database` uses. Raises StartError."""
        remedy = f"choose one with databases.{database.name}.config.embedder"
        return _pick(self.file, "embedders", self.embedders, database.embedder or None, remedy)

    def llm(self, name: str | None = None) -> Llm:
        """The block of that name or, with one LLM plugin, its model of that name; the only one. Raises StartError."""
        llm = choose_llm(name, self.llms, [plugin for plugin in self.plugins.values() if plugin.kind == LLM_KIND])
        if isinstance(llm, str):
            raise StartError(f"{self.file}: {llm}")
        return llm

    def agent(self, name: str) -> Agent:
        """The named one; in a file without `agents:` any name is an agent with the only LLM. Raises StartError."""
        if name in self.agents:
            return self.agents[name]
        if self.agents:
            raise StartError(f"{self.file} has no agents.{name}{suggest(name, self.agents)}")
        return Agent(name, name, self.llm())

    def environment(self, plugin: Plugin) -> dict[str, str]:
        """What `plugin`, when started, sees beside the host's own environment: the model that `embedders:` names."""
        model = next((e.model for e in self.embedders.values() if e.plugin == plugin and e.model), "")
        return {plugin.environment_prefix + "MODEL": model} if model and plugin.environment_prefix else {}


def choose_llm(name: str | None, llms: Mapping[str, Llm], plugins: Sequence[Plugin]) -> Llm | str:
    """The LLM that `name` means, or the only one; or why there is none. `plugins` are the LLM plugins."""
    if name and name in llms:
        return llms[name]
    if not name and len(llms) == 1:
        return next(iter(llms.values()))
    if len(plugins) == 1 and (name or not llms):
        return Llm(name or plugins[0].name, plugins[0], name or "")
    if not name:
        return f"names no llm; known are {', '.join(llms)}" if llms else "has no llm, and there is no `llms:`"
    wanted = f"one LLM plugin, not {len(plugins)}" if plugins else "a plugin under plugins.llm_providers"
    return f"no llms.{name}, and to be a model's name it needs {wanted}{suggest(name, llms)}"


T = TypeVar("T")


def _pick(file: Path, section: str, blocks: Mapping[str, T], name: str | None, remedy: str) -> T:
    if name is None and len(blocks) == 1:
        return next(iter(blocks.values()))
    if not blocks:
        raise StartError(f"{file} has no `{section}:`; add one to index and search with")
    if name is None:
        raise StartError(f"{file} has {section} {', '.join(blocks)}; {remedy}")
    if name not in blocks:
        raise StartError(f"{file} has no {section}.{name}{suggest(name, blocks)}")
    return blocks[name]
