"""What every call on an engine stands on: the collections by their names and aliases, and the bounds on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from shared.errors import (
    LimitReached,
    NotFound,
    quoted,
)

from .aliases import Aliases
from .cache import GraphCache
from .collection import OpenCollection
from .snapshots import Snapshots
from .store import Store

Result = TypeVar("Result")


class State:
    """Of one folder. The store, and what is of it, is there once the engine was opened."""

    _store: Store
    _cache: GraphCache
    _snapshots: Snapshots
    _aliases: Aliases

    def __init__(self, max_limit: int, max_collections: int, max_memory: int, threads: int) -> None:
        self._max_limit = max_limit
        self._max_collections = max_collections
        self._max_memory = max_memory
        self._threads = threads
        # Every write holds it, and whoever reads and must not meet one.
        self._writing: AbstractContextManager[object] = threading.Lock()
        self._snapshotting = threading.Lock()  # before `_writing` where both are held
        self._collections: dict[str, OpenCollection] = {}

    def _find(self, name: str, field: str = "collection") -> OpenCollection:
        entry = self._collections.get(name)
        while entry is None:
            target = self._aliases.target(name)
            entry = self._collections.get(target)
            # An alias may be moved, and the collection that it named deleted, between the two looks.
            if entry is None and self._aliases.target(name) == target:
                raise NotFound(
                    f"there is no collection {quoted(name)}; create it first",
                    reason="COLLECTION_NOT_FOUND",
                    field=field,
                )
        return entry

    def _name_of(self, name: str) -> str:
        """Of an alias the collection that it names; any other name as it is."""
        return name if name in self._collections else self._aliases.target(name) or name

    def _read(self, name: str, read: Callable[[OpenCollection], Result], field: str = "collection") -> Result:
        """What `read` returns, of the collection that took this one's place if a restore came in between."""
        entry = self._find(name, field)
        try:
            return read(entry)
        except NotFound:
            with self._writing:
                return read(self._find(name, field))

    def _check_number(self) -> None:
        if len(self._collections) >= self._max_collections:
            raise LimitReached(
                f"there are {len(self._collections)} collections, which is max_collections; "
                "delete one, or raise the setting",
                reason="TOO_MANY_COLLECTIONS",
            )

    def _check_memory(self, wanted: int, instead_of: OpenCollection | None = None) -> int:
        """How many bytes a graph may have that needs so many, instead of this collection's; 0 for any number.

        Raises LimitReached.
        """
        if not self._max_memory:
            return 0
        others = [entry.graph for entry in [*self._collections.values()] if entry is not instead_of]
        used = sum(graph.bytes for graph in others if graph)
        needed = used + wanted
        if needed > self._max_memory:
            raise LimitReached(
                f"the graphs would take {needed} bytes, more than max_memory of {self._max_memory}; "
                "delete something, or raise the setting",
                reason="MEMORY_LIMIT",
            )
        return self._max_memory - used
