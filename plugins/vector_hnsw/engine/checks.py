"""What may be asked of a collection here, beside what `shared/vectors/checks.py` asks of any: parameters, ids, items,
page tokens. What may not raises, naming field and remedy."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.errors import CallerError, InvalidArgument
from shared.vectors.checks import check_batch, within, wrong_id
from shared.vectors.items import Item

from .store import Collection

LARGEST_EF = 4096
INDEX_RANGES = {"m": (2, 128), "ef_construction": (4, 4096), "ef_search": (1, LARGEST_EF)}
INDEX_DEFAULTS = {"m": 16, "ef_construction": 200, "ef_search": 100}


def index_parameters(**named: int) -> dict[str, Any]:
    """Those that are named, not 0. Raises InvalidArgument."""
    return {name: within(f"index.{name}", value, *INDEX_RANGES[name]) for name, value in named.items() if value}


def checked_target(recall: float) -> float:
    """Raises InvalidArgument. More than 0.999 a sample cannot tell from all."""
    if recall != 0 and not 0.5 <= recall <= 0.999:  # NaN, too
        raise InvalidArgument(
            f"index.target_recall must be from 0.5 to 0.999, or 0 to keep none; got {recall:g}. "
            "Where nothing may be missed, search with exact",
            reason="OUT_OF_RANGE",
            field="index.target_recall",
        )
    return recall


def taken(name: str, there: Collection) -> str:
    if name != there.name:
        return f"{name} is an alias of collection {there.name}; delete the alias first, or take another name"
    return f"collection {name} exists; delete it first, or set if_not_exists"


def difference(there: Collection, wanted: Collection) -> str:
    """How the collection differs from one that was to be made; "" where it does not."""
    parameters = ("dimension", "metric", "m", "ef_construction", "ef_search", "target_recall", "embedding_model")
    for name in parameters:
        have, want = getattr(there, name), getattr(wanted, name)
        if have != want:
            return (
                f"collection {there.name} exists with {name} {have}, not {want}; delete it first, or take another name"
            )
    return ""


def checked_model_name(name: str) -> str:
    if len(name.encode()) > 512:
        raise InvalidArgument(
            "embedding_model must be of at most 512 bytes", reason="OUT_OF_RANGE", field="embedding_model"
        )
    return name


def check_ids(ids: Sequence[str], done: str = "deleted") -> None:
    """Raises InvalidArgument that names every id at fault."""
    check_batch("ids", len(ids))
    wrong = [(f"ids[{index}]", text) for index, name in enumerate(ids) if (text := wrong_id(name))]
    if wrong:
        field, text = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InvalidArgument(f"{field} {text}{more}; nothing was {done}", reason="BAD_ID", violations=wrong)


def bad_items(collection: Collection, items: Sequence[Item]) -> dict[int, CallerError]:
    """What is wrong with which of the items, by index. Raises InvalidArgument where they are too many."""
    check_batch("vectors", len(items))
    wrong: dict[int, CallerError] = {}
    sound: list[int] = []
    for index, item in enumerate(items):
        at = f"vectors[{index}]"
        size = 0 if item.vector is None else len(item.vector)
        if text := wrong_id(item.id):
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
