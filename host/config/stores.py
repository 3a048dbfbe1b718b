"""`databases:` and `embedders:`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from host.config.block import Block
from host.config.references import named, plugin_of
from host.config.types import Database, Embedder, Plugin
from shared.errors import StartError

_COLLECTION_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")


def read_database(
    name: str, block: Block, plugins: Mapping[str, Plugin | None], embedders: Mapping[str, Embedder | None]
) -> Database | None:
    config = block.inner("config", ("collection", "dimension", "chunk_chars", "chunk_overlap", "embedder"))
    collection = config.text("collection", name)
    if not _COLLECTION_NAME.fullmatch(collection):
        config.mistake("collection", "must be 1 to 128 of A-Z a-z 0-9 . _ - with no dot at its start")
    chunk_chars = config.integer("chunk_chars", 1000, at_least=100)
    chunk_overlap = config.integer("chunk_overlap", min(100, chunk_chars // 2))
    if chunk_overlap > chunk_chars // 2:
        config.mistake("chunk_overlap", f"must be at most half of chunk_chars, {chunk_chars // 2}")
    dimension, embedder = config.integer("dimension", 0), config.text("embedder")
    named(config, "embedder", embedders)
    plugin = plugin_of(block, "type", plugins, "database_provider")
    if plugin is None:
        return None
    return Database(name, plugin, collection, dimension, chunk_chars, chunk_overlap, embedder)


def read_embedders(section: Block, plugins: Mapping[str, Plugin | None]) -> dict[str, Embedder | None]:
    embedders: dict[str, Embedder | None] = {}
    for name, block in section.inners(("type", "config")):
        config = block.inner("config", ("model", "dimension"))
        model, dimension = config.text("model"), config.integer("dimension", 0)
        plugin = plugin_of(block, "type", plugins, "embedder_provider")
        if plugin and model:
            _check_model(config, model, plugin, [other for other in embedders.values() if other])
        embedders[name] = Embedder(name, plugin, model, dimension) if plugin else None
    return embedders


def _check_model(config: Block, model: str, plugin: Plugin, others: list[Embedder]) -> None:
    try:
        own = plugin.setting("model")
    except StartError as error:
        config.mistake("model", f"plugin {plugin.name} has a model of its own, but {error}")
        return
    if own and model != own:
        config.mistake("model", f"is {model}, but plugin {plugin.name} has its own, {own}; change one")
    for other in others:
        if other.plugin == plugin and other.model and other.model != model:
            config.mistake("model", f"differs from embedders.{other.name}'s; give each its own plugin")
