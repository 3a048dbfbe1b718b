"""The threads that tokenise: short work goes before long, and nobody waits forever (`embed_st/engine/worker.py`)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from plugins.embed_st.engine import worker as module
from plugins.embed_st.engine.worker import Worker
from tests.embed_letters import SECONDS


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.close()


class Busy:
    """Keeps the worker until it is let go."""

    def __init__(self, worker: Worker) -> None:
        self.began, self.gate = threading.Event(), threading.Event()
        self.task = asyncio.ensure_future(worker.run(self._work, size=0))

    def _work(self) -> None:
        self.began.set()
        assert self.gate.wait(SECONDS)

    async def holds(self) -> None:
        assert await asyncio.to_thread(self.began.wait, SECONDS)


def test_short_before_long(worker: Worker, clock: Clock) -> None:
    """Of what waits the shortest is done first, and of equal ones the first that came."""
    done: list[str] = []

    async def calls() -> None:
        busy = Busy(worker)
        await busy.holds()
        sizes = {"long": 1_000_000, "middle": 50_000, "short": 10, "also short": 10}
        tasks = [asyncio.ensure_future(worker.run(done.append, name, size=size)) for name, size in sizes.items()]
        await asyncio.sleep(0)
        busy.gate.set()
        await asyncio.gather(busy.task, *tasks)

    asyncio.run(calls())
    assert done == ["short", "also short", "middle", "long"]


def test_long_work_has_its_turn(worker: Worker, clock: Clock) -> None:
    """A text of a million characters gives way to what comes within ten seconds, and not to what comes later."""
    done: list[str] = []

    async def calls() -> None:
        busy = Busy(worker)
        await busy.holds()
        tasks = [asyncio.ensure_future(worker.run(done.append, "long", size=1_000_000))]
        await asyncio.sleep(0)
        for seconds in (5, 9, 11, 20):
            clock.now = 1000 + seconds
            tasks.append(asyncio.ensure_future(worker.run(done.append, f"after {seconds} s", size=10)))
            await asyncio.sleep(0)
        busy.gate.set()
        await asyncio.gather(busy.task, *tasks)

    asyncio.run(calls())
    assert done == ["after 5 s", "after 9 s", "long", "after 11 s", "after 20 s"]


def test_results_errors_and_cancels(worker: Worker) -> None:
    """A result and an exception reach who waits for them; what is cancelled before its turn is not begun."""
    done: list[str] = []

    async def calls() -> None:
        assert await worker.run(divmod, 7, 2, size=1) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await worker.run(divmod, 7, 0, size=1)
        busy = Busy(worker)
        await busy.holds()
        gone = asyncio.ensure_future(worker.run(done.append, "gone", size=1))
        stays = asyncio.ensure_future(worker.run(done.append, "stays", size=1))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        busy.gate.set()
        await asyncio.gather(busy.task, stays)
        assert gone.cancelled()

    asyncio.run(calls())
    assert done == ["stays"]


def test_close_ends_the_thread(worker: Worker) -> None:
    """After `close` the thread ends, and a worker that was never asked anything has none."""
    before = set(threading.enumerate())

    async def one() -> None:
        await worker.run(str, size=1)

    asyncio.run(one())
    (mine,) = set(threading.enumerate()) - before
    worker.close()
    mine.join(SECONDS)
    assert not mine.is_alive()
