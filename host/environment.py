"""What a plugin that the host starts finds in its environment: little, and nothing that is meant for others.

Of the host's own environment it gets what every program needs (`PASSED`), its own `NAME__KEY` variables, and those
that its block in the YAML names: as `${VAR}` in `config`, `env` or `security`, or as names in a list `env: [VAR]`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from host.config import HostConfig, Plugin
from host.modules import import_path
from shared.config import expand
from shared.errors import StartError

PASSED = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "LOCALAPPDATA",  # Windows
)  # fmt: skip

# How a released Hector host greets an executable; one that is made with go-plugin runs only so greeted.
_GO_PLUGIN = {
    "HECTOR_PLUGIN": "hector_plugin_v1",
    "PLUGIN_PROTOCOL_VERSIONS": "1",
    "PLUGIN_MIN_PORT": "10000",
    "PLUGIN_MAX_PORT": "25000",
}


def of(plugin: Plugin, config: HostConfig, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment of `plugin`, when started. Raises StartError where a `${VAR}` is not set."""
    env = plugin.env if isinstance(plugin.env, Mapping) else {}
    named = variables_in([dict(plugin.settings), dict(env)]) | (set() if env else set(plugin.env))
    own = tuple(prefixes(plugin))
    passed = {name: text for name, text in environ.items() if name in PASSED or name in named or _begins(name, own)}
    variables = {name: _expanded(f"plugin {plugin.name}: env.{name}", text, environ) for name, text in env.items()}
    passed["PYTHONPATH"] = import_path(plugin.module, config.folder)
    greeting = {} if plugin.module or plugin.path.endswith(".py") else _GO_PLUGIN
    settings = {} if plugin.module else _settings(plugin, environ)
    return {**greeting, **settings, **passed, **config.environment(plugin), **variables}


def _settings(plugin: Plugin, environ: Mapping[str, str]) -> dict[str, str]:
    """An executable's `config` as the guide's samples read it: CUSTOM_LLM_API_KEY for `api_key` of `custom_llm`."""
    variables = {}
    for key, value in plugin.settings.items():
        name = plugin.environment_prefix + re.sub(r"\W", "_", key).upper()
        value = _expanded(f"plugin {plugin.name}: config.{key}", value, environ)
        variables[name] = json.dumps(value) if isinstance(value, list | dict) else _text(value)
    return variables


def _expanded(where: str, value: Any, environ: Mapping[str, str]) -> Any:
    try:
        return expand(value, environ)
    except StartError as error:
        raise StartError(f"{where}: {error}") from None


def variables_in(value: Any) -> set[str]:
    """The names in every `${VAR}` below `value`."""
    asked = _Asked()
    expand(value, asked)
    return asked.names


def prefixes(plugin: Plugin) -> Iterable[str]:
    """What the names of its own variables can begin with: its module's or its file's name, and its block's."""
    module = plugin.module or PurePath(plugin.path).stem
    for name in (module.rpartition(".")[2], plugin.name):
        if name:
            yield re.sub(r"\W", "_", name).upper() + "__"
    if plugin.environment_prefix:
        yield plugin.environment_prefix


def _begins(name: str, prefixes: tuple[str, ...]) -> bool:
    return name.upper().startswith(prefixes)


def _text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


class _Asked(Mapping[str, str]):
    """An environment in which everything is set, and which remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return ""

    def __iter__(self) -> Any:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
