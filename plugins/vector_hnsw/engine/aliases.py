"""Other names of collections, in a table of the store. Whoever looks one up sees it before a move or after it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from shared.errors import FailedPrecondition, LimitReached, quoted

from .store import Store

_log = logging.getLogger("hector")

# Made with the first alias, so that a store without any is as it was.
_TABLE = """
CREATE TABLE IF NOT EXISTS aliases (alias TEXT PRIMARY KEY, collection TEXT NOT NULL) STRICT, WITHOUT ROWID
"""


class Aliases:
    """Changed by one thread at a time (the engine sees to it), looked up by any."""

    def __init__(self, store: Store, collections: Collection[str]) -> None:
        """`collections` are the names that there are: an alias of none of them, or named as one is, counts for
        nothing. A version that knew no aliases leaves such."""
        self._store = store
        self._target_of: Mapping[str, str] = {}
        if store.database.rows("SELECT 1 FROM sqlite_schema WHERE name = 'aliases'"):
            self._target_of = dict(store.database.rows("SELECT alias, collection FROM aliases"))
        stray = {
            alias for alias, target in self._target_of.items() if target not in collections or alias in collections
        }
        self._target_of = {alias: target for alias, target in self._target_of.items() if alias not in stray}
        if stray and not store.database.is_read_only:
            _log.warning(
                "event=aliases_dropped cause='their collections are gone, or have their names' count=%d", len(stray)
            )
            with store.write() as transaction:
                store.log.note_catalogue()
                transaction.executemany("DELETE FROM aliases WHERE alias = ?", [(alias,) for alias in stray])

    def target(self, alias: str) -> str:
        """The collection that it names; "" where it is none."""
        return self._target_of.get(alias, "")

    def of(self, collection: str = "") -> list[tuple[str, str]]:
        """(alias, collection) of one collection or of all, by alias."""
        return sorted(pair for pair in self._target_of.items() if not collection or pair[1] == collection)

    def check_move(self, alias: str, expected: str | None, most: int) -> str:
        """What the alias names now, "" for nothing. Raises FailedPrecondition where that is not what is expected,
        LimitReached where it would be one more than `most`."""
        before = self.target(alias)
        if expected is not None and expected != before:
            raise FailedPrecondition(
                f"alias {alias} names {before or 'nothing'}, not {quoted(expected) if expected else 'nothing'}; "
                "look where it leads by now, and decide anew",
                reason="ALIAS_MOVED",
                field="expected_collection",
                metadata={"collection": before},
            )
        if not before and len(self._target_of) >= most:
            raise LimitReached(
                f"there are {len(self._target_of)} aliases, as many as max_collections allows; "
                "delete one, or raise the setting",
                reason="TOO_MANY_ALIASES",
            )
        return before

    def set(self, alias: str, collection: str) -> None:
        """Makes or moves it, durably."""
        with self._store.write() as transaction:
            transaction.execute(_TABLE)
            transaction.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (alias, collection))
            self._store.log.note_catalogue()
        self._target_of = {**self._target_of, alias: collection}

    def delete(self, alias: str) -> None:
        """Durably."""
        with self._store.write() as transaction:
            transaction.execute("DELETE FROM aliases WHERE alias = ?", (alias,))
            self._store.log.note_catalogue()
        self._target_of = {name: target for name, target in self._target_of.items() if name != alias}
