"""The command line of every plugin: `python -m plugins.NAME [--port N] [--config FILE [--name NAME]] [--check]`.

Every setting is an option too (`--data-dir`), except secrets, which other users of the machine could read there.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shared import guide
from shared.config import Config, Source, from_environment, origins, resolve, shown, types
from shared.errors import StartError
from shared.units import Secret


def configure(
    kind: type[Config],
    *,
    plugin: str,
    section: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    about: str | None = None,
) -> Config:
    """The settings that command line, environment and file give. Raises StartError; exits on --help and --check.

    `section` is where the guide's YAML keeps such a plugin (`database_providers`), `about` the text above --help.
    """
    options = vars(_parser(kind, plugin, about).parse_args(argv))
    check, file, name = options.pop("check"), options.pop("config"), options.pop("name")
    if name is not None and file is None:
        raise StartError("--name picks a block of a file: give --config FILE too")
    given = {key: value for key, value in options.items() if value is not None}
    sources = [Source("command line", given), Source("environment", from_environment(kind, plugin, environ))]
    if file is not None:
        values = guide.settings_in(Path(file), plugin=plugin, section=section, name=name)
        sources.append(Source(file, values))
    if "socket" not in given and {"host", "port"} & given.keys():
        # What the command line says of the address is all there is to it.
        sources.insert(1, Source("command line", {"socket": ""}))
    config = resolve(kind, sources)
    if check:
        print(_report(config, {key: source.name for key, source in origins(kind, sources).items()}), end="")
        raise SystemExit(0)
    return config


def _parser(kind: type[Config], plugin: str, about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m plugins.{plugin}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Settings, highest first: these options, the environment ({plugin.upper()}__KEY), --config, defaults.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML: a plain mapping of settings, or the guide's `plugins:`")
    parser.add_argument("--name", metavar="NAME", help="the block of FILE that is this plugin's")
    parser.add_argument("--check", action="store_true", help="print the settings and where each is from, and exit")
    settings = parser.add_argument_group("settings")
    for field in dataclasses.fields(kind):
        if types(kind)[field.name] is Secret:
            continue
        flag: dict[str, Any] = {"nargs": "?", "const": "true"} if types(kind)[field.name] is bool else {}
        default = f" [{field.metadata['default']}]" if field.metadata["default"] != "" else ""
        settings.add_argument(
            "--" + field.name.replace("_", "-"),
            metavar=field.name.rpartition("_")[2].upper(),
            **flag,
            help=(field.metadata["help"] + default).replace("%", "%%"),
        )
    return parser


def _report(config: Config, source_of: Mapping[str, str]) -> str:
    lines = []
    for key, value in shown(config).items():
        text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
        # YAML marks the end of a document that is only a scalar with three dots.
        lines.append(f"{key}: {text.strip().removesuffix('...').strip()}  # {source_of[key]}\n")
    return "".join(lines)
