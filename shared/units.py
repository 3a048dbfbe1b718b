"""How values are written in settings. Hosts send only strings, so every type can be written as one.

| type | written as | read as |
|---|---|---|
| `Duration` | `30s`, `500ms`, `2m`, `1h`, `1.5` | seconds, float |
| `Size` | `64MiB` (2^20 each), `1GB` (10^9), `4096` | bytes, int |
| `bool` | true/false, yes/no, on/off, 1/0 | bool |
| list | `a, b` or `["a", "b"]` | tuple of strings |
| mapping | `{"a": "b"}` | dict |
| list or mapping | either | tuple of strings or dict |
| `float | None`, `int | None` | a number, or nothing | None for nothing |
| `Secret` | text | itself; prints as `***` |
| `SecretUrl` | a URL, or `none` | itself; prints without user, password and the values of its query |
| `SecretMapping` | `{"a": "b"}` | itself; prints its names and `***` |
| tuple of `Secret` | as a list | prints as a list of `***` |
| `Addresses` | `HOST:PORT`, a list of them, or `{"name": "HOST:PORT"}` | name to address; prints without tokens |

A setting that can hold a secret has one of the last five types: then it is masked wherever it is shown, it is no
command-line option, and its texts are kept out of the log. Values of other types are shown as they are.

Each reader takes what YAML or the environment gives and raises ValueError with what was expected, never with the value.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NewType
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

Duration = NewType("Duration", float)
Size = NewType("Size", int)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/?")  # what a secret is for, in mappings of them
_HOST = re.compile(r"[\w.:%-]+")
_DEEPEST = 64  # levels of lists and mappings in a value


class Secret(str):
    """A string that prints as `***`; `str(secret)` too. `reveal()` is the one way to its text."""

    def __new__(cls, text: str = "") -> Secret:
        # `str(text)` of what is a secret already would be its mask.
        return super().__new__(cls, text.reveal() if isinstance(text, Secret) else text)

    def __repr__(self) -> str:
        return repr(str(self))

    def __str__(self) -> str:
        return "***" if len(self) else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def reveal(self) -> str:
        return "".join(self)


class SecretUrl(Secret):
    """A URL that prints without user, password, fragment and the values of its query; "" and "none" print as they are.

    >>> print(SecretUrl("http://me:open sesame@127.0.0.1:8000/v1?key=sesame"))
    http://***@127.0.0.1:8000/v1?key=***
    """

    def __new__(cls, text: str = "") -> SecretUrl:
        return super().__new__(cls, text)  # type: ignore[return-value]

    def __str__(self) -> str:
        text = self.reveal()
        scheme, colon, rest = text.partition("://")
        if not colon:
            return text if text in ("", "none") else "***"
        # Up to the last @: a password in which @ / ? # are not encoded is masked all the same.
        _, at, rest = rest.rpartition("@")
        rest, sharp, _ = rest.partition("#")
        address, mark, query = rest.partition("?")
        parts = (part.partition("=") for part in query.split("&"))
        # What has nothing after its = is no parameter's name, but a key in Base64.
        shown = "&".join(
            f"{name}=***" if value.strip("=") and _NAME.fullmatch(name) else "***" for name, _, value in parts
        )
        return f"{scheme}://{'***@' if at else ''}{address}{mark}{shown if mark else ''}{'#***' if sharp else ''}"


class SecretMapping(Mapping[str, Any]):
    """A mapping that prints as its names and `***`, at every depth; to its holder it is a mapping like any other.

    Secrets inside of it print as they do elsewhere, and so does what stands under a name in `public`.

    >>> SecretMapping({"X-Key": "sesame", "inner": {"a": ["b"]}})
    {'X-Key': '***', 'inner': {'a': ['***']}}
    """

    __slots__ = ("_public", "_values")

    def __init__(self, values: Mapping[str, Any] | None = None, *, public: tuple[str, ...] = ()) -> None:
        self._values = dict(values or {})
        self._public = public

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self.masked())

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def masked(self) -> dict[str, Any]:
        """As plain values fit to print."""
        return self._masked("", self._values)  # type: ignore[no-any-return]

    def secrets(self) -> Iterator[str]:
        """Every text that `masked` masks, in the clear."""
        for name, item in self._values.items():
            yield from self._secrets(name, item)

    def _masked(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping) and not isinstance(value, SecretMapping):
            return {_masked_name(key, item): self._masked(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(name, item) for item in value]
        return "***" if self._is_secret(name, value) else masked(value)

    def _secrets(self, name: str, value: Any) -> Iterator[str]:
        if isinstance(value, Mapping) and not isinstance(value, SecretMapping):
            for key, item in value.items():
                yield from self._secrets(key, item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from self._secrets(name, item)
        elif self._is_secret(name, value):
            yield str(value)
            # A header's value is `Bearer KEY`, and the key is secret by itself.
            yield str(value).rpartition(" ")[2]
        else:
            yield from secret_texts_in(value)

    def _is_secret(self, name: str, value: Any) -> bool:
        typed = isinstance(value, Secret | SecretMapping)
        plain = value is None or isinstance(value, bool) or value == "" or name in self._public
        return not typed and not plain


class Addresses(SecretMapping):
    """Servers by name, in their order: each a mapping as `shared.client.Address.read` takes it. Of several without
    names the first is `server_1`.

    >>> read_addresses("127.0.0.1:8084")
    {'server_1': {'address': '127.0.0.1:8084'}}
    """

    __slots__ = ()

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(values, public=("address", "tls_ca", "tls_cert", "tls_key"))


def masked(value: Any) -> Any:
    """`value` as a plain one that is fit to print.

    >>> masked([Secret("sesame"), {"port": 8081}])
    ['***', {'port': 8081}]
    """
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, SecretMapping):
        return value.masked()
    if isinstance(value, Mapping):
        return {str(name): masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def secret_texts_in(value: Any) -> Iterator[str]:
    """Every text that `masked` masks, in the clear."""
    if isinstance(value, SecretUrl):
        yield from _secrets_of_url(value.reveal())
    elif isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, SecretMapping):
        yield from value.secrets()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secret_texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_texts_in(item)


_GO = {ord(char): f"\\u{ord(char):04x}" for char in "&<>\u2028\u2029"}
_NET = {ord(char): f"\\u{ord(char):04X}" for char in "&<>+'`"}


def spellings(text: str) -> set[str]:
    """The forms in which a secret may turn up in what others write: as it is, in a URL, in JSON (PHP, Go and .NET
    escape more of it than they must), in HTML, as Python shows it."""
    as_json = json.dumps(text, ensure_ascii=False)[1:-1]
    return {
        text,
        unquote(text),
        unquote_plus(text),
        quote(text, safe="", errors="replace"),
        quote(text, errors="replace"),
        quote_plus(text, errors="replace"),
        json.dumps(text)[1:-1],
        as_json,
        as_json.replace("/", "\\/"),
        json.dumps(text)[1:-1].replace("/", "\\/"),
        as_json.translate(_GO),
        json.dumps(text)[1:-1].replace('\\"', "\\u0022").translate(_NET),
        html.escape(text, quote=False),
        html.escape(text),
        html.escape(text).replace("&#x27;", "&#39;"),
        html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        repr(text)[1:-1],
    }


def name_for_message(name: object, value: object = "") -> str:
    """`name` in quotes, unless it or its `value` looks like none: a secret whose colon was forgotten is a YAML key.

    >>> name_for_message("api-key"), name_for_message("api_key sesame")
    ("'api-key'", '(not shown, since it is no plain name with a value)')
    """
    plain = isinstance(name, str) and _NAME.fullmatch(name) and value is not None
    return f"'{name}'" if plain else "(not shown, since it is no plain name with a value)"


def _masked_name(name: object, value: object) -> str:
    """A name without a value may be a secret that stands alone, as in `{SECRET}`."""
    plain = _NAME.fullmatch(str(name)) or _ORIGIN.fullmatch(str(name))
    return str(name) if plain and value is not None else "***"


def _secrets_of_url(url: str) -> Iterator[str]:
    rest = url.partition("://")[2]
    user_and_password, at, rest = rest.rpartition("@")
    if at:
        user, _, password = user_and_password.partition(":")
        yield from (user_and_password, user, password)
        # This is how they are sent.
        yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode(errors="replace")).decode()
    rest, _, fragment = rest.partition("#")
    yield fragment
    query = rest.partition("?")[2]
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        yield value if equals else name


_DURATION = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
# So many digits and no more: what is longer is a mistake, and would not fit a float.
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*")


def read_duration(value: object) -> Duration:
    """
    >>> read_duration("500ms")
    0.5
    """
    return Duration(_with_unit(value, _DURATION, "a duration such as 30s, 500ms or 2m"))


def read_size(value: object) -> Size:
    """
    >>> read_size("1GB"), read_size("1GiB")
    (1000000000, 1073741824)
    """
    return Size(int(_with_unit(value, _SIZE, "a size such as 64MiB, 1GB or 4096")))


def read_bool(value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    known = words.get(str(value).strip().lower())
    if known is None:
        raise ValueError("expected true or false")
    return known


def read_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("expected a whole number") from None


def read_float(value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError("expected a number")


def read_str(value: object) -> str:
    """Text only: YAML reads an unquoted 0123 or 1.10 as a number and loses digits, so those must be quoted."""
    if not isinstance(value, str):
        raise ValueError("expected text; put it in quotes")
    _check_text(value)
    return value


def read_secret_url(value: object) -> SecretUrl:
    """An absolute URL, "none" or nothing. What could be read in two ways is refused, since its mask could be wrong."""
    text = SecretUrl(read_str(value)).reveal().strip()
    if text in ("", "none"):
        return SecretUrl(text)
    try:
        parts = urlsplit(text)
        is_url = bool(parts.scheme and _HOST.fullmatch(parts.hostname or "")) and parts.port != 0
    except ValueError:  # such as a port that is no number
        is_url = False
    if not is_url or "\\" in text or not text.isprintable():
        raise ValueError("expected a URL such as http://127.0.0.1:8000/v1, in a password %40 for @, %2F for /")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("has an @ behind the host: write it as %40; in a password write / ? # as %2F %3F %23")
    return SecretUrl(text)


def read_path(value: object) -> Path:
    if value == "":  # Path("") is the current folder, which nobody meant
        raise ValueError("has no value")
    if isinstance(value, Path):
        return value
    if isinstance(value, str):
        _check_text(value, "surrogateescape")  # a file's name may be other bytes than UTF-8
        return Path(value)
    return Path(read_str(value))


def read_list(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        text = read_str(value).strip()
        if text.startswith("["):
            value = _json(text, "a list: a, b or JSON")
        else:
            return tuple(part for part in (part.strip() for part in text.split(",")) if part)
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list: a, b or JSON")
    _check_inside(value)
    return tuple(read_str(item) if isinstance(item, str) else json.dumps(item) for item in value)


def read_mapping(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, "a mapping, in JSON where it is text")
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping, in JSON where it is text")
    _check_inside(value)
    return {str(key): item for key, item in value.items()}


def read_list_or_mapping(value: object) -> tuple[str, ...] | dict[str, Any]:
    """
    >>> read_list_or_mapping("GET, POST"), read_list_or_mapping('{"a.test": ["GET"]}')
    (('GET', 'POST'), {'a.test': ['GET']})
    """
    is_mapping = isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip().startswith("{"))
    return read_mapping(value) if is_mapping else read_list(value)


def read_secret_mapping(value: object) -> SecretMapping:
    return value if isinstance(value, SecretMapping) else SecretMapping(read_mapping(value))


_ADDRESS = re.compile(r"unix:[^\s@?#]{1,200}|(?:dns:///)?(?:\[[0-9A-Fa-f:.%]{2,64}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
_OF_AN_ADDRESS = ("address", "token", "tls_ca", "tls_cert", "tls_key")


def read_addresses(value: object) -> Addresses:
    """One address, several, or some with names; each `HOST:PORT`, `unix:PATH`, or a mapping with `address`."""
    if isinstance(value, Addresses):
        return value
    if isinstance(value, str):
        text = read_str(value).strip()
        if text.startswith(("{", "[")):
            value = _json(text, "addresses: HOST:PORT, a list or a mapping")
        else:
            value = [part for part in (part.strip() for part in text.split(",")) if part]
    if isinstance(value, Mapping) and "address" in value:
        value = [value]
    if isinstance(value, Mapping):
        named = {str(name): item for name, item in value.items()}
    elif isinstance(value, list | tuple):
        named = {f"server_{number}": item for number, item in enumerate(value, 1)}
    else:
        raise ValueError("expected addresses: HOST:PORT, a list or a mapping")
    _check_inside(list(named.values()))
    if not all(_SERVER.fullmatch(name) for name in named):
        raise ValueError("a name of an address has 1 to 32 letters, digits, _ and -")
    return Addresses({name: _address(item) for name, item in named.items()})


_SERVER = re.compile(r"[A-Za-z0-9_-]{1,32}")


def _address(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"address": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("address"), str):
        raise ValueError("an address is HOST:PORT, unix:PATH, or a mapping with `address`")
    if not _ADDRESS.fullmatch(value["address"]):
        raise ValueError("an address is HOST:PORT or unix:PATH")
    if not all(key in _OF_AN_ADDRESS and isinstance(item, str) for key, item in value.items()):
        raise ValueError(f"an address has {', '.join(_OF_AN_ADDRESS)}, each a text")
    return dict(value)


def _or_none(reader: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value in ("", None) else reader(value)


READERS: Mapping[Any, Callable[[object], Any]] = {
    str: read_str,
    Secret: lambda value: Secret(read_str(value)),
    SecretUrl: read_secret_url,
    SecretMapping: read_secret_mapping,
    Addresses: read_addresses,
    tuple[Secret, ...]: lambda value: tuple(map(Secret, read_list(value))),
    Path: read_path,
    int: read_int,
    float: read_float,
    bool: read_bool,
    Duration: read_duration,
    Size: read_size,
    tuple[str, ...]: read_list,
    dict[str, Any]: read_mapping,
    tuple[str, ...] | dict[str, Any]: read_list_or_mapping,
    float | None: _or_none(read_float),
    int | None: _or_none(read_int),
}


def _with_unit(value: object, units: Mapping[str, float], expected: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A whole number beyond any quantity could not even be written out.
        value = repr(value) if abs(value) < 1e30 else ""
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    unit = match and units.get(match[2].lower())
    if not match or not unit:
        raise ValueError(f"expected {expected}")
    return float(match[1]) * unit


def _json(text: str, expected: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=read_float, parse_float=read_float)
    except _TwiceError:
        raise
    except (ValueError, RecursionError):
        raise ValueError(f"expected {expected}") from None


class _TwiceError(ValueError):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values for one name it would otherwise silently have the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(f"has the name {name_for_message(name)} twice; keep one of them")
        found[name] = value
    return found


def _check_inside(value: object, levels: int = _DEEPEST) -> None:
    """Raises ValueError where a value of YAML or JSON is nested too deep or has a text that none can be."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping | list | tuple):
        if levels == 0:
            raise ValueError(f"is nested more than {_DEEPEST} deep")
        for item in [*value, *value.values()] if isinstance(value, Mapping) else value:
            _check_inside(item, levels - 1)


def _check_text(text: str, errors: str = "strict") -> None:
    if "\0" in text:
        raise ValueError("has a NUL in it, which no setting can have")
    try:
        text.encode(errors=errors)
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
