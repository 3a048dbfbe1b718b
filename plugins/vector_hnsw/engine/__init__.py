"""The vector store without its transport, by rooms; each is read from the top.

What may be asked:
engine.py      all collections of one folder: opened, closed; its calls are in the next four
managing.py    collections and aliases: made, changed, described, deleted
writing.py     items written, changed, deleted
reading.py     items searched, listed, counted, fetched
restoring.py   snapshots made and put back
state.py       what all of these stand on: collections by name, and the bounds on them
space.py       room on the disk: writes on a full one, and what goes back to it
upkeep.py      graphs saved and built anew, fields indexed, a recall kept
checks.py      what may be asked: parameters, items, page tokens
changes.py     the changes of metadata in one request
aliases.py     other names of collections
targets.py     recalls that collections were asked to keep

What another process writes, and this one reads (`--reader`):
reader.py      the engine of such a process
keeping_up.py  its memory, brought up before anything is answered
counter.py     whether the store has moved
change_log.py  what each write touched
following.py   one collection, brought up to what was written
moment.py      a time at which memory and store are the same
read_only.py   the store, saved graphs and snapshots, left as they are

What is stored:
store.py       SQLite: ids, metadata, original vectors
database.py    one SQLite file: opened safely, its failures told apart
filters.py     filters on metadata, as SQL
fields.py      indexes of fields in metadata, for filters
snapshots.py   copies of a collection by name, and back
backup.py      copies of everything in a folder, and back
wal.py         whether the log beside the database is its own
verify.py      reads all that is stored and says what is damaged
files.py       files and folders that only their owner may read

What plans a search, and answers it:
query.py       what is asked, and what is found
planning.py    the way that a search will take, as a value
pace.py        which searches are long, as measured
searching.py   a search: planned, found by label or row, made into a page of items
ranking.py     which comes first
matches.py     which items a filter fits, remembered and kept up with what is written
rows.py        the items behind labels that were found lately, in memory

What finds:
collection.py  one collection in memory: the order of a write
graph.py       one hnswlib index, without the ways in which hnswlib dies
flat.py        few vectors in its place, compared one by one
comparing.py   a query with many vectors, exact to the last digit
metric.py      how vectors are checked, prepared and scored
labels.py      equal vectors share a label, because hnswlib loses what is beside many equal ones
opening.py     a graph loaded and caught up, or built from the store
cache.py       a graph on disk: written aside, checksummed, loaded only when it is what was written
saving.py      a graph written while the process goes on
rebuilding.py  a new graph aside, while the old one is searched
health.py      recall on a sample
tuning.py      the ef_search that keeps a recall, found anew as a collection grows
batch.py       searches that ask for the same, at once
together.py    searches that come at the same moment, as one batch
lock.py        many readers or one writer, in turn

What is stored, asked and written, filters, and what may be asked of any store stand in `shared/vectors`.
"""

from shared.vectors.changes import Change, MetadataMode
from shared.vectors.items import Item, Mode, Query, Written

from .engine import Engine
from .managing import Description
from .metric import Metric
from .query import Hit, SearchResult
from .reader import ReaderEngine
from .snapshots import Snapshot
from .store import Collection

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
    "ReaderEngine",
    "SearchResult",
    "Snapshot",
    "Written",
]
