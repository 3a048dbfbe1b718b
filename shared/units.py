"""How values are written in settings. Hosts send only strings, so every type can be written as one.

| type | written as | read as |
|---|---|---|
| `Duration` | `30s`, `500ms`, `2m`, `1h`, `1.5` | seconds, float |
| `Size` | `64MiB` (2^20 each), `1GB` (10^9), `4096` | bytes, int |
| `bool` | true/false, yes/no, on/off, 1/0 | bool |
| list | `a, b` or `["a", "b"]` | tuple of strings |
| mapping | `{"a": "b"}` | dict |
| `float | None`, `int | None` | a number, or nothing | None for nothing |

Each reader takes what YAML or the environment gives and raises ValueError with what was expected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NewType

Duration = NewType("Duration", float)
Size = NewType("Size", int)


class Secret(str):
    """A string that prints as `***`; `str(secret)` too. `reveal()` is the one way to its text."""

    def __repr__(self) -> str:
        return "'***'" if len(self) else "''"

    def __str__(self) -> str:
        return "***" if len(self) else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def reveal(self) -> str:
        return "".join(self)


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
    return value


def read_path(value: object) -> Path:
    if value == "":  # Path("") is the current folder, which nobody meant
        raise ValueError("has no value")
    return value if isinstance(value, Path) else Path(read_str(value))


def read_list(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            value = _json(text, "a list: a, b or JSON")
        else:
            return tuple(part for part in (part.strip() for part in text.split(",")) if part)
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list: a, b or JSON")
    return tuple(item if isinstance(item, str) else json.dumps(item) for item in value)


def read_mapping(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, "a mapping, in JSON where it is text")
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping, in JSON where it is text")
    return {str(key): item for key, item in value.items()}


def _or_none(reader: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value in ("", None) else reader(value)


READERS: Mapping[Any, Callable[[object], Any]] = {
    str: read_str,
    Secret: lambda value: Secret(read_str(value)),
    Path: read_path,
    int: read_int,
    float: read_float,
    bool: read_bool,
    Duration: read_duration,
    Size: read_size,
    tuple[str, ...]: read_list,
    dict[str, Any]: read_mapping,
    float | None: _or_none(read_float),
    int | None: _or_none(read_int),
}


def _with_unit(value: object, units: Mapping[str, float], expected: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    unit = match and units.get(match[2].lower())
    if not match or not unit:
        raise ValueError(f"expected {expected}")
    return float(match[1]) * unit


def _json(text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"expected {expected}") from None
