"""An operation as the document has it: what it is called, whether a pattern fits it, what a model is told of it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .names import digest
from .values import words_of

LONGEST_PATH = 1_000
_LONGEST_DESCRIPTION = 1_000  # characters; APIs of models take 1,024
_LONGEST_NAME = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Found:
    """By method and path."""

    method: str
    path: str
    item: Mapping[str, Any]  # its path item
    about: Mapping[str, Any]

    @property
    def id(self) -> str:
        name = self.about.get("operationId")
        return name if isinstance(name, str) else ""


def description_of(found: Found, summary: str, title: str, example: str) -> str:
    """What it does, which operation of which API it is, and a call of it where one can be told."""
    text = words_of(found.about.get("description"), _LONGEST_DESCRIPTION)
    if summary and not text.startswith(summary):
        text = f"{summary.rstrip('.')}. {text}".strip()
    if found.about.get("deprecated") is True:
        text = f"Deprecated. {text}".strip()
    tail = f"Sends {found.method} {found.path[:150]} to {title}."
    if example:
        tail += f" Example: {example}"
    text = text if len(text) + len(tail) < _LONGEST_DESCRIPTION else text[: _LONGEST_DESCRIPTION - len(tail) - 2] + "…"
    return f"{text} {tail}".strip()


def fitting(patterns: Sequence[str], found: Found, name: str) -> list[str]:
    """Those of `patterns` that an operation fits: by name, operationId, `GET /path`, path, or `tag:NAME`."""
    if not patterns:
        return []
    tags = found.about.get("tags")
    tags = [f"tag:{tag}" for tag in tags[:50] if isinstance(tag, str)] if isinstance(tags, list) else []
    texts = [name, found.id, f"{found.method} {found.path}", found.path, *tags]
    return [pattern for pattern in patterns if any(fnmatch.fnmatchcase(text, pattern) for text in texts if text)]


def names_of(found: Sequence[Found], prefix: str) -> dict[tuple[str, str], str]:
    """A name for each operation, by method and path: the operationId where it is there once and is a name, else with
    a hash of method and path, so that it stays when others come and go."""
    plain = {(operation.method, operation.path): _plain_name(operation, prefix) for operation in found}
    count: dict[str, int] = {}
    for name in plain.values():
        count[name] = count.get(name, 0) + 1
    names: dict[tuple[str, str], str] = {}
    for operation in found:
        key = operation.method, operation.path
        name = plain[key]
        if count[name] > 1 or not operation.id or len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 9]}_{digest(' '.join(key))}"
        names[key] = name
    return names


def _plain_name(operation: Found, prefix: str) -> str:
    name = operation.id or f"{operation.method.lower()}{operation.path[:LONGEST_PATH]}"
    plain = prefix + (_UNSAFE.sub("_", name).strip("_") or operation.method.lower())
    # Some APIs of models want a letter first.
    return plain if plain[0].isalpha() or plain[0] == "_" else f"op_{plain}"
