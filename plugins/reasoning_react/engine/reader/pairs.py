"""Arguments written as `name=value` or as `name: value`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.call_markup.types import typed
from shared.loose_json import NotRead, read_value

from ..chat import JSON

_PAIR = re.compile(r"[ \t]*[\"'`]?([A-Za-z_][\w.-]{0,60})[\"'`]?[ \t]*[:=：][ \t]*")


def pairs(raw: str, properties: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, JSON] | None:
    """`url: https://…` or `text="a", k=3`, a name of the tool's before each value; else None."""
    found: dict[str, JSON] = {}
    texts: set[str] = set()
    place = 0
    while place < len(raw):
        match = _PAIR.match(raw, place)
        if match is None or match[1] not in properties or match[1] in found:
            return None
        name, place = match[1], match.end()
        if raw[place : place + 1] in ('"', "'", "{", "["):
            try:
                found[name], place = read_value(raw, place)
            except NotRead:
                return None
        else:
            end = raw.find("\n", place)
            end = len(raw) if end < 0 else end
            comma = _next_pair(raw, place, end, properties)
            found[name] = raw[place:comma].strip().rstrip(",").strip()
            texts.add(name)
            place = comma
        rest = raw[place:]
        stripped = rest.lstrip(" \t\r\n,;")
        if stripped and rest == stripped:
            return None
        place += len(rest) - len(stripped)
    return typed(found, schema, raw=frozenset(texts)) if found else None


def _next_pair(raw: str, start: int, end: int, properties: Mapping[str, Any]) -> int:
    """Where, on the same line, the next `, name=` begins."""
    place = raw.find(",", start, end)
    while place >= 0:
        match = _PAIR.match(raw, place + 1)
        if match and match[1] in properties:
            return place
        place = raw.find(",", place + 1, end)
    return end
