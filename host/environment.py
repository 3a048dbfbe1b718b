"""What a plugin that the host starts finds in its environment: little, and nothing that is meant for others.

Of the host's own environment it gets what every program needs (`PASSED`), its own `NAME__KEY` variables, and those
that its block in the YAML names: as `${VAR}` in `config`, `env` or `security`, or by their names alone, `env: [VAR]`.
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
from shared.settings_file import read_yaml

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
    """The whole environment of `plugin`, when started. Raises StartError where a `${VAR}` of its `env` is not set."""
    named = variables_in(dict(plugin.settings)) | variables_in(_below(read_yaml(config.file), "security"))
    own = tuple(prefixes(plugin))
    passed = {
        name: text
        for name, text in environ.items()
        if name in PASSED or name in named or name.upper().startswith(own) or plugin.env.get(name, "") is None
    }
    try:
        given = {name: _text(expand(text, environ)) for name, text in plugin.env.items() if text is not None}
    except StartError as error:
        raise StartError(f"plugin {plugin.name}: env: {error}") from None
    passed["PYTHONPATH"] = import_path(plugin.module, config.folder)
    greeting = {} if plugin.module or plugin.path.endswith(".py") else _GO_PLUGIN
    settings = {} if plugin.module else _settings(plugin, environ)
    return {**greeting, **settings, **passed, **config.environment(plugin), **given}


def _settings(plugin: Plugin, environ: Mapping[str, str]) -> dict[str, str]:
    """An executable's `config` as the guide's samples read it: CUSTOM_LLM_API_KEY for `api_key` of `custom_llm`."""
    variables = {}
    for key, value in plugin.settings.items():
        try:
            value = expand(value, environ)
        except StartError as error:
            raise StartError(f"plugin {plugin.name}: config.{key}: {error}") from None
        name = plugin.environment_prefix + re.sub(r"\W", "_", key).upper()
        variables[name] = json.dumps(value) if isinstance(value, list | dict) else _text(value)
    return variables


def variables_in(value: Any) -> set[str]:
    """The names in every `${VAR}` below `value`."""
    asked = _Asked()
    expand(value, asked)
    return asked.names


def prefixes(plugin: Plugin) -> Iterable[str]:
    """What the names of its own variables can begin with: as its module's or its file's name has it, or its block's."""
    file = plugin.module.rpartition(".")[2] or PurePath(plugin.path).stem
    yield from (re.sub(r"\W", "_", name).upper() + "__" for name in (file, plugin.name) if name)
    if plugin.environment_prefix:
        yield plugin.environment_prefix


def _below(value: Any, key: str) -> list[Any]:
    """Whatever stands under `key`, anywhere in `value`."""
    if not isinstance(value, dict):
        return []
    inner = [part for item in value.values() for part in _below(item, key)]
    return [value[key], *inner] if key in value else inner


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
