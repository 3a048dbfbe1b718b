"""Plugins that are found rather than named: an executable with its manifest, `NAME.plugin.yaml`, in a folder of
`plugin_discovery: paths`. Only where `enabled: true` says so, since what is found there is run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from host.config.manifest import SUFFIX, read_manifest
from host.config.security import Security
from host.config.types import PORTS, Discovery, HostConfig, Plugin
from shared.errors import StartError

_MOST = 200  # manifests of a folder


def discovered(
    discovery: Discovery,
    folder: Path,
    configured: Collection[str],
    security: Security,
    mistake: Callable[[str], None],
) -> dict[str, Plugin]:
    """The plugins in the folders, but for those that have a block. `folder` is the YAML's; `mistake` is told of each
    manifest that none can be started from."""
    plugins: dict[str, Plugin] = {}
    for file in _manifests(discovery, folder):
        try:
            plugin = _plugin(file, folder, security)
        except StartError as error:
            mistake(str(error))
            continue
        if plugin.name in plugins:
            mistake(f"{file}: {plugins[plugin.name].path} has the name {plugin.name} too; rename one")
        elif plugin.name not in configured:
            plugins[plugin.name] = plugin
    return plugins


def folders_of(config: HostConfig) -> list[Path]:
    """Those in which manifests are looked for and that are there."""
    return list(_folders(config.discovery, config.folder))


def _folders(discovery: Discovery, folder: Path) -> Iterator[Path]:
    for path in discovery.paths if discovery.enabled else ():
        place = folder / Path(path).expanduser()
        if place.is_dir():
            yield place
            if discovery.scan_subdirectories:
                yield from sorted(inner for inner in place.iterdir() if inner.is_dir())


def _manifests(discovery: Discovery, folder: Path) -> Iterator[Path]:
    seen = set()
    for place in _folders(discovery, folder):
        for file in sorted(place.glob("*" + SUFFIX))[:_MOST]:
            real = file.resolve()
            if real not in seen:
                seen.add(real)
                yield file


def _plugin(file: Path, folder: Path, security: Security) -> Plugin:
    """Raises StartError."""
    executable = file.with_name(file.name.removesuffix(SUFFIX))
    manifest = read_manifest(file)
    if not executable.is_file():
        raise StartError(f"{file}: there is no {executable.name} beside it; a manifest is named after its executable")
    if executable.suffix != ".py" and not os.access(executable, os.X_OK):
        raise StartError(f"{executable} is not executable; chmod +x it")
    for path in (file, executable, file.parent, executable.resolve().parent):
        if path.stat().st_mode & stat.S_IWOTH and not path.stat().st_mode & stat.S_ISVTX:
            raise StartError(f"{path} can be changed by every user of this machine, and is not run; chmod o-w it")
    return Plugin(
        manifest.name,
        manifest.kind,
        str(executable),
        None,
        {},
        folder,
        usual_port=PORTS[manifest.kind],
        security=security,
    )
