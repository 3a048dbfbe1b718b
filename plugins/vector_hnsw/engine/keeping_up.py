"""The memory of a process that reads beside the one that writes, kept up with what that has written.

Before anything is answered it looks whether the store has moved (`counter.py`), and if so brings memory up to it by
what the writer's log names (`change_log.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from shared.errors import PluginError, StartError, Unavailable

from . import opening
from .aliases import Aliases
from .change_log import Changes
from .collection import OpenCollection
from .counter import AWAY
from .following import FollowingCollection, open_collection
from .moment import Moment, behind
from .read_only import MadeSnapshots, ReadOnlyStore, SavedGraphs
from .rebuilding import rebuild_aside
from .restoring import HIDDEN
from .searching import Changed
from .state import State
from .upkeep import Upkeep

_log = logging.getLogger("hector")

# Seconds: how often it looks when nobody asks, and until it is tried again to build a graph.
_LOOK_EVERY, _AGAIN = 0.05, 10.0
_LONGEST_END = 5.0  # seconds that closing waits for memory that is being brought up
Result = TypeVar("Result")


class KeepingUp(Upkeep):
    """Of one folder. `open` before anything else, `close` at the end."""

    _store: ReadOnlyStore

    def __init__(self, data_dir: Path, max_limit: int, max_collections: int, max_read: int, threads: int) -> None:
        State.__init__(self, max_limit, max_collections, 0, threads)
        self._data_dir = data_dir
        self._max_read = max_read
        self._moment = self._writing = Moment(self._begin)
        self._by_number: dict[int, FollowingCollection] = {}
        self._seen: bytes | None = None  # what the counter was before memory was brought up; None for never
        self._was_removing = False
        self._closed = False
        self._follower = threading.Thread(target=self._follow, name="follow", daemon=True)

    # -- its life -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Loads or builds every graph. Raises StartError, also where there is no store to read."""
        opening.refuse_wrong_folder(self._data_dir)
        if not (self._data_dir / "store.db").exists():
            raise StartError(
                f"{self._data_dir} holds no store.db: a reader reads beside a plugin that writes; "
                "name the data_dir of that one, and start it first"
            )
        self._use(ReadOnlyStore(self._data_dir / "store.db", max_read=self._max_read))
        try:
            for _ in range(2):  # what was written while the graphs were built is little
                with self._moment:
                    pass
        except PluginError as error:
            self._store.close()
            raise StartError(f"cannot read data_dir {self._data_dir}: {error.message}") from None
        self._follower.start()

    def close(self) -> None:
        """What is called afterwards raises Unavailable."""
        self._closed = True
        self._moment.is_wanted.set()
        if self._follower.is_alive():
            self._follower.join(_LONGEST_END)
            self._store.close()

    def _use(self, store: ReadOnlyStore) -> None:
        database = store.database
        self._store = store
        self._cache = SavedGraphs(self._data_dir / "graphs", database)
        self._snapshots = MadeSnapshots(self._data_dir / "snapshots")
        self._by_number = {}
        self._seen = None

    def _follow(self) -> None:
        """Brings memory up also where nobody asks, so that whoever asks need not wait long."""
        said, last_try = "", time.monotonic()
        while not self._closed:
            self._moment.is_wanted.wait(_LOOK_EVERY)
            self._moment.is_wanted.clear()
            is_due = time.monotonic() > last_try + _AGAIN
            if self._closed or not (is_due or self._has_moved(self._seen)):
                continue
            try:
                with self._moment:
                    if is_due:
                        last_try = time.monotonic()
                        self._build_missing()
                    said = ""
            except Exception as error:
                if str(error) != said:
                    is_ours = isinstance(error, PluginError)
                    _log.warning("event=reader_behind cause=%r", str(error), exc_info=not is_ours)
                said = str(error)

    def _build_missing(self) -> None:
        """Tries again where a graph could not be built."""
        for entry in self._by_number.values():
            if entry.graph is None:
                self._after(entry)

    # -- memory, brought up ---------------------------------------------------------------------------------------

    def _has_moved(self, seen: bytes | None) -> bool:
        """Whether there was a commit since the counter was so, or another store is there; in 3 µs."""
        return self._store.database.counter.look() != seen

    def _begin(self, pin: ExitStack, in_a_call: bool, is_rest: bool) -> bool:
        """For `Moment`. The thread stays pinned to what it has brought memory up to."""
        if self._closed:
            raise Unavailable("the vector store is closed: the plugin is shutting down", reason="SHUTTING_DOWN")
        seen = self._store.database.counter.look()
        if seen == AWAY or not self._store.database.is_in_its_place:
            if in_a_call:
                return False
            self._reopen()
            seen = self._store.database.counter.look()
            if seen == AWAY:
                raise behind()
        pin.enter_context(self._store.database.pinned())
        if not self._bring_up(in_a_call, is_rest):
            return False
        self._seen = self._store.database.seen = seen
        return True

    def _reopen(self) -> None:
        """Another store has taken the place of the one that was read: a backup was put back."""
        old = self._store
        try:
            self._use(ReadOnlyStore(self._data_dir / "store.db", max_read=self._max_read))
        except StartError:
            raise Unavailable(
                "the store of this reader is gone, or cannot be read; put it back, or start the plugin that writes it",
                reason="READER_BEHIND",
                retry_after=1.0,
            ) from None
        old.close()
        _log.info("event=reader_reopened cause='another store has taken its place'")

    def _bring_up(self, in_a_call: bool, is_rest: bool) -> bool:
        """False where it is too much for a call."""
        store = self._store
        before, now = store.sequence, store.database.last_write()
        store.fields.forget()
        is_removing = store.database.is_removing
        if self._seen is None:
            if in_a_call:
                return False
            self._read_catalogue(now, at_start=True)
        elif now != before or is_removing or self._was_removing:
            changes = store.log.since(before, now) if now >= before else None
            if in_a_call and not is_rest and (changes is None or changes.is_large):
                return False
            if changes is None or changes.catalogue:
                self._read_catalogue(now, at_start=False)
            is_tidied = is_removing or self._was_removing
            for number in self._concerned(None if is_tidied else changes):
                if is_tidied:
                    self._by_number[number].forget()
                self._bring_up_one(self._by_number[number], changes, now)
        self._was_removing = is_removing
        store.database.sequence = now
        return True

    def _concerned(self, changes: Changes | None) -> list[int]:
        """The collections that may have to be brought up."""
        if changes is None or changes.catalogue:
            return list(self._by_number)
        return [number for number in {*changes.touched, *changes.unknown} if number in self._by_number]

    def _bring_up_one(self, entry: FollowingCollection, changes: Changes | None, now: int) -> None:
        number = entry.spec.number
        if changes is None:
            is_known = entry.reached <= now and self._store.counters(number)[1] <= entry.reached
        else:
            is_known = number not in changes.unknown or entry.reached == now
        is_touched = changes is not None and number in changes.touched and entry.reached != now
        if entry.is_lost or not is_known:
            entry.look_through()
        elif is_touched and changes is not None:
            entry.follow(*changes.touched[number], now)
        entry.reached = now
        if changes is None or changes.catalogue or is_touched:
            self._after(entry)

    def _read_catalogue(self, now: int, *, at_start: bool) -> None:
        """Collections and aliases as they are now. One that is being put back from a snapshot is opened beforehand."""
        there: dict[int, FollowingCollection] = {}
        for spec in self._store.collections():
            entry = self._by_number.get(spec.number)
            if entry is None:
                entry = open_collection(
                    self._store, self._cache, spec, self._threads, self._max_limit, at_start=at_start
                )
                entry.reached = now
                self._after(entry)
            entry.spec = spec
            there[spec.number] = entry
        named = {entry.spec.name: entry for entry in there.values() if entry.spec.name != HIDDEN}
        self._aliases = Aliases(self._store, named.keys())
        self._by_number = there
        self._collections = dict[str, OpenCollection](named)

    def _after(self, entry: OpenCollection) -> None:
        if entry.graph is not None:
            super()._after(entry)
        elif not entry.rebuilding:
            threads = self._threads or os.cpu_count() or 1
            rebuild_aside(entry, self._store, threads, self._writing, self._save)

    def _tune_where_due(self, entry: OpenCollection) -> None:
        """Nothing: the writer does it, and its `ef_search` comes with the catalogue."""

    def _whole(
        self, work: Callable[[], Result], *, strict: bool = False, surely: Callable[[], Result] | None = None
    ) -> Result:
        """What `work` returns, of memory that has all that was written before this call; where it is `strict`, of one
        moment. `surely`: what does the same within a moment."""
        if self._moment.is_now:
            return (surely or work)()
        with self._moment.in_a_call():
            seen = self._seen
            if self._has_moved(seen):
                with self._moment:
                    seen = self._seen
            try:
                result = work()
                if not strict or not self._has_moved(seen):
                    return result
            except (PluginError, Changed) as error:
                if isinstance(error, PluginError) and not self._has_moved(seen):
                    raise
            with self._moment:
                return (surely or work)()
