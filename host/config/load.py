"""The guide's YAML as frozen dataclasses: which plugins there are, and which collection and embedder to use.

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
is expanded. Other top-level keys (`agents`, `llms`, …) are Hector's and none of this host's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from host import environment
from host.block import Block
from host.config.types import ANY_KIND, KINDS, Database, Embedder, HostConfig, Plugin
from shared.client import Address
from shared.config import expand, suggest
from shared.errors import StartError
from shared.guide import BLOCK_KEYS, SECTIONS
from shared.settings_file import read_yaml

_COLLECTION_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")


def load(file: Path) -> HostConfig:
    """Reads and checks `file`. Raises StartError, naming the key at fault."""
    document = Block("", read_yaml(file))
    try:
        security = document.inner("security").values
        plugins = {plugin.name: plugin for plugin in _plugins(document.inner("plugins"), security)}
        databases = {
            name: _database(name, block, plugins)
            for name, block in document.inner("databases").inners(("type", "config"))
        }
        embedders: dict[str, Embedder] = {}
        for name, block in document.inner("embedders").inners(("type", "config")):
            embedders[name] = _embedder(name, block, plugins, embedders)
    except StartError as error:
        raise StartError(f"{file}: {error}") from None
    return HostConfig(file.resolve(), plugins, databases, embedders)


def _plugins(sections: Block, security: Mapping[str, Any]) -> Iterator[Plugin]:
    seen: set[str] = set()
    for name, kind, outer in _plugin_blocks(sections):
        if name in seen:
            raise StartError(f"{outer.where}: another plugin has this name; rename one")
        seen.add(name)
        block = Block(outer.where, outer.values, BLOCK_KEYS)
        if not block.flag("enabled", True):
            continue
        protocol, path, address = block.text("type", "grpc"), block.text("path"), block.values.get("address")
        if protocol != "grpc":
            raise StartError(f"{block.where}.type is {protocol!r}, but plugins speak only 'grpc'")
        if bool(path) == bool(address):
            raise StartError(f"{block.where} needs either `path` (the host starts it) or `address` (it runs already)")
        try:
            running = Address.read(expand(address)) if address else None
        except StartError as error:
            raise StartError(f"{block.where}.address: {error}") from None
        yield Plugin(
            name,
            kind,
            path,
            running,
            block.inner("config").values,
            env=environment.declared(f"{block.where}.env", block.values.get("env")),
            # One above all blocks is meant for this plugin too; the one in its own block has the last word.
            security={**security, **block.inner("security").values},
        )


def _plugin_blocks(sections: Block) -> Iterator[tuple[str, str, Block]]:
    for key, inner in sections.inners():
        if key in KINDS:
            yield from ((name, KINDS[key], block) for name, block in inner.inners())
        elif "path" in inner.values or "address" in inner.values:
            yield key, ANY_KIND, inner
        else:
            raise StartError(f"plugins: unknown section {key!r}{suggest(key, SECTIONS)}")


def _database(name: str, block: Block, plugins: Mapping[str, Plugin]) -> Database:
    config = block.inner("config", ("collection", "dimension", "chunk_chars", "chunk_overlap", "embedder"))
    collection = config.text("collection", name)
    if not _COLLECTION_NAME.fullmatch(collection):
        raise StartError(f"{config.where}.collection must be 1 to 128 of A-Z a-z 0-9 . _ - with no dot at its start")
    chunk_chars = config.integer("chunk_chars", 1000, at_least=100)
    chunk_overlap = config.integer("chunk_overlap", min(100, chunk_chars // 2))
    if chunk_overlap > chunk_chars // 2:
        raise StartError(f"{config.where}.chunk_overlap must be at most half of chunk_chars, {chunk_chars // 2}")
    return Database(
        name,
        _plugin_of(block, plugins, "database_provider"),
        collection,
        config.integer("dimension", 0),
        chunk_chars,
        chunk_overlap,
        config.text("embedder"),
    )


def _embedder(name: str, block: Block, plugins: Mapping[str, Plugin], others: Mapping[str, Embedder]) -> Embedder:
    config = block.inner("config", ("model", "dimension"))
    plugin = _plugin_of(block, plugins, "embedder_provider")
    model, own = config.text("model"), plugin.setting("model")
    if model and own and model != own:
        raise StartError(f"{config.where}.model is {model}, but plugin {plugin.name} has its own, {own}; change one")
    for other in others.values():
        if other.plugin == plugin and model and other.model and other.model != model:
            raise StartError(f"{config.where}.model differs from embedders.{other.name}'s; give each its own plugin")
    return Embedder(name, plugin, model, config.integer("dimension", 0))


def _plugin_of(block: Block, plugins: Mapping[str, Plugin], kind: str) -> Plugin:
    scheme, _, name = block.text("type").partition(":")
    if scheme != "plugin" or not name:
        raise StartError(f'{block.where}.type must be "plugin:NAME", NAME being a plugin under plugins:')
    if name not in plugins:
        raise StartError(f"{block.where}.type: no enabled plugin {name!r}{suggest(name, plugins)}")
    if plugins[name].kind not in (kind, ANY_KIND):
        raise StartError(f"{block.where}.type: plugin {name} is a {plugins[name].kind}, not a {kind}")
    return plugins[name]
