"""Every setting of the vector store."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.units import Duration, Secret, Size

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8082, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    url: Secret = setting("", "Where the database is, as libpq has it; without it DATABASE_URL, then PGHOST and so on.")
    replica_url: Secret = setting("", "Where reads go; without it to `url`.")
    schema: str = setting("hector", "The database's schema that holds everything; made when missing.")
    pool_size: int = setting(16, "Most connections to the database, and as many to replicas.", at_least=2, at_most=1000)
    patience: Duration = setting("10s", "Longest a call waits for a database that went away.", at_least=0.1)
    max_limit: int = setting(1000, "Largest `limit` of a search.", at_least=1, at_most=100_000)
    max_collections: int = setting(1000, "Most collections, and most aliases.", at_least=1)
    index_from: int = setting(1000, "Vectors from which on a collection has an index.", at_least=1)
    index_memory: Size = setting("256MiB", "Memory of the database that building an index may take.", at_least=2**20)
    m: int = setting(16, "Links per vector in a new collection's graph.", at_least=2, at_most=100)
    ef_construction: int = setting(
        64, "Candidates kept while building a new collection's graph.", at_least=4, at_most=1000
    )
    ef_search: int = setting(100, "Candidates kept while searching a new collection.", at_least=1, at_most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _SCHEMA.fullmatch(self.schema) or self.schema.startswith("pg_"):
            raise StartError("setting schema: must be of a-z 0-9 _, up to 63, not starting with a digit or pg_")
        if self.ef_construction < 2 * self.m:
            raise StartError("setting ef_construction: must be at least twice m, pgvector builds no other graph")
