"""How long calls may take: one timer for all of them, each with its own end."""

from __future__ import annotations

import asyncio

import pytest

from shared.places import Places
from shared.turns import Clock, Late, Limits


def test_each_is_late_at_its_own_time() -> None:
    """Calls that began one after another end in that order, none before its time; one that is done is left alone."""

    async def run() -> None:
        loop, places, clock = asyncio.get_running_loop(), Places(10), Clock(0.2)
        ended: list[int] = []

        async def call(number: int) -> float:
            began = loop.time()
            with pytest.raises(Late), Limits(places, clock):
                await asyncio.sleep(3600)
            ended.append(number)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return loop.time() - began

        async def quick() -> str:
            with Limits(places, clock):
                await asyncio.sleep(0)
            await asyncio.sleep(0.5)
            return "done"

        done = asyncio.create_task(quick())
        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(call(number)))
            await asyncio.sleep(0.05)
        assert min(await asyncio.gather(*tasks)) >= 0.2
        assert ended == [0, 1, 2]
        assert await done == "done"
        assert clock._timer is None
        assert not clock._running
        assert all(places.take() for _ in range(10))

    asyncio.run(run())


def test_a_cancel_from_elsewhere_stays_one() -> None:
    """A call that its client cancels is cancelled, not late, and gives its place back."""

    async def run() -> None:
        places, clock = Places(1), Clock(60.0)

        async def call() -> None:
            with Limits(places, clock):
                await asyncio.sleep(3600)

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        assert not places.take()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert places.take()

    asyncio.run(run())
