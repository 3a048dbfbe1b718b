"""The items that vector_hnsw keeps in memory."""

from __future__ import annotations

from typing import Any

from plugins.vector_hnsw.engine import rows


class Store:
    """Has an item at every label. Once `meanwhile` is set, another reader comes while it reads."""

    meanwhile: rows.RowCache | None = None

    def at_labels(self, number: int, labels: list[int], most: int | None) -> list[tuple[int, int, int, str, str]]:
        other, self.meanwhile = self.meanwhile, None
        if other is not None:
            other.at_labels(labels)
        return [(label, 1, label, f"id-{label}", "x" * 1000) for label in labels]


def test_what_two_readers_read_at_once_counts_once() -> None:
    """Counted twice, it would never be given back: the room shrinks to nothing, and then every search fails."""
    store: Any = Store()
    cache = rows.RowCache(store, 1)
    for label in range(5 * rows._MOST_BYTES // 1000):
        store.meanwhile = cache
        assert cache.at_labels([label])[label][0].id == f"id-{label}"
    assert cache._bytes == sum(map(rows._size, cache._kept.values())) > rows._MOST_BYTES // 2
