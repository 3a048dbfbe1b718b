"""What one block says of another: `type: "plugin:NAME"`, and names.

In every mapping here None stands for a block that has a mistake of its own, of which nothing more is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from host.config.block import Block
from host.config.types import ANY_KIND, KINDS, Plugin
from shared.config import suggest
from shared.errors import quoted

T = TypeVar("T")
_USED_IN = dict(zip(("llms", "databases", "embedders", "tools"), KINDS.values(), strict=False))


def named(block: Block, key: str, there: Mapping[str, T | None], name: str = "") -> T | None:
    """The one of `there`, the section `KEYs:`, that `key` names; a mistake is noted where none has the name."""
    name = name or block.text(key)
    if name and name not in there:
        section = key if key.endswith("s") else key + "s"
        block.mistake(key, f"no {section}.{name}{suggest(name, there)}")
    return there.get(name)


def plugin_of(block: Block, key: str, plugins: Mapping[str, Plugin | None], kind: str, text: str = "") -> Plugin | None:
    """The plugin that `key: "plugin:NAME"` means; a mistake is noted where there is none of that kind."""
    text = text or block.text(key)
    scheme, _, name = text.partition(":")
    if scheme != "plugin" or not name:
        own = f", not {quoted(text)}" if text else ""
        block.mistake(key, f'must be "plugin:NAME"{own}, NAME being a plugin under plugins:')
        return None
    if name not in plugins:
        block.mistake(key, f"no enabled plugin {name!r}{suggest(name, plugins)}")
        return None
    plugin = plugins[name]
    if plugin and plugin.kind not in (kind, ANY_KIND):
        block.mistake(key, f"plugin {name} is a {plugin.kind}, not a {kind}")
        return None
    return plugin


def uses(document: Mapping[str, object]) -> dict[str, set[str]]:
    """What the file takes each plugin for, by name. Says nothing of mistakes."""
    kinds: dict[str, set[str]] = {}
    for text, kind in _uses(document):
        if isinstance(text, str) and text.startswith("plugin:"):
            kinds.setdefault(text.removeprefix("plugin:"), set()).add(kind)
    return kinds


def _uses(document: Mapping[str, object]) -> Iterator[tuple[object, str]]:
    for section, kind in _USED_IN.items():
        for block in _mappings(document.get(section)):
            yield block.get("type"), kind
    for agent in _mappings(document.get("agents")):
        reasoning, tools = agent.get("reasoning"), agent.get("tools")
        if isinstance(reasoning, Mapping):
            yield reasoning.get("engine"), "reasoning_strategy"
        for tool in tools if isinstance(tools, list) else ():
            yield tool, "tool_provider"


def _mappings(section: object) -> Iterator[Mapping[str, object]]:
    values = section.values() if isinstance(section, Mapping) else ()
    return (value for value in values if isinstance(value, Mapping))
