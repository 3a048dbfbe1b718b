"""How long an endpoint is listened to that keeps its connection, while it is silent or behind the end of its reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from shared.off_loop import in_thread

from .assembler import Assembler
from .failures import Failure
from .reading import ChunkReader

# After the finish reason only usage and `[DONE]` can follow; after those, the end of the body, which frees the
# connection for the next call. Seconds that each is waited for, and the end where a finish reason makes it likely.
_AFTER_FINISH, _AFTER_DONE, _AFTER_LIKELY = 2.0, 0.1, 10.0
_FOR_USAGE = 0.5  # seconds that counts are waited for which came with neither
_SMALL = 2**12  # bytes that are looked at where they stand
SLICE = 2**14  # bytes of a reply that are read before other calls have their turn


async def while_of_use(
    data: AsyncIterator[bytes], reader: ChunkReader, assembler: Assembler
) -> AsyncGenerator[bytes, None]:
    """`data`, which after the end of the reply may go on, or keep silent, for a little while only. In a silence behind
    an event that is whole comes the line end that it lacks."""
    patience: float | None = None
    ends: float | None = None
    following: asyncio.Future[bytes] | None = None  # what is waited for behind such an event
    try:
        while True:
            if (now_patient := _patience(assembler)) != patience:
                patience = now_patient
                ends = None if patience is None else _now() + patience
            try:
                if following is not None:
                    await asyncio.wait((following,), timeout=None if ends is None else ends - _now())
                    if not following.done():
                        return
                    piece, following = following.result(), None
                elif not reader.is_body and not reader.is_in_line:
                    async with asyncio.timeout_at(ends):
                        piece = await anext(data)
                elif reader.is_body and reader.held <= _SMALL and reader.is_whole():
                    # Nearly every body, and a time limit costs less than a task.
                    async with asyncio.timeout(_AFTER_FINISH):
                        piece = await anext(data)
                else:
                    # Not ended by a time limit, since what is not whole goes on.
                    following = asyncio.ensure_future(anext(data))
                    await asyncio.wait((following,), timeout=_AFTER_FINISH)
                    if not following.done() and await _is_whole(reader):
                        if reader.is_body:
                            return
                        yield b"\n"
                    continue
            except (StopAsyncIteration, TimeoutError):
                return
            yield piece
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait((following,))
            if not following.cancelled():
                following.exception()  # seen, also where nobody wants it any more
        # Its error holds this frame, which would hold it, and the whole call, until a collection of garbage.
        following = None


async def _is_whole(reader: ChunkReader) -> bool:
    """What came so far, or the line of it that has not ended."""
    is_whole = reader.is_whole if reader.is_body else reader.is_line_whole
    return await in_thread(is_whole) if reader.held > _SMALL else is_whole()


def _patience(assembler: Assembler) -> float | None:
    """Seconds that the end of the bytes is waited for; None where more of the reply is."""
    if assembler.is_over():
        return _AFTER_FINISH
    return _AFTER_LIKELY if assembler.is_likely_over() else None


async def late_usage(pieces: AsyncIterator[bytes], reader: ChunkReader, assembler: Assembler) -> None:
    """Reads on for a little while behind `[DONE]`, where some servers count."""
    with contextlib.suppress(TimeoutError, Failure):
        async with asyncio.timeout(_FOR_USAGE):
            async for piece in pieces:
                for chunk in reader.feed(piece[:SLICE]):
                    assembler.add_usage(chunk)
                if assembler.has_usage:
                    return


async def drain(pieces: AsyncIterator[bytes]) -> None:
    """Waits for the end of the body for a moment, so that the connection is free for the next call."""
    with contextlib.suppress(TimeoutError, Failure):
        async with asyncio.timeout(_AFTER_DONE):
            async for _ in pieces:
                pass


def _now() -> float:
    return asyncio.get_running_loop().time()
