"""What is stored in a collection, asked of it and written to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CallerError
from .filters import Filter

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Item:
    """An item: `vector` of shape (dimension,), or None where it was not asked for; `metadata` as JSON text, "" where it
    was not."""

    id: str
    vector: Floats | None
    metadata: str = "{}"


class Mode(Enum):
    """What an upsert does with ids that exist, and with those that do not."""

    UPSERT = auto()
    INSERT_ONLY = auto()
    UPDATE_ONLY = auto()


@dataclass(frozen=True)
class Written:
    """`count` different ids were written; `sequence` counts the store's writes; `wrong` says, by index, which items
    were not written and why."""

    count: int
    sequence: int
    wrong: Mapping[int, CallerError] = field(default_factory=dict)


class Query(NamedTuple):
    """A search: `vector` of shape (dimension,).

    `min_score` keeps hits with at least that score; `ef` is how many candidates the index keeps (0: the
    collection's); `exact` compares every vector instead; `with_vectors` brings the original vectors along. Hits may
    come without metadata where `with_metadata` is not set.
    """

    vector: Floats
    limit: int = 10
    offset: int = 0
    min_score: float | None = None
    filter: Filter | None = None
    ef: int = 0
    exact: bool = False
    with_vectors: bool = False
    with_metadata: bool = True
    embedding_model: str = ""
