"""JSON as models write it, read in linear time and never completed.

Strict JSON first, then Python's literals, then a small repair: trailing commas, raw line breaks in strings, typographic
quotes at structural places, surplus closers.
"""

from __future__ import annotations

from typing import Any

JSON = Any  # None, bool, int, float, str, lists and dicts of these


class CutOff(ValueError):
    """The text ends inside of the value."""


class Unreadable(ValueError):
    """It is no value, or could be more than one. The message says what is wrong, and where."""


def read_value(text: str, start: int = 0) -> tuple[JSON, int]:
    """The value that begins at `start`, blanks skipped, and where it ends; the rest is not looked at. Raises CutOff,
    Unreadable."""
    raise NotImplementedError
