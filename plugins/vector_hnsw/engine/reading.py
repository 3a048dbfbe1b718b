"""Items searched, listed, counted and fetched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from shared.errors import (
    DataLoss,
    NotFound,
)
from shared.vectors.checks import within
from shared.vectors.filters import Filter
from shared.vectors.items import Item, Query

from . import checks
from .collection import OpenCollection
from .filters import where
from .query import SearchResult
from .searching import Changed, TakesLong
from .state import State

_LARGEST_PAGE = 1000
_PAGE = 100


class Reading(State):
    def search(self, name: str, query: Query) -> SearchResult:
        """The `limit` best after the `offset` best; ties break on id. May wait for a write that is under way.

        Raises NotFound, InvalidArgument, FailedPrecondition.
        """
        entry = self._find(name)
        with suppress(NotFound, Changed):  # restored from a snapshot meanwhile, perhaps
            return entry.search(query)
        try:
            with self._writing:
                return self._find(name).search(query)
        except Changed:  # nothing was written, yet what was found is gone
            raise DataLoss(
                f"the store and the graph of collection {name} do not agree; stop the plugin, run "
                "`admin verify`, and restore a backup"
            ) from None

    def search_now(self, name: str, query: Query) -> SearchResult | None:
        """Like `search`, but None where it would have to wait or take more than about a millisecond."""
        entry = self._find(name)
        with suppress(NotFound, Changed, TakesLong):
            return entry.search(query, wait=False)
        return None

    def search_many_now(self, name: str, queries: Sequence[Query]) -> list[SearchResult | None]:
        """`search_now` for several queries of one `kind`, together."""
        entry = self._find(name)
        with suppress(NotFound, TakesLong):
            return entry.search_many(queries, wait=False)
        return [None] * len(queries)

    def search_many(self, name: str, queries: Sequence[Query]) -> list[SearchResult]:
        """`search` for several queries, together where the graph can answer them so."""
        entry = self._find(name)
        results: list[SearchResult | None] = [None] * len(queries)
        with suppress(NotFound):
            results = entry.search_many(queries)
        return [result or self.search(name, query) for result, query in zip(results, queries, strict=True)]

    def get(
        self, name: str, ids: Sequence[str], *, with_vectors: bool = False, with_metadata: bool = True
    ) -> dict[str, Item]:
        """The items with these ids that exist. Raises NotFound, InvalidArgument."""
        checks.check_ids(ids, "read")
        wanted = list(dict.fromkeys(ids))
        return self._read(name, lambda entry: self._store.items(entry.spec.number, wanted, with_vectors, with_metadata))

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
        """The items after the page that came with `token`, and the token for the next; "" when this is the last.

        Rows are given out in the order of inserts and never again, so an item that is there throughout comes once.
        Raises NotFound, InvalidArgument; DataLoss where the next item is damaged, with the token for what comes after
        it in `metadata["page_token"]`.
        """
        size = within("page_size", size or _PAGE, 1, _LARGEST_PAGE)
        fits = where(filter) if filter else None

        def read(entry: OpenCollection) -> tuple[list[Item], str]:
            number = entry.spec.number
            try:
                after = checks.row_after(token, number)
                rows, more = self._store.page(number, after, size, fits, with_vectors, with_metadata)
            except DataLoss as error:
                if row := error.metadata.pop("row", ""):
                    error.metadata["page_token"] = checks.page_token(number, int(row))
                raise
            return [item for _, item in rows], checks.page_token(number, rows[-1][0]) if more else ""

        return self._read(name, read)

    def count(self, name: str, filter: Filter | None = None) -> int:
        """Raises NotFound, InvalidArgument."""
        if filter is None:
            return self._find(name).labels.count
        fits = where(filter)
        return self._read(name, lambda entry: self._store.count(entry.spec.number, fits))
