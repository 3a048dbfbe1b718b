"""Processes for work that takes long, on input that nobody vouches for: they can be killed.

    workers = Workers(2, memory=2**30)
    await workers.start()
    answer = await workers.run("package.module:function", payload, seconds=30)

A thread cannot be stopped, and work in C (a parser, a sort) keeps the event loop waiting. A process can be killed: at
its time limit, when its call is cancelled, when it needs too much memory; and the next one stands ready. What crosses
over is bytes both ways, and neither side reads a pickle of the other. A worker has an empty environment, so no secret;
it writes no file, dumps no core, and ends with the server however that ends.

Of the libraries, loky kills no single task and breaks all of them when one process dies; Pebble kills by time, and
anyio.to_process on cancel, but both unpickle what the worker sends, start it with the server's whole environment, and
bound neither its memory nor (anyio) its life after a kill -9 of the server during a job. Linux only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from shared.errors import (
    CallerError,
    Code,
    FailedPrecondition,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    PermissionDenied,
    StartError,
    Unavailable,
    Unsupported,
)

from . import work_process
from .turns import Turns
from .work_process import LONGEST_REFUSAL, REPLY, REQUEST, Outcome

_log = logging.getLogger("hector")

_START_SECONDS = 60.0  # for a worker to be ready; it takes a tenth of a second on a machine that is not busy
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # before a worker that would not start is started again
_CLOSED = "the processes that do such work have been stopped: the server is shutting down"

_ERRORS = {
    kind.code: kind
    for kind in (InvalidArgument, NotFound, FailedPrecondition, PermissionDenied, LimitReached, Unsupported)
}  # fmt: skip


class Crashed(CallerError):
    """The process that did the work died of it: nobody can say more than by which signal."""

    code = Code.ABORTED
    reason = "WORKER_CRASHED"


class Workers:
    """`count` processes, each doing one job at a time.

    Jobs are functions of bytes that return bytes, named `module:function`, and the processes import `preload` before
    their first one. Of each job `waiting` calls may wait for a process, and the
    jobs get them by turns; more are refused (Overloaded). `memory` and `most_reply`
    are in bytes. Belongs to the event loop that called `start`, and ends with its thread.
    """

    def __init__(
        self,
        count: int,
        *,
        memory: int,
        preload: Sequence[str] = (),
        waiting: int = 64,
        most_reply: int = 32 * 2**20,
    ) -> None:
        self._count = count
        self._command = _command(memory, most_reply, preload)
        self._memory = memory
        self._most_reply = most_reply
        self._most_waiting = waiting
        self._idle: Turns[_Worker] = Turns()
        self._all: set[_Worker] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Returns when every process is ready. Raises StartError where one does not start."""
        try:
            for worker in await asyncio.gather(*(self._started() for _ in range(self._count))):
                self._idle.put(worker)
        except Exception as error:
            await self.close()
            raise StartError(
                f"a process for work on data and pages did not start: {error}; is work_memory enough?"
            ) from error

    async def run(self, job: str, payload: bytes, *, seconds: float) -> bytes:
        """What `job` makes of `payload`, within `seconds`, the time spent waiting for a process included.

        Raises LimitReached (WORK_TIMEOUT, WORK_MEMORY, RESULT_TOO_LARGE), Crashed, Overloaded where no process became
        free, RuntimeError where the job has a bug, and what CallerError the job raised. However it ends, a cancel
        included, the process is then free or killed.
        """
        if seconds <= 0:
            raise LimitReached("no time is left for the work (setting timeout)", reason="WORK_TIMEOUT")
        until = asyncio.get_running_loop().time() + seconds
        worker = await self._free(job, until)
        healthy = False
        try:
            async with asyncio.timeout_at(until):
                outcome, replace, answer = await worker.ask(job, payload, self._most_reply)
            healthy = not replace
        except TimeoutError:
            raise LimitReached(
                f"the work took longer than the {seconds:.3g} s that it may (settings work_timeout and timeout): send "
                "less data or ask for less",
                reason="WORK_TIMEOUT",
            ) from None
        except OSError:
            worker.kill()
            how = await worker.gone()
            if self._closed:
                raise Unavailable(_CLOSED) from None
            _log.warning("event=worker_crashed job=%s how=%s", job, how)
            raise Crashed(
                f"the process that did the work was ended by {how}, perhaps by what it was given, perhaps for want of "
                f"memory (setting work_memory, {self._memory} bytes): send less or other data"
            ) from None
        finally:
            if healthy:
                self._idle.put(worker)
            else:
                self._replace(worker)
        return self._checked(job, outcome, answer)

    async def close(self) -> None:
        """Kills all processes, whatever they do, and waits until they are gone. Calls that still come are refused."""
        self._closed = True
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        for worker in self._all:
            worker.kill()
        await asyncio.gather(*(worker.gone() for worker in self._all))
        self._all.clear()

    async def _free(self, job: str, until: float) -> _Worker:
        if self._closed:
            raise Unavailable(_CLOSED)
        if (waiting := self._idle.waiting(job)) >= self._most_waiting:
            raise Overloaded(f"{waiting} calls wait for a process already (setting workers)", retry_after=1)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    worker = await self._idle.get(job)
            except TimeoutError:
                raise Overloaded("no process became free in time (setting workers)", retry_after=1) from None
            if worker.is_alive():
                return worker
            self._replace(worker)  # it died with nothing to do: killed from outside

    def _replace(self, worker: _Worker) -> None:
        worker.kill()
        task = asyncio.create_task(self._replacement(worker))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replacement(self, worker: _Worker) -> None:
        await worker.gone()
        self._all.discard(worker)
        pause = _FIRST_PAUSE
        while not self._closed:
            try:
                self._idle.put(await self._started())
                return
            except (OSError, TimeoutError) as error:
                _log.error("event=worker_not_started cause=%r", str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _started(self) -> _Worker:
        worker = _Worker(self._command)
        self._all.add(worker)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker.ready()
        except BaseException:
            worker.kill()
            await worker.gone()
            self._all.discard(worker)
            raise
        return worker

    def _checked(self, job: str, outcome: Outcome, answer: bytes) -> bytes:
        if outcome is Outcome.OUT_OF_MEMORY:
            raise LimitReached(
                f"the work needed more than the {self._memory} bytes of memory that it may have (setting work_memory): "
                "send less data or ask for less",
                reason="WORK_MEMORY",
            )
        if outcome is Outcome.TOO_LONG:
            raise LimitReached(
                f"the result has more than {self._most_reply} bytes: ask for less, for example with a filter",
                reason="RESULT_TOO_LARGE",
            )
        if outcome is Outcome.REFUSED:
            raise _refusal(answer)
        if outcome is Outcome.FAILED:
            where = answer.decode("utf-8", "replace")
            _log.error("event=work_failed job=%s cause=%r", job, where)
            raise RuntimeError(f"the job {job} has a bug")  # as one in this process: the caller is told no more
        return answer


def _command(memory: int, most_reply: int, preload: Sequence[str]) -> list[str]:
    # -I: neither the current folder nor a variable decides what is imported; it is what the server imports from.
    program = (
        "import sys; sys.path[:] = sys.argv[5:]; "
        f"from {work_process.__name__} import main; "
        "main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [*filter(None, sys.argv[4].split(','))])"
    )
    folders = [os.path.abspath(folder) for folder in sys.path]
    numbers = [str(number) for number in (os.getpid(), memory, most_reply)]
    return [sys.executable, "-I", "-B", "-c", program, *numbers, ",".join(preload), *folders]


def _refusal(answer: bytes) -> CallerError:
    said = json.loads(answer)
    error = _ERRORS.get(said["code"], CallerError)(
        said["message"],
        reason=said["reason"],
        violations=[(field, description) for field, description in said["violations"]],
        metadata=said["metadata"],
    )
    error.code = Code(said["code"])
    return error


class _Worker:
    """One process and the socket to it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Takes some 2 ms, as every start of a process does."""
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and program)
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,  # Ctrl-C is the server's alone
            )
        # Of asyncio's own processes a kill at the wrong moment takes the exit status away.
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._descriptor = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._descriptor, self._gone)

    def _gone(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._exit.set_result(self._process.wait())

    async def ready(self) -> None:
        """Raises OSError where it cannot work."""
        status, _, length = REPLY.unpack(await self._received(REPLY.size))
        if status != Outcome.DONE:
            raise OSError(bytes(await self._received(length)).decode("utf-8", "replace"))

    async def ask(self, job: str, payload: bytes, most_reply: int) -> tuple[Outcome, bool, bytes]:
        """Raises OSError where the process is gone. After any error and any cancel it must be killed."""
        name = job.encode()
        await self._loop.sock_sendall(self._socket, REQUEST.pack(len(name), len(payload)) + name)
        await self._loop.sock_sendall(self._socket, payload)
        status, replace, length = REPLY.unpack(await self._received(REPLY.size))
        # What parsed a stranger's bytes is not trusted to keep to its own bounds.
        if status not in set(Outcome) or length > (most_reply if status == Outcome.DONE else LONGEST_REFUSAL):
            raise OSError("the reply makes no sense")
        return Outcome(status), replace, bytes(await self._received(length))

    async def _received(self, length: int) -> bytearray:
        received = bytearray(length)
        rest = memoryview(received)
        while rest:
            count = await self._loop.sock_recv_into(self._socket, rest)
            if not count:
                raise ConnectionResetError("the process is gone")
            rest = rest[count:]
        return received

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    async def gone(self) -> str:
        """Waits until it is; what ended it, a signal or its exit status."""
        status = await asyncio.shield(self._exit)
        self._socket.close()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"
