"""The engine of a process that reads beside the one that writes, in as many processes as one likes.

It has graphs and labels of its own, and the store as the truth. Before it answers it brings memory up to the store
(`keeping_up.py`). After a search it looks again: what was found while the store moved is not answered, but found again
within a moment, in which memory and everything that is read are the store as it was at one time. So it answers as the
writer would, which may be stopped, killed and started again meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from shared.errors import FailedPrecondition, PluginError
from shared.vectors.filters import Filter
from shared.vectors.items import Item, Query

from .engine import Engine
from .keeping_up import KeepingUp
from .managing import Description
from .query import SearchResult
from .snapshots import Snapshot


class ReaderEngine(KeepingUp, Engine):
    """Thread-safe. `open` before anything else, `close` at the end. Whatever would write raises FailedPrecondition."""

    def __init__(
        self,
        data_dir: Path,
        *,
        max_limit: int = 1000,
        max_collections: int = 1000,
        max_memory: int = 0,
        max_read: int = 64 * 2**20,
        threads: int = 0,
    ) -> None:
        """As an Engine; but any number may read one folder, and `max_collections` and `max_memory` are the writer's."""
        KeepingUp.__init__(self, data_dir, max_limit, max_collections, max_read, threads)

    # -- what may be asked --------------------------------------------------------------------------------------

    def search(self, name: str, query: Query) -> SearchResult:
        # One that compares everything reads it as it was at one moment in any case.
        is_one = query.exact and not query.filter and not query.with_vectors
        return self._whole(
            lambda: self._find(name).search(query),
            strict=not is_one,
            surely=lambda: Engine.search(self, name, query),
        )

    def search_now(self, name: str, query: Query) -> SearchResult | None:
        seen = self._seen
        if seen is None or self._has_moved(seen):
            return None
        try:
            result = super().search_now(name, query)
        except PluginError:
            if not self._has_moved(seen):
                raise
            return None
        return None if self._has_moved(seen) else result

    def search_many_now(self, name: str, queries: Sequence[Query]) -> list[SearchResult | None]:
        seen = self._seen
        if seen is not None and not self._has_moved(seen):
            results = super().search_many_now(name, queries)
            if not self._has_moved(seen):
                return results
        return [None] * len(queries)

    def search_many(self, name: str, queries: Sequence[Query]) -> list[SearchResult]:
        return self._whole(lambda: Engine.search_many(self, name, queries), strict=True)

    def get(
        self, name: str, ids: Sequence[str], *, with_vectors: bool = False, with_metadata: bool = True
    ) -> dict[str, Item]:
        return self._whole(lambda: Engine.get(self, name, ids, with_vectors=with_vectors, with_metadata=with_metadata))

    def page(
        self,
        name: str,
        *,
        token: str = "",
        size: int = 0,
        filter: Filter | None = None,
        with_vectors: bool = False,
        with_metadata: bool = True,
    ) -> tuple[list[Item], str]:
        return self._whole(
            lambda: Engine.page(
                self,
                name,
                token=token,
                size=size,
                filter=filter,
                with_vectors=with_vectors,
                with_metadata=with_metadata,
            )
        )

    def count(self, name: str, filter: Filter | None = None) -> int:
        return self._whole(lambda: Engine.count(self, name, filter))

    def describe(self, name: str, *, sample: bool = True) -> Description:
        return self._whole(lambda: Engine.describe(self, name, sample=sample))

    def describe_all(self) -> list[Description]:
        return self._whole(lambda: Engine.describe_all(self))

    def list_aliases(self, collection: str = "") -> list[tuple[str, str]]:
        return self._whole(lambda: Engine.list_aliases(self, collection))

    def list_snapshots(self, collection: str = "") -> list[Snapshot]:
        return self._whole(lambda: Engine.list_snapshots(self, collection))

    # -- what may not -------------------------------------------------------------------------------------------

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise FailedPrecondition(
            "this server only reads beside the one that writes; send what writes to the writer's port",
            reason="READER_ONLY",
        )

    create = update_index = delete = set_alias = delete_alias = _refuse
    upsert = delete_vectors = update_metadata = update_matching = _refuse
    create_snapshot = delete_snapshot = restore_snapshot = _refuse
