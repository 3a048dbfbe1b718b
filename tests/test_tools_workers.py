"""The processes that work on data and pages: what they are given, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import grpc
import pytest

from plugins.tools_http.engine.tool import Call, Output
from plugins.tools_http.engine.turns import Turns
from plugins.tools_http.engine.workers import Crashed, Workers
from shared.errors import (
    CallerError,
    Code,
    InvalidArgument,
    LimitReached,
    Overloaded,
    StartError,
    Unavailable,
)
from tests.tools_socket import serving, tool

ROOT = Path(__file__).resolve().parent.parent
JOBS = "tests.work_jobs"
LONG = 60.0  # seconds; nothing here takes as long


def in_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run_test(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs))

    return run_test


@contextlib.asynccontextmanager
async def started(count: int = 1, **bounds: int) -> AsyncIterator[Workers]:
    workers = Workers(count, preload=[JOBS], **{"memory": 2**28, **bounds})
    await workers.start()
    try:
        yield workers
    finally:
        await workers.close()


async def run(workers: Workers, job: str, payload: bytes = b"", seconds: float = LONG) -> bytes:
    return await workers.run(f"{JOBS}:{job}", payload, seconds=seconds)


async def pid_of(workers: Workers) -> int:
    return int(await run(workers, "own_pid"))


def is_gone(pid: int) -> bool:
    """Whether the process has ended; what nobody has waited for yet (Z) has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 (of another process, which sets no event)
            await asyncio.sleep(0.01)


async def settled() -> None:
    """Returns when every call that was begun has a process, or waits for one: a few turns of the loop, and no time in
    which one could end."""
    for _ in range(10):
        await asyncio.sleep(0)


@in_loop
async def test_bytes_cross_unchanged() -> None:
    """Megabytes come back as they went, in both directions, and so does nothing at all."""
    async with started() as workers:
        large = os.urandom(5_000_000)
        assert await run(workers, "echo", large) == large
        assert await run(workers, "echo", b"") == b""


@in_loop
async def test_jobs_run_side_by_side_and_no_more_than_that() -> None:
    """Two processes serve any number of calls, and never are there more than two."""
    async with started(2) as workers:
        pids = await asyncio.gather(*(pid_of(workers) for _ in range(30)))
        assert len(set(pids)) == 2


@in_loop
async def test_a_job_is_killed_at_its_time_limit_also_within_c() -> None:
    """Work that never ends is over at its limit with WORK_TIMEOUT, its process is gone, and the next call is served."""
    async with started() as workers:
        pid = await pid_of(workers)
        with pytest.raises(LimitReached, match="work_timeout") as caught:
            await run(workers, "in_c", seconds=0.2)
        assert caught.value.reason == "WORK_TIMEOUT"
        assert await run(workers, "echo", b"again") == b"again"
        assert is_gone(pid)


@in_loop
async def test_a_cancelled_call_frees_its_process() -> None:
    """A call that is cancelled has its process killed, and the next call is served."""
    async with started() as workers:
        pid = await pid_of(workers)
        call = asyncio.create_task(run(workers, "in_c"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: is_gone(pid))
        assert await run(workers, "echo", b"again") == b"again"


@in_loop
async def test_a_cancelled_wait_takes_no_process() -> None:
    """Calls that are cancelled while they wait for a process leave it to the others."""
    async with started() as workers:
        pid = await pid_of(workers)
        busy = asyncio.create_task(run(workers, "sleep", b"0.3"))
        waiting = [asyncio.create_task(run(workers, "echo")) for _ in range(5)]
        await settled()
        for call in waiting:
            call.cancel()
        assert await busy == b"0.3"
        assert await pid_of(workers) == pid


@in_loop
async def test_memory_is_bounded() -> None:
    """What needs more memory than is allowed ends with WORK_MEMORY, and the next call is served by another process."""
    async with started() as workers:
        pid = await pid_of(workers)
        with pytest.raises(LimitReached, match="work_memory") as caught:
            await run(workers, "eat", b"1000")
        assert caught.value.reason == "WORK_MEMORY"
        assert await pid_of(workers) != pid
        assert await run(workers, "eat", b"50") == b"50"


@pytest.mark.parametrize(("job", "how"), [("die", "SIGSEGV"), ("leave", "exit status 3"), ("panic", "exit status 1")])
@in_loop
async def test_a_crash_is_one_calls_error(job: str, how: str) -> None:
    """A process that dies of its job fails that call alone, by how it ended, and is replaced."""
    async with started() as workers:
        with pytest.raises(Crashed, match=how) as caught:
            await run(workers, job)
        assert caught.value.reason == "WORKER_CRASHED"
        assert await run(workers, "echo", b"again") == b"again"


@in_loop
async def test_a_process_that_died_idle_fails_no_call() -> None:
    """A process that is killed from outside while it has nothing to do is replaced, and no call hears of it."""
    async with started() as workers:
        pid = await pid_of(workers)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists())
        await asyncio.sleep(0.05)
        assert await pid_of(workers) != pid


@pytest.mark.parametrize("job", ["fail", "deep"])
@in_loop
async def test_a_bug_shows_nothing_of_the_input(job: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of an exception that a job did not foresee the log says where it came from, and quotes nothing."""
    async with started() as workers:
        pid = await pid_of(workers)
        with pytest.raises(RuntimeError) as caught:
            await run(workers, job, b"secret-of-the-caller")
        assert "secret-of-the-caller" not in caplog.text + str(caught.value)
        assert f"{job} in work_jobs.py" in caplog.text
        assert await pid_of(workers) == pid


@pytest.mark.parametrize("job", ["fail", "deep"])
def test_a_bug_through_the_socket(job: str) -> None:
    """The caller of a job with a bug is told INTERNAL and a request id, no file, function or line; the log has these
    with the same id."""
    workers = Workers(1, preload=[JOBS], memory=2**28)

    async def work(arguments: dict[str, object], call: Call) -> Output:
        await workers.start()
        try:
            return Output(text=str(await run(workers, job)))
        finally:
            await workers.close()

    with serving(tool(work)) as tools:
        with pytest.raises(grpc.RpcError) as raised:
            tools.call("toy", {})
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        told = raised.value.details() or ""
        request_id = told.rpartition("request_id ")[2]
        assert request_id
        assert not any(word in told for word in (JOBS, "work_jobs", "Error", "line", ".py", ":"))
        line = next(line for line in tools.served.log().splitlines() if "event=work_failed" in line)
        assert f"{job} in work_jobs.py" in line


@in_loop
async def test_a_jobs_refusal_is_the_callers_error() -> None:
    """A CallerError that a job raises is raised again with its kind, code, reason, fields and metadata."""
    async with started() as workers:
        with pytest.raises(InvalidArgument, match="say what you want") as caught:
            await run(workers, "refuse", b"this")
        error = caught.value
        assert (error.code, error.reason, error.metadata) == (Code.INVALID_ARGUMENT, "NOT_SAID", {"nearest": "this"})
        assert error.violations == (("wanted", "say what you want"),)
        with pytest.raises(CallerError) as other:
            await run(workers, "refuse_as_other")
        assert (other.value.code, other.value.reason, len(other.value.message)) == (Code.OUT_OF_RANGE, "LONG", 2_000)


@in_loop
async def test_results_are_bounded() -> None:
    """An answer of more bytes than is allowed is RESULT_TOO_LARGE, and one of just as many is fine."""
    async with started(most_reply=1000) as workers:
        assert len(await run(workers, "echo", b"x" * 1000)) == 1000
        with pytest.raises(LimitReached) as caught:
            await run(workers, "echo", b"x" * 1001)
        assert caught.value.reason == "RESULT_TOO_LARGE"


@in_loop
async def test_the_queue_is_bounded() -> None:
    """Calls beyond those that may wait are refused at once; those that wait too long are refused then."""
    async with started(waiting=2) as workers:
        busy = asyncio.create_task(run(workers, "in_c"))
        await settled()
        waits, goes = (asyncio.create_task(run(workers, "echo", b"waits")) for _ in range(2))
        await settled()
        with pytest.raises(Overloaded, match="2 calls wait") as caught:
            await run(workers, "echo")
        assert caught.value.retry_after
        goes.cancel()
        await settled()
        with pytest.raises(Overloaded, match="in time"):
            await run(workers, "echo", seconds=0.2)
        busy.cancel()
        assert await waits == b"waits"
        assert await run(workers, "echo", b"free") == b"free"


@in_loop
async def test_jobs_take_turns() -> None:
    """Calls of one job that wait keep those of another waiting for one of them, and fill no place of theirs."""
    async with started(waiting=4) as workers:
        ended: list[str] = []

        async def ending(job: str, payload: bytes) -> None:
            await run(workers, job, payload)
            ended.append(job)

        busy = asyncio.create_task(run(workers, "in_c"))  # until all others wait
        await settled()
        calls = [asyncio.create_task(ending("sleep", b"0.01")) for _ in range(4)]
        await settled()
        with pytest.raises(Overloaded, match="4 calls wait"):
            await run(workers, "sleep", b"0.01")
        calls += [asyncio.create_task(ending("echo", b"")) for _ in range(2)]
        await settled()
        busy.cancel()
        await asyncio.gather(*calls)
        assert ended == ["sleep", "echo", "sleep", "echo", "sleep", "sleep"]


@in_loop
async def test_nothing_is_lost_where_a_wait_ends() -> None:
    """A call that is cancelled in the moment in which it gets a process gives it to the next one."""
    turns: Turns[str] = Turns()
    first, second = (asyncio.create_task(turns.get(kind)) for kind in ("a", "b"))
    await asyncio.sleep(0)
    turns.put("process")
    first.cancel()
    assert await second == "process"
    assert turns.waiting("a") == turns.waiting("b") == 0
    third = asyncio.create_task(turns.get("a"))
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert turns.waiting("a") == 0
    turns.put("process")
    assert await turns.get("c") == "process"


@in_loop
async def test_a_worker_has_no_secret_no_file_and_no_voice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the server's environment is there, what jobs print goes nowhere, and they can write no file."""
    monkeypatch.setenv("TOOLS_HTTP__TOKEN", "secret-of-the-server")
    async with started() as workers:
        assert b"TOKEN" not in await run(workers, "environment")
        assert await run(workers, "chatter") == b"done"
        assert await run(workers, "echo", b"still in step") == b"still in step"
        assert await run(workers, "write", str(tmp_path / "file").encode()) != b"written"
    assert capfd.readouterr() == ("", "")


@in_loop
async def test_a_worker_imports_no_grpc() -> None:
    """A worker loads its jobs and not the server's libraries, so that it starts fast."""
    async with started() as workers:
        loaded = (await run(workers, "modules")).decode().split(",")
        assert JOBS in loaded
        assert not {"grpc", "google", "asyncio", "yaml", "httpcore2"} & set(loaded)


@in_loop
async def test_closing_ends_everything() -> None:
    """After close no process is left, calls under way and later ones are refused as UNAVAILABLE."""
    workers = Workers(2, memory=2**28, preload=[JOBS])
    await workers.start()
    pids = {await pid_of(workers) for _ in range(2)}
    busy = asyncio.create_task(run(workers, "in_c"))
    await settled()
    await workers.close()
    assert all(is_gone(pid) for pid in pids)
    with pytest.raises(Unavailable):
        await busy
    with pytest.raises(Unavailable):
        await run(workers, "echo")


@in_loop
async def test_one_that_cannot_start_is_told_at_the_start() -> None:
    """A memory limit that not even Python starts with is a StartError that names the setting."""
    with pytest.raises(StartError, match="work_memory"):
        await Workers(1, memory=2**20, preload=[JOBS]).start()


@in_loop
async def test_a_module_that_is_not_there_is_told_at_the_start() -> None:
    """A job whose module cannot be imported is a StartError that says why."""
    with pytest.raises(StartError, match="no_such_module"):
        await Workers(1, memory=2**28, preload=["tests.no_such_module"]).start()


@in_loop
async def test_no_time_kills_no_process() -> None:
    """A call that has no time left is refused, and the process stays as it is."""
    async with started() as workers:
        pid = await pid_of(workers)
        with pytest.raises(LimitReached) as caught:
            await run(workers, "echo", seconds=-1.0)
        assert caught.value.reason == "WORK_TIMEOUT"
        assert await pid_of(workers) == pid


@in_loop
async def test_waiting_for_a_process_stops_no_loop() -> None:
    """While megabytes go to a worker and back the event loop comes round."""
    async with started() as workers:
        turns = 0
        call = asyncio.create_task(run(workers, "echo", bytes(20_000_000)))
        while not call.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 50


SERVER = """
import asyncio, sys
from plugins.tools_http.engine.workers import Workers

async def main():
    workers = Workers(2, memory=2**28, preload=["tests.work_jobs"])
    await workers.start()
    print(*{int(await workers.run("tests.work_jobs:own_pid", b"", seconds=60)) for _ in range(2)}, flush=True)
    await workers.run("tests.work_jobs:in_c", b"", seconds=600)

asyncio.run(main())
"""


def test_no_orphans() -> None:
    """kill -9 of the server ends its workers too, the one that is busy in C as well."""
    server = subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    pids = [int(pid) for pid in server.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.1)
    assert not any(is_gone(pid) for pid in pids)
    server.kill()
    server.wait()
    server.stdout.close()
    until = time.monotonic() + LONG
    while not all(is_gone(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.01)
