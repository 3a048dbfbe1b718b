"""The items that vector_hnsw keeps in memory, and those that it reads for itself."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.vector_hnsw.engine import Item, flat, health, rows
from tests.vector_tools import items, killed, opened, vectors


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


def test_a_graph_catches_up_whatever_metadata_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a saved graph has not got is brought in also where its metadata is more than a call may read."""
    monkeypatch.setattr(flat, "MOST", 0)
    caplog.set_level(logging.INFO)
    matrix = vectors(90, 8)
    with opened(tmp_path / "a") as engine:
        engine.create("c", 8)
        engine.upsert("c", items(matrix[:80]))
    with opened(tmp_path / "a") as engine:
        text = '{"text":"' + "x" * 10_000 + '"}'
        engine.upsert("c", [Item(f"more{n}", vector, text) for n, vector in enumerate(matrix[80:])])
        folder = killed(tmp_path / "a", tmp_path / "b")
    with opened(folder, max_read=50_000) as engine:
        assert engine.describe("c").count == 90
        assert "event=graph_rebuilt" not in caplog.text


def test_a_sample_is_of_different_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recall is measured at as many vectors as were picked, each once, however many items share one and whatever
    metadata they have."""
    monkeypatch.setattr(flat, "MOST", 0)
    matrix = vectors(40, 8)
    with opened(tmp_path, max_read=100_000) as engine:
        engine.create("c", 8)
        engine.upsert("c", [Item(f"same{n}", matrix[0]) for n in range(300)])
        engine.upsert("c", [Item(f"i{n}", vector, f'{{"text":"{"x" * 5000}"}}') for n, vector in enumerate(matrix)])
        queries, nearest = health.sample(engine._find("c"), engine._store, 40)
        assert len(queries) == len(nearest) == 40
        assert len(np.unique(np.argmax(queries @ engine._find("c").spec.metric.prepare(matrix).T, axis=1))) > 30
