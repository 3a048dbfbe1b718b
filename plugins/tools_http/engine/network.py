"""Connections: a name is resolved once, every address that it has is vetted, and only vetted ones are dialled.

This is where the policy cannot be got around: below the HTTP library, above the sockets. Between the check and the
dialling no name is resolved again, so there is nothing to rebind; `Host`, SNI and the certificate check keep the name.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

import httpcore2

from shared.errors import CallerError, PermissionDenied

from . import urls
from .addresses import Address, plain
from .failures import Unreachable, too_large
from .policy import Policy
from .stream import connect
from .urls import Url

MOST_HEAD = 65_536  # bytes of status line and headers
MOST_LINES = 1_000  # of them
_STEP_OF_HEAD = 8_192  # bytes that are read at once
_STEP_OF_CHUNKS = 16_384  # the same of a body in chunks: behind it can be trailers, which are parsed as a head is
_FRAMING = 2**18  # bytes beside the body's: the head, and the sizes of chunks

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_MOST_ADDRESSES = 16  # of a name that are dialled; all of them are vetted
_STAGGER = 0.25  # seconds until the next address is tried beside the one before (RFC 8305)
_RESOLVERS = 64  # names that are resolved at once


@dataclass
class Budget:
    """Bytes that one response may take on the wire, headers and framing included; at first those of its head, which a
    server can send often (1xx)."""

    limit: int  # of the body, which messages name
    used: int = 0
    in_head: bool = True
    in_chunks: bool = False  # the body
    _lines: int = 0

    def take(self, data: bytes) -> None:
        """Raises LimitReached (TOO_LARGE)."""
        self.used += len(data)
        if self.used > (MOST_HEAD if self.in_head else self.limit + _FRAMING):
            raise too_large(self.limit, f"has headers of more than {MOST_HEAD} bytes" if self.in_head else "")
        if self.in_head:
            end = data.find(b"\r\n\r\n")
            self._lines += data.count(b"\n", 0, end if end >= 0 else len(data))
            if self._lines > MOST_LINES:
                raise too_large(self.limit, f"has more than {MOST_LINES} headers")


# Of the request that the running task is about: the HTTP library passes nothing of the kind down.
budget: ContextVar[Budget] = ContextVar("budget")


class Resolver:
    """The system's, asked once for each connection, each time in a thread of its own: it cannot be interrupted, and a
    name server that is silent takes many seconds. None of them keeps the process from ending."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_RESOLVERS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()
        await self._slots.acquire()

        def done(addresses: Sequence[str], error: Exception | None) -> None:
            self._slots.release()
            if found.cancelled():
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def work() -> None:
            addresses: Sequence[str] = ()
            error: Exception | None = None
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(address[0]) for *_, address in infos))
            except (OSError, UnicodeError) as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done, addresses, error)

        threading.Thread(target=work, name="resolve", daemon=True).start()
        return await found


class Backend:
    """Dials."""

    def __init__(self, policy: Policy, resolve: Resolve, dial: Dial | None = None, *, by_name: bool = False) -> None:
        """`dial` connects to an address; with `by_name` also to a name, and answers for where that leads."""
        self._policy, self._resolve, self._by_name = policy, resolve, by_name
        self._dial, self._is_direct = dial or connect, dial is None

    async def connect(self, host: str, port: int) -> httpcore2.AsyncNetworkStream:
        """Raises PermissionDenied, Unreachable, or the HTTP library's ConnectError."""
        if self._by_name and not _is_address(host):
            return CountedStream(await self._dial(self._named(host, port), port))
        return CountedStream(await self._first(await self.vetted(host, port), port, host))

    async def vetted(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, all of which the policy allows, families by turns. Raises PermissionDenied where it
        objects to one of them: a name that has an inner address beside a public one is a trap."""
        name, literal = urls.read_host(f"[{host}]" if ":" in host else host)
        url = Url("http", name, port, "/", literal)
        if literal is not None:
            self._policy.check_address(url, literal)
            return [literal]
        try:
            texts = await self._resolve(host, port)
            addresses = list(dict.fromkeys(plain(ip_address(text)) for text in texts))
        except (OSError, UnicodeError, ValueError):
            addresses = []
        if not addresses:
            raise Unreachable(f"the host {host!r} cannot be resolved; check its spelling", host=host)
        for address in addresses:
            self._policy.check_address(url, address)
        return _by_turns(addresses)[:_MOST_ADDRESSES]

    def _named(self, host: str, port: int) -> str:
        """`host`, where the operator has named it. Raises PermissionDenied."""
        if not self._policy.allows_by_name(Url("http", host, port, "/", None)):
            raise self._policy.unnamed(host)
        return host

    async def _first(self, addresses: Sequence[Address], port: int, host: str) -> httpcore2.AsyncNetworkStream:
        """The connection that stands first, of attempts that begin one after the other. The rest is closed."""
        if len(addresses) == 1:
            return await self._attempt(addresses[0], port, host)
        waiting = list(reversed(addresses))
        running: set[asyncio.Task[httpcore2.AsyncNetworkStream]] = set()
        error: BaseException | None = None
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(self._attempt(waiting.pop(), port, host)))
                pause = _STAGGER if waiting else None
                done, running = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                stood = [task for task in done if task.exception() is None]
                running.update(stood[1:])  # to be closed
                if stood:
                    return stood[0].result()
                for task in done:
                    # What the policy says goes before what the network says.
                    error = error if isinstance(error, CallerError) else task.exception()
        finally:
            await _close_all(running)
        raise error or Unreachable(f"no address of {host!r} answers", host=host)

    async def _attempt(self, address: Address, port: int, host: str) -> httpcore2.AsyncNetworkStream:
        stream = await self._dial(str(address), port)
        # Where the connection really went: whatever dialled in our stead may have had its own mind.
        peer = stream.get_extra_info("server_addr") if self._is_direct else None
        if isinstance(peer, tuple) and plain(ip_address(str(peer[0]).partition("%")[0])) != address:
            await stream.aclose()
            raise PermissionDenied(
                f"the connection to {host!r} did not go to the address that was checked: blocked by the rule "
                f"`address`, and no setting allows it",
                reason="BLOCKED_ADDRESS",
                metadata={"rule": "address", "setting": ""},
            )
        return stream


Dial = Callable[[str, int], Awaitable[httpcore2.AsyncNetworkStream]]


class CountedStream(httpcore2.AsyncNetworkStream):
    """Counts what it reads against the budget of the request under way."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        current = budget.get(None)
        if current is None:
            return await self._stream.read(max_bytes, timeout)
        # Of a head little at a time, since what is read is parsed in one go.
        if current.in_head or current.in_chunks:
            max_bytes = min(max_bytes, _STEP_OF_HEAD if current.in_head else _STEP_OF_CHUNKS)
        data = await self._stream.read(max_bytes, timeout)
        current.take(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return CountedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _by_turns(addresses: Sequence[Address]) -> list[Address]:
    """The families by turns, beginning with that of the first: where one of them is dead the other is next."""
    same = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    return [address for address in chain.from_iterable(zip_longest(same, other)) if address is not None]


async def _close_all(tasks: Iterable[asyncio.Task[httpcore2.AsyncNetworkStream]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await (await task).aclose()
