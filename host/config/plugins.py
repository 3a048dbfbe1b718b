"""`plugins:`, its five sections and the blocks straight under it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from host.config.block import Block
from host.config.manifest import manifest_of
from host.config.security import Security, read_security
from host.config.types import ANY_KIND, KINDS, PORTS, Discovery, Plugin
from shared.client import Address
from shared.config import expand, suggest
from shared.errors import StartError, quoted
from shared.guide import BLOCK_KEYS, SECTIONS
from shared.units import read_list

_DISCOVERY = "plugin_discovery"
_ADDRESS = re.compile(r"unix:.+|(?:dns:///)?(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WITH_READERS = "plugins.vector_hnsw"
_MOST_READERS = 64


def read_plugins(
    sections: Block, folder: Path, above: Security, uses: Mapping[str, set[str]]
) -> dict[str, Plugin | None]:
    """Each enabled plugin by name; None for one that is none for its mistakes.

    `above` is the security that stands above all of them, `uses` what the rest of the file takes each plugin for.
    """
    plugins: dict[str, Plugin | None] = {}
    lines: dict[str, int] = {}
    for name, kind, block in _blocks(sections):
        if name in lines:
            block.note(f"another plugin has this name, in line {lines[name]}; rename one")
            continue
        lines[name] = block.line
        block.only(BLOCK_KEYS)
        if block.flag("enabled", True):
            plugins[name] = _plugin(name, kind, block, folder, above, uses.get(name, set()))
    return plugins


def declared(sections: Block) -> set[str]:
    """The names of all blocks, those that are not enabled too."""
    return {name for name, _, _ in _blocks(sections)}


def with_readers(plugins: Mapping[str, Plugin], mistake: Callable[[int, str], None]) -> dict[str, Plugin]:
    """Each plugin, and behind it its readers, which are as it is but for what `host/child.py` starts."""
    both: dict[str, Plugin] = {}
    for plugin in plugins.values():
        both[plugin.name] = plugin
        for number in range(1, plugin.readers + 1):
            name = f"{plugin.name}-reader-{number}"
            if name in plugins:
                mistake(plugins[name].line, f"plugin {name}: a reader of {plugin.name} has this name; rename one")
            both[name] = replace(plugin, name=name, readers=0, reader_of=plugin.name)
    return both


def read_discovery(sections: Block) -> Discovery:
    block = sections.inner(_DISCOVERY, ("enabled", "paths", "scan_subdirectories"))
    return Discovery(
        block.flag("enabled", False),
        block.read("paths", read_list, Discovery.paths),
        block.flag("scan_subdirectories", False),
    )


def _blocks(sections: Block) -> Iterator[tuple[str, str, Block]]:
    for key in sections.values:
        if key == _DISCOVERY:
            continue
        inner = sections.inner(key)
        if key in KINDS:
            yield from ((name, KINDS[key], block) for name, block in inner.inners())
        elif "path" in inner.values or "address" in inner.values:
            yield key, ANY_KIND, inner
        else:
            sections.note(f"unknown section {key!r}{suggest(key, [*SECTIONS, _DISCOVERY])}", sections.line_of(key))


def _plugin(name: str, kind: str, block: Block, folder: Path, above: Security, uses: set[str]) -> Plugin | None:
    """`uses` are what the rest of the file takes it for: what it is, where nothing else says so."""
    if block.text("type", "grpc") != "grpc":
        block.mistake("type", "must be 'grpc', which is all that plugins speak")
    if block.text("name", name) != name:
        block.mistake("name", f"must be {name}, as the block's, or be left out")
    path, address = block.text("path"), _address(block, folder)
    plugin = Plugin(
        name,
        kind,
        path,
        None if path else address,
        block.inner("config").values,
        folder,
        listens_at=address if path else None,
        arguments=block.read("args", read_list, None),
        env=_env(block),
        security=read_security(block.inner("security"), above),
        readers=block.integer("readers", 0),
        line=block.line,
    )
    if plugin.readers > _MOST_READERS:
        block.mistake("readers", f"must be at most {_MOST_READERS}; more than there are cores win nothing")
        return replace(plugin, readers=0)
    if plugin.readers and plugin.module != _WITH_READERS:
        block.mistake("readers", f"only `path: {_WITH_READERS}` has readers; remove the line")
    if plugin.readers and plugin.arguments is not None:
        block.mistake("readers", "readers are started with the host's own arguments; remove `args` or this line")
    if not path and not block.values.get("address"):
        block.note("needs `path` (the host starts it) or `address` (it runs already)")
    if not path and not address:
        return None
    if path and not plugin.module:
        plugin = _with_manifest(plugin, block)
    if plugin.kind == ANY_KIND and len(uses) == 1:
        plugin = replace(plugin, kind=next(iter(uses)))
    return replace(plugin, usual_port=PORTS.get(plugin.kind)) if path and not plugin.module else plugin


def _with_manifest(plugin: Plugin, block: Block) -> Plugin:
    """As the manifest says that stands beside the executable, where there is one."""
    try:
        manifest = manifest_of(plugin.folder / plugin.path)
    except StartError as error:
        block.mistake("path", f"its manifest {error}")
        return plugin
    if manifest is None:
        return plugin
    if manifest.name != plugin.name:
        block.mistake("path", f"its manifest has the name {manifest.name}, not {plugin.name}; the two must be equal")
    if plugin.kind == ANY_KIND:
        return replace(plugin, kind=manifest.kind)
    if plugin.kind != manifest.kind:
        block.mistake("path", f"its manifest says that it is a {manifest.kind}, not a {plugin.kind}")
    return plugin


def _address(block: Block, folder: Path) -> Address | None:
    if not block.values.get("address"):
        return None
    try:
        address = Address.read(expand(block.values["address"]))
    except StartError as error:
        block.mistake("address", str(error))
        return None
    if not _ADDRESS.fullmatch(address.address):
        block.mistake("address", "an address is HOST:PORT, unix:PATH or dns:///NAME:PORT")
        return None
    ca, cert, key = (str(folder / file) if file else "" for file in (address.tls_ca, address.tls_cert, address.tls_key))
    return replace(address, tls_ca=ca, tls_cert=cert, tls_key=key)


def _env(block: Block) -> Mapping[str, str | None]:
    """A mapping of variables, not expanded, or a list of names of the host's own variables, which have None here."""
    value = block.values.get("env")
    if isinstance(value, list):
        if all(isinstance(name, str) and _VARIABLE.fullmatch(name) for name in value):
            return dict.fromkeys(value)
        block.mistake("env", "as a list it has the names of variables to pass on, as [HF_HOME, HTTPS_PROXY]")
        return {}
    env = block.inner("env")
    for key, text in env.values.items():
        if not _VARIABLE.fullmatch(key):
            env.note(f"{quoted(key)} is no name of a variable", env.line_of(key))
        elif not isinstance(text, str | int | float):
            env.mistake(key, "must be a text; put it in quotes")
    return {key: str(text).lower() if isinstance(text, bool) else str(text) for key, text in env.values.items()}
