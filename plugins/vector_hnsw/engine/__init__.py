"""The vector store without its transport. Read `engine`, then `store` (the truth), then `graph` (what finds).

engine.py   collections: create, delete, upsert, search; who waits for whom
store.py    SQLite: ids, metadata, original vectors, and which of them the graph has not got yet
graph.py    one hnswlib index: add, delete, search, without the ways in which hnswlib dies
cache.py    a graph on disk: written aside, checksummed, loaded only when it is what was written
metric.py   how vectors are checked, prepared and scored
lock.py     many readers or one writer, in turn
"""

from plugins.vector_hnsw.engine.engine import Engine, Item, Query, SearchResult
from plugins.vector_hnsw.engine.metric import Metric
from plugins.vector_hnsw.engine.store import Collection, Hit

__all__ = ["Collection", "Engine", "Hit", "Item", "Metric", "Query", "SearchResult"]
