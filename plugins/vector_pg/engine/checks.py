"""What may be asked of a collection: names, ids, items, numbers. What may not raises, naming field and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from shared.errors import CallerError, FailedPrecondition, InvalidArgument, NotFound, quoted

from .values import LARGEST_INDEXED, Change, Collection, Floats, Item, MetadataMode, Metric

LARGEST_DIMENSION = 16_000  # pgvector's
INDEX_RANGES = {"m": (2, 100), "ef_construction": (4, 1000), "ef_search": (1, 1000)}  # pgvector's
# Items in one request; 64 MiB could hold millions of tiny ones.
LARGEST_BATCH = 100_000
LARGEST_SEARCH_BATCH = 1000
# With `partial`, more bad items than these are refused as a whole: the reply names each.
MOST_WRONG = 1000
LARGEST_METADATA = 2**20  # bytes, of an item
LONGEST_ID = 512
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_LARGEST_HALF = 65_504.0
# Squares up to four times this fit into a float32, so no distance overflows.
_LARGEST_SQUARE = float(np.finfo(np.float32).max) / 4
# pgvector adds squares up in 32 bits: what COSINE compares is to be well inside of them.
_PLAIN_SQUARES = (1e-20, 1e20)


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


def index_parameters(named: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Those that are named, not 0, in the place of `others`. Raises InvalidArgument."""
    named = {name: within(f"index.{name}", value, *INDEX_RANGES[name]) for name, value in named.items() if value}
    together = {**others, **named}
    if together["ef_construction"] < 2 * together["m"]:
        if "ef_construction" in named:
            raise InvalidArgument(
                f"index.ef_construction must be at least twice m, which is {together['m']}: pgvector builds no other",
                reason="OUT_OF_RANGE",
                field="index.ef_construction",
            )
        together["ef_construction"] = 2 * together["m"]
    return together


def check_model(collection: Collection, named: str) -> None:
    if named and collection.embedding_model and named != collection.embedding_model:
        raise FailedPrecondition(
            f"collection {collection.name} holds vectors of {collection.embedding_model}; "
            f"those of {quoted(named, 200)} cannot be compared with them",
            reason="OTHER_EMBEDDING_MODEL",
            metadata={"expected": collection.embedding_model, "got": named},
        )


def checked_model_name(name: str) -> str:
    if len(name.encode()) > 512 or "\0" in name:
        raise InvalidArgument(
            "embedding_model must be of at most 512 bytes, without NUL", reason="OUT_OF_RANGE", field="embedding_model"
        )
    return name


def _wrong_id(name: str) -> str:
    if not 1 <= len(name.encode()) <= LONGEST_ID:
        return f"must be of 1 to {LONGEST_ID} bytes, has {len(name.encode())}"
    return "has a NUL character, which PostgreSQL cannot hold; take another id" if "\0" in name else ""


def check_ids(ids: Sequence[str]) -> None:
    """Raises InvalidArgument that names every id at fault."""
    wrong = [(f"ids[{index}]", text) for index, name in enumerate(ids) if (text := _wrong_id(name))]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InvalidArgument(f"{wrong[0][0]} {wrong[0][1]}{more}; nothing was done", reason="BAD_ID", violations=wrong)


def bad_items(collection: Collection, items: Sequence[Item]) -> dict[int, CallerError]:
    """What is wrong with which of the items, by index."""
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
        elif has_nul(item.metadata):
            wrong[index] = nul_in(f"{at}.metadata")
        else:
            sound.append(index)
    vectors = [vector for index in sound if (vector := items[index].vector) is not None]
    for index, text in zip(sound, _verdicts(collection, np.stack(vectors)) if vectors else (), strict=True):
        if text:
            at = f"vectors[{index}].vector"
            wrong[index] = InvalidArgument(f"{at} {text}", reason="BAD_VECTOR", field=at)
    return wrong


def has_nul(metadata: str) -> bool:
    """Whether the JSON text spells the character; behind a backslash of its own it is six others."""
    return "\\u0000" in metadata and "\\u0000" in metadata.replace("\\\\", "")


def nul_in(at: str) -> InvalidArgument:
    return InvalidArgument(
        f"{at} has a NUL character, which PostgreSQL cannot hold; leave it out", reason="NUL_CHARACTER", field=at
    )


def _squares(vectors: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    squares: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.einsum(
        "ij,ij->i", vectors, vectors, dtype=np.float64
    )
    return squares


def _verdicts(collection: Collection, vectors: Floats) -> list[str]:
    """What is wrong with each row, "" for nothing."""
    squares = _squares(vectors)
    verdicts = np.full(len(vectors), "", dtype=object)
    if collection.metric is Metric.COSINE:
        verdicts[~(squares > 0)] = "has length zero, which has no direction: COSINE cannot compare it"
    else:
        if 2000 < collection.dimension <= LARGEST_INDEXED:
            beyond = np.abs(vectors).max(axis=1) > _LARGEST_HALF
            verdicts[beyond] = (
                f"has a number beyond {_LARGEST_HALF:g}, which an index of so many dimensions cannot hold"
            )
        verdicts[squares > _LARGEST_SQUARE] = "is too long: squares of its numbers do not fit into 32-bit floats"
    verdicts[~np.isfinite(squares)] = "holds NaN or infinity"
    return verdicts.tolist()


def comparable(collection: Collection, vectors: Floats) -> tuple[Floats, list[bool]]:
    """The rows as pgvector can compare them, and which are not as they were: under COSINE very long and very short
    ones come with length 1."""
    if collection.metric is not Metric.COSINE:
        return vectors, [False] * len(vectors)
    squares = _squares(vectors)
    extreme = (squares < _PLAIN_SQUARES[0]) | (squares > _PLAIN_SQUARES[1])
    if extreme.any():
        vectors = vectors.copy()
        lengths = np.sqrt(squares[extreme])[:, None]
        vectors[extreme] = (vectors[extreme].astype(np.float64) / lengths).astype(np.float32)
    return vectors, extreme.tolist()


def checked_query(collection: Collection, vector: Floats) -> Floats:
    """As `comparable`. Raises InvalidArgument."""
    if len(vector) != collection.dimension:
        raise InvalidArgument(
            f"vector has {len(vector)} numbers, the collection's dimension is {collection.dimension}; "
            "was it made by another embedding model?",
            reason="WRONG_DIMENSION",
            field="vector",
            metadata={"expected": str(collection.dimension), "got": str(len(vector))},
        )
    if text := _verdicts(collection, vector[None, :])[0]:
        raise InvalidArgument(f"the query vector {text}", reason="BAD_VECTOR", field="vector")
    prepared: Floats = comparable(collection, vector[None, :])[0][0]
    return prepared


def check_change(change: Change, mode: MetadataMode, at: str) -> None:
    """Raises InvalidArgument, naming the field, where the mode has no use for it."""
    if mode is MetadataMode.REPLACE and change.metadata is None:
        raise InvalidArgument(
            f"{at}.metadata is not set, and REPLACE would leave nothing; send an empty object to mean that",
            reason="NOTHING_NAMED",
            field=f"{at}.metadata",
        )
    if mode is MetadataMode.REPLACE and change.remove:
        raise InvalidArgument(
            f"{at}.remove_keys is for MERGE; under REPLACE every key goes that is not sent",
            reason="BAD_UPDATE",
            field=f"{at}.remove_keys",
        )
    if change.metadata is None and not change.remove:
        raise InvalidArgument(
            f"{at} changes nothing; set metadata or remove_keys", reason="NOTHING_NAMED", field=f"{at}.metadata"
        )
    for position, key in enumerate(change.remove):
        if key in (change.metadata or ()):
            raise InvalidArgument(
                f"{at}.remove_keys has a key that metadata has too; send it in one of them",
                reason="BAD_UPDATE",
                field=f"{at}.remove_keys[{position}]",
            )


def no_such_id(at: str, name: str) -> NotFound:
    return NotFound(f"{at} {quoted(name, LONGEST_ID)} does not exist", reason="ID_NOT_FOUND", field=at)


def check_wrong(wrong: Mapping[int, CallerError], partial: bool, field: str) -> None:
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
