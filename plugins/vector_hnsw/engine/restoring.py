"""Snapshots of collections, made and put back."""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import replace

from shared.errors import (
    AlreadyExists,
    PluginError,
)

from .flat import index_for
from .snapshots import Snapshot, copy_in
from .space import Space
from .upkeep import Upkeep

HIDDEN = ".restoring"  # no client can name it: a collection that is being put back


class Restoring(Space, Upkeep):
    def create_snapshot(self, collection: str, name: str) -> Snapshot:
        """Copies the collection as it is now, while writes go on. Raises NotFound, AlreadyExists, StorageFull."""
        with self._snapshotting:
            if self._store.is_removing:  # and would be a part of the snapshot for ever
                with self._writing_items():
                    pass
            return self._snapshots.create(self._store, self._find(collection).spec, name)

    def list_snapshots(self, collection: str = "") -> list[Snapshot]:
        """Of one collection or of all, those of deleted collections too."""
        return self._snapshots.list(self._name_of(collection))

    def delete_snapshot(self, collection: str, name: str) -> None:
        """Raises NotFound."""
        with self._snapshotting:
            self._snapshots.delete(self._name_of(collection), name)

    def restore_snapshot(self, collection: str, name: str) -> None:
        """Puts the collection back to what the snapshot holds, at one moment; until then the old one is searched.

        Raises NotFound, LimitReached, DataLoss, StorageFull, and then nothing has changed.
        """
        collection = self._name_of(collection)
        with self._snapshotting, self._snapshots.opened(collection, name) as (file, spec, next_label):
            with self._writing:
                self._drop_hidden()
                made = self._when_full_too(lambda: copy_in(self._store, file, spec, next_label, HIDDEN), deletes=False)
            try:
                # The old one is in memory beside it until they are exchanged.
                count = self._store.count(made.number, None)
                index = index_for(spec, count, self._threads)
                self._check_memory(index.bytes_with(count))
                entry = self._opened(replace(made, name=collection))
                with self._writing:
                    old = self._collections.get(collection)
                    if old is None:
                        self._check_number()
                        if self._aliases.target(collection):
                            raise AlreadyExists(
                                f"{collection} has become an alias; delete the alias first", reason="ALIAS_EXISTS"
                            )

                    def exchange() -> None:
                        with self._store.write() as transaction:
                            if old is not None:
                                self._store.drop(transaction, old.spec.number)
                            self._store.rename(transaction, made.number, collection)

                    self._when_full_too(exchange, deletes=True)
                    self._collections[collection] = entry
                    self._tune_where_due(entry)
                    self._give_back()
            except BaseException:
                with suppress(PluginError), self._writing:  # else the next restore, or the next start, does it
                    self._drop_hidden()
                raise
            if old is not None:
                with suppress(OSError):  # the next start removes what is left
                    self._cache.remove(old.spec.number)

    def _drop_hidden(self) -> None:
        """Removes what a restore left that came to no end."""

        def drop(number: int) -> int:
            with self._store.write() as transaction:
                return self._store.drop(transaction, number)

        for spec in self._store.collections():
            if spec.name == HIDDEN:
                self._when_full_too(functools.partial(drop, spec.number), deletes=True)
