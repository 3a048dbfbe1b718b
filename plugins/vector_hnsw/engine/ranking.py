"""Which of what was found comes first: parts of an order put together, and pages cut out of it."""

from __future__ import annotations

import operator
from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.vectors.items import Query

from .comparing import Doubles
from .graph import Neighbours
from .query import Hit
from .rows import Row


class Near(NamedTuple):
    """Labels in the order in which pages have them, with their scores. `is_exact`: all that matches was compared;
    `is_all`: nothing else matches."""

    neighbours: Neighbours
    scores: list[float]
    is_exact: bool
    is_all: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """Items that were compared, in any order; keys as in `comparing.py`."""

    rows: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    keys: Doubles


NOTHING = Compared(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


def best(these: Compared, those: Compared, k: int) -> Compared:
    """Of both, the `k` nearest and all that are as near as the last of them."""
    rows = np.concatenate([these.rows, those.rows])
    versions = np.concatenate([these.versions, those.versions])
    keys = np.concatenate([these.keys, those.keys])
    if len(keys) <= k:
        return Compared(rows, versions, keys)
    kept = keys <= np.partition(keys, k - 1)[k - 1]
    return Compared(rows[kept], versions[kept], keys[kept])


def only(neighbours: Neighbours, among: Container[int] | None, without: Container[int]) -> Neighbours:
    """Those with a label that is `among` these and not one of the others."""
    kept = [
        index
        for index, label in enumerate(neighbours.labels)
        if (among is None or label in among) and label not in without
    ]
    return Neighbours(
        [neighbours.labels[index] for index in kept],
        [neighbours.distances[index] for index in kept],
        [neighbours.versions[index] for index in kept],
    )


def joined(before: Neighbours, after: Neighbours) -> Neighbours:
    return Neighbours(
        before.labels + after.labels, before.distances + after.distances, before.versions + after.versions
    )


def cut(hits: list[Hit], query: Query) -> list[Hit]:
    """The page of them that is asked for."""
    return hits[query.offset : query.offset + query.limit]


def nearest_first(hit: Hit) -> tuple[float, str]:
    return hit.distance, hit.item.id


def by_id(row: Row) -> str:
    return row.id


def best_first(page: list[Hit]) -> list[Hit]:
    """By score, and where that is equal by id. It orders less finely than distances, so it must not choose the page."""
    scores = [hit.score for hit in page]
    if any(map(operator.le, scores, scores[1:])):
        page.sort(key=lambda hit: (-hit.score, hit.item.id))
    return page
