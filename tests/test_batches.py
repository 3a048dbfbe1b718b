"""Batches for gRPC's core that fail, or that nobody waits for any more: `shared/batches.py`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from shared import batches
from shared.under_way import Call, current
from tests.loops import in_loop


class Core:
    """Stands for gRPC's core and what grpc.aio makes for one batch."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None]
        self.is_freed = False

    async def execute_batch(self, state: object, operations: object, loop: asyncio.AbstractEventLoop) -> None:
        """As grpc.aio's own: memory is freed where the batch has succeeded."""
        self.future = loop.create_future()
        await self.future
        self.is_freed = True

    def says(self, error: Exception | None = None) -> None:
        """Core is done. As grpc.aio's own: raises InvalidStateError where the future has had its result."""
        if not self.future.cancelled():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    core = Core()
    monkeypatch.setattr(batches, "_begin", core.execute_batch)
    return core


class State(cygrpc.RPCState):  # type: ignore[misc]
    """The state of a call that is served. Without a server core knows nothing of it."""

    def __new__(cls) -> State:
        state: State = cygrpc.RPCState.__new__(cls, None)
        return state


async def begun(call: Call, state: object = None, *operations: object) -> asyncio.Task[None]:
    """A task of the call that waits for a batch."""
    state = State() if state is None else state

    async def wait() -> None:
        current.set(call)
        await batches.execute_batch(state, operations, asyncio.get_running_loop())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_loop
async def test_grpc_asks_here_for_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that grpc.aio asks core for goes through here, of servers and of clients."""
    begin, kinds = batches._begin, set[type]()

    def counted(state: Any, operations: tuple[Any, ...], loop: Any) -> Any:
        kinds.update(map(type, operations))
        return begin(state, operations, loop)

    async def answer(request: bytes, context: object) -> bytes:
        return request

    monkeypatch.setattr(batches, "_begin", counted)
    batches.go_to_their_end()
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"B": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/a/B")
        assert await call(b"x") == b"x"
    await server.stop(0)
    assert {cygrpc.SendStatusFromServerOperation, cygrpc.ReceiveStatusOnClientOperation} <= kinds


@in_loop
async def test_a_batch_that_succeeds(core: Core) -> None:
    """The task goes on, and nothing stays."""
    call = Call()
    task = await begun(call)
    core.says()
    await task
    assert core.is_freed
    assert call.abandoned == []


@in_loop
async def test_a_batch_that_fails(core: Core) -> None:
    """The task gets the error, and the memory is freed."""
    task = await begun(Call())
    core.says(ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        await task
    assert core.is_freed


@pytest.mark.parametrize("error", [None, ConnectionError("lost")])
@in_loop
async def test_a_task_that_is_cancelled(core: Core, error: Exception | None) -> None:
    """The task is let go at once. The batch goes on until core is done, which then concerns nobody."""
    call, told = Call(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await cancelled(await begun(call))
    assert not core.is_freed
    assert len(call.abandoned) == 1
    core.says(error)
    await asyncio.sleep(0)
    assert core.is_freed
    assert call.abandoned == []
    del core.future
    gc.collect()
    assert told == []


@pytest.mark.parametrize("error", [None, ConnectionError("lost")])
@in_loop
async def test_a_task_that_is_cancelled_as_core_is_done(core: Core, error: Exception | None) -> None:
    """The memory is freed where both come in one turn of the loop too."""
    call = Call()
    task = await begun(call)
    core.says(error)
    await cancelled(task)
    await asyncio.sleep(0)
    assert core.is_freed
    assert call.abandoned == []


@in_loop
async def test_a_task_of_no_call(core: Core) -> None:
    """A batch of a client, beside no call of a server, goes to its end as well."""

    async def wait() -> None:
        await batches.execute_batch(None, (), asyncio.get_running_loop())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await cancelled(task)
    core.says()
    await asyncio.sleep(0)
    assert core.is_freed


def dropped_first(call: Call, task: asyncio.Task[None]) -> None:
    call.task = task
    call.drop()
    call.task = None


def dropped_later(call: Call, task: asyncio.Task[None]) -> None:
    task.cancel()


async def dropped(call: Call, task: asyncio.Task[None], end: Callable[[Call, asyncio.Task[None]], None]) -> None:
    end(call, task)
    with contextlib.suppress(asyncio.CancelledError):  # whose traceback goes with it
        await task
    call.drop()


@pytest.mark.parametrize("end", [dropped_first, dropped_later])
@pytest.mark.parametrize("receives", [False, True])
@in_loop
async def test_a_call_that_is_dropped(
    core: Core, receives: bool, end: Callable[[Call, asyncio.Task[None]], None]
) -> None:
    """Nothing keeps the call's state, which would keep core from ending the call. Memory that core may write a message
    into is not freed, all other at once."""
    call, state = Call(), State()
    kept = weakref.ref(state)
    task = await begun(call, state, *([cygrpc.ReceiveMessageOperation(0)] if receives else []))
    await dropped(call, task, end)
    assert core.is_freed is not receives
    del task, state
    await asyncio.sleep(0)  # the loop holds what it has just called
    gc.collect()
    assert kept() is None
    assert call.abandoned == []
    core.says(ConnectionError("the call was cancelled"))  # and grpc.aio takes it, which does not look at the error
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [dropped_first, dropped_later])
@in_loop
async def test_a_call_to_others_goes_on(core: Core, end: Callable[[Call, asyncio.Task[None]], None]) -> None:
    """Where a call is dropped whose handler has called somebody, core still writes into what that call receives."""
    call = Call()
    await dropped(call, await begun(call, "of a client"), end)
    assert not core.is_freed
    core.says()
    await asyncio.sleep(0)
    assert core.is_freed


@pytest.mark.parametrize("receives", [False, True])
@in_loop
async def test_a_call_that_is_dropped_as_core_is_done(core: Core, receives: bool) -> None:
    """The batch ends once where both come in one turn of the loop, and a message that has come is freed."""
    call, told = Call(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await cancelled(await begun(call, None, *([cygrpc.ReceiveMessageOperation(0)] if receives else [])))
    core.says()
    call.drop()
    assert core.is_freed
    await asyncio.sleep(0)
    assert told == []
