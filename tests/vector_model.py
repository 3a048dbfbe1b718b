"""What a vector store ought to answer: dictionaries and brute force. `World` is its state; each call has one method,
which changes the state and says what the reply must hold, or raises Refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plugins.vector_hnsw.engine import Metric
from shared.errors import Code
from shared.vectors.filters import Filter
from tests.test_vector_filters import fits
from tests.vector_tools import exact_scores

Document = dict[str, Any]
Stored = tuple[bytes, str]  # vector, metadata as JSON


class Refused(Exception):
    """The call must be refused with one of these codes, and change nothing."""

    def __init__(self, *codes: Code) -> None:
        super().__init__(*codes)
        self.codes = codes


@dataclass
class Collection:
    metric: Metric
    dimension: int
    items: dict[str, Stored] = field(default_factory=dict)
    index: dict[str, int] = field(default_factory=lambda: {"m": 16, "ef_construction": 200, "ef_search": 100})

    def copy(self) -> Collection:
        return replace(self, items=dict(self.items), index=dict(self.index))

    def kept(self, filter: Filter | None) -> list[str]:
        """Ids of the items that fit, sorted."""
        if filter is None:
            return sorted(self.items)
        return sorted(item_id for item_id, (_, text) in self.items.items() if fits(filter, item_id, json.loads(text)))

    def scores(self, query: npt.NDArray[np.float32], ids: Sequence[str]) -> dict[str, float]:
        raw = b"".join(self.items[item_id][0] for item_id in ids)
        matrix = np.frombuffer(raw, "<f4").reshape(len(ids), self.dimension)
        return dict(zip(ids, exact_scores(self.metric, query, matrix).tolist(), strict=True))


@dataclass
class World:
    """All of a store. A copy of it is cheap enough to be kept for each write."""

    collections: dict[str, Collection] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], Collection] = field(default_factory=dict)  # by collection and name

    def copy(self) -> World:
        collections = {name: collection.copy() for name, collection in self.collections.items()}
        return World(collections, dict(self.aliases), dict(self.snapshots))

    def named(self, name: str) -> str:
        """The collection that a name, or an alias, means."""
        return self.aliases.get(name, name)

    def find(self, name: str) -> Collection:
        if (collection := self.collections.get(self.named(name))) is None:
            raise Refused(Code.NOT_FOUND)
        return collection

    # -- collections and aliases

    def create(self, name: str, metric: Metric, dimension: int, if_not_exists: bool) -> Document:
        there = self.collections.get(self.named(name))
        if there is None:
            self.collections[name] = Collection(metric, dimension)
            return {"created": True}
        if not if_not_exists or (there.metric, there.dimension) != (metric, dimension):
            raise Refused(Code.ALREADY_EXISTS)
        return {"created": False}

    def drop(self, name: str) -> Document:
        count = len(self.find(name).items)
        if self.named(name) in self.aliases.values():
            raise Refused(Code.FAILED_PRECONDITION)
        del self.collections[self.named(name)]
        return {"deleted_count": count}

    def update_index(self, name: str, index: dict[str, int]) -> Document:
        if not index:
            raise Refused(Code.INVALID_ARGUMENT)
        self.find(name).index |= index
        return {}

    def set_alias(self, alias: str, target: str, expected: str | None) -> Document:
        if alias in self.collections:
            raise Refused(Code.ALREADY_EXISTS)
        self.find(target)
        before = self.aliases.get(alias, "")
        if expected is not None and expected != before:
            raise Refused(Code.FAILED_PRECONDITION)
        self.aliases[alias] = self.named(target)
        return {"previous_collection": before}

    def delete_alias(self, alias: str) -> Document:
        if alias not in self.aliases:
            raise Refused(Code.NOT_FOUND)
        return {"collection": self.aliases.pop(alias)}

    # -- items

    def upsert(self, name: str, batch: list[tuple[str, bytes, str]], mode: str, partial: bool) -> Document:
        """`mode`: UPSERT, INSERT_ONLY or UPDATE_ONLY. A vector that is not finite is a bad one."""
        collection = self.find(name)
        wrong: dict[int, Code] = {}
        for index, (item_id, vector, _) in enumerate(batch):
            if not np.isfinite(np.frombuffer(vector, "<f4")).all():
                wrong[index] = Code.INVALID_ARGUMENT
            elif mode == "INSERT_ONLY" and item_id in collection.items:
                wrong[index] = Code.ALREADY_EXISTS
            elif mode == "UPDATE_ONLY" and item_id not in collection.items:
                wrong[index] = Code.NOT_FOUND
        if wrong and not partial:
            raise Refused(wrong[min(wrong)])
        good = {item_id: (vector, text) for index, (item_id, vector, text) in enumerate(batch) if index not in wrong}
        collection.items.update(good)
        return {"upserted_count": len(good), "errors": sorted(wrong)}

    def delete(self, name: str, ids: list[str], filter: Filter | None, dry_run: bool) -> Document:
        if not ids and filter is None:
            raise Refused(Code.INVALID_ARGUMENT)
        collection = self.find(name)
        gone = [item_id for item_id in collection.kept(filter) if not ids or item_id in ids]
        if not dry_run:
            for item_id in gone:
                del collection.items[item_id]
        return {"deleted_count": len(gone)}

    def update(
        self, name: str, changes: list[tuple[str, Document | None, list[str]]], merge: bool, partial: bool
    ) -> Document:
        """`changes`: (item_id, metadata, keys that go)."""
        collection = self.find(name)
        after, wrong = dict(collection.items), dict[int, Code]()
        for index, (item_id, metadata, remove) in enumerate(changes):
            if not _is_sound(metadata, remove, merge):
                wrong[index] = Code.INVALID_ARGUMENT
            elif item_id not in after:
                wrong[index] = Code.NOT_FOUND
            else:
                after[item_id] = (after[item_id][0], _changed(after[item_id][1], metadata, remove, merge))
        if wrong and not partial:
            raise Refused(*wrong.values())
        collection.items = after
        return {
            "updated_count": len({item_id for index, (item_id, *_) in enumerate(changes) if index not in wrong}),
            "errors": sorted(wrong),
        }

    def update_matching(
        self, name: str, filter: Filter, metadata: Document | None, remove: list[str], merge: bool
    ) -> Document:
        if not _is_sound(metadata, remove, merge):
            raise Refused(Code.INVALID_ARGUMENT)
        collection = self.find(name)
        ids = collection.kept(filter)
        for item_id in ids:
            vector, text = collection.items[item_id]
            collection.items[item_id] = (vector, _changed(text, metadata, remove, merge))
        return {"updated_count": len(ids)}

    # -- snapshots

    def take(self, name: str, snapshot: str) -> Document:
        collection, key = self.find(name), (self.named(name), snapshot)
        if key in self.snapshots:
            raise Refused(Code.ALREADY_EXISTS)
        self.snapshots[key] = collection.copy()
        return {}

    def restore(self, name: str, snapshot: str) -> Document:
        key = (self.named(name), snapshot)
        if key not in self.snapshots:
            raise Refused(Code.NOT_FOUND)
        self.collections[key[0]] = self.snapshots[key].copy()
        return {}

    def forget(self, name: str, snapshot: str) -> Document:
        key = (self.named(name), snapshot)
        if key not in self.snapshots:
            raise Refused(Code.NOT_FOUND)
        del self.snapshots[key]
        return {}


def _is_sound(metadata: Document | None, remove: list[str], merge: bool) -> bool:
    if not merge:
        return metadata is not None and not remove
    return (metadata is not None or bool(remove)) and not set(remove) & set(metadata or ())


def _changed(text: str, metadata: Document | None, remove: list[str], merge: bool) -> str:
    there = json.loads(text) if merge else {}
    return json.dumps({key: value for key, value in {**there, **(metadata or {})}.items() if key not in remove})
