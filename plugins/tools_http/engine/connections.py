"""Connections that stand, kept by origin to be used again.

The HTTP library has a pool too, which looks at every connection twice in each request; this one looks at one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpcore2

from .network import Backend

_MOST_TRAILERS = 2**14  # bytes

Origin = tuple[bytes, bytes, int]  # scheme, host, port


class Connections:
    """At most `most` in use at once, who comes later waits. Idle ones are kept for `keep_alive` seconds, at most
    `most_idle` of them: the oldest goes first."""

    def __init__(
        self,
        backend: Backend,
        trusted: ssl.SSLContext,
        *,
        connect_timeout: float,
        most: int,
        most_idle: int = 64,
        keep_alive: float = 5.0,
    ) -> None:
        self._backend, self._trusted = backend, trusted
        self._connect_timeout = connect_timeout
        self._keep_alive, self._most_idle = keep_alive, most_idle
        self._slots = asyncio.Semaphore(most)
        self._idle: dict[httpcore2.AsyncHTTP11Connection, Origin] = {}  # in the order in which they became so
        self._by_origin: dict[Origin, list[httpcore2.AsyncHTTP11Connection]] = {}

    @contextlib.asynccontextmanager
    async def to(self, url: httpcore2.URL) -> AsyncIterator[httpcore2.AsyncHTTP11Connection]:
        """For one request; its response is to be closed inside. Raises what `Backend.connect` does."""
        origin = (url.scheme, url.host, url.port or 0)
        async with self._slots:
            connection = await self._idle_to(origin) or await self._new(url)
            try:
                yield connection
            finally:
                await self._put(origin, connection)

    async def aclose(self) -> None:
        for connection in list(self._idle):
            await self._drop(connection)

    async def _idle_to(self, origin: Origin) -> httpcore2.AsyncHTTP11Connection | None:
        """The one that was used last, which is the least likely to be gone."""
        while connections := self._by_origin.get(origin):
            connection = connections[-1]
            if not connection.has_expired():
                self._forget(connection)
                _bound_lines(connection, connection.MAX_INCOMPLETE_EVENT_SIZE)
                return connection
            await self._drop(connection)
        return None

    async def _new(self, url: httpcore2.URL) -> httpcore2.AsyncHTTP11Connection:
        host = url.host.decode("ascii")
        try:
            async with asyncio.timeout(self._connect_timeout):
                stream = await self._backend.connect(host, url.port or 0)
                if url.scheme == b"https":
                    stream = await stream.start_tls(self._trusted, host)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(host) from None
        return httpcore2.AsyncHTTP11Connection(url.origin, stream, keepalive_expiry=self._keep_alive)

    async def _put(self, origin: Origin, connection: httpcore2.AsyncHTTP11Connection) -> None:
        if not connection.is_idle() or _has_more(connection):
            await connection.aclose()
            return
        self._idle[connection] = origin
        self._by_origin.setdefault(origin, []).append(connection)
        # The oldest ones: those that have expired, and those that are too many.
        while self._idle and (len(self._idle) > self._most_idle or next(iter(self._idle)).has_expired()):
            await self._drop(next(iter(self._idle)))

    async def _drop(self, connection: httpcore2.AsyncHTTP11Connection) -> None:
        self._forget(connection)
        await connection.aclose()

    def _forget(self, connection: httpcore2.AsyncHTTP11Connection) -> None:
        origin = self._idle.pop(connection)
        connections = self._by_origin[origin]
        connections.remove(connection)
        if not connections:
            del self._by_origin[origin]


def bound_trailers(connection: httpcore2.AsyncHTTP11Connection) -> None:
    """Until the connection is used again it takes trailers of that length only: 100 kB of them take 60 ms."""
    _bound_lines(connection, _MOST_TRAILERS)


def _bound_lines(connection: httpcore2.AsyncHTTP11Connection, most: int) -> None:
    """Has the library wait for the end of a head, or of trailers, for `most` bytes. It takes that at its start only."""
    state = getattr(connection, "_h11_state", None)
    if state is not None:
        state._max_incomplete_event_size = most


def _has_more(connection: httpcore2.AsyncHTTP11Connection) -> bool:
    """Whether the server sent more than its response: that would be read as the response to the next request, which may
    be another caller's. The library does not tell."""
    state = getattr(connection, "_h11_state", None)
    return state is not None and bool(state.trailing_data[0])
