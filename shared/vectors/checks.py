"""What may be asked of any vector store: names, ids, how much at once. What may not raises, naming field and remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..errors import AlreadyExists, CallerError, FailedPrecondition, InvalidArgument, NotFound, quoted
from .items import Item, Mode

LARGEST_DIMENSION = 16_384  # the contract's; a store may take less
# Items in one request; 64 MiB could hold millions of tiny ones.
LARGEST_BATCH = 100_000
LARGEST_SEARCH_BATCH = 1000
# With `partial`, more bad items than these are refused as a whole: the reply names each.
MOST_WRONG = 1000
LARGEST_METADATA = 2**20  # bytes, of an item
LONGEST_ID = 512
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class HasModel(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def embedding_model(self) -> str: ...


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


def check_model(collection: HasModel, named: str) -> None:
    if named and collection.embedding_model and named != collection.embedding_model:
        raise FailedPrecondition(
            f"collection {collection.name} holds vectors of {collection.embedding_model}; "
            f"those of {quoted(named, 200)} cannot be compared with them",
            reason="OTHER_EMBEDDING_MODEL",
            metadata={"expected": collection.embedding_model, "got": named},
        )


def wrong_id(name: str) -> str:
    """What is wrong with an item's id, "" for nothing."""
    size = len(name.encode())
    return "" if 1 <= size <= LONGEST_ID else f"must be of 1 to {LONGEST_ID} bytes, has {size}"


def no_such_id(at: str, name: str) -> NotFound:
    return NotFound(f"{at} {quoted(name, LONGEST_ID)} does not exist", reason="ID_NOT_FOUND", field=at)


def wrong_for_mode(
    items: Sequence[Item], known: Collection[str], mode: Mode, wrong: Collection[int]
) -> dict[int, CallerError]:
    """Which items, beside those that are `wrong`, the mode does not allow; `known` are the ids that exist."""
    refused: dict[int, CallerError] = {}
    for index, item in enumerate(items):
        at = f"vectors[{index}].id"
        if index in wrong or mode is Mode.UPSERT:
            continue
        if mode is Mode.INSERT_ONLY and item.id in known:
            refused[index] = AlreadyExists(f"{at} {quoted(item.id)} exists", reason="ID_EXISTS", field=at)
        if mode is Mode.UPDATE_ONLY and item.id not in known:
            refused[index] = no_such_id(at, item.id)
    return refused


def check_wrong(wrong: Mapping[int, CallerError], partial: bool, field: str = "vectors") -> None:
    """Raises one error for all of them, of the kind of the first; with `partial` only where they are too many."""
    if not wrong or (partial and len(wrong) <= MOST_WRONG):
        return
    first = wrong[min(wrong)]
    if partial:
        raise InvalidArgument(
            f"{len(wrong)} of the {field} are bad, the first because {first.message}; with allow_partial "
            f"at most {MOST_WRONG} may be, and nothing was written",
            reason="TOO_MANY_BAD_ITEMS",
            field=field,
        )
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
