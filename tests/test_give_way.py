"""`shared/give_way.py`: long work in a thread and everybody else's turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import DatabaseProviderStub

from shared import give_way as module
from shared.give_way import give_way, to_its_end
from tests.servers import SECONDS, start_plugin


def turns_beside(step: Callable[[], None], busy: int = 1) -> int:
    """How often two other threads hand something to each other while `busy` more repeat `step` for half a second."""
    there: queue.SimpleQueue[int] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            sum(range(1_000))  # some ten microseconds in which nobody else runs
            step()
        over.set()  # the first to end is enough

    def answer() -> None:
        for item in iter(there.get, 0):
            back.put(item)

    working, answering = [threading.Thread(target=work) for _ in range(busy)], threading.Thread(target=answer)
    for thread in (answering, *working):
        thread.start()
    turns = 0
    while not over.is_set():
        there.put(1)
        back.get()
        turns += 1
    there.put(0)
    for thread in (answering, *working):
        thread.join()
    return turns


@pytest.mark.slow
def test_work_that_gives_way_lets_others_run() -> None:
    """Beside work that gives way two threads have at least twice as many turns as beside work that does not."""
    # Once is enough: who else runs on the machine may take turns away, and gives none.
    assert any(turns_beside(give_way) >= 2 * turns_beside(lambda: None) for _ in range(6))


@pytest.mark.slow
def test_threads_with_long_work_take_turns() -> None:
    """Beside six threads that give way two others have at least half the turns that they have beside one."""
    assert any(2 * turns_beside(give_way, 6) >= turns_beside(give_way) for _ in range(6))


def test_short_work_is_not_held_up_by_long() -> None:
    """Beside two threads whose work goes on and on a third, that begins later, gets its share and ends."""
    over = threading.Event()

    def work(until: Callable[[], bool]) -> None:
        while not until():
            sum(range(1_000))
            give_way()

    going_on = [threading.Thread(target=work, args=(over.is_set,)) for _ in range(2)]
    steps = iter(range(1_000))
    short = threading.Thread(target=work, args=(lambda: next(steps, None) is None,), daemon=True)
    for thread in (*going_on, short):
        thread.start()
    short.join(60)
    over.set()
    for thread in going_on:
        thread.join()
    assert not short.is_alive()


def test_a_turn_ends_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that begins when other work has ended waits for nothing, however lately that gave way."""
    monkeypatch.setattr(module, "_turn", module._Turn())
    monkeypatch.setattr(module, "_AWAY", 1_000.0)
    for _ in range(3):
        thread = threading.Thread(target=to_its_end, args=(give_way,), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()


def test_an_event_loop_is_never_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an event loop, where a pause would be everybody's, it does not sleep."""
    pauses: list[float] = []

    async def work() -> None:
        give_way()
        for _ in range(1_000):
            give_way()
            sum(range(1_000))

    sleep, me = time.sleep, threading.get_ident()
    # Other threads, of earlier tests perhaps, go on as they did.
    monkeypatch.setattr(
        time, "sleep", lambda seconds: pauses.append(seconds) if threading.get_ident() == me else sleep(seconds)
    )
    asyncio.run(work())
    assert not pauses


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_long_work_keeps_its_priority(tmp_path: Path) -> None:
    """No thread of a plugin that lists, describes and copies at length has a lower priority: on a busy machine it would
    wait for a core, with the interpreter in its hands."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub: Any = DatabaseProviderStub(plugin.channel())
        stub.CreateCollection(pb.CreateCollectionRequest(name="c", dimension=1), timeout=SECONDS)
        vectors = [pb.Vector(id=str(number), vector=[1], metadata_json="{}") for number in range(100)]
        stub.UpsertVectors(pb.UpsertVectorsRequest(collection="c", vectors=vectors), timeout=SECONDS)
        everything = pb.Filter(must_not=[pb.Condition(exists="x")])
        for reply in (
            stub.ListVectors(pb.ListVectorsRequest(collection="c"), timeout=SECONDS),
            stub.ListVectors(pb.ListVectorsRequest(collection="c", filter=everything), timeout=SECONDS),
            stub.DescribeCollection(pb.DescribeCollectionRequest(name="c"), timeout=SECONDS),
            stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="c", name="s"), timeout=SECONDS),
        ):
            assert reply.success, reply.error
        priorities = set()
        for path in Path(f"/proc/{plugin.process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                priorities.add(os.getpriority(os.PRIO_PROCESS, int(path.name)))
        assert len(priorities) == 1
