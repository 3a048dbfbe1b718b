"""The engine. It knows no gRPC and no settings: try it in a Python prompt.

YOUR IDEA goes here: keep the methods of Engine and what they promise, and put your own store in the place of this one,
a dictionary that numpy searches and a journal that brings it back. Methods run in threads, two at once at most.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, quoted
from shared.journal import Journal


class Item(NamedTuple):
    vector: Sequence[float]  # checked by `check_vector`
    metadata: dict[str, Any]


class Hit(NamedTuple):
    id: str
    score: float  # cosine, -1 to 1; higher is better
    metadata: dict[str, Any]


@dataclass
class Collection:
    dimension: int
    model: str  # whose vectors it holds; empty: not said
    items: dict[str, Item] = field(default_factory=dict)


class Engine:
    def __init__(self, data_dir: Path) -> None:
        self._journal = Journal(data_dir / "journal.jsonl")
        self._collections: dict[str, Collection] = {}
        self._lock = threading.RLock()

    def open(self) -> None:
        """Runs before the first call; until it returns, health is NOT_SERVING."""
        for change in self._journal.open():
            self._apply(change)

    def close(self) -> None:
        """Runs after the last call."""
        self._journal.close()

    def create(self, name: str, dimension: int, model: str, *, if_not_exists: bool) -> bool:
        """Whether it is new. Raises AlreadyExists; with `if_not_exists` only where the parameters are others."""
        with self._lock:
            existing = self._collections.get(name)
            if existing and not (if_not_exists and (existing.dimension, existing.model) == (dimension, model)):
                raise AlreadyExists(f"collection {name} exists, with dimension {existing.dimension}; use another name")
            if not existing:
                self._commit({"create": name, "dimension": dimension, "model": model})
            return existing is None

    def drop(self, name: str) -> int:
        """How many vectors it had."""
        with self._lock:
            count = len(self.collection(name).items)
            self._commit({"drop": name})
            return count

    def upsert(self, name: str, items: Mapping[str, Item]) -> None:
        """Inserts or replaces, all or nothing. Once it returns, a kill or a power cut loses nothing of it."""
        with self._lock:
            self.collection(name)
            self._commit({"upsert": name, "items": items})

    def delete(self, name: str, ids: Sequence[str]) -> int:
        """How many of `ids` were there."""
        with self._lock:
            existing = self.collection(name).items.keys() & set(ids)
            self._commit({"delete": name, "ids": sorted(existing)})
            return len(existing)

    def search(self, name: str, query: Sequence[float], limit: int, threshold: float) -> list[Hit]:
        """The nearest, best first, equal scores by id, none with a score below `threshold`."""
        with self._lock:
            items = list(self.collection(name).items.items())
        if not items:
            return []
        vectors = np.array([item.vector for _, item in items], np.float64)
        target = np.array(query, np.float64)
        cosines = vectors @ target / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(target))
        scores = np.clip(cosines, -1, 1).astype(np.float32).tolist()  # as the reply shows them
        hits = [Hit(key, score, item.metadata) for (key, item), score in zip(items, scores, strict=True)]
        return sorted((hit for hit in hits if hit.score >= threshold), key=lambda hit: (-hit.score, hit.id))[:limit]

    def collection(self, name: str, model: str = "") -> Collection:
        """Raises NotFound, and FailedPrecondition where `model`, if it is said, is not the collection's."""
        collection = self._collections.get(name)
        if collection is None:
            raise NotFound(f"there is no collection {quoted(name)}; make it with CreateCollection")
        if model and collection.model and model != collection.model:
            raise FailedPrecondition(f"collection {name} has vectors of {collection.model}; send such, or use another")
        return collection

    def _commit(self, change: Mapping[str, Any]) -> None:
        self._journal.append(change)
        self._apply(change)

    def _apply(self, change: Mapping[str, Any]) -> None:
        match change:
            case {"create": name, "dimension": dimension, "model": model}:
                self._collections[name] = Collection(dimension, model)
            case {"drop": name}:
                del self._collections[name]
            case {"upsert": name, "items": items}:
                self._collections[name].items.update({key: Item(*item) for key, item in items.items()})
            case {"delete": name, "ids": ids}:
                for key in ids:
                    del self._collections[name].items[key]


def check_vector(vector: Sequence[float], dimension: int, field: str) -> None:
    """Raises InvalidArgument, naming `field`, where a collection of that dimension cannot hold or compare it."""
    if len(vector) != dimension:
        raise InvalidArgument(f"{field} has {len(vector)} floats; the collection's have {dimension}", field=field)
    if not np.isfinite(vector).all() or not np.any(vector):
        raise InvalidArgument(f"{field} has no direction: send finite numbers that are not all zero", field=field)
