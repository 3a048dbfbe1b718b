"""Connections, transactions, and what becomes of errors: tried again where that is safe, told in the contract's terms
where not. No message of the database reaches a caller; connection strings reach nobody."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types import TypeInfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DeadlineExceeded, FailedPrecondition, Overloaded, StartError, StorageFull, Unavailable

from . import schema, wire
from .values import Settings

Connection = psycopg.AsyncConnection[Any]
Result = TypeVar("Result")
# Seconds until the caller's deadline, at the moment its call began.
time_left: contextvars.ContextVar[float | None] = contextvars.ContextVar("time_left", default=None)

_log = logging.getLogger("hector")
_MOST_CONFLICTS = 50
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
_LOST = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,  # a primary that has become a standby
)


class Database:
    def __init__(self, url: str, replica_url: str, settings: Settings) -> None:
        self._urls = (url, replica_url)
        self._settings = settings
        self._pool = self._pool_of(url)
        self._replicas = self._pool_of(replica_url) if replica_url else self._pool

    def _pool_of(self, url: str) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            url,
            min_size=1,
            max_size=self._settings.pool_size,
            open=False,
            timeout=self._settings.patience,
            max_waiting=10_000,
            reconnect_timeout=self._settings.patience,
            configure=self._configure,
            kwargs=self._options(),
        )

    def _options(self) -> dict[str, Any]:
        return {"autocommit": True, "connect_timeout": 5, "keepalives_idle": 15, "application_name": "vector_pg"}

    async def open(self) -> None:
        """Raises StartError."""
        for url in self._urls:
            _check_readable(url)
        try:
            connection = await psycopg.AsyncConnection.connect(self._urls[0], **self._options())
        except psycopg.Error as error:
            raise StartError(f"cannot connect to the database: {_reason(error)}; see `url`, and that it runs") from None
        async with connection:
            try:
                await schema.migrate(connection, self._settings.schema)
            except errors.InsufficientPrivilege as error:
                raise StartError(
                    f"the database refuses schema {self._settings.schema}: {error.diag.message_primary}; "
                    "grant CREATE on the database to this user, or make the user the schema's owner"
                ) from None
            except psycopg.Error as error:
                raise StartError(
                    f"the database did not make schema {self._settings.schema}, or bring it up to date: "
                    f"{error.diag.message_primary or _reason(error)}; see that `url` leads to a primary "
                    "(target_session_attrs=read-write), and start again"
                ) from None
        for pool in {self._pool, self._replicas}:
            await pool.open()

    async def close(self) -> None:
        for pool in {self._pool, self._replicas}:
            await pool.close()

    async def _configure(self, connection: Connection) -> None:
        info = await TypeInfo.fetch(connection, "vector") or await TypeInfo.fetch(connection, await _vector(connection))
        assert info is not None
        wire.register(connection, info)
        extension = (await _vector(connection)).partition(".")[0]
        await connection.execute(
            "SELECT set_config('search_path', %s, FALSE), set_config('statement_timeout', %s, FALSE)",
            (f"{self._settings.schema}, {extension}", self._timeout()),
        )
        # Results come from the index in their order. Where one can be used, nothing else is: a search that asks for
        # another page must walk the same way.
        # A sort that has to be is reckoned as dear as can be up to PostgreSQL 17, and would be compiled for that.
        await connection.execute("SET hnsw.iterative_scan = strict_order; SET enable_sort = off; SET jit = off")

    async def connect(self) -> Connection:
        """A connection beside the pool, for what takes long. Without a bound on statements."""
        connection = await psycopg.AsyncConnection.connect(self._urls[0], **self._options())
        try:
            await self._configure(connection)
            await connection.execute("SET statement_timeout = 0")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def read(self, work: Callable[[Connection], Awaitable[Result]], *, primary: bool = False) -> Result:
        """What `work` makes of a connection, perhaps to a replica; it is called again where that was lost."""
        pool = self._pool if primary else self._replicas

        async def attempt(_: Callable[[], None]) -> Result:
            # Not `pool.connection()`, which commits, and a read has nothing to commit.
            connection = await pool.getconn(self._wait())
            try:
                return await work(connection)
            finally:
                await pool.putconn(connection)

        return await self._tried(attempt)

    async def write(self, work: Callable[[Connection], Awaitable[Result]], *, again: bool = False) -> Result:
        """What `work` does, in a transaction, which is durable then.

        It is done again after a conflict, or where the connection was lost before the commit; and, where doing it
        `again` changes nothing more, also where nobody knows whether it was committed.
        """

        async def attempt(commits: Callable[[], None]) -> Result:
            async with self._pool.connection(self._wait()) as connection:  # commits, or rolls back
                await connection.execute(f"BEGIN; SET LOCAL statement_timeout = {self._timeout()}".encode())
                result = await work(connection)
                commits()
            return result

        return await self._tried(attempt, again)

    def _left(self) -> float:
        """Seconds that a statement may take; 0 sets no bound."""
        return min((seconds for seconds in (time_left.get(), self._settings.timeout) if seconds), default=0.0)

    def _timeout(self) -> str:
        """Of a statement, in milliseconds. The call ends before: to PostgreSQL a commit that is stopped while it waits
        for a standby is a success."""
        left = self._left()
        return str(math.ceil(1000 * (left + 1))) if left else "0"

    def _wait(self) -> float:
        return min(self._settings.patience, self._left() or self._settings.patience)

    async def _tried(self, attempt: Callable[[Callable[[], None]], Awaitable[Result]], again: bool = True) -> Result:
        until = math.inf
        for count in itertools.count():
            committing = False

            def commits() -> None:
                nonlocal committing
                committing = True

            try:
                return await attempt(commits)
            except _CONFLICTS:
                if count >= _MOST_CONFLICTS:
                    raise Overloaded(
                        "others write the same items all the time; try again, or send them to one writer",
                        reason="CONFLICT",
                        retry_after=1,
                    ) from None
                await asyncio.sleep(random.random() * 0.01 * min(count, 10))
            except errors.QueryCanceled:
                raise DeadlineExceeded("the database took longer than the call may; ask for less, or later") from None
            except (errors.DiskFull, errors.OutOfMemory):
                raise StorageFull("the database has no room left; free some, and try again") from None
            except errors.InsufficientPrivilege:
                raise FailedPrecondition(
                    "the database user may not do this; grant it, or connect as the owner of the schema"
                ) from None
            except (PoolTimeout, psycopg.OperationalError, *_LOST) as error:
                if not _is_lost(error):
                    raise
                if committing and not again:
                    raise Unavailable(
                        "the database went away while it committed: the write may be there or not; read, and decide",
                        reason="OUTCOME_UNKNOWN",
                    ) from None
                until = min(until, time.monotonic() + self._wait())
                if isinstance(error, PoolTimeout) or time.monotonic() > until:
                    raise Unavailable(
                        "the database does not answer, or others have all of pool_size connections to it; see that it "
                        "runs and can be reached, and try again",
                        reason="DATABASE_UNAVAILABLE",
                        retry_after=1,
                    ) from None
                if count == 0:
                    _log.warning("event=database_lost cause=%r", _reason(error))
                await asyncio.sleep(0.1)
                await self._pool.check()  # the other connections may be lost too
                if self._replicas is not self._pool:
                    await self._replicas.check()
        raise AssertionError("unreachable")


def _check_readable(url: str) -> None:
    """Raises StartError where libpq cannot read it, or would take part of a password for a host, and show it."""
    # libpq looks for the first @ before any /, and behind it for the host.
    behind = re.sub(r"^[^@/]*@", "", url.partition("://")[2]).partition("?")[0]
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        readable = False
    else:
        readable = "@" not in behind
    if not readable:
        raise StartError(
            "setting url, replica_url or DATABASE_URL: is no connection string that can be read; in one with :// write "
            "what is special in user and password as %40 for @, %2F for /, %3A for : and so on"
        )


def _is_lost(error: Exception) -> bool:
    """Whether it is the connection, and not what was asked."""
    return isinstance(error, (PoolTimeout, *_LOST)) or not getattr(error, "sqlstate", None)


def _reason(error: psycopg.Error) -> str:
    """What may be shown: an error of the network names addresses, but no password. On one line."""
    return error.sqlstate or " ".join(str(error).split())[:300]


async def _vector(connection: Connection) -> str:
    """The type's name with its schema."""
    row = await (
        await connection.execute(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
            "WHERE extname = 'vector'"
        )
    ).fetchone()
    if row is None:
        raise psycopg.OperationalError("the database has no extension vector")
    return f"{row[0]}.vector"
