"""The vector store without its transport. Read `engine`, `collection`, then `store` (truth) and `graph` (what finds).

engine.py      all collections of one folder: what may be asked, who waits for whom
collection.py  one of them: the order of a write, and how a search is planned
store.py       SQLite: ids, metadata, original vectors
database.py    one SQLite file: opened safely, its failures told apart
graph.py       one hnswlib index, without the ways in which hnswlib dies
flat.py        few vectors in its place, compared one by one
comparing.py   a query with many vectors, exact to the last digit
cache.py       a graph on disk: written aside, checksummed, loaded only when it is what was written
opening.py     a graph loaded and caught up, or built from the store
rebuilding.py  a new graph aside, while the old one is searched
labels.py      equal vectors share a label, because hnswlib loses what is beside many equal ones
filters.py     filters on metadata, as SQL
fields.py      indexes of fields in metadata, for filters
changes.py     metadata that changes while the vector stays
aliases.py     other names of collections
matches.py     which items a filter fits, remembered and kept up with what is written
metric.py      how vectors are checked, prepared and scored
checks.py      what may be asked: names, ids, items, numbers
health.py      recall on a sample
rows.py        the items behind labels that were found lately, in memory
snapshots.py   copies of a collection by name, and back
backup.py      copies of everything in a folder, and back
wal.py         whether the log beside the database is its own
verify.py      reads all that is stored and says what is damaged
files.py       files and folders that only their owner may read
lock.py        many readers or one writer, in turn
"""

from .changes import Change, MetadataMode
from .engine import Engine
from .managing import Description
from .metric import Metric
from .query import Hit, Query, SearchResult
from .snapshots import Snapshot
from .store import Collection, Item
from .writing import Mode, Written

__all__ = [
    "Change",
    "Collection",
    "Description",
    "Engine",
    "Hit",
    "Item",
    "MetadataMode",
    "Metric",
    "Mode",
    "Query",
    "SearchResult",
    "Snapshot",
    "Written",
]
