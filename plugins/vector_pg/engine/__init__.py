"""A vector store on PostgreSQL with pgvector. It knows no transport.

`engine.py` is the whole of it in calls; what they do stands in `collections.py`, `writing.py`, `searching.py` and
`indexing.py`, what they speak in `filters.py` and `wire.py`, and who answers in `database.py` and `schema.py`.
Items, queries, filters, and what may be asked of any store stand in `shared/vectors`.
"""

from shared.vectors.changes import Change, MetadataMode
from shared.vectors.filters import Filter
from shared.vectors.items import Item, Mode, Query, Written

from . import checks
from .database import time_left
from .engine import Engine
from .values import Description, Hit, Metric, SearchResult, Settings
from .writing import Prepared

__all__ = [
    "Change",
    "Description",
    "Engine",
    "Filter",
    "Hit",
    "Item",
    "MetadataMode",
    "Metric",
    "Mode",
    "Prepared",
    "Query",
    "SearchResult",
    "Settings",
    "Written",
    "checks",
    "time_left",
]
