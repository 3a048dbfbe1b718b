"""The vector store without its transport. Read `engine`, then `store` (the truth), then `graph` (what finds).

engine.py   collections: create, delete, upsert, search; who waits for whom
checks.py   what may be asked: names, ids, items, numbers
store.py    SQLite: ids, metadata, original vectors, and which of them the graph has not got yet
graph.py    one hnswlib index: add, delete, search, without the ways in which hnswlib dies
twins.py    equal vectors are one node of the graph
cache.py    a graph on disk: written aside, checksummed, loaded only when it is what was written
metric.py   how vectors are checked, prepared and scored
lock.py     many readers or one writer, in turn
"""

from plugins.vector_hnsw.engine.checks import Item
from plugins.vector_hnsw.engine.engine import Engine, Query, SearchResult
from plugins.vector_hnsw.engine.metric import Metric
from plugins.vector_hnsw.engine.store import Collection, Hit

__all__ = ["Collection", "Engine", "Hit", "Item", "Metric", "Query", "SearchResult"]
