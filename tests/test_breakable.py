"""Waits for gRPC that are broken off: `shared/breakable.py`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from shared.breakable import breakable
from shared.under_way import Call
from tests.loops import in_loop


class Wait:
    """Stands for a coroutine of grpc.aio: it waits for core's answer, and takes it."""

    def __init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()
        self.taken: list[str] = []

    async def __call__(self) -> str:
        self.taken.append(await self.answer)
        return self.taken[0]


async def begun(waiting: Coroutine[Any, None, str], call: Call) -> asyncio.Task[str]:
    async def wait() -> str:
        return await breakable(call, waiting)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def broken_off(call: Call, wait: Wait) -> None:
    task = await begun(wait(), call)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_loop
async def test_an_answer() -> None:
    """The answer is given, and nothing goes on."""
    call, wait = Call(), Wait()
    task = await begun(wait(), call)
    wait.answer.set_result("message")
    assert await task == "message"
    assert call.broken_off is None


@in_loop
async def test_an_answer_that_is_there() -> None:
    """A coroutine that need not wait gives its answer at once."""
    wait = Wait()
    wait.answer.set_result("message")
    assert await breakable(Call(), wait()) == "message"


@in_loop
async def test_waiting_more_than_once() -> None:
    """A coroutine may wait for one thing after the other."""

    async def twice() -> str:
        return await first() + await second()

    first, second = Wait(), Wait()
    task = await begun(twice(), Call())
    first.answer.set_result("a")
    await asyncio.sleep(0)
    second.answer.set_result("b")
    assert await task == "ab"


@in_loop
async def test_a_failure() -> None:
    """What core's answer raises is raised within the coroutine, which may handle it, and else out of it."""

    async def handles() -> str:
        try:
            return await wait()
        except ConnectionError:
            return "gone"

    wait = Wait()
    task = await begun(handles(), Call())
    wait.answer.set_exception(ConnectionError())
    assert await task == "gone"
    wait = Wait()
    task = await begun(wait(), Call())
    wait.answer.set_exception(ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        await task


@in_loop
async def test_a_wait_that_is_broken_off() -> None:
    """The task is let go at once, and what comes later is taken."""
    call, wait = Call(), Wait()
    await broken_off(call, wait)
    assert not wait.answer.done()
    wait.answer.set_result("late")
    await asyncio.sleep(0)
    assert wait.taken == ["late"]
    assert call.broken_off is None


@in_loop
async def test_a_wait_that_is_broken_off_as_its_answer_comes() -> None:
    """An answer that has come when the task is cancelled is taken too."""
    call, wait = Call(), Wait()
    task = await begun(wait(), call)
    wait.answer.set_result("just now")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert wait.taken == ["just now"]


@pytest.mark.parametrize("error", [ConnectionError(), asyncio.CancelledError()])
@in_loop
async def test_a_late_failure(error: BaseException) -> None:
    """A failure after the end concerns nobody: that of core, or that grpc.aio finds the call cancelled."""
    call, wait, told = Call(), Wait(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await broken_off(call, wait)
    wait.answer.set_exception(error)
    await asyncio.sleep(0)
    assert call.broken_off is None
    assert told == []


@pytest.mark.parametrize("dropped_first", [True, False])
@in_loop
async def test_a_call_that_is_dropped(dropped_first: bool) -> None:
    """Nothing keeps what the coroutine of a dropped call refers to, which would keep the call from its end."""
    call, wait = Call(), Wait()
    answer, kept = wait.answer, weakref.ref(wait)
    task = await begun(wait(), call)
    if dropped_first:
        call.task = task  # type: ignore[assignment]
        call.drop()
        call.task = None
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not dropped_first:
        call.drop()
    del task, wait
    gc.collect()
    assert kept() is None
    answer.set_result("after the end")
    await asyncio.sleep(0)
