"""Items written, changed and deleted: checked as a whole, then committed, applied to the graph, and acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from shared.errors import (
    CallerError,
    InvalidArgument,
)
from shared.vectors.changes import Change, Dump, MetadataMode, changed, check_change
from shared.vectors.checks import check_batch, check_model, check_wrong, wrong_for_mode
from shared.vectors.filters import Filter, check_restricts
from shared.vectors.items import Item, Mode, Written

from . import checks
from .changes import Batch
from .collection import OpenCollection
from .filters import where
from .space import Space
from .upkeep import Upkeep


class Writing(Space, Upkeep):
    def upsert(
        self,
        name: str,
        items: Sequence[Item],
        *,
        embedding_model: str = "",
        mode: Mode = Mode.UPSERT,
        partial: bool = False,
        wrong: dict[int, CallerError] | None = None,
    ) -> Written:
        """Writes all items or none, durably; with `partial`, those with nothing wrong.

        An id that exists gets the new vector and metadata. Of an id twice in `items` the last counts. `wrong` are
        items that the caller already knows to be bad. Raises NotFound, InvalidArgument, AlreadyExists (naming
        items and fields), FailedPrecondition, StorageFull, LimitReached.
        """
        spec = self._find(name).spec
        check_model(spec, embedding_model)
        unfit = checks.bad_items(spec, items)
        with self._writing_items():
            entry = self._find(name)
            if entry.spec != spec:  # it was restored, or an alias moved; what fitted may fit no more
                spec = entry.spec
                check_model(spec, embedding_model)
                unfit = checks.bad_items(spec, items)
            wrong = {**unfit, **(wrong or {})}
            known = self._store.places(spec.number, list({item.id for item in items}))
            wrong.update(wrong_for_mode(items, known, mode, wrong))
            check_wrong(wrong, partial)
            latest = {item.id: item for index, item in enumerate(items) if index not in wrong}
            if latest:
                room = self._check_memory(entry.bytes_with(len(latest.keys() - known.keys())), entry)
                self._when_full_too(lambda: entry.put(list(latest.values()), known, room), deletes=False)
                self._after(entry)
            return Written(len(latest), self._store.sequence, wrong)

    def delete_vectors(
        self, name: str, ids: Sequence[str] = (), filter: Filter | None = None, *, dry_run: bool = False
    ) -> tuple[int, int]:
        """Deletes, durably, the items with these ids that fit the filter; without ids, all that fit.

        Returns how many that were, or would be with `dry_run`, and the store's sequence. Raises NotFound,
        InvalidArgument (also when there is neither an id nor a filter that restricts anything), StorageFull.
        """
        if not ids and filter is None:
            raise InvalidArgument(
                "name ids or a filter; to delete all, delete the collection", reason="NOTHING_NAMED", field="ids"
            )
        checks.check_ids(ids)
        fits = where(filter) if filter is not None else None
        if not ids and filter is not None:
            check_restricts(filter, "deleted", "name a condition, or delete the collection")
        with self._writing_items():
            entry = self._find(name)
            number = entry.spec.number
            wanted = list(dict.fromkeys(ids))
            if fits is not None:
                fitting = dict.fromkeys(self._store.ids(number, fits))
                wanted = [item_id for item_id in wanted if item_id in fitting] if ids else list(fitting)
            places = list(self._store.places(number, wanted).values())
            if places and not dry_run:
                self._when_full_too(
                    lambda: entry.delete(places), deletes=True, in_parts=lambda: entry.delete_in_parts(places)
                )
                self._after(entry)
                self._give_back()
            return len(places), self._store.sequence

    def update_metadata(
        self,
        name: str,
        changes: Sequence[Change],
        dump: Dump,
        *,
        mode: MetadataMode = MetadataMode.MERGE,
        partial: bool = False,
        wrong: dict[int, CallerError] | None = None,
    ) -> Written:
        """Makes all changes or none, durably; with `partial`, those with nothing wrong. Vectors stay as they are.

        Of an id twice in `changes` each is made, in order. `wrong` are changes that the caller already knows to be bad.
        Raises NotFound, InvalidArgument (naming changes and fields), StorageFull.
        """
        check_batch("updates", len(changes))
        batch = Batch(changes, mode, dump, partial, wrong or {})
        with self._writing_items():
            entry = self._find(name)
            known = self._store.places(entry.spec.number, list({change.id for change in changes}))
            if label_of := batch.find(known):
                batch.dimension = entry.spec.dimension
                self._change_metadata(entry, label_of, batch.made, mode)
            return Written(batch.count, self._store.sequence, batch.wrong)

    def update_matching(
        self, name: str, filter: Filter, change: Change, dump: Dump, *, mode: MetadataMode = MetadataMode.MERGE
    ) -> Written:
        """Makes the change, whose id counts for nothing, in every item that fits, or in none, durably.

        Raises NotFound, InvalidArgument (also where the filter restricts nothing), StorageFull.
        """
        check_change(change, mode, "updates[0]")
        check_restricts(filter, "changed")
        with self._writing_items():
            entry = self._find(name)
            dimension = entry.spec.dimension

            def made(_: int, id: str, metadata: str) -> str:
                return changed(metadata, replace(change, id=id), mode, dimension, dump, "updates[0]")

            if label_of := entry.matching(filter):
                self._change_metadata(entry, label_of, made, mode)
            return Written(len(label_of), self._store.sequence)

    def _change_metadata(
        self,
        entry: OpenCollection,
        label_of: Mapping[int, int],
        make: Callable[[int, str, str], str | None],
        mode: MetadataMode,
    ) -> None:
        reading = mode is MetadataMode.MERGE
        self._when_full_too(lambda: entry.change_metadata(label_of, make, reading=reading), deletes=False)
        self._after(entry)
