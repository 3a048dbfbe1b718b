"""The tables, and how an older schema becomes today's: forward only, one process at a time.

`items_N` holds the collection of number N. It has no index but that of its ids until there are many (`indexing.py`).
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from shared.errors import StartError

from .values import Collection

# What was released is never changed; what changes comes behind it.
_MIGRATIONS = (
    """
    CREATE TABLE collections (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        dimension integer NOT NULL,
        metric text NOT NULL,
        m integer NOT NULL,
        ef_construction integer NOT NULL,
        ef_search integer NOT NULL,
        embedding_model text NOT NULL,
        count bigint NOT NULL DEFAULT 0,
        sequence bigint NOT NULL DEFAULT 0,  -- of the last write to it
        indexed boolean NOT NULL DEFAULT FALSE
    );
    CREATE TABLE aliases (
        alias text COLLATE "C" PRIMARY KEY,
        collection bigint NOT NULL REFERENCES collections
    );
    CREATE TABLE writes (sequence bigint NOT NULL);
    INSERT INTO writes VALUES (0);
    """,
)


def items(collection: Collection) -> str:
    """`original` is set where `vector` is not what was sent, bit for bit; `size` are the bytes of metadata as text."""
    return f"""
    CREATE TABLE {collection.table} (
        id text COLLATE "C" PRIMARY KEY,
        vector vector({collection.dimension}) NOT NULL,
        metadata jsonb NOT NULL,
        original bytea,
        size integer NOT NULL
    )
    """


async def migrate(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Makes the schema, or brings it up to date. Raises StartError, also where a newer version made it."""
    version = connection.info.server_version
    if version < 140000:
        raise StartError(f"the database is PostgreSQL {version // 10000}; 14 or later is needed")
    async with connection.transaction():
        # Others that start meanwhile wait here.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"hector {schema}",))
        await _extension(connection)
        name = sql.Identifier(schema)
        there = await connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,))
        if await there.fetchone() is None:  # to make one that is there takes a right, too
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        versions = sql.SQL("{}.version").format(name)
        await connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (version integer NOT NULL)").format(versions))
        row = await (await connection.execute(sql.SQL("SELECT max(version) FROM {}").format(versions))).fetchone()
        have = (row[0] if row else None) or 0
        if have > len(_MIGRATIONS):
            raise StartError(
                f"schema {schema} was made by a newer version of this plugin ({have}, this one knows "
                f"{len(_MIGRATIONS)}); start that version, or set another `schema`"
            )
        await connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(name))
        for number, migration in enumerate(_MIGRATIONS[have:], have + 1):
            await connection.execute(migration.encode())
            await connection.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(versions), (number,))


async def _extension(connection: psycopg.AsyncConnection[Any]) -> None:
    extension = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    row = await (await connection.execute(extension)).fetchone()
    if row is None:
        try:
            async with connection.transaction():
                await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise StartError(
                "the database has no extension vector, and it cannot be made "
                f"({error.diag.message_primary or 'no reason given'}); install pgvector 0.8 or later, and have an "
                "administrator run CREATE EXTENSION vector"
            ) from None
        row = await (await connection.execute(extension)).fetchone()
    if row is None or tuple(map(int, row[0].split(".")[:2])) < (0, 8):
        raise StartError(
            f"the database's pgvector is {row and row[0]}, 0.8 or later is needed; install it, and run "
            "ALTER EXTENSION vector UPDATE"
        )
