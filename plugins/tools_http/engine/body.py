"""Bodies of responses: read and unpacked piece by piece, so that no more than the bound is ever held."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator

import httpcore2

from .failures import BadResponse, too_large

_STEP = 2**18  # bytes unpacked at once: a millisecond or so
_MOST_MEMBERS = 1_000  # of one gzip stream
# Others are not named: what a server sends can be our own key, in small letters by now.
_KNOWN = frozenset(("br", "zstd", "deflate", "compress", "x-compress"))
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"
_MOST_PIECES = 100_000  # of a body: each costs some 15 µs, be it of a single byte
_TURN = 64  # pieces that are taken before others get their turn: a piece can be a single byte


async def read(response: httpcore2.Response, encoding: str, most: int) -> bytes:
    """All of it, unpacked. Raises LimitReached (TOO_LARGE) past `most` bytes, packed or unpacked, or past a number of
    pieces, and BadResponse for an encoding other than gzip, or gzip that is broken."""
    async with contextlib.aclosing(response.aiter_stream()) as pieces:
        return await _joined(pieces, encoding, most)


async def _joined(pieces: AsyncIterator[bytes], encoding: str, most: int) -> bytes:
    unpack = _unpacker(encoding, most)
    kept: list[bytes] = []
    joined = bytearray()  # of a body in many pieces: a list of a million little ones takes many times as much
    came = size = count = 0
    async for piece in pieces:
        count += 1
        if count % _TURN == 0:
            if count > _MOST_PIECES:
                raise too_large(most, f"comes in more than {_MOST_PIECES} pieces")
            await asyncio.sleep(0)
        came += len(piece)
        if came > most:
            raise too_large(most)
        if unpack is None:
            kept.append(piece)
        else:
            for part in unpack.feed(piece):
                size += len(part)
                if size > most:
                    raise too_large(most)
                kept.append(part)
                if len(part) >= _STEP:
                    await asyncio.sleep(0)
        if len(kept) >= _TURN:
            joined += b"".join(kept)
            kept.clear()
    if unpack is not None and came:
        unpack.close()
    if joined:
        joined += b"".join(kept)
        return bytes(joined)
    return kept[0] if len(kept) == 1 else b"".join(kept)


def _unpacker(encoding: str, most: int) -> _Gzip | None:
    codings = [coding for coding in (part.strip().lower() for part in encoding.split(",")) if coding != "identity"]
    codings = [coding for coding in codings if coding]
    if not codings:
        return None
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip(most)
    named = f" as {codings[0]!r}" if len(codings) == 1 and codings[0] in _KNOWN else ""
    raise BadResponse(
        f"the server packed its response{named} though only gzip was asked for; it cannot be read",
        reason="UNSUPPORTED_ENCODING",
    )


class _Gzip:
    """Incremental, of one member or more; what stands behind the last one is passed over, as browsers do."""

    def __init__(self, most: int) -> None:
        self._step = min(_STEP, most + 1)
        self._inner = zlib.decompressobj(_GZIP)
        self._members = 1
        self._head = b""  # of what may be another member
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data and not self._over:
                if self._inner.eof:
                    data = self._next_member(data)
                    continue
                part = self._inner.decompress(data, self._step)
                data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
                if part:
                    yield part
            # What was read but not given out yet, since a step was full.
            while not self._inner.eof and (part := self._inner.decompress(b"", self._step)):
                yield part
        except zlib.error:
            raise BadResponse("the response says that it is gzip, and is not; it cannot be read") from None

    def close(self) -> None:
        if not self._inner.eof:
            raise BadResponse("the response ended in the middle of its gzip; call again")

    def _next_member(self, data: bytes) -> bytes:
        data = self._head + data
        self._head = b""
        if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
            self._head = data
            return b""
        if not data.startswith(_MAGIC):
            self._over = True
            return b""
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise BadResponse(f"the response is gzip of more than {_MOST_MEMBERS} members; it is not read")
        self._inner = zlib.decompressobj(_GZIP)
        return data
