"""Collections and their aliases: made, changed, described, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, LimitReached, NotFound, quoted
from shared.vectors.checks import checked_name, within

from . import checks, schema
from .database import Connection
from .values import Collection, Description, Metric, Settings

_COLUMNS = "number, name, dimension, metric, m, ef_construction, ef_search, embedding_model, count, sequence, indexed"
_NAMED = """coalesce(
    (SELECT number FROM collections WHERE name = %(name)s), (SELECT collection FROM aliases WHERE alias = %(name)s))"""
# Of the whole store: taken before names and aliases change, so that none of them comes to be twice.
_NAMES = "LOCK TABLE aliases IN SHARE ROW EXCLUSIVE MODE"


def _collection(row: Sequence[Any]) -> Collection:
    number, name, dimension, metric, *others = row
    return Collection(number, name, dimension, Metric(metric), *others)


async def read(connection: Connection, name: str, lock: str = "") -> Collection:
    """The collection of this name or alias; `lock` as SQL has it. Raises NotFound."""
    row = None
    if "\0" not in name and len(name) <= 128:  # else it is nobody's, and PostgreSQL does not take it
        sql = f"SELECT {_COLUMNS} FROM collections WHERE number = {_NAMED} {lock}"
        row = await (await connection.execute(sql.encode(), {"name": name})).fetchone()
    if row is None:
        raise NotFound(
            f"there is no collection {quoted(name)}; make it with CreateCollection", reason="COLLECTION_NOT_FOUND"
        )
    return _collection(row)


async def read_all(connection: Connection) -> list[Collection]:
    cursor = await connection.execute(f"SELECT {_COLUMNS} FROM collections ORDER BY name".encode())
    return [_collection(row) for row in await cursor.fetchall()]


async def committed(connection: Connection, collection: Collection | None = None, more: int = 0) -> int:
    """The last thing in a transaction that writes: its number among all. Others wait here until it is committed, so
    that the numbers rise as the commits do. `more` vectors are in the collection."""
    sql = "UPDATE writes SET sequence = sequence + 1 RETURNING sequence"
    if collection is not None:  # in one statement, for which others wait less long
        sql = (
            f"WITH w AS ({sql}) UPDATE collections SET count = count + %s, sequence = w.sequence FROM w "
            "WHERE number = %s RETURNING w.sequence"
        )
    values = None if collection is None else (more, collection.number)
    row = await (await connection.execute(sql.encode(), values)).fetchone()
    assert row is not None
    return int(row[0])


async def create(connection: Connection, wanted: Collection, named: set[str], if_not_exists: bool, most: int) -> bool:
    """Raises AlreadyExists, LimitReached. `named` are the index parameters that the caller named."""
    await connection.execute(_NAMES)
    try:
        there = await read(connection, wanted.name)
    except NotFound:
        pass
    else:
        if not if_not_exists:
            alias = (
                f"{wanted.name} is an alias of collection {there.name}; delete the alias first, or take another name"
            )
            plain = f"collection {there.name} exists; delete it first, or set if_not_exists"
            raise AlreadyExists(plain if there.name == wanted.name else alias, reason="COLLECTION_EXISTS")
        for field in ("dimension", "metric", "embedding_model", *sorted(named)):
            have, want = getattr(there, field), getattr(wanted, field)
            if have != want:
                raise AlreadyExists(
                    f"collection {there.name} exists with {field} {have}, not {want}; delete it first, or take another "
                    "name",
                    reason="COLLECTION_EXISTS",
                )
        return False
    count = await (await connection.execute("SELECT count(*) FROM collections")).fetchone()
    if count and count[0] >= most:
        raise LimitReached(
            f"there are {count[0]} collections, as many as max_collections allows; delete one, or raise the setting",
            reason="TOO_MANY_COLLECTIONS",
        )
    cursor = await connection.execute(
        "INSERT INTO collections (name, dimension, metric, m, ef_construction, ef_search, embedding_model) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING number",
        (wanted.name, wanted.dimension, wanted.metric.value, wanted.m, wanted.ef_construction, wanted.ef_search,
         wanted.embedding_model),
    )  # fmt: skip
    row = await cursor.fetchone()
    assert row is not None
    made = replace(wanted, number=row[0])
    await connection.execute(schema.items(made).encode())
    await committed(connection, made)
    return True


async def delete(connection: Connection, name: str) -> int:
    """How many vectors went with it. Raises NotFound, FailedPrecondition."""
    await connection.execute(_NAMES)
    collection = await read(connection, name, "FOR UPDATE")
    aliases = [alias for alias, _ in await list_aliases(connection, collection.name)]
    if aliases:
        raise FailedPrecondition(
            f"collection {collection.name} has the alias {aliases[0]}"
            f"{f' and {len(aliases) - 1} more' if len(aliases) > 1 else ''}; move or delete it first",
            reason="COLLECTION_HAS_ALIASES",
            metadata={"aliases": ",".join(aliases)[:200]},
        )
    # Whoever builds its index holds the table until that is over.
    await connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE relid = to_regclass(%s)",
        (collection.table,),
    )
    await connection.execute(f"DROP TABLE {collection.table}".encode())
    await connection.execute("DELETE FROM collections WHERE number = %s", (collection.number,))
    await committed(connection)
    return collection.count


async def update(connection: Connection, name: str, named: dict[str, int]) -> Collection:
    if not any(named.values()):
        raise InvalidArgument(
            "index has nothing to change; set m, ef_construction or ef_search", reason="NOTHING_NAMED", field="index"
        )
    there = await read(connection, name, "FOR NO KEY UPDATE")
    have = {"m": there.m, "ef_construction": there.ef_construction, "ef_search": there.ef_search}
    new = checks.index_parameters(named, have)
    changed = replace(there, m=new["m"], ef_construction=new["ef_construction"], ef_search=new["ef_search"])
    await connection.execute(
        "UPDATE collections SET m = %s, ef_construction = %s, ef_search = %s WHERE number = %s",
        (changed.m, changed.ef_construction, changed.ef_search, changed.number),
    )
    await committed(connection, changed)
    return changed


async def describe(connection: Connection, collection: Collection) -> Description:
    cursor = await connection.execute(
        b"""
        SELECT pg_total_relation_size(t.oid), s.n_dead_tup, s.n_live_tup, p.phase IS NOT NULL,
            coalesce(p.tuples_done::float8 / nullif(p.tuples_total, 0), 0),
            (SELECT count(*) > 0 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = t.oid AND i.indisvalid AND x.relname = %s),
            ARRAY(SELECT alias FROM aliases WHERE collection = %s ORDER BY alias)
        FROM (SELECT to_regclass(%s)::oid AS oid) t
        LEFT JOIN pg_stat_user_tables s ON s.relid = t.oid
        LEFT JOIN pg_stat_progress_create_index p ON p.relid = t.oid
        """,
        (collection.index, collection.number, collection.table),
    )
    row = await cursor.fetchone()
    assert row is not None
    size, dead, live, building, progress, is_there, aliases = row
    rebuilding = building or (collection.indexed and not is_there)
    ratio = (dead or 0) / ((dead or 0) + (live or 0) or 1)
    return Description(collection, size or 0, ratio, rebuilding, min(1.0, progress), tuple(aliases))


async def set_alias(connection: Connection, alias: str, collection: str, expected: str | None, most: int) -> str:
    """What it named until now. Raises NotFound, AlreadyExists, FailedPrecondition, LimitReached."""
    checked_name(alias, "alias", "alias")
    await connection.execute(_NAMES)
    rows = dict(await list_aliases(connection))
    if await (await connection.execute("SELECT FROM collections WHERE name = %s", (alias,))).fetchone() is not None:
        raise AlreadyExists(f"{alias} is a collection; take another alias", reason="COLLECTION_EXISTS", field="alias")
    target = await read(connection, collection, "FOR KEY SHARE")
    before = rows.get(alias, "")
    if expected is not None and expected != before:
        raise FailedPrecondition(
            f"alias {alias} names {before or 'nothing'}, not {quoted(expected) if expected else 'nothing'}; "
            "look where it leads by now, and decide anew",
            reason="ALIAS_MOVED",
            field="expected_collection",
            metadata={"collection": before},
        )
    if not before and len(rows) >= most:
        raise LimitReached(
            f"there are {len(rows)} aliases, as many as max_collections allows; delete one, or raise the setting",
            reason="TOO_MANY_ALIASES",
        )
    await connection.execute(
        "INSERT INTO aliases VALUES (%s, %s) ON CONFLICT (alias) DO UPDATE SET collection = excluded.collection",
        (alias, target.number),
    )
    await committed(connection)
    return before


async def delete_alias(connection: Connection, alias: str) -> str:
    """What it named. Raises NotFound."""
    await connection.execute(_NAMES)
    target = dict(await list_aliases(connection)).get(alias)
    if target is None:
        raise NotFound(f"there is no alias {quoted(alias)}; ListAliases names them", reason="ALIAS_NOT_FOUND")
    await connection.execute("DELETE FROM aliases WHERE alias = %s", (alias,))
    await committed(connection)
    return target


async def list_aliases(connection: Connection, collection: str = "") -> list[tuple[str, str]]:
    """(alias, collection) of one collection or of all, by alias."""
    cursor = await connection.execute("SELECT alias, name FROM aliases a JOIN collections c ON c.number = a.collection")
    return sorted((alias, name) for alias, name in await cursor.fetchall() if collection in ("", name))


def wanted(
    name: str, dimension: int, metric: Metric, named: dict[str, int], embedding_model: str, settings: Settings
) -> Collection:
    """Raises InvalidArgument."""
    index = checks.index_parameters(named, settings.index)
    return Collection(
        number=0,
        name=checked_name(name),
        dimension=within("dimension", dimension, 1, checks.LARGEST_DIMENSION),
        metric=metric,
        embedding_model=checks.checked_model_name(embedding_model),
        m=index["m"],
        ef_construction=index["ef_construction"],
        ef_search=index["ef_search"],
    )
