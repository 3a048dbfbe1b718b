"""Room on the disk: writes go on where it is full, as far as can be, and what deletes set free goes back to it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from shared.errors import (
    DataLoss,
    PluginError,
    StorageFull,
)

from .state import State

_log = logging.getLogger("hector")

# Free pages of the file, of 8 KiB each: fewer are kept for what comes; so many go back at once; and seconds in between.
_FEW_PAGES, _PAGES_A_TURN, _PAUSE = 32, 256, 0.01
_AGAIN = 1.0  # seconds until it is tried again to remove what there was no room to remove
Result = TypeVar("Result")


class Space(State):
    _giving_back = False
    _is_finishing = False
    _is_full = False  # a write has found it so since something was given back

    @contextmanager
    def _writing_items(self) -> Iterator[None]:
        """The lock that every write holds. What was deleted, and is in the store still for want of room, goes first:
        an item that is written now must not take its place, and go with it. Raises StorageFull.
        """
        with self._writing:
            if self._store.is_removing:
                self._when_full_too(self._store.finish_removing, deletes=True)
            yield

    def _when_full_too(
        self, write: Callable[[], Result], *, deletes: bool, in_parts: Callable[[], Result] | None = None
    ) -> Result:
        """What `write` returns. On a full disk it is tried again with the log folded in and, where it deletes, with all
        given back to the disk that can be: deleting needs room before it can give any back; `in_parts` needs little.

        Where the disk has changed an item, indexes of fields may be in the way of its being written or deleted, and
        are given up."""
        self._store.database.keep_foldable()
        ways: list[Callable[[], object]] = [lambda: None]
        if deletes:
            ways += [self._store.database.use_reserve, self._give_up_saved_graphs]
        for make_room in ways:
            try:
                return write()
            except StorageFull:
                self._is_full = True
                with suppress(PluginError, sqlite3.Error, OSError):
                    make_room()
                    self._store.database.fold_in()
                    self._store.finish_removing()
            except DataLoss:
                if not self._store.fields.drop_all():
                    raise
        try:
            return write()
        except StorageFull:
            if in_parts is None:
                raise
            self._store.database.fold_in()  # the log still holds what there was no room for
            try:
                return in_parts()
            except StorageFull:
                if self._store.is_removing:
                    self._finish_removing_later()
                raise

    def _give_up_saved_graphs(self) -> None:
        for entry in self._collections.values():
            self._cache.remove(entry.spec.number)
            entry.unsaved = entry.labels.count

    def _finish_removing_later(self) -> None:
        """As soon as there is room, in a thread."""
        if self._is_finishing:
            return
        self._is_finishing = True

        def work() -> None:
            try:
                while self._store.is_removing:
                    time.sleep(_AGAIN)
                    with suppress(StorageFull), self._writing_items():
                        pass
            except (PluginError, sqlite3.Error) as error:  # the store was closed; the next start does it
                _log.warning("event=not_removed_yet cause=%r", str(error))
            finally:
                self._is_finishing = False

        threading.Thread(target=work, name="remove", daemon=True).start()

    def _give_back(self) -> None:
        """Has the file shrink, little by little and in a thread, where much of it holds nothing. Call it while
        writing."""
        free, pages = self._store.database.free_pages()
        if self._giving_back or not (self._is_full or (free >= _FEW_PAGES and free * 20 >= pages)):
            return
        self._giving_back, self._is_full = True, False

        def work() -> None:
            database = self._store.database
            try:
                left, turn = free, _PAGES_A_TURN
                while left:
                    with self._writing:
                        database.keep_foldable()
                        try:
                            database.give_back(turn)
                            turn = min(_PAGES_A_TURN, 2 * turn)
                        except StorageFull:
                            turn //= 4
                            if not turn:
                                raise
                            database.fold_in()
                        left = database.free_pages()[0]
                    time.sleep(_PAUSE)
                with self._writing:
                    database.fold_in()
                    database.keep_reserve()
            except (PluginError, sqlite3.Error) as error:
                # The store was closed, or the disk is too full even for this: after the next delete it goes on.
                _log.warning("event=space_not_given_back cause=%r", str(error))
            finally:
                self._giving_back = False

        threading.Thread(target=work, name="give back", daemon=True).start()
