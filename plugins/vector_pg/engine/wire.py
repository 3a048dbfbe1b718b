"""Vectors, arrays and rows as PostgreSQL sends and takes them in binary.

A vector is its dimension and a zero, 16 bits each, and its numbers as big-endian floats. psycopg sends lists too, but a
long one takes it ten times as long, in the event loop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from shared.vectors.items import Floats

COPY_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"


class Packed(bytes):
    """A vector as it is sent."""


class Array(bytes):
    """An array as it is sent; of which type the statement says."""


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> Floats:
        return np.frombuffer(data, ">f4", offset=4).astype(np.float32)


def register(connection: psycopg.AsyncConnection[Any], info: TypeInfo) -> None:
    info.register(connection)
    connection.adapters.register_dumper(Packed, type("", (_AsItIs,), {"oid": info.oid}))
    connection.adapters.register_dumper(Array, _AsItIs)
    connection.adapters.register_loader(info.oid, _VectorLoader)


def packed(vectors: Floats) -> list[Packed]:
    """Of each row."""
    head = struct.pack(">HH", vectors.shape[1], 0)
    return [Packed(head + row.tobytes()) for row in vectors.astype(">f4")]


def texts(values: Iterable[str]) -> Array:
    """As text[]."""
    return array(25, [value.encode() for value in values])


def jsons(values: Iterable[str]) -> Array:
    """Of JSON texts, as jsonb[]."""
    return array(3802, [b"\1" + value.encode() for value in values])  # 1: the version of jsonb's form


def array(type: int, values: Sequence[bytes]) -> Array:
    """`type` is that of its elements, by PostgreSQL's number."""
    sizes = struct.Struct(">i").pack
    head = struct.pack(">5i", 1, 0, type, len(values), 1) if values else struct.pack(">3i", 0, 0, type)
    return Array(head + b"".join([part for value in values for part in (sizes(len(value)), value)]))


def copied(rows: Sequence[tuple[bytes, Packed, bytes, bytes | None, int]]) -> bytes:
    """Rows of an items table for COPY: id, vector, metadata, original, size."""
    parts: list[bytes] = []
    for name, vector, metadata, original, size in rows:
        parts += (
            struct.pack(">hi", 5, len(name)),
            name,
            struct.pack(">i", len(vector)),
            vector,
            struct.pack(">ib", len(metadata) + 1, 1),  # 1: the version of jsonb's form
            metadata,
            struct.pack(">i", -1) if original is None else struct.pack(">i", len(original)) + original,
            struct.pack(">ii", 4, size),
        )
    return b"".join(parts)
