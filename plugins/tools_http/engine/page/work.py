"""Who does long work: a worker process."""

from __future__ import annotations

from typing import Protocol


class Work(Protocol):
    """`Workers.run`: what the job, `module:function`, makes of the payload, within `seconds`."""

    async def __call__(self, job: str, payload: bytes, *, seconds: float) -> bytes: ...
