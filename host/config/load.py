"""Reads the guide's YAML and checks all of it.

plugins:
  database_providers:
    vectors: {type: grpc, path: plugins.vector_hnsw, config: {data_dir: ./.hector/vectors}}   # started by the host
  embedder_providers:
    embedder: {type: grpc, address: "10.0.0.7:8083"}                                           # a running server
databases:
  docs: {type: "plugin:vectors", config: {collection: docs, chunk_chars: 1000}}
embedders:
  default: {type: "plugin:embedder", config: {model: sentence-transformers/all-MiniLM-L6-v2}}

A plugin's own `config` is left as it is, the plugin reads it itself. Everything else is checked here, and `${VAR}`
is expanded. What only Hector itself has a use for is remarked on and left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from host.config.agents import Parts, read_agent, read_llm, read_tool
from host.config.block import Block, Findings
from host.config.plugins import declared, read_discovery, read_plugins, with_readers
from host.config.references import uses
from host.config.security import Security, read_security
from host.config.stores import read_database, read_embedders
from host.config.types import HostConfig
from host.discovery import discovered
from shared.settings_file import read_yaml

_KNOWN = ("plugins", "llms", "databases", "embedders", "tools", "agents", "security")
_HECTORS = (
    *("version", "name", "description", "metadata", "global", "defaults"),
    *("vector_stores", "document_stores", "session_stores"),
)


def load(file: Path) -> HostConfig:
    """Raises ConfigError with every mistake in it, StartError where it cannot be read at all."""
    findings = Findings(file)
    document = Block("", read_yaml(file), findings)
    extra = [key for key in document.values if key.startswith("x-")]  # where YAML's anchors are kept
    document.hectors(_HECTORS)
    document.only((*_KNOWN, *_HECTORS, *extra))
    folder = file.resolve().parent
    sections = document.inner("plugins")
    security = read_security(document.inner("security"), Security())
    plugins = read_plugins(sections, folder, security, uses(document.values))
    discovery = read_discovery(sections)
    plugins |= discovered(discovery, folder, declared(sections), security, sections.note)
    embedders = read_embedders(document.inner("embedders"), plugins)
    databases = {
        name: read_database(name, block, plugins, embedders)
        for name, block in document.inner("databases").inners(("type", "config"))
    }
    llms = {name: read_llm(name, block, plugins) for name, block in document.inner("llms").inners()}
    tools = {
        name: read_tool(name, block, plugins)
        for name, block in document.inner("tools").inners()
        if block.flag("enabled", True)
    }
    parts = Parts(plugins, databases, embedders, llms, tools)
    agents = {name: read_agent(name, block, parts) for name, block in document.inner("agents").inners()}
    running = with_readers(_whole(plugins), findings.mistake)
    findings.check()
    return HostConfig(
        file.resolve(),
        running,
        _whole(databases),
        _whole(embedders),
        _whole(llms),
        _whole(tools),
        _whole(agents),
        discovery,
        findings.remarks,
    )


T = TypeVar("T")


def _whole(blocks: Mapping[str, T | None]) -> dict[str, T]:
    return {name: block for name, block in blocks.items() if block is not None}
