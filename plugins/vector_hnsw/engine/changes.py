"""Metadata that changes while the vector stays: merged with what is there, or in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from shared.errors import CallerError, InvalidArgument

from . import checks
from .store import Place

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


class Batch:
    """The changes of one request. `wrong` says, by index, which are not made and why; unless `partial`, any of them is
    raised as soon as it is known."""

    def __init__(
        self,
        changes: Sequence[Change],
        mode: MetadataMode,
        dump: Dump,
        partial: bool,
        wrong: Mapping[int, CallerError],
    ) -> None:
        self.wrong = dict(wrong)
        self.dimension = 0  # of the collection that they are for
        self._changes, self._mode, self._dump, self._partial = changes, mode, dump, partial
        self._of_row: dict[int, list[int]] = {}  # indexes of the changes of each row
        for index, change in enumerate(changes):
            if index not in self.wrong:
                try:
                    check_change(change, mode, f"updates[{index}]")
                except CallerError as error:
                    self.wrong[index] = error.let_go()

    def find(self, known: Mapping[str, Place]) -> dict[int, int]:
        """The rows that are to be changed, with their labels. `known` is where the ids are that exist."""
        label_of: dict[int, int] = {}
        for index, change in enumerate(self._changes):
            if index in self.wrong:
                continue
            if (place := known.get(change.id)) is None:
                self.wrong[index] = checks.no_such_id(f"updates[{index}].id", change.id)
            else:
                label_of[place.row] = place.label
                self._of_row.setdefault(place.row, []).append(index)
        self._refuse()
        return label_of

    def made(self, row: int, _: str, metadata: str) -> str | None:
        """The row's metadata after all its changes, in order; None when none of them can be made."""
        text = None
        for index in self._of_row[row]:
            try:
                before, change = metadata if text is None else text, self._changes[index]
                text = changed(before, change, self._mode, self.dimension, self._dump, f"updates[{index}]")
            except CallerError as error:
                self.wrong[index] = error.let_go()
                self._refuse()
        return text

    @property
    def count(self) -> int:
        """Ids with a change that was made."""
        return len({change.id for index, change in enumerate(self._changes) if index not in self.wrong})

    def _refuse(self) -> None:
        if not self._partial:
            checks.refuse_all(self.wrong)
        checks.check_wrong(self.wrong, "updates")
