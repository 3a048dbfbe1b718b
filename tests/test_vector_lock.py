"""SharedLock: many readers or one writer, in turn."""

from __future__ import annotations

import threading
import time

import pytest

from plugins.vector_hnsw.engine.lock import SharedLock
from tests.servers import wait_until

SECONDS = 120.0  # the longest wait for anything; a busy machine is slow


def test_a_writer_is_alone() -> None:
    """No reader and no second writer is inside while a writer is."""
    lock, inside, strange = SharedLock(), {"readers": 0, "writers": 0}, []
    guard = threading.Lock()

    def note(kind: str, change: int) -> None:
        with guard:
            inside[kind] += change
            if inside["writers"] > 1 or (inside["writers"] and inside["readers"]):
                strange.append(dict(inside))

    def work(kind: str) -> None:
        for _ in range(300):
            with lock.write() if kind == "writers" else lock.read():
                note(kind, 1)
                time.sleep(0)
                note(kind, -1)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in ("readers", "readers", "writers", "writers")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert strange == []
    assert inside == {"readers": 0, "writers": 0}


def test_readers_are_inside_together() -> None:
    """Readers do not wait for each other: three meet inside."""
    lock, meeting = SharedLock(), threading.Barrier(3)

    def read() -> None:
        with lock.read():
            meeting.wait(SECONDS)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    read()
    for thread in threads:
        thread.join(SECONDS)
    assert not meeting.broken


@pytest.mark.parametrize("starved", ["reader", "writer"])
def test_neither_side_starves(starved: str) -> None:
    """Against four threads that never let go of the other side for long, fifty turns are had, each before long."""
    lock, stop = SharedLock(), threading.Event()

    def crowd() -> None:
        while not stop.is_set():
            with lock.read() if starved == "writer" else lock.write():
                time.sleep(0.0005)

    threads = [threading.Thread(target=crowd) for _ in range(4)]
    for thread in threads:
        thread.start()
    longest = 0.0
    for _ in range(50):
        started = time.monotonic()
        with lock.write() if starved == "writer" else lock.read():
            longest = max(longest, time.monotonic() - started)
    stop.set()
    for thread in threads:
        thread.join(SECONDS)
    assert longest < 20  # a tenth of a second where the machine is idle


def test_a_reader_waits_for_one_turn_only() -> None:
    """A reader that came during a turn of writing goes before the next turn, though that was waited for longer."""
    lock, order = SharedLock(), []

    def write() -> None:
        with lock.write():
            order.append("writer")

    def read() -> None:
        with lock.read():
            order.append("reader")

    with lock.write():
        writer, reader = threading.Thread(target=write), threading.Thread(target=read)
        writer.start()
        wait_until(lambda: lock._waiting_writers == 1, "waiting writer", SECONDS)
        reader.start()
        wait_until(lambda: lock._waiting_readers == 1, "waiting reader", SECONDS)
    writer.join(SECONDS)
    reader.join(SECONDS)
    assert order == ["reader", "writer"]


def test_a_reader_that_will_not_wait_is_told_so() -> None:
    """`enter(wait=False)` never blocks: False during a write and while one waits, True otherwise."""
    lock = SharedLock()
    assert lock.enter(wait=False)
    lock.leave()
    with lock.write():
        assert not lock.enter(wait=False)
    with lock.read():
        writer = threading.Thread(target=lambda: lock.write().__enter__())
        writer.start()
        wait_until(lambda: lock._waiting_writers == 1, "waiting writer", SECONDS)
        assert not lock.enter(wait=False)
    writer.join(SECONDS)


def test_an_error_inside_lets_go() -> None:
    """A reader or writer that raises leaves the lock free."""
    lock = SharedLock()
    with pytest.raises(ZeroDivisionError), lock.write():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), lock.read():
        raise ZeroDivisionError
    with lock.write():
        pass
