"""Which tool a model means by the name that it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIXES = (
    "functions.",
    "function.",
    "functions:",
    "functions/",
    "tools.",
    "tool.",
    "default_api.",
    "multi_tool_use.",
)
_NUMBER = re.compile(r":\d+$")  # Kimi's functions.NAME:0
_AROUND = " \t\r\n`'\"*"
_SPECIAL = re.compile(r"<\|")  # a name ends where a special token begins
_LONGEST = 200  # characters of a name


class Names:
    def __init__(self, known: Iterable[str]) -> None:
        self._known = frozenset(known)

    def known(self, written: str) -> str:
        """The tool that is meant; empty where it is none of them.

        >>> Names(["fetch"]).known("functions.fetch:0")
        'fetch'
        """
        if written in self._known:
            return written
        name = plain(written)
        bare = without_prefix(name)
        for candidate in (name, _NUMBER.sub("", name), bare, bare.removesuffix(".call")):
            if candidate in self._known:
                return candidate
        first, _, rest = name.partition(".")
        return first if first == rest and first in self._known else ""  # fetch.fetch

    def resolved(self, written: str) -> str:
        """The tool that is meant, or else the name as it was written, without what does not belong to names."""
        return self.known(written) or without_prefix(plain(written))


def plain(written: str) -> str:
    return _SPECIAL.split(written[: 2 * _LONGEST], maxsplit=1)[0].strip(_AROUND)[:_LONGEST]


def without_prefix(name: str) -> str:
    name = _NUMBER.sub("", name)
    for prefix in _PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            return name[len(prefix) :]
    return name
