"""Which recall collections are asked to keep, in a table of the store, and how many vectors each had when its
`ef_search` was last found."""

from __future__ import annotations

import sqlite3

from .database import Database

# Made with the first that is asked for, so that a store without any is as it was.
_TABLE = """
CREATE TABLE IF NOT EXISTS targets (number INTEGER PRIMARY KEY, recall REAL NOT NULL, count INTEGER NOT NULL) STRICT
"""
_IS_THERE = "SELECT 1 FROM sqlite_schema WHERE name = 'targets'"


def read(database: Database) -> dict[int, float]:
    """The recall, by the collection's number."""
    return dict(database.rows("SELECT number, recall FROM targets")) if database.rows(_IS_THERE) else {}


def read_count(database: Database, number: int) -> int:
    """0 where it was not found yet."""
    rows = database.rows("SELECT count FROM targets WHERE number = ?", number) if database.rows(_IS_THERE) else []
    return int(rows[0][0]) if rows else 0


def put(connection: sqlite3.Connection, number: int, recall: float, count: int = 0) -> None:
    """`recall`: 0 for none."""
    if recall:
        connection.execute(_TABLE)
        connection.execute("INSERT OR REPLACE INTO targets VALUES (?, ?, ?)", (number, recall, count))
    elif connection.execute(_IS_THERE).fetchone():
        connection.execute("DELETE FROM targets WHERE number = ?", (number,))
