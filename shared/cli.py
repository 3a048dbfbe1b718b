"""The command line of every plugin: `python -m plugins.NAME [--port N] [--config FILE [--name NAME]] [--check]`.

Every setting is an option too (`--data-dir`), except those that can hold a secret, which other users of the machine
could read there; a URL is an option as long as it has neither user nor query, and so are addresses without tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from . import guide
from .config import (
    Config,
    Source,
    from_environment,
    may_hold_secrets,
    origins,
    resolve,
    shown,
    suggest,
    types,
)
from .credentials import check_exposure, security_warnings, server_credentials
from .errors import StartError
from .units import Addresses, SecretUrl
from .visible import visible_json, visible_line


def configure(
    kind: type[Config],
    *,
    plugin: str,
    section: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    about: str | None = None,
    needs: Sequence[str] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
    check: Callable[[Config], object] = lambda _: None,
) -> Config:
    """The settings that command line, environment and file give. Raises StartError; exits on --help and --check.

    `section` is where the guide's YAML keeps such a plugin (`database_providers`), `about` the text above --help.
    `needs` are the modules of the plugin's extra, for `installed`; import what uses them after this call.
    `variables` are settings that a variable of the world's has where nothing else sets them: {"api_key": "SOME_KEY"}.
    `check` raises StartError where the settings could not be served, for --check.
    """
    parser = _parser(kind, plugin, about)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0], kind, plugin)
    installed(plugin, needs)
    options = vars(parsed)
    only_check, file, name = options.pop("check"), options.pop("config"), options.pop("name")
    if name is not None and file is None:
        raise StartError("--name picks a block of a file: give --config FILE too")
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if types(kind)[key] is SecretUrl and set("@?#") & set(value):
            raise _no_option("--" + key.replace("_", "-") + " with a user, a password or a query", key, plugin)
        if types(kind)[key] is Addresses and "{" in value:
            raise _no_option("--" + key.replace("_", "-") + " with more than addresses", key, plugin)
    sources = [Source("command line", given), Source("environment", from_environment(kind, plugin, environ))]
    if file is not None:
        values = guide.settings_in(Path(file), plugin=plugin, section=section, name=name)
        sources.append(Source(file, values))
    if "socket" not in given and {"host", "port"} & given.keys():
        # What the command line says of the address is all there is to it.
        sources.insert(1, Source("command line", {"socket": ""}))
    sources += [Source(name, {key: environ[name]}) for key, name in variables.items() if environ.get(name)]
    config = resolve(kind, sources)
    if only_check:
        report = visible_json(_report(config, {key: source.name for key, source in origins(kind, sources).items()}))
        # A terminal may know but ASCII.
        encoding = sys.stdout.encoding or "utf-8"
        print(report.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
        check_exposure(config)
        server_credentials(config)
        for warning in security_warnings(config):
            print(f"warning: {visible_line(str(warning))}", file=sys.stderr)
        check(config)
        raise SystemExit(0)
    return config


def installed(extra: str, modules: Sequence[str]) -> None:
    """Raises StartError where one of `modules` is missing, which `extra` would bring. Imports none of them."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise StartError(f"{module} is not installed: pip install 'hector-plugins[{extra.replace('_', '-')}]'")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every other mistake in the settings; argparse would print the whole usage first."""
        # Of a value that an option does not take, argparse would say which it was.
        message = re.sub(r"ignored explicit argument .*", "takes no value", message, flags=re.DOTALL)
        raise StartError(f"command line: {message}; see --help")


def _unknown(argument: str, kind: type[Config], plugin: str) -> StartError:
    """What to say of an argument that is no option; never its value, which may be a secret."""
    flag = argument.partition("=")[0]
    key = flag.lstrip("-").replace("-", "_")
    for name in types(kind):  # also where the blank behind it was forgotten
        if key.startswith(name) and flag.startswith("-") and may_hold_secrets(kind, name):
            return _no_option("--" + name.replace("_", "-"), name, plugin)
    if not re.fullmatch(r"--[A-Za-z0-9_-]{1,64}", flag):
        return StartError("command line: there is a value that belongs to no option; see --help")
    known = [name.replace("_", "-") for name in ("config", "name", "check", *types(kind))]
    return StartError(f"command line: unknown option {flag}{suggest(flag, ['--' + name for name in known])}")


def _no_option(what: str, key: str, plugin: str) -> StartError:
    return StartError(
        f"command line: {what} is no option, since other users of the machine could read it there; "
        f"set {plugin.upper()}__{key.upper()} or put it in the file"
    )


def _parser(kind: type[Config], plugin: str, about: str | None) -> argparse.ArgumentParser:
    options = (SecretUrl, Addresses)  # as long as there is no secret in them
    hidden = [name for name in types(kind) if may_hold_secrets(kind, name) and types(kind)[name] not in options]
    parser = _Parser(
        prog=f"python -m plugins.{plugin}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Settings, highest first: these options, the environment ({plugin.upper()}__KEY), --config, defaults.\n"
        f"No options, since others could read them here: {', '.join(hidden)}.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML: a plain mapping of settings, or the guide's `plugins:`")
    parser.add_argument("--name", metavar="NAME", help="the block of FILE that is this plugin's")
    parser.add_argument("--check", action="store_true", help="print the settings and where each is from, and exit")
    settings = parser.add_argument_group("settings")
    for field in dataclasses.fields(kind):
        if field.name in hidden:
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
    # JSON is YAML too, and keeps every value on its line.
    return "".join(
        f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}  # {source_of[key]}\n"
        for key, value in shown(config).items()
    )
