"""`EXECUTABLE.plugin.yaml` beside an executable: what a plugin says of itself before it runs.

plugin: {name: custom_llm, version: 1.0.0, type: llm_provider, protocol: grpc}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from host.config.types import KINDS
from shared.config import suggest
from shared.errors import StartError
from shared.settings_file import read_yaml

SUFFIX = ".plugin.yaml"


@dataclass(frozen=True)
class Manifest:
    file: Path
    name: str
    version: str
    kind: str  # a value of KINDS


def read_manifest(file: Path) -> Manifest:
    """Raises StartError, which names the file, where it is none."""
    about = read_yaml(file).get("plugin")
    if not isinstance(about, dict):
        raise StartError(f"{file}: a manifest has all it says under `plugin:`")
    texts = {}
    for key in ("name", "version", "type", "protocol"):
        if not isinstance(about.get(key), str | int | float) or not str(about[key]).strip():
            raise StartError(f"{file}: plugin.{key} is missing; a manifest has name, version, type and protocol")
        texts[key] = str(about[key])
    if texts["protocol"] != "grpc":
        raise StartError(f"{file}: plugin.protocol is {texts['protocol']!r}, but plugins speak only 'grpc'")
    kinds = list(KINDS.values())
    if texts["type"] not in kinds:
        raise StartError(f"{file}: plugin.type is {texts['type']!r}{suggest(texts['type'], kinds)}")
    return Manifest(file, texts["name"], texts["version"], texts["type"])


def manifest_of(executable: Path) -> Manifest | None:
    """The one beside `executable`, if there is one. Raises StartError."""
    file = executable.with_name(executable.name + SUFFIX)
    return read_manifest(file) if file.is_file() else None
