"""The other end of `worker.py`: a process that is started when the first document needs it, and anew when it died."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Self

from host.chunks import Line
from host.readers import worker
from host.readers.unreadable import Unreadable

MEMORY = 2**30  # bytes
CPU_SECONDS = 120  # of one document; some thousands of pages
_CLOCK = 10  # times as long on a clock, which runs on where the processor is others'


class ReadingProcess:
    """A context manager: afterwards the process is gone. It has none of this one's environment, and so no secret."""

    def __init__(self, *, memory: int = MEMORY, cpu_seconds: int = CPU_SECONDS) -> None:
        self._bounds = memory, cpu_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def read(self, kind: str, content: bytes) -> list[Line]:
        """Raises Unreadable, also where the document takes too much time or memory."""
        is_new = self._process is None
        try:
            return self._read(kind, content)
        except Unreadable as error:
            # What other documents have left behind is not this one's.
            if is_new or str(error) != worker.TOO_MUCH_MEMORY:
                raise
        return self._read(kind, content)

    def _read(self, kind: str, content: bytes) -> list[Line]:
        process = self._process = self._process or _started(*self._bounds)
        assert process.stdin
        assert process.stdout
        too_late = threading.Event()

        def end() -> None:
            too_late.set()
            process.kill()

        timer = threading.Timer(_CLOCK * self._bounds[1], end)
        timer.daemon = True
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # the answer says why
                process.stdin.write(json.dumps({"kind": kind, "bytes": len(content)}).encode() + b"\n" + content)
                process.stdin.flush()
            reply = process.stdout.readline()
        finally:
            timer.cancel()
        answer = json.loads(reply) if reply.endswith(b"\n") else {"problem": _why(process.wait(), too_late.is_set())}
        if "problem" not in answer:
            return [Line(*line) for line in answer["lines"]]
        if not reply.endswith(b"\n") or answer["problem"] == worker.TOO_MUCH_MEMORY:
            self._end()
        raise Unreadable(answer["problem"])

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            with contextlib.suppress(OSError), self._process:  # closes the pipes and waits
                pass
        self._process = None


def _why(status: int, too_late: bool) -> str:
    """What ended the process."""
    if too_late or -status == getattr(signal, "SIGXCPU", None):
        return "takes too long to read"
    return worker.TOO_MUCH_MEMORY if -status == getattr(signal, "SIGKILL", None) else "crashes its reader"


def _started(memory: int, cpu_seconds: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 # this project's own module
        [sys.executable, "-P", "-m", worker.__name__, str(memory), str(cpu_seconds)],
        env={"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path), "PYTHONUTF8": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
