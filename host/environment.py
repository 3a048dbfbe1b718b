"""What a plugin that the host starts finds in its environment: little, and nothing that is meant for others.

Of the host's own environment it gets what every program needs (`PASSED`), its own `NAME__KEY` variables, and those
that its block in the YAML names: as `${VAR}` in `config`, `env` or `security`, or as names in a list `env: [VAR]`.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from host.config import HostConfig, Plugin
from shared.config import expand
from shared.errors import StartError

PASSED = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "LOCALAPPDATA",  # Windows
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def of(plugin: Plugin, config: HostConfig, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment of `plugin`, when started. Raises StartError where a `${VAR}` is not set."""
    named = variables_in([dict(plugin.settings), dict(plugin.security)])
    own = tuple(prefixes(plugin))
    passed = {name: text for name, text in environ.items() if name in PASSED or name in named or _begins(name, own)}
    return {**passed, "PYTHONPATH": import_path(), **config.environment(plugin), **plugin.env}


def declared(where: str, value: object, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What `env:` of a block gives: a mapping of texts, expanded, or a list of names to pass on where they are set.

    Raises StartError, naming the key at fault and no value.
    """
    if isinstance(value, list):
        for name in value:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise StartError(f"{where}: a list of names of variables, as [HF_HOME, HTTPS_PROXY]")
        return {name: environ[name] for name in value if name in environ}
    if not isinstance(value, Mapping | None):
        raise StartError(f"{where}: a mapping of variables, or a list of names of those to pass on")
    for name, text in (value or {}).items():
        if not _NAME.fullmatch(name):
            raise StartError(f"{where}: {name!r} is no name of a variable; use A-Z, 0-9 and _")
        if not isinstance(text, str | int | float):
            raise StartError(f"{where}.{name}: a text is wanted; put it in quotes")
    try:
        return {name: _text(expand(text, environ)) for name, text in (value or {}).items()}
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


def import_path() -> str:
    """Where this process finds modules, but for what an interpreter finds by itself; absolute, as a child runs in
    another folder."""
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths = [Path(path).absolute() for path in sys.path if os.path.isdir(path)]
    return os.pathsep.join(str(path) for path in paths if not any(path.is_relative_to(known) for known in installed))


def _begins(name: str, prefixes: tuple[str, ...]) -> bool:
    return name.upper().startswith(prefixes)


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
