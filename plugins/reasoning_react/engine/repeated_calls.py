"""Calls that come again: what tells them apart, and what they are answered with."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from shared.errors import CallerError
from shared.off_loop import LARGE, in_thread
from shared.repeats import Repeats, Run

from .interface import Settings
from .run import Observation

T = TypeVar("T")


def memory(settings: Settings) -> Repeats[Any]:
    """Of the last replies."""
    most_bytes = settings.kept_bytes // 3
    return Repeats(settings.kept_replies, most_bytes, settings.kept_for, most_runs=0, most_held=0)


def as_run(work: Callable[[], Awaitable[T]], size: Callable[[T], int]) -> Run[T | CallerError]:
    """What fails for one caller fails for all that wait for the same; it is not kept."""

    async def attempt() -> T | CallerError:
        try:
            return await work()
        except CallerError as error:
            return error

    return Run(
        attempt,
        size=lambda reply: 0 if isinstance(reply, CallerError) else size(reply),
        keep=lambda reply: not isinstance(reply, CallerError),
        # What must not happen twice is known to the tools' providers by the actions' ids.
        repeatable=True,
    )


def unless_failed(reply: T | CallerError) -> T:
    if isinstance(reply, CallerError):
        raise reply
    return reply


async def key(state: bytes, input: str, observations: Sequence[Observation]) -> bytes:
    """Equal for the same call."""
    size = len(state) + len(input) + sum(len(one.content) for one in observations)
    return await in_thread(_digest, state, input, observations) if size > LARGE else _digest(state, input, observations)


def _digest(state: bytes, input: str, observations: Sequence[Observation]) -> bytes:
    # Not as JSON: to write a long text as such takes a while in which nothing else runs.
    digest = hashlib.sha256()
    for part in (state, _bytes(input), *(part for one in observations for part in _parts(one))):
        digest.update(len(part).to_bytes(8) + hashlib.sha256(part).digest())
    return digest.digest()


def _parts(one: Observation) -> Iterator[bytes]:
    yield _bytes(one.action_id)
    yield _bytes(one.content)
    yield bytes([one.is_error, one.denied])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
