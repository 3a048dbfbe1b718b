"""What is written to one collection, within a transaction of the caller's.

Ids are always locked in their order, so that writers that meet do so in the same order and none waits for another in a
circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from shared.errors import CallerError
from shared.off_loop import in_thread
from shared.vectors.changes import Change, Dump, MetadataMode, changed, check_change
from shared.vectors.checks import check_wrong, no_such_id, wrong_for_mode
from shared.vectors.items import Floats, Item, Mode, Written

from . import checks, wire
from .collections import committed
from .database import Connection
from .filters import Where
from .values import Collection

Row = tuple[bytes, wire.Packed, bytes, bytes | None, int]

_SLICE = 1000
_TEXTS = 200  # items whose metadata is held at once while it is changed; each has 1 MiB at most
_BULK = 200  # new rows from which on COPY is worth its round trips


class Prepared(NamedTuple):
    """Items, and the rows of those that may be written. `wrong` was known of them before, `bad` is all that may not be
    written, both by index."""

    collection: Collection
    items: Sequence[Item]
    wrong: Mapping[int, CallerError]
    bad: dict[int, CallerError]
    rows: list[Row]


def prepared(collection: Collection, items: Sequence[Item], wrong: Mapping[int, CallerError]) -> Prepared:
    bad = {**checks.bad_items(collection, items), **wrong}
    rows = rows_of(collection, [item for index, item in enumerate(items) if index not in bad])
    return Prepared(collection, items, wrong, bad, rows)


async def write(
    connection: Connection, collection: Collection, prepared: Prepared, mode: Mode, partial: bool, copy: bool
) -> tuple[Written, Collection]:
    """What was written, and the collection as it is then."""
    items, bad, rows = prepared.items, prepared.bad, prepared.rows
    refused = await mode_errors(connection, collection, items, mode, bad)
    check_wrong({**bad, **refused}, partial, "vectors")
    gone = {items[index].id.encode() for index in refused}
    kept = [row for row in rows if row[0] not in gone] if gone else rows
    new = await put(connection, collection, kept, mode, copy)
    sequence = await committed(connection, collection, new)
    return Written(len(kept), sequence, {**bad, **refused}), replace(collection, count=collection.count + new)


def rows_of(collection: Collection, items: Sequence[Item]) -> list[Row]:
    """As the table has them, by id; of an id that comes twice the last."""
    last = {item.id: item for item in items}
    rows: list[Row] = []
    ordered = sorted(last.values(), key=lambda item: item.id)
    for start in range(0, len(ordered), _SLICE):
        some = ordered[start : start + _SLICE]
        vectors: list[Floats] = [item.vector for item in some if item.vector is not None]
        matrix = np.stack(vectors)
        comparable, changed = checks.comparable(collection, matrix)
        for item, vector, sent, other in zip(some, wire.packed(comparable), vectors, changed, strict=True):
            metadata = item.metadata.encode()
            rows.append((item.id.encode(), vector, metadata, sent.tobytes() if other else None, len(metadata)))
    return rows


async def mode_errors(
    connection: Connection, collection: Collection, items: Sequence[Item], mode: Mode, wrong: Mapping[int, CallerError]
) -> dict[int, CallerError]:
    """Which items, beside those that are `wrong`, the mode does not allow."""
    if mode is Mode.UPSERT:
        return {}
    ids = [item.id for index, item in enumerate(items) if index not in wrong]
    known = set(await _locked(connection, collection, ids))
    return wrong_for_mode(items, known, mode, wrong)


async def put(connection: Connection, collection: Collection, rows: Sequence[Row], mode: Mode, copy: bool) -> int:
    """How many are new. With `copy` new rows go by COPY, which raises UniqueViolation where another writes the same
    ids at this moment; so does INSERT_ONLY."""
    table = collection.table
    ids = [row[0].decode() for row in rows]
    if copy and len(rows) >= _BULK:
        sql = f"SELECT FROM {table} WHERE id = ANY(%s) LIMIT 1"
        cursor = await connection.execute(sql.encode(), (wire.texts(ids),))
        if await cursor.fetchone() is None:
            command = f"COPY {table} (id, vector, metadata, original, size) FROM STDIN (FORMAT BINARY)"
            async with connection.cursor().copy(command.encode()) as copying:
                await copying.write(wire.COPY_START)
                for start in range(0, len(rows), _SLICE):
                    await copying.write(await in_thread(wire.copied, rows[start : start + _SLICE]))
                await copying.write(wire.COPY_END)
            return len(rows)
    conflict = (
        ""
        if mode is Mode.INSERT_ONLY
        else "ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, metadata = excluded.metadata, "
        "original = excluded.original, size = excluded.size"
    )
    new = 0
    for start in range(0, len(rows), _SLICE):
        some = rows[start : start + _SLICE]
        cursor = await connection.execute(
            f"""
            WITH written AS (
                INSERT INTO {table} (id, vector, metadata, original, size)
                SELECT a, b, c::jsonb, d, e FROM unnest(%b::text[], %b::vector[], %b::text[], %b::bytea[], %b::int4[])
                    AS u(a, b, c, d, e)
                {conflict} RETURNING xmax
            ) SELECT count(*) FILTER (WHERE xmax = 0) FROM written
            """.encode(),  # a row that was there before has been locked by this transaction
            (
                ids[start : start + _SLICE],
                [row[1] for row in some],
                [row[2].decode() for row in some],
                [row[3] for row in some],
                [row[4] for row in some],
            ),
        )
        row = await cursor.fetchone()
        new += row[0] if row else 0
    return new


async def delete(
    connection: Connection, collection: Collection, ids: Sequence[str], fits: Where, dry_run: bool
) -> tuple[int, int | None]:
    """How many, and the number of the write."""
    named = "id = ANY(%s::text[]) AND" if ids else ""
    values = [*([wire.texts(ids)] if ids else []), *fits.values]
    if dry_run:
        counting = f"SELECT count(*) FROM {collection.table} WHERE {named} {fits.sql}"
        row = await (await connection.execute(counting.encode(), values, prepare=False)).fetchone()
        return (row[0] if row else 0), None
    cursor = await connection.execute(
        f"DELETE FROM {collection.table} WHERE {named} {fits.sql}".encode(), values, prepare=False
    )
    return cursor.rowcount, await committed(connection, collection, -cursor.rowcount)


async def change_matching(
    connection: Connection, collection: Collection, fits: Where, change: Change, dump: Dump, mode: MetadataMode
) -> Written:
    check_change(change, mode, "updates[0]")
    sql = f"SELECT id FROM {collection.table} WHERE {fits.sql} AND id > %s ORDER BY id LIMIT {_TEXTS}"
    count, last = 0, ""
    while True:
        cursor = await connection.execute(sql.encode(), (*fits.values, last), prepare=False)
        ids = [row[0] for row in await cursor.fetchall()]
        if not ids:
            break
        last = ids[-1]
        # Locked, an item may fit no more.
        some = await _locked(connection, collection, ids, "metadata::text", fits)
        made = await in_thread(_changed_alike, some, change, mode, collection.dimension, dump)
        await _set_metadata(connection, collection, made)
        count += len(made)
    return Written(count, await committed(connection, collection), {})


async def change(
    connection: Connection,
    collection: Collection,
    changes: Sequence[Change],
    dump: Dump,
    mode: MetadataMode,
    partial: bool,
    wrong: Mapping[int, CallerError],
) -> Written:
    wrong = dict(wrong)
    wanted: dict[str, list[int]] = {}  # by id, which changes are for it
    for index, one in enumerate(changes):
        if index not in wrong:
            wanted.setdefault(one.id, []).append(index)
    ids, count = sorted(wanted), 0
    for start in range(0, len(ids), _TEXTS):
        some = ids[start : start + _TEXTS]
        there = await _locked(connection, collection, some, "metadata::text")
        of_these = {index: changes[index] for name in some for index in wanted[name]}
        made, refused = await in_thread(_changed_each, there, of_these, mode, collection.dimension, dump)
        wrong |= refused
        if partial or not wrong:
            await _set_metadata(connection, collection, made)
        count += len(made)
    check_wrong(wrong, partial, "updates")
    return Written(count, await committed(connection, collection), wrong)


def _changed_alike(
    there: Mapping[str, str], change: Change, mode: MetadataMode, dimension: int, dump: Dump
) -> dict[str, str]:
    """The metadata of each after the change."""
    return {
        name: _changed(text, replace(change, id=name), mode, dimension, dump, "updates[0]")
        for name, text in there.items()
    }


def _changed_each(
    there: Mapping[str, str], changes: Mapping[int, Change], mode: MetadataMode, dimension: int, dump: Dump
) -> tuple[dict[str, str], dict[int, CallerError]]:
    """The metadata, by id, after the changes; and what is wrong with which of them."""
    made: dict[str, str] = {}
    wrong: dict[int, CallerError] = {}
    for index, change in changes.items():
        at = f"updates[{index}]"
        try:
            check_change(change, mode, at)
            if change.id not in there:
                raise no_such_id(f"{at}.id", change.id)
            text = made.get(change.id, there[change.id])
            made[change.id] = _changed(text, change, mode, dimension, dump, at)
        except CallerError as error:
            wrong[index] = error.let_go()
    return made, wrong


def _changed(metadata: str, change: Change, mode: MetadataMode, dimension: int, dump: Dump, at: str) -> str:
    text = changed(metadata, change, mode, dimension, dump, at)
    if checks.has_nul(text):
        raise checks.nul_in(f"{at}.metadata")
    return text


async def _locked(
    connection: Connection, collection: Collection, ids: Sequence[str], column: str = "id", fits: Where | None = None
) -> dict[str, str]:
    """A column of those of the ids that exist, which nobody else changes until the transaction ends."""
    fits = fits or Where()
    cursor = await connection.execute(
        f"SELECT id, {column} FROM {collection.table} WHERE id = ANY(%s) AND {fits.sql} ORDER BY id "
        "FOR NO KEY UPDATE".encode(),
        (wire.texts(name for name in ids if "\0" not in name), *fits.values),
        prepare=False,
    )
    return dict(await cursor.fetchall())


async def _set_metadata(connection: Connection, collection: Collection, made: Mapping[str, str]) -> None:
    """Of those of one slice."""
    await connection.execute(
        f"UPDATE {collection.table} i SET metadata = u.b::jsonb, size = octet_length(u.b) "
        "FROM unnest(%s::text[], %s::text[]) AS u(a, b) WHERE i.id = u.a".encode(),
        (wire.texts(made), wire.texts(made.values())),
    )
