"""Of a document's values what is fit to be shown: plain, short, on one line."""

from __future__ import annotations

import math
from typing import Any

_LARGEST = 1e100  # number that is shown; 1e999 in JSON is read as infinity
_LONGEST_TEXT = 500  # characters of a description


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_small(value: Any, most: int = 200) -> bool:
    """Whether a JSON value has not more than so many characters and values, however its aliases repeat."""
    pending = [value]
    while pending:
        most -= 1
        if most < 0:
            return False
        inner = pending.pop()
        if isinstance(inner, str):
            most -= len(inner)
        elif isinstance(inner, dict):
            most -= sum(len(name) for name in inner) if len(inner) <= most else most
            pending.extend(inner.values())
        elif isinstance(inner, list):
            if len(inner) > most:
                return False
            pending.extend(inner)
        elif isinstance(inner, int | float) and not -_LARGEST < inner < _LARGEST:
            return False
    return most >= 0


def words_of(text: Any, longest: int = _LONGEST_TEXT) -> str:
    """A description as it is shown: its blanks made one, cut."""
    return cut(" ".join(text[: 4 * longest].split()), longest) if isinstance(text, str) else ""


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or is_number(value)


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def sent_as(description: str, name: str) -> str:
    """A description with the name that an argument has on the wire."""
    return f"{description} Sent as `{cut(name, 100)}`.".strip()
