"""Names that every model's API takes, for those that not every one does."""

from __future__ import annotations

import hashlib
import re

from ..tool import NAME

_LONGEST_NAME = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def safe_name(name: str) -> str:
    """`name` where every model's API takes it, else one made of it: always the same for the same name.

    >>> safe_name("filter[name]"), safe_name("$top")
    ('filter_name', 'top')
    """
    if NAME.fullmatch(name):
        return name
    plain = _UNSAFE.sub("_", name).strip("_")
    return plain if plain and len(plain) <= _LONGEST_NAME else hashed_name(name)


def hashed_name(name: str) -> str:
    """Another one, that no other name has."""
    plain = _UNSAFE.sub("_", name).strip("_")[: _LONGEST_NAME - 9]
    return f"{plain or 'x'}_{digest(name)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
