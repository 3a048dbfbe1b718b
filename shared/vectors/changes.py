"""Metadata that changes while the vector stays: merged with what is there, or in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ..errors import InvalidArgument

# What says that metadata can be stored, and how: from an item's id, the metadata, the dimension of its vector and the
# field at fault to JSON text. Raises InvalidArgument.
Dump = Callable[[str, Mapping[str, Any], int, str], str]


class MetadataMode(Enum):
    """What becomes of keys that are there and not sent: they stay, or go."""

    MERGE = auto()
    REPLACE = auto()


@dataclass(frozen=True, slots=True)
class Change:
    """Of the item `id`: what is sent as its metadata, None for nothing, and keys of the top level that go."""

    id: str
    metadata: Mapping[str, Any] | None
    remove: tuple[str, ...] = ()


def check_change(change: Change, mode: MetadataMode, at: str) -> None:
    """Raises InvalidArgument, naming the field, where the mode has no use for it."""
    if mode is MetadataMode.REPLACE and change.metadata is None:
        raise InvalidArgument(
            f"{at}.metadata is not set, and REPLACE would leave nothing; send an empty object to mean that",
            reason="NOTHING_NAMED",
            field=f"{at}.metadata",
        )
    if mode is MetadataMode.REPLACE and change.remove:
        raise InvalidArgument(
            f"{at}.remove_keys is for MERGE; under REPLACE every key goes that is not sent",
            reason="BAD_UPDATE",
            field=f"{at}.remove_keys",
        )
    if change.metadata is None and not change.remove:
        raise InvalidArgument(
            f"{at} changes nothing; set metadata or remove_keys", reason="NOTHING_NAMED", field=f"{at}.metadata"
        )
    for position, key in enumerate(change.remove):
        if key in (change.metadata or ()):
            raise InvalidArgument(
                f"{at}.remove_keys has a key that metadata has too; send it in one of them",
                reason="BAD_UPDATE",
                field=f"{at}.remove_keys[{position}]",
            )


def changed(metadata: str, change: Change, mode: MetadataMode, dimension: int, dump: Dump, at: str) -> str:
    """The metadata, JSON text, after the change; `metadata` is what there is. Raises InvalidArgument."""
    there = json.loads(metadata) if mode is MetadataMode.MERGE else {}
    new = {**there, **(change.metadata or {})}
    for key in change.remove:
        new.pop(key, None)
    return dump(change.id, new, dimension, f"{at}.metadata")
