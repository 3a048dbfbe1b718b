"""What may be asked of a collection: names, ids, items, numbers. What may not raises, naming field and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.errors import CallerError, InvalidArgument
from shared.vectors.checks import within, wrong_id
from shared.vectors.items import Floats, Item

from .values import LARGEST_INDEXED, Collection, Metric

LARGEST_DIMENSION = 16_000  # pgvector's
INDEX_RANGES = {"m": (2, 100), "ef_construction": (4, 1000), "ef_search": (1, 1000)}  # pgvector's
_LARGEST_HALF = 65_504.0
# Squares up to four times this fit into a float32, so no distance overflows.
_LARGEST_SQUARE = float(np.finfo(np.float32).max) / 4
# pgvector adds squares up in 32 bits: what COSINE compares is to be well inside of them.
_PLAIN_SQUARES = (1e-20, 1e20)


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


def checked_model_name(name: str) -> str:
    if len(name.encode()) > 512 or "\0" in name:
        raise InvalidArgument(
            "embedding_model must be of at most 512 bytes, without NUL", reason="OUT_OF_RANGE", field="embedding_model"
        )
    return name


def _wrong_id(name: str) -> str:
    nul = "has a NUL character, which PostgreSQL cannot hold; take another id" if "\0" in name else ""
    return wrong_id(name) or nul


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
    if collection.metric is Metric.COSINE and _PLAIN_SQUARES[0] < np.vdot(vector, vector) < _PLAIN_SQUARES[1]:
        return vector  # as nearly all are
    if text := _verdicts(collection, vector[None, :])[0]:
        raise InvalidArgument(f"the query vector {text}", reason="BAD_VECTOR", field="vector")
    prepared: Floats = comparable(collection, vector[None, :])[0][0]
    return prepared
