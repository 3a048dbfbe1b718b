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

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from host.block import Block
from shared.client import Address
from shared.config import expand, suggest
from shared.errors import StartError
from shared.guide import BLOCK_KEYS, SECTIONS
from shared.settings_file import read_yaml
from shared.units import Secret

# The guide's name for what stands in each section.
_KINDS = ("llm_provider", "database_provider", "embedder_provider", "tool_provider", "reasoning_strategy")
KINDS = dict(zip(SECTIONS, _KINDS, strict=True))
ANY_KIND = "plugin"  # a block straight under `plugins:` does not say what it is
_COLLECTION_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_MODULE = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?<!\.py)")


@dataclass(frozen=True)
class Plugin:
    """One block under `plugins:`. Exactly one of `path` (the host starts it) and `address` (it runs) is set."""

    name: str
    kind: str  # a value of KINDS, or ANY_KIND
    path: str
    address: Address | None
    settings: Mapping[str, Any]  # its `config`, not expanded

    @property
    def environment_prefix(self) -> str:
        """What the names of its environment variables start with; empty where that is not known."""
        match = _MODULE.fullmatch(self.path)
        return match[1].upper() + "__" if match else ""

    def setting(self, key: str) -> str:
        """One of its own settings, as it will see it; empty where that is not set."""
        prefix = self.environment_prefix
        given = os.environ.get(prefix + key.upper()) if prefix else None
        return str(expand(self.settings.get(key, ""))) if given is None else given

    def started_at(self, address: str) -> Address:
        """`address`, which it printed, with the credentials that its settings ask for."""
        return Address(address, token=Secret(self.setting("token")), tls_ca=self.setting("tls_cert"))


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
class HostConfig:
    """The whole file. Plugins that are not enabled are left out."""

    file: Path  # absolute
    plugins: Mapping[str, Plugin]
    databases: Mapping[str, Database]
    embedders: Mapping[str, Embedder]

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

    def environment(self, plugin: Plugin) -> dict[str, str]:
        """What `plugin`, when started, sees beside the host's own environment: the model that `embedders:` names."""
        model = next((e.model for e in self.embedders.values() if e.plugin == plugin and e.model), "")
        return {plugin.environment_prefix + "MODEL": model} if model and plugin.environment_prefix else {}


def load(file: Path) -> HostConfig:
    """Reads and checks `file`. Raises StartError, naming the key at fault."""
    document = Block("", read_yaml(file))
    try:
        plugins = {plugin.name: plugin for plugin in _plugins(document.inner("plugins"))}
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


def _plugins(sections: Block) -> Iterator[Plugin]:
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
        yield Plugin(name, kind, path, running, block.inner("config").values)


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
