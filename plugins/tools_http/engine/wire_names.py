"""Arguments with the names and numbers that an API expects, out of those that a model was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .tool import JSON

_EXACT = 2**53  # below it a float that is whole is that whole number


@dataclass(frozen=True)
class WireNames:
    """What the properties of a value are called on the wire, at every depth, where a tool's schema calls them other."""

    properties: Mapping[str, tuple[str, WireNames | None]] = field(default_factory=dict)
    items: WireNames | None = None
    rest: WireNames | None = None  # of properties that have no names of their own


class Ambiguous(Exception):
    """One name stands for two."""


def merged(first: WireNames | None, second: WireNames | None) -> WireNames | None:
    """Names for a value that holds to one of two schemas. Raises Ambiguous."""
    if first is None or second is None:
        return first or second
    properties = dict(first.properties)
    for name, (wire, inside) in second.properties.items():
        known = properties.get(name)
        if known is None:
            properties[name] = (wire, inside)
        elif known[0] != wire:
            raise Ambiguous(name)
        else:
            properties[name] = (wire, merged(known[1], inside))
    return WireNames(properties, merged(first.items, second.items), merged(first.rest, second.rest))


def to_wire(value: JSON, names: WireNames | None = None) -> JSON:
    """A copy with wire names, and with 3.0 as 3: a whole number may have become a float on its way here.

    Raises RecursionError where `value` is nested too deep.
    """
    if isinstance(value, dict):
        known = names.properties if names else {}
        rest = names.rest if names else None
        renamed = {}
        for name, item in value.items():
            wire, inside = known.get(name, (name, rest))
            renamed[wire] = to_wire(item, inside)
        return renamed
    if isinstance(value, list):
        items = names.items if names else None
        return [to_wire(item, items) for item in value]
    if isinstance(value, float) and abs(value) < _EXACT and value.is_integer():
        return int(value)
    return value
