"""A plugin that the kit starts itself, from the command that --run gives."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from host.check.claims import Broken
from host.child import lines_of
from shared.errors import StartError

ANNOUNCEMENT = "listening on "
_MOST_LINES = 2000  # of output that are kept


@dataclass
class Process:
    """One run of the command. Its output is read as it comes, so that it never blocks."""

    popen: subprocess.Popen[bytes]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    address: str = ""  # once it was announced
    _readers: list[threading.Thread] = field(default_factory=list)
    _announced: threading.Event = field(default_factory=threading.Event)  # or its stdout has ended

    def read(self) -> None:
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        for pipe, lines in ((self.popen.stdout, self.out), (self.popen.stderr, self.err)):
            reader = threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            reader.start()
            self._readers.append(reader)

    def wait_for_address(self, seconds: float) -> str:
        """What it announced. Raises Broken where it did not."""
        self._announced.wait(seconds)
        if not self.address:
            ended = self.popen.poll() is not None
            how = "it ended" if ended else f"within {seconds:g} s"
            raise Broken(f"it did not print `listening on HOST:PORT`: {how}{self.last_lines()}")
        return self.address

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit status, with everything it wrote read. Raises Broken where it does not end."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"it had not ended after {seconds:g} s") from None
        for reader in self._readers:
            reader.join(5)
        return status

    def last_lines(self) -> str:
        """The end of what it wrote, for a message; empty where it wrote nothing."""
        lines = [line for line in (*self.out, *self.err) if line.strip()]
        return "; it said: " + " | ".join(line.strip()[:300] for line in lines[-3:]) if lines else ""

    def _read(self, pipe: IO[bytes], lines: list[str]) -> None:
        with pipe:
            for line in lines_of(pipe):
                if len(lines) < _MOST_LINES:
                    lines.append(line)
                if lines is self.out and not self.address and line.startswith(ANNOUNCEMENT):
                    self.address = line.removeprefix(ANNOUNCEMENT).strip()
                    self._announced.set()
        if lines is self.out:
            self._announced.set()


@dataclass(frozen=True)
class Command:
    """How the plugin is started: `{port}` in it stands for the port, else `--port N` is put behind it; `{upstream}` for
    the kit's own endpoint."""

    text: str
    seconds: float = 120.0  # bound on a start; a model may have to be loaded
    addresses: tuple[tuple[str, str], ...] = ()  # what other words in braces stand for

    def argv(self, port: int, *more: str) -> list[str]:
        try:
            words = shlex.split(self.text)
        except ValueError as error:
            raise StartError(f"--run is no command line: {error}") from None
        if not words:
            raise StartError("--run is empty; give the command that starts the plugin")
        ports = () if "{port}" in self.text else ("--port", str(port))
        for name, value in (("{port}", str(port)), *self.addresses):
            words = [word.replace(name, value) for word in words]
        return [*words, *ports, *more]

    @contextlib.contextmanager
    def start(self, port: int = 0, *more: str) -> Iterator[Process]:
        """The process, from its start on; it is killed in the end, with all it has started. Raises StartError."""
        argv = self.argv(port, *more)
        try:
            popen = subprocess.Popen(  # noqa: S603  # the operator's own command
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise StartError(f"--run: {argv[0]}: {error.strerror}") from None
        process = Process(popen)
        process.read()
        try:
            yield process
        finally:
            _end(popen)


def ends_by_itself(command: Command, port: int, more: Sequence[str] = ()) -> tuple[int, Process]:
    """The exit status of a start that is to fail. Raises Broken where it goes on running."""
    with command.start(port, *more) as process:
        deadline = time.monotonic() + command.seconds
        while process.popen.poll() is None and not process.address and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.address:
            raise Broken(f"it started, and listens on {process.address}")
        return process.wait(max(1.0, deadline - time.monotonic())), process


def _end(popen: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()
