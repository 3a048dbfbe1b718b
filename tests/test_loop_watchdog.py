"""The watchdog over event loops sees what keeps a loop from its work, and takes a busy machine for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub

from tests import loop_watchdog
from tests.loop_watchdog import CPU_SECONDS, STILL_SECONDS, Stall, WatchedLoop
from tests.servers import ROOT, SECONDS, environment, start_plugin, wait_until


def stalls_of(work: Callable[[], Awaitable[None]], *, shared: bool = False) -> list[Stall]:
    loop = WatchedLoop(shared=shared)
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    return loop.stalls


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(10_000))  # asking for the time alone would be time in the kernel


@contextlib.contextmanager
def crowded() -> Iterator[None]:
    """This thread shares one core with eight busy processes, and has the least of it."""
    cores = os.sched_getaffinity(0)
    core = max(cores)
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(8)]
    me = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, me)
    try:
        os.sched_setaffinity(me, [core])
        os.setpriority(os.PRIO_PROCESS, me, before + 10)
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()
        os.sched_setaffinity(me, cores)
        if os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, me, before)


async def busy_loop() -> None:
    burn(3 * CPU_SECONDS)


async def sleeping_loop() -> None:
    time.sleep(2 * STILL_SECONDS)  # noqa: ASYNC251


def seen(work: Callable[[], Awaitable[None]], *, shared: bool = False) -> list[Stall]:
    """The stalls of `work`, once there are any: where the machine is busy in that second, a sleep may be none."""
    return next((found for _ in range(20) if (found := stalls_of(work, shared=shared))), [])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("work", "words"), [(busy_loop, "of CPU time, more than 50 ms"), (sleeping_loop, "stood still")]
)
def test_what_is_seen(work: Callable[[], Awaitable[None]], words: str, shared: bool) -> None:
    """A turn of too much CPU time and one that sleeps are stalls, each named once, with the coroutine and its file."""
    (stall,) = seen(work, shared=shared)
    assert words in stall.what
    assert f"{work.__name__} (test_loop_watchdog.py:" in stall.what


def test_what_is_fine() -> None:
    """Many short turns, waiting for something, and a thread that works for long are no stalls."""

    async def fine() -> None:
        for _ in range(20):
            burn(CPU_SECONDS / 10)
            await asyncio.sleep(0)
        await asyncio.sleep(1.2 * STILL_SECONDS)
        await asyncio.to_thread(time.sleep, 1.2 * STILL_SECONDS)
        await asyncio.to_thread(burn, 3 * CPU_SECONDS)

    assert stalls_of(fine) == []


# Wakes a process some seconds after it was stopped, however late that is.
GO_ON = """
import os, signal, sys, time
pid, seconds = int(sys.argv[1]), float(sys.argv[2])
while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "T":
    time.sleep(0.01)
time.sleep(seconds)
os.kill(pid, signal.SIGCONT)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("before", [0.0, STILL_SECONDS / 4])
def test_a_machine_that_stands(shared: bool, before: float) -> None:
    """A process that is stopped as a whole for long has not stalled, in whatever part of a turn that is."""
    longest = 0.0

    async def stopped() -> None:
        nonlocal longest
        command = [sys.executable, "-c", GO_ON, str(os.getpid()), str(2 * STILL_SECONDS)]
        with subprocess.Popen(command):  # noqa: ASYNC220
            await asyncio.sleep(0)  # the start of that process is another turn
            time.sleep(before)  # noqa: ASYNC251
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGSTOP)
            longest = time.monotonic() - began

    assert stalls_of(stopped, shared=shared) == []
    assert longest > STILL_SECONDS


def test_memory_that_was_never_touched() -> None:
    """What the kernel does for pages that are new is not counted; what the loop computes meanwhile is."""

    async def touch() -> None:
        burn(CPU_SECONDS / 5)
        started = time.thread_time()
        while time.thread_time() - started < 2 * CPU_SECONDS:
            mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()

    async def touch_and_burn() -> None:
        await touch()
        burn(2 * CPU_SECONDS)

    assert stalls_of(touch) == []
    assert len(stalls_of(touch_and_burn)) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_busy_machine() -> None:
    """A turn that takes over half a second because the machine is busy is no stall; one that also sleeps is."""
    longest = 0.0

    async def hindered() -> None:
        nonlocal longest
        for _ in range(40):
            began = time.monotonic()
            burn(CPU_SECONDS / 2)
            longest = max(longest, time.monotonic() - began)
            if longest > 1.2 * STILL_SECONDS:
                return
            await asyncio.sleep(0)

    with crowded():
        assert stalls_of(hindered) == []
        assert longest > STILL_SECONDS, "the machine was not busy enough to tell"
        (stall,) = seen(sleeping_loop)
    assert "stood still" in stall.what


@pytest.mark.slow
def test_the_tests_own_garbage_is_not_the_plugins() -> None:
    """What the garbage collector takes counts in a process that is the plugin's own, and not beside the tests."""
    import gc

    heap = [[number] for number in range(2_000_000)]

    async def collect() -> None:
        gc.collect()

    assert stalls_of(collect, shared=True) == []
    assert len(stalls_of(collect)) == 1
    del heap


@pytest.mark.slow
@pytest.mark.parametrize(("how", "words"), [("burn", "of CPU time"), ("doze", "stood still"), ("gil", "one turn")])
@pytest.mark.loop_may_stall("this is what it tests")
def test_a_process(how: str, words: str) -> None:
    """A plugin that runs as a process is told on, also where another of its threads holds the GIL; its start is not."""
    loop_watchdog.stalls()
    with start_plugin("tests.toy_plugin") as plugin:
        stub = LLMProviderStub(plugin.channel())
        assert stub.GenerateText(pb.GenerateTextRequest(prompt="echo x"), timeout=SECONDS).text == "x"
        assert loop_watchdog.stalls() == []
        found: list[str] = []

        def told() -> bool:
            if how == "gil" and os.getloadavg()[0] > 4 * (os.cpu_count() or 1):
                pytest.skip("on a machine as busy as this nothing is taken for a stall")
            stub.GenerateText(pb.GenerateTextRequest(prompt=f"stall {how}"), timeout=SECONDS)
            stub.GenerateText(pb.GenerateTextRequest(prompt="echo the turn is over"), timeout=SECONDS)
            found.extend(loop_watchdog.stalls())
            return bool(found)

        wait_until(told, "stall")
    assert any(words in one for one in found), found
    assert f"the event loop of tests.toy_plugin (pid {plugin.process.pid})" in found[0]


@pytest.mark.slow
def test_the_test_fails(tmp_path: Path) -> None:
    """A test in which a loop stalled fails, whatever it asserts, unless it is marked; the next one does not."""
    (tmp_path / "test_it.py").write_text(
        """
import hector_plugins_pb2 as pb, pytest
from hector_plugins_pb2_grpc import LLMProviderStub
from tests import toy_plugin
from tests.servers import served

@pytest.fixture(scope="module")
def stub():
    config = toy_plugin.Config(port=0)
    with served(config, toy_plugin.SERVICE, lambda server: toy_plugin.register(toy_plugin.Toy(), server)) as server:
        yield LLMProviderStub(server.channel())

def test_plain(stub):
    stub.GenerateText(pb.GenerateTextRequest(prompt="stall burn"))

@pytest.mark.loop_may_stall("it is meant")
def test_marked(stub):
    stub.GenerateText(pb.GenerateTextRequest(prompt="stall doze"))

def test_next(stub):
    stub.GenerateText(pb.GenerateTextRequest(prompt="echo x"))
"""
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "inner"), "-rA", str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=2 * SECONDS, check=False,
    )  # fmt: skip
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR at teardown of test_plain" in done.stdout
    assert "the event loop of the served hector.plugins.v1.LLMProvider: one turn used" in done.stdout
    assert "_burn" in done.stdout
