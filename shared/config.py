"""Settings: each described once, as a field of a frozen dataclass, and resolved from five sources in one order.

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        data_dir: Path = setting("./data", "Folder that holds the collections; created when missing.")

    config = resolve(Config, [Source("environment", {"data_dir": "/srv/vectors"}), Source("file", {...})])

Sources, the highest first: command line, the host's map, environment, file, defaults. Values may all be strings;
`shared/units.py` says how each type is written. `shared/cli.py` collects the sources.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar

from .errors import StartError
from .logs import LEVELS
from .units import (
    READERS,
    Addresses,
    Duration,
    Secret,
    SecretMapping,
    SecretUrl,
    Size,
    masked,
    name_for_message,
    secret_texts_in,
    spellings,
)

# So much of a mistyped value is shown, and only where nothing can hide in it: no blank, no colon, no quote.
_HARMLESS = re.compile(r"[A-Za-z0-9_.+-]{0,40}")
_MOST_EXPANDED = 2**20  # characters that variables may bring, over all


def setting(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a Config class. `default` is written as a user would write it: "30s", "64MiB"."""
    about = {"default": default, "help": help, "at_least": at_least, "at_most": at_most, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The settings that every plugin has. A plugin's Config adds its own and overrides `port`."""

    host: str = setting("127.0.0.1", "Address to listen on. Beyond loopback needs a token, a client CA or `insecure`.")
    port: int = setting(0, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    socket: str = setting("", "Path of a unix socket to listen on instead of host and port.")
    timeout: Duration = setting("60s", "Longest a call may take; 0 sets no bound.", at_least=0)
    token: Secret = setting("", "Clients must send it as `authorization: Bearer TOKEN`.")
    tls_cert: str = setting("", "PEM file of the server's certificate chain; with it the server speaks TLS only.")
    tls_key: str = setting("", "PEM file of the certificate's private key.")
    tls_client_ca: str = setting("", "PEM file of the CA that client certificates must come from (mutual TLS).")
    insecure: bool = setting(False, "Serve beyond loopback though anybody there may call.")
    max_request_bytes: Size = setting("64MiB", "Largest request.", at_least=1024, at_most=2**31 - 1)
    max_reply_bytes: Size = setting("4MiB", "Largest reply; clients take 4 MiB unless told otherwise.", at_least=1024)
    max_concurrent: int = setting(256, "Calls under way at once; one more is refused. Health is exempt.", at_least=1)
    max_connections: int = setting(1000, "Connections at once; one more is closed.", at_least=1, at_most=1_000_000)
    max_held_bytes: Size = setting("256MiB", "Most of requests held at once, whole or not.", at_least=1024)
    transfer_timeout: Duration = setting(
        "30s", "Longest a request may take to arrive, a reply to be read.", at_least=0.01
    )
    compression: bool = setting(False, "Take compressed requests, which can be a thousand times as large inside.")
    log_level: str = setting("info", "Least level that is logged.", choices=LEVELS)

    def __init_subclass__(cls) -> None:
        for name in inspect.get_annotations(cls):
            field = cls.__dict__.get(name)
            if not isinstance(field, dataclasses.Field) or "help" not in field.metadata:
                raise TypeError(f"{cls.__name__}.{name} is no setting yet: give it a setting(default, help)")

    def __post_init__(self) -> None:
        """Checks across settings; a subclass that overrides it calls `super().__post_init__()` first."""
        for name, kind in types(type(self)).items():
            # Defaults are written as in a file; `Config()` by itself has them read.
            plain = typing.get_origin(kind) or getattr(kind, "__supertype__", kind)
            if plain is UnionType or not isinstance(getattr(self, name), plain):
                object.__setattr__(self, name, READERS[kind](getattr(self, name)))
        token = self.token.reveal()
        if token and not (token.isascii() and token.isprintable() and token == token.strip()):
            # Such as one read from a file together with the end of its line: no client could send it.
            raise StartError("setting token: must be printable ASCII, with no space or line break at either end")
        for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(self, one) and not getattr(self, other):
                raise StartError(f"setting {one} needs {other} beside it")


Config = TypeVar("Config", bound=BaseConfig)


@dataclass(frozen=True)
class Source:
    """Where values come from. `name` stands in messages: "environment", "hector.yaml"."""

    name: str
    values: Mapping[str, Any]


def resolve(kind: type[Config], sources: Iterable[Source]) -> Config:
    """The settings of `kind`, each from the first source that has it. Raises StartError, naming key and source."""
    origin = origins(kind, sources)
    values = {key: _read(kind, key, source) for key, source in origin.items()}
    return kind(**values)


def origins(kind: type[Config], sources: Iterable[Source]) -> dict[str, Source]:
    """For each setting, the source that decides it. Raises StartError on a key that is no setting."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    found: dict[str, Source] = {}
    for source in sources:
        for key, value in source.values.items():
            if key not in fields:
                raise StartError(f"{source.name}: unknown setting {name_for_message(key, value)}{suggest(key, fields)}")
            found.setdefault(key, source)
    defaults = Source("default", {name: field.metadata["default"] for name, field in fields.items()})
    return {name: found.get(name, defaults) for name in fields}


def plugin_of(package: str) -> str:
    """The plugin's name, which is the last part of its package's: `vector_hnsw` of `plugins.vector_hnsw`."""
    return package.rpartition(".")[2]


def variable(package: str, key: str) -> str:
    """The environment variable of a setting: `VECTOR_HNSW__DATA_DIR`."""
    return f"{plugin_of(package)}__{key}".upper()


def misspelt_variables(kind: type[BaseConfig], package: str, environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that has one underscore where two are meant, and so sets nothing."""
    prefix = plugin_of(package).upper() + "_"
    sentences = []
    for name, text in sorted(environ.items()):
        key = name[len(prefix) :].lower().partition("__")[0]
        # Kubernetes sets NAME_PORT=tcp://… in every container beside a service of that name.
        if name.upper().startswith(prefix) and key in types(kind) and not re.match(r"(tcp|udp|sctp)://", text):
            meant = prefix + "_" + name[len(prefix) :].upper()
            sentences.append(f"environment: {name} sets nothing; {key} is set by {meant}, with two underscores")
    return sentences


def from_environment(kind: type[BaseConfig], package: str, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Settings out of `PLUGIN__KEY` and, for mappings, `PLUGIN__KEY__NAME`, as deep as there are names."""
    prefix = variable(package, "")
    fields = types(kind)
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.upper().startswith(prefix):
            continue
        key, *inner = name[len(prefix) :].lower().split("__")
        if inner and key in fields and fields[key] not in (dict[str, Any], SecretMapping, Addresses):
            raise StartError(f"environment: {name} sets a part of {key!r}, which is not a mapping")
        place, last = values, key
        for part in inner:
            place, last = place.setdefault(last, {}), part
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise StartError(f"environment: {name} and another variable both set {key!r}; keep one of them")
        place[last] = text
    return values


_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<other>\{))")


def expand(value: Any, environ: Mapping[str, str] = os.environ) -> Any:
    """`${VAR}`, `${VAR:-default}` and `$$` in every text below `value`, once: what comes in is not expanded again.

    >>> expand({"key": "${HOME_TOWN:-Berlin} $$5"}, {})
    {'key': 'Berlin $5'}
    """
    brought = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal brought
        text = _variable(match, environ)
        brought += len(text)
        if brought > _MOST_EXPANDED:
            raise StartError(f"its variables bring more than {_MOST_EXPANDED} characters; use fewer or shorter ones")
        return text

    def expanded(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(replace, value)
        if isinstance(value, Mapping):
            return {key: expanded(item) for key, item in value.items()}
        if isinstance(value, list):
            return [expanded(item) for item in value]
        return value

    return expanded(value)


def _variable(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = match["name"], match["default"]
    if match["other"]:
        raise StartError("found a `${` that is neither ${VAR} nor ${VAR:-default}; for these two characters write $${")
    if name is None:
        return "$"
    # As in a shell, `:-` also stands in for a variable that is set but empty.
    text = environ.get(name)
    if default is not None:
        return text or default
    if text is None:
        raise StartError(f"${{{name}}} is not set; set the variable or write ${{{name}:-default}}")
    return text


def types(kind: type[BaseConfig]) -> Mapping[str, Any]:
    """The type of each setting of `kind`: a key of `units.READERS`."""
    return _type_hints(kind)


def _evaluated(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    for name, hint in hints.items():
        if hint not in READERS:
            shown = getattr(hint, "__name__", hint)
            known = "str, int, float, bool, Path, Secret, Duration or another of units.READERS"
            raise TypeError(f"{kind.__name__}.{name} cannot be of type {shown}; take {known}")
    return hints


# To evaluate the annotations of a class takes a millisecond, and they are asked for at every setting.
_type_hints: Callable[[Any], dict[str, Any]] = functools.cache(_evaluated)


def may_hold_secrets(kind: type[BaseConfig], name: str) -> bool:
    """Whether the setting is of one of the types that are masked."""
    return types(kind).get(name) in (Secret, SecretUrl, SecretMapping, Addresses, tuple[Secret, ...])


def shown(config: BaseConfig) -> dict[str, Any]:
    """The settings as plain values fit to print: secrets masked, for their type."""
    return {field.name: masked(getattr(config, field.name)) for field in dataclasses.fields(config)}


def own_settings(config: BaseConfig) -> dict[str, Any]:
    """The settings that the plugin has beside those that every plugin has, by name."""
    common = {field.name for field in dataclasses.fields(BaseConfig)}
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name not in common}


def secret_texts(config: BaseConfig) -> list[str]:
    """What `shown` masks, in the clear and in the spellings in which others could write it, the longest first.

    For whoever has to keep it out of what is written elsewhere.
    """
    settings = [getattr(config, field.name) for field in dataclasses.fields(config)]
    texts = {form for text in secret_texts_in(settings) for form in spellings(text)}
    return sorted(texts - {""}, key=len, reverse=True)


def suggest(key: str, known: Iterable[str]) -> str:
    """A tail for a message about an unknown key: the nearest known one, or all of them, if there are any."""
    known = list(known)
    near = difflib.get_close_matches(key.partition(" ")[0][:64], known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def _read(kind: type[BaseConfig], key: str, source: Source) -> Any:
    raw = source.values[key]
    about = next(field.metadata for field in dataclasses.fields(kind) if field.name == key)
    try:
        if raw is None:
            raise ValueError("has no value")
        value = READERS[types(kind)[key]](raw)
        if None not in (about["at_least"], value) and value < about["at_least"]:
            raise ValueError(f"must be at least {about['at_least']}")
        if None not in (about["at_most"], value) and value > about["at_most"]:
            raise ValueError(f"must be at most {about['at_most']}")
        if about["choices"] and value not in about["choices"]:
            raise ValueError(f"must be one of {', '.join(about['choices'])}")
    except ValueError as error:
        written = "" if may_hold_secrets(kind, key) else _harmless(raw)
        raise StartError(f"{source.name}: setting {key}{written}: {error}") from None
    return value


def _harmless(raw: object) -> str:
    """` = VALUE` for a message, or nothing where a secret may have got into a setting that has none."""
    if isinstance(raw, str):
        return f" = {raw!r}" if _HARMLESS.fullmatch(raw) else ""
    return f" = {raw!r}" if isinstance(raw, int | float) and abs(raw) < 1e30 else ""
