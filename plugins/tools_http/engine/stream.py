"""A TCP connection, with TLS or without, as the HTTP library reads and writes it; over asyncio alone.

The library's own stream sets a timer for each read and write. Here one deadline bounds the whole request.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpcore2

_HIGH = 2**18  # bytes that wait to be read until the peer is held up


class Stream(httpcore2.AsyncNetworkStream):
    """`timeout` arguments are not looked at: whoever waits does so within `asyncio.timeout`."""

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at least a byte; empty at the end. Raises ReadError where the connection broke."""
        return await self._protocol.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises WriteError where the connection is gone. What does not go out at once is kept: bodies are bounded."""
        if self._protocol.is_lost:
            raise httpcore2.WriteError("the connection is gone")
        self._protocol.transport.write(buffer)

    async def aclose(self) -> None:
        # At once: TLS would wait for the peer's goodbye.
        self._protocol.transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Raises ConnectError, of which the cause is what TLS says."""
        protocol = self._protocol
        loop = asyncio.get_running_loop()
        if protocol.has_news:
            # Whoever stands between could put words into the server's mouth: they would be read as if from inside.
            protocol.transport.abort()
            raise httpcore2.ConnectError("something came before TLS began")
        try:
            # Without a pause until it has taken over what comes in.
            transport = await loop.start_tls(
                protocol.transport, protocol, ssl_context, server_hostname=server_hostname, ssl_handshake_timeout=3_600
            )
        except (OSError, ssl.SSLError) as error:
            protocol.transport.abort()
            raise httpcore2.ConnectError(str(error)) from error
        except BaseException:
            protocol.transport.abort()
            raise
        assert isinstance(transport, asyncio.Transport)
        protocol.transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of a connection that is idle: then nothing good has come
            return self._protocol.has_news
        names = {"server_addr": "peername", "client_addr": "sockname", "ssl_object": "ssl_object", "socket": "socket"}
        return self._protocol.transport.get_extra_info(names.get(info, info))


async def connect(address: str, port: int) -> Stream:
    """Raises ConnectError."""
    try:
        _, protocol = await asyncio.get_running_loop().create_connection(_Protocol, address, port)
    except OSError as error:
        raise httpcore2.ConnectError(str(error)) from error
    return Stream(protocol)


class _Protocol(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._came = bytearray()
        self._is_over = self._is_held = self.is_lost = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_news(self) -> bool:
        return bool(self._came) or self._is_over

    async def read(self, max_bytes: int) -> bytes:
        if not self._came and not self._is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._came and self._error is not None:
            raise httpcore2.ReadError("the connection broke") from self._error
        if len(self._came) <= max_bytes:
            data = bytes(self._came)
            self._came.clear()
        else:
            data = bytes(self._came[:max_bytes])
            del self._came[:max_bytes]
        if self._is_held and len(self._came) < _HIGH // 2:
            self._is_held = False
            self.transport.resume_reading()
        return data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        if len(self._came) > _HIGH and not self._is_held:
            self._is_held = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = self.is_lost = True
        self._error = exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
