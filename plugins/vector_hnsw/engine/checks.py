"""What may be asked of a collection: names, ids, items, numbers. What may not raises, naming field and remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plugins.vector_hnsw.engine.metric import Floats
from plugins.vector_hnsw.engine.store import Collection
from shared.errors import FailedPrecondition, InvalidArgument, quoted

LARGEST_DIMENSION = 16_384
LARGEST_EF = 4096
# Items in one request; 64 MiB could hold millions of tiny ones.
LARGEST_BATCH = 100_000
_LONGEST_ID = 512
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Item:
    """What an upsert brings: `vector` of shape (dimension,), `metadata` as JSON text of an object."""

    id: str
    vector: Floats
    metadata: str = "{}"


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"collection name {quoted(name)} must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with a dot",
            reason="BAD_NAME",
            field="name",
        )
    return name


def within(what: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidArgument(f"{what} must be {least} to {most}, not {value}", reason="OUT_OF_RANGE", field=what)
    return value


def already(there: Collection, wanted: Collection, if_not_exists: bool) -> str:
    if not if_not_exists:
        return f"collection {there.name} exists; delete it first, or set if_not_exists"
    parameters = ("dimension", "metric", "m", "ef_construction", "ef_search", "embedding_model")
    for name in parameters:
        have, want = getattr(there, name), getattr(wanted, name)
        if have != want:
            return (
                f"collection {there.name} exists with {name} {have}, not {want}; delete it first, or take another name"
            )
    raise AssertionError("equal collections")


def check_model(collection: Collection, named: str) -> None:
    if named and collection.embedding_model and named != collection.embedding_model:
        raise FailedPrecondition(
            f"collection {collection.name} holds vectors of {collection.embedding_model}; "
            f"those of {quoted(named, 200)} cannot be compared with them",
            reason="OTHER_EMBEDDING_MODEL",
            metadata={"expected": collection.embedding_model, "got": named},
        )


def checked_model_name(name: str) -> str:
    if len(name.encode()) > 512:
        raise InvalidArgument(
            "embedding_model must be of at most 512 bytes", reason="OUT_OF_RANGE", field="embedding_model"
        )
    return name


def check_ids(ids: Sequence[str]) -> None:
    _check_batch("ids", len(ids))
    wrong = [(f"ids[{index}]", text) for index, name in enumerate(ids) if (text := _wrong_id(name))]
    if wrong:
        raise _refusal(wrong, "BAD_ID", "deleted")


def check_items(collection: Collection, items: Sequence[Item]) -> None:
    """Raises InvalidArgument that names every item at fault."""
    _check_batch("vectors", len(items))
    wrong = [(f"vectors[{index}].id", text) for index, item in enumerate(items) if (text := _wrong_id(item.id))]
    if wrong:
        raise _refusal(wrong, "BAD_ID", "written")
    for index, item in enumerate(items):
        if len(item.vector) != collection.dimension:
            text = f"has {len(item.vector)} numbers, the collection's dimension is {collection.dimension}"
            wrong.append((f"vectors[{index}].vector", text))
    if wrong:
        raise _refusal(wrong, "WRONG_DIMENSION", "written")
    verdicts = collection.metric.check(np.stack([item.vector for item in items])) if items else None
    if verdicts is not None:
        wrong = [(f"vectors[{i}].vector", str(text)) for i, text in enumerate(verdicts) if text]
        raise _refusal(wrong, "BAD_VECTOR", "written")


def _check_batch(field: str, count: int) -> None:
    if count > LARGEST_BATCH:
        raise InvalidArgument(
            f"{field} has {count} items; send at most {LARGEST_BATCH} in a request",
            reason="TOO_MANY_ITEMS",
            field=field,
        )


def _wrong_id(name: str) -> str:
    size = len(name.encode())
    return "" if 1 <= size <= _LONGEST_ID else f"must be of 1 to {_LONGEST_ID} bytes, has {size}"


def _refusal(wrong: list[tuple[str, str]], reason: str, done: str) -> InvalidArgument:
    field, text = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return InvalidArgument(f"{field} {text}{more}; nothing was {done}", reason=reason, violations=wrong)
