"""One process of a plugin, from start to end: its command line, its output, its stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from host.config import HostConfig, Plugin
from host.listening import announced
from shared.errors import StartError

STOP_SECONDS = 12.0  # a plugin drains for 10 s at most, then saves
_KILL_SECONDS = 7.0  # a little more than the tether's own
LONGEST_LINE = 64 * 1024  # bytes of a line of output
_LONGEST_CAUSE = 2000  # characters of a line that says why a process ended
_TETHER = str(Path(__file__).with_name("tether.py"))


def command(plugin: Plugin, config: HostConfig) -> list[str]:
    """How `plugin` is started, all but `port_arguments`. Raises StartError where its `path` is nothing that can be run.

    An executable gets no arguments but its own: it may be one that has never heard of ours.
    """
    if plugin.module:
        # -P: the folder in which it runs is not searched for modules.
        return [sys.executable, "-P", "-m", plugin.module, *_arguments(plugin, config)]
    path = config.folder / plugin.path
    if not path.is_file():
        raise StartError(f"plugin {plugin.name}: there is no {path}; `path` is an executable or a Python module")
    if path.suffix == ".py":
        return [sys.executable, str(path), *_arguments(plugin, config)]
    if not os.access(path, os.X_OK):
        raise StartError(f"plugin {plugin.name}: {path} is not executable; chmod +x it")
    return [str(path), *(plugin.arguments or ())]


def port_arguments(plugin: Plugin, address: str) -> list[str]:
    """What has it listen where it did before, at `address`, so that addresses that were handed out stay good."""
    if plugin.arguments is not None or not (plugin.module or plugin.path.endswith(".py")):
        return []
    port = address.rpartition(":")[2]
    return ["--port", port if port.isdigit() else "0"]


def _arguments(plugin: Plugin, config: HostConfig) -> tuple[str, ...]:
    if plugin.arguments is not None:
        return plugin.arguments
    arguments = ("--host", "127.0.0.1", "--config", str(config.file), "--name", plugin.reader_of or plugin.name)
    return (*arguments, "--reader") if plugin.reader_of else arguments


class Child:
    """A running process, in a session of its own so that a terminal's Ctrl-C reaches the host alone.

    On Linux it has a parent between it and the host that leaves nothing of it behind (`host/tether.py`).
    """

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        output: Callable[[str], None],
        confinement: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`output` gets each line the process writes, stderr and stdout, but for the announcement; a line of more than
        LONGEST_LINE bytes is cut. `confinement` are the tether's options: what the command may not do."""
        self._control: socket.socket | None = None
        theirs: socket.socket | None = None
        if sys.platform == "linux":
            self._control, theirs = socket.socketpair()
        tether = (
            [sys.executable, "-I", "-S", _TETHER, str(theirs.fileno()), json.dumps(dict(confinement))] if theirs else []
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603  # the operator's own configuration says what to run
                [*tether, *command],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=[theirs.fileno()] if theirs else [],
            )
        except OSError:
            if self._control:
                self._control.close()
            raise
        finally:
            if theirs:
                theirs.close()
        self.parent = self._process.pid  # of everything that is started here
        self._messages = self._control.makefile("rb") if self._control else None
        self.pid = self._told() or self._process.pid  # of the command, not of the tether
        self.address = ""  # once the process has said that it listens
        self._error = self._last = ""
        self._output = output
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self, now: threading.Event) -> None:
        """SIGTERM, then SIGKILL after STOP_SECONDS or when `now` is set. Afterwards it has ended, and what it started
        too: on Linux all of it, elsewhere what has stayed in its session."""
        deadline = time.monotonic() + STOP_SECONDS
        self._signal(signal.SIGTERM)
        if os.name == "posix":
            self._signal(signal.SIGCONT)  # what was stopped, the tether perhaps, would not see the other
        while not self.ended() and time.monotonic() < deadline and not now.is_set():
            time.sleep(0.02)
        if self._control:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)  # has the tether kill everything
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)
        if not self._control or self._process.poll() != 0:  # there is no tether, or it was killed or is stuck
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._kill_group()
        self._process.wait()

    def cause(self) -> str:
        """Why it ended, for a message: its `error: …` line, else where it failed its last one, and how it ended."""
        for reader in self._readers:
            # Something may still hold the pipe, so this wait is bounded; in steps, for where this whole process stands
            # still meanwhile its readers do so, too.
            for _ in range(10):
                reader.join(0.1)
        status = self._process.wait()
        told = self._told()
        status = status if told is None else told
        if status < 0:
            return f"signal {-status}"
        reason = self._error or (self._last if status else "it ended by itself, and is to stay in the foreground")
        return f"{reason} (exit status {status})".lstrip()

    def close(self) -> None:
        if self._control and self._messages:
            self._messages.close()
            self._control.close()

    def _told(self) -> int | None:
        """The next number that the tether has sent: the command's process id, then its exit status."""
        line = self._messages.readline(32) if self._messages else b""
        return int(line) if line.endswith(b"\n") else None

    def _signal(self, number: signal.Signals) -> None:
        if os.name == "posix" and not self.ended():
            # Its whole group: `path` may be a shell script that did not `exec` the server.
            os.killpg(self._process.pid, number)
        elif not self.ended():
            self._process.terminate()

    def _kill_group(self) -> None:
        if os.name == "posix":
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for text in lines_of(pipe):
                if pipe is self._process.stdout and not self.address and (address := announced(text)):
                    self.address = address
                    continue
                if text.startswith("error: "):
                    self._error = text.removeprefix("error: ")[:_LONGEST_CAUSE]
                elif text.strip():
                    self._last = text.strip()[:_LONGEST_CAUSE]
                self._output(text)


def lines_of(pipe: IO[bytes]) -> Iterator[str]:
    """Each line without its end. Of one with more than LONGEST_LINE bytes what is above is read and dropped."""
    inside = False  # of a line whose beginning was given out
    while data := pipe.readline(LONGEST_LINE):
        ends = data.endswith(b"\n")
        if not inside:
            # A bar of progress goes back to the line's start again and again: what counts is how it ends.
            text = data.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
            yield text if ends or len(data) < LONGEST_LINE else text + "… (the rest of the line is left out)"
        inside = not ends
