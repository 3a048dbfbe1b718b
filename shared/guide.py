"""The plugin's block in a settings file: a plain mapping of settings, or the YAML of Hector's plugin guide.

plugins:
  database_providers:
    my_db:                        # the plugin's name; another name where `path` has it, or --name picks the block
      type: "grpc"                # these are the host's: type, path, args, env, address, readers, enabled, name
      path: "my_db"
      config: {data_dir: "./data"}  # these are the plugin's settings
      security: {timeout: "30s"}    # a plugin enforces `timeout`, and takes the rest where its host says to enforce it
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from .config import expand, suggest
from .errors import StartError
from .settings_file import read_yaml
from .units import name_for_message, read_bool

SECTIONS = (
    "llm_providers",
    "database_providers",
    "embedder_providers",
    "tool_providers",
    "reasoning_strategies",
)
BLOCK_KEYS = ("type", "path", "args", "env", "address", "readers", "enabled", "name", "config", "security")
ENFORCES = "HECTOR_HOST_ENFORCES"  # set by a host: the keys of `security` that it holds this process to, with commas


def settings_in(path: Path, *, plugin: str, section: str, name: str | None = None) -> dict[str, Any]:
    """This plugin's settings out of `path`, variables expanded; `timeout` may come from its `security` block.

    `plugin` is the last part of the package's name (`vector_hnsw`), `section` one of SECTIONS, `name` picks a block.
    """
    document = read_yaml(path)
    if "plugins" in document:
        block = _block(path, document, plugin, section, name)
        settings = _expanded(path, block.get("config"))
        # One above all blocks is meant for this plugin too; the one in its own block has the last word.
        security = _security(path, document.get("security")) | _security(path, block.get("security"))
    elif name is None:
        settings = _expanded(path, document)
        security = _security(path, settings.pop("security", None))
    else:
        raise StartError(f"{path} has no `plugins:` block, so --name {name} picks nothing; drop --name")
    for key in security:
        if key != "timeout":
            which = key if key.isidentifier() and security[key] is not None else "*"
            raise StartError(
                f"{path}: security.{which} is for a host that enforces it, as `python -m host` does for what it "
                "starts; a plugin alone cannot, so remove the line to run without"
            )
    # A bound set under `security` is the operator's, so it wins over the plugin's own block.
    return settings | security


def _security(path: Path, value: Any) -> dict[str, Any]:
    """Without what the host says that it enforces."""
    enforced = os.environ.get(ENFORCES, "").split(",")
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if key not in enforced}
    return _expanded(path, value)


def blocks_in(document: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """The named blocks of one section of the guide's YAML; blocks straight under `plugins:` count for every section.

    Raises StartError where a name is in both places.
    """
    plugins = document.get("plugins")
    plugins = plugins if isinstance(plugins, Mapping) else {}
    inner = plugins.get(section)
    blocks = dict(inner) if isinstance(inner, Mapping) else {}
    straight = {
        k: v
        for k, v in plugins.items()
        if k not in SECTIONS and isinstance(v, Mapping) and ("path" in v or "address" in v)
    }
    for name in straight.keys() & blocks.keys():
        raise StartError(f"plugins: {name_for_message(name)} is there twice, also under {section}; rename one")
    return {str(key): value for key, value in {**straight, **blocks}.items() if isinstance(value, Mapping)}


def _block(path: Path, document: Mapping[str, Any], plugin: str, section: str, name: str | None) -> Mapping[str, Any]:
    try:
        blocks = blocks_in(document, section)
    except StartError as error:
        raise StartError(f"{path}: {error}") from None
    if name is None:
        name = _own(path, blocks, plugin, section)
    elif name not in blocks:
        raise StartError(f"{path}: no plugin {name!r} under plugins.{section}{suggest(name, blocks)}")
    block, where = blocks[name], f"{path}: plugin {name}"
    for key, value in block.items():
        if key not in BLOCK_KEYS:
            raise StartError(f"{where}: unknown key {name_for_message(key, value)}{suggest(key, BLOCK_KEYS)}")
    value = block.get("enabled")
    try:
        enabled = value is None or read_bool(expand(value))
    except (ValueError, StartError) as error:
        raise StartError(f"{where}.enabled: {error}") from None
    if not enabled:
        raise StartError(f"{where} has `enabled: false`; remove that line to run it")
    return block


def _own(path: Path, blocks: Mapping[str, Mapping[str, Any]], plugin: str, section: str) -> str:
    """The one block that is this plugin's by its key or its path. No other is taken unasked."""
    ours = [key for key, block in blocks.items() if key == plugin or _names(str(block.get("path", "")), plugin)]
    if len(ours) == 1:
        return ours[0]
    if ours:
        found = f"has {', '.join(ours)} for {plugin}; pick one with --name"
    elif blocks:
        found = f"has no block whose key or path names {plugin}; if {' or '.join(blocks)} is meant, pick it with --name"
    else:
        found = "has none"
    raise StartError(f"{path}: which plugin? plugins.{section} {found}")


def _names(path: str, plugin: str) -> bool:
    """Whether the last part of `path` is the plugin's name: `plugins.NAME`, `./bin/NAME`, `NAME.py`."""
    return plugin in (path.rpartition(".")[2], PurePath(path).stem)


def _expanded(path: Path, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise StartError(f"{path}: expected a mapping of settings, found {type(value).__name__}")
    try:
        return dict(expand(value))
    except StartError as error:
        raise StartError(f"{path}: {error}") from None
