"""What may be asked of a collection: names, ids, items, numbers. What may not raises, naming field and remedy."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection as Collection_
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.errors import AlreadyExists, CallerError, FailedPrecondition, InvalidArgument, NotFound, quoted

from .store import Collection, Item

LARGEST_DIMENSION = 16_384
LARGEST_EF = 4096
INDEX_RANGES = {"m": (2, 128), "ef_construction": (4, 4096), "ef_search": (1, LARGEST_EF)}
INDEX_DEFAULTS = {"m": 16, "ef_construction": 200, "ef_search": 100}
# Items in one request; 64 MiB could hold millions of tiny ones.
LARGEST_BATCH = 100_000
LARGEST_SEARCH_BATCH = 1000
# With `partial`, more bad items than these are refused as a whole: the reply names each.
MOST_WRONG = 1000
# Metadata of an item, in bytes.
LARGEST_METADATA = 2**20
LONGEST_ID = 512
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def checked_name(name: str, what: str = "collection name", field: str = "name") -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} {quoted(name)} must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with a dot",
            reason="BAD_NAME",
            field=field,
        )
    return name


def within(what: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidArgument(f"{what} must be {least} to {most}, not {value}", reason="OUT_OF_RANGE", field=what)
    return value


def index_parameters(**named: int) -> dict[str, Any]:
    """Those that are named, not 0. Raises InvalidArgument."""
    return {name: within(f"index.{name}", value, *INDEX_RANGES[name]) for name, value in named.items() if value}


def taken(name: str, there: Collection) -> str:
    if name != there.name:
        return f"{name} is an alias of collection {there.name}; delete the alias first, or take another name"
    return f"collection {name} exists; delete it first, or set if_not_exists"


def difference(there: Collection, wanted: Collection) -> str:
    """How the collection differs from one that was to be made; "" where it does not."""
    parameters = ("dimension", "metric", "m", "ef_construction", "ef_search", "embedding_model")
    for name in parameters:
        have, want = getattr(there, name), getattr(wanted, name)
        if have != want:
            return (
                f"collection {there.name} exists with {name} {have}, not {want}; delete it first, or take another name"
            )
    return ""


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


def check_ids(ids: Sequence[str], done: str = "deleted") -> None:
    """Raises InvalidArgument that names every id at fault."""
    check_batch("ids", len(ids))
    wrong = [(f"ids[{index}]", text) for index, name in enumerate(ids) if (text := _wrong_id(name))]
    if wrong:
        raise _refusal(wrong, "BAD_ID", done)


def bad_items(collection: Collection, items: Sequence[Item]) -> dict[int, CallerError]:
    """What is wrong with which of the items, by index. Raises InvalidArgument where they are too many."""
    check_batch("vectors", len(items))
    wrong: dict[int, CallerError] = {}
    sound: list[int] = []
    for index, item in enumerate(items):
        at = f"vectors[{index}]"
        size = 0 if item.vector is None else len(item.vector)
        if text := _wrong_id(item.id):
            wrong[index] = InvalidArgument(f"{at}.id {text}", reason="BAD_ID", field=f"{at}.id")
        elif size != collection.dimension:
            text = f"has {size} numbers, the collection's dimension is {collection.dimension}"
            wrong[index] = InvalidArgument(f"{at}.vector {text}", reason="WRONG_DIMENSION", field=f"{at}.vector")
        else:
            sound.append(index)
    vectors = [vector for index in sound if (vector := items[index].vector) is not None]
    verdicts = collection.metric.check(np.stack(vectors)) if vectors else None
    if verdicts is not None:
        for index, text in zip(sound, verdicts, strict=True):
            if text:
                at = f"vectors[{index}].vector"
                wrong[index] = InvalidArgument(f"{at} {text}", reason="BAD_VECTOR", field=at)
    return wrong


def wrong_for_mode(
    items: Sequence[Item], known: Collection_[str], mode: str, wrong: Collection_[int]
) -> dict[int, CallerError]:
    """Which items, beside those that are `wrong`, the mode does not allow; `known` are the ids that exist."""
    refused: dict[int, CallerError] = {}
    for index, item in enumerate(items):
        at = f"vectors[{index}].id"
        if index in wrong or mode == "UPSERT":
            continue
        if mode == "INSERT_ONLY" and item.id in known:
            refused[index] = AlreadyExists(f"{at} {quoted(item.id)} exists", reason="ID_EXISTS", field=at)
        if mode == "UPDATE_ONLY" and item.id not in known:
            refused[index] = no_such_id(at, item.id)
    return refused


def no_such_id(at: str, name: str) -> NotFound:
    return NotFound(f"{at} {quoted(name, LONGEST_ID)} does not exist", reason="ID_NOT_FOUND", field=at)


def page_token(number: int, row: int) -> str:
    return base64.urlsafe_b64encode(f"{number}.{row}".encode()).decode()


def row_after(token: str, number: int) -> int:
    """The row that a page token of the collection names; 0 for the first page."""
    if not token:
        return 0
    try:
        if len(token) > 100:
            raise ValueError
        collection, row = base64.urlsafe_b64decode(token).decode().split(".")
        if int(collection) == number and 0 < int(row) < 2**63 and page_token(number, int(row)) == token:
            return int(row)
    except ValueError:
        pass
    raise InvalidArgument(
        "page_token is not one of this collection's; start again without it",
        reason="BAD_PAGE_TOKEN",
        field="page_token",
    )


def check_wrong(wrong: Mapping[int, CallerError], field: str = "vectors") -> None:
    if len(wrong) > MOST_WRONG:
        raise InvalidArgument(
            f"{len(wrong)} of the {field} are bad, the first because {wrong[min(wrong)].message}; with allow_partial "
            f"at most {MOST_WRONG} may be, and nothing was written",
            reason="TOO_MANY_BAD_ITEMS",
            field=field,
        )


def refuse_all(wrong: Mapping[int, CallerError]) -> None:
    """One error for all of them, of the kind of the first. Raises it when there are any."""
    if wrong:
        first = wrong[min(wrong)]
        violations = [violation for _, error in sorted(wrong.items()) for violation in error.violations]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise type(first)(f"{first.message}{more}; nothing was written", reason=first.reason, violations=violations)


def check_batch(field: str, count: int, most: int = LARGEST_BATCH) -> None:
    if count > most:
        raise InvalidArgument(
            f"{field} has {count} items; send at most {most} in a request",
            reason="TOO_MANY_ITEMS",
            field=field,
        )


def _wrong_id(name: str) -> str:
    size = len(name.encode())
    return "" if 1 <= size <= LONGEST_ID else f"must be of 1 to {LONGEST_ID} bytes, has {size}"


def _refusal(wrong: list[tuple[str, str]], reason: str, done: str) -> InvalidArgument:
    field, text = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return InvalidArgument(f"{field} {text}{more}; nothing was {done}", reason=reason, violations=wrong)
