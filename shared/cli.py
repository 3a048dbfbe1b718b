"""The command line of every plugin: `python -m PACKAGE [--port N] [--config FILE [--name NAME]] [--check]`.

Every setting is an option too (`--data-dir`), except those that can hold a secret, which other users of the machine
could read there; a URL is an option as long as it has neither user nor query, and so are addresses without tokens.

It needs nothing installed, so that a plugin can say what it lacks (`start`); what does is imported where it is used.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from . import logs
from .config import (
    Config,
    Source,
    from_environment,
    may_hold_secrets,
    misspelt_variables,
    origins,
    plugin_of,
    resolve,
    shown,
    suggest,
    types,
    variable,
)
from .errors import StartError
from .units import Addresses, SecretUrl
from .visible import visible_json, visible_line


def configure(
    kind: type[Config],
    *,
    package: str,
    section: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    about: str | None = None,
    needs: Mapping[str, str] = MappingProxyType({}),
    variables: Mapping[str, str] = MappingProxyType({}),
    check: Callable[[Config], object] = lambda _: None,
) -> Config:
    """The settings that command line, environment and file give. Raises StartError; exits on --help and the like.

    `package` is the name of the plugin's package: what it runs as, and by its last part what it is called.
    `section` is where the guide's YAML keeps such a plugin (`database_providers`), `about` the text above --help, for
    `naming`. `needs` are the modules that it imports, for `installed`; import what uses them after this call.
    `variables` are settings that a variable of the world's has where nothing else sets them: {"api_key": "SOME_KEY"}.
    `check` raises StartError where the settings could not be served, for --check.
    """
    parser = _parser(kind, package, about)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0], kind, package)
    installed(needs)
    options = vars(parsed)
    only_check, only_health = options.pop("check"), options.pop("health")
    file, name = options.pop("config"), options.pop("name")
    if name is not None and file is None:
        raise StartError("--name picks a block of a file: give --config FILE too")
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if types(kind)[key] is SecretUrl and set("@?#") & set(value):
            raise _no_option("--" + key.replace("_", "-") + " with a user, a password or a query", key, package)
        if types(kind)[key] is Addresses and "{" in value:
            raise _no_option("--" + key.replace("_", "-") + " with more than addresses", key, package)
    sources = [Source("command line", given), Source("environment", from_environment(kind, package, environ))]
    for sentence in misspelt_variables(kind, package, environ):
        logs.line(f"warning: {sentence}")
    if file is not None:
        from . import guide

        values = guide.settings_in(Path(file), plugin=plugin_of(package), section=section, name=name)
        sources.append(Source(file, values))
    if "socket" not in given and {"host", "port"} & given.keys():
        # What the command line says of the address is all there is to it.
        sources.insert(1, Source("command line", {"socket": ""}))
    sources += [Source(name, {key: environ[name]}) for key, name in variables.items() if environ.get(name)]
    config = resolve(kind, sources)
    if only_check:
        from .credentials import check_exposure, security_warnings, server_credentials

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
    if only_health:
        from .probe import health

        is_well, answer = health(config)
        print(answer, flush=True)
        raise SystemExit(0 if is_well else 1)
    return config


def installed(needs: Mapping[str, str]) -> None:
    """Raises StartError where a module is missing that is a key of `needs`; what pip knows it by stands beside it.

    Imports none of them.
    """
    missing = {module: needed for module, needed in needs.items() if importlib.util.find_spec(module) is None}
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise StartError(f"{', '.join(missing)} {are} not installed: pip install {shlex.join(missing.values())}")


def naming(package: str, about: str | None) -> str:
    """A docstring for --help, with the name of the package that runs where it says `{package}`."""
    return (about or "").replace("{package}", package)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every other mistake in the settings; argparse would print the whole usage first."""
        # Of a value that an option does not take, argparse would say which it was.
        message = re.sub(r"ignored explicit argument .*", "takes no value", message, flags=re.DOTALL)
        raise StartError(f"command line: {message}; see --help")


def _unknown(argument: str, kind: type[Config], package: str) -> StartError:
    """What to say of an argument that is no option; never its value, which may be a secret."""
    flag = argument.partition("=")[0]
    key = flag.lstrip("-").replace("-", "_")
    for name in types(kind):  # also where the blank behind it was forgotten
        if key.startswith(name) and flag.startswith("-") and may_hold_secrets(kind, name):
            return _no_option("--" + name.replace("_", "-"), name, package)
    if not re.fullmatch(r"--[A-Za-z0-9_-]{1,64}", flag):
        return StartError("command line: there is a value that belongs to no option; see --help")
    known = [name.replace("_", "-") for name in ("config", "name", "check", "health", *types(kind))]
    return StartError(f"command line: unknown option {flag}{suggest(flag, ['--' + name for name in known])}")


def _no_option(what: str, key: str, package: str) -> StartError:
    return StartError(
        f"command line: {what} is no option, since other users of the machine could read it there; "
        f"set {variable(package, key)} or put it in the file"
    )


def _parser(kind: type[Config], package: str, about: str | None) -> argparse.ArgumentParser:
    options = (SecretUrl, Addresses)  # as long as there is no secret in them
    hidden = [name for name in types(kind) if may_hold_secrets(kind, name) and types(kind)[name] not in options]
    parser = _Parser(
        prog=f"python -m {package}",
        description=naming(package, about),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Settings, highest first: these options, the environment ({variable(package, 'KEY')}), --config,"
        " defaults.\n"
        f"No options, since others could read them here: {', '.join(hidden)}.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML: a plain mapping of settings, or the guide's `plugins:`")
    parser.add_argument("--name", metavar="NAME", help="the block of FILE that is this plugin's")
    parser.add_argument("--check", action="store_true", help="print the settings and where each is from, and exit")
    parser.add_argument(
        "--health",
        action="store_true",
        help="ask the server that these settings describe, and exit: 0 if it is SERVING",
    )
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
