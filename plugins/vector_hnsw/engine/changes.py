"""The changes of metadata in one request: what they are for, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.errors import CallerError
from shared.vectors.changes import Change, Dump, MetadataMode, changed, check_change
from shared.vectors.checks import check_wrong, no_such_id

from .store import Place


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
                self.wrong[index] = no_such_id(f"updates[{index}].id", change.id)
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
        check_wrong(self.wrong, self._partial, "updates")
