"""One process of a plugin, from start to end: its command line, its output, its stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from host.config import HostConfig, Plugin
from shared.errors import StartError

STOP_SECONDS = 12.0  # a plugin drains for 10 s at most, then saves
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_ANNOUNCEMENT = "listening on "
_TETHER = str(Path(__file__).with_name("tether.py"))


def command(plugin: Plugin, config: HostConfig) -> list[str]:
    """How `plugin` is started, all but `--port`. Raises StartError where its `path` is nothing that can be run."""
    arguments = ["--host", "127.0.0.1", "--config", str(config.file), "--name", plugin.name]
    if _MODULE.fullmatch(plugin.path) and not plugin.path.endswith(".py"):
        return [sys.executable, "-m", plugin.path, *arguments]
    path = config.folder / plugin.path
    if not path.is_file():
        raise StartError(f"plugin {plugin.name}: there is no {path}; `path` is an executable or plugins.NAME")
    if path.suffix == ".py":
        return [sys.executable, str(path), *arguments]
    if not os.access(path, os.X_OK):
        raise StartError(f"plugin {plugin.name}: {path} is not executable; chmod +x it")
    return [str(path), *arguments]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The host's own environment and `extra`; its import path too, since the child runs in another folder."""
    # What the interpreter finds by itself is left out.
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths = [Path(path).absolute() for path in sys.path if os.path.isdir(path)]
    ours = [str(path) for path in paths if not any(path.is_relative_to(known) for known in installed)]
    return {**os.environ, **extra, "PYTHONPATH": os.pathsep.join(ours)}


class Child:
    """A running process, in a session of its own so that a terminal's Ctrl-C reaches the host alone.

    Must be made in a thread that lives until the process has ended (see `host/tether.py`).
    """

    def __init__(
        self, command: list[str], *, cwd: Path, environment: Mapping[str, str], output: Callable[[str], None]
    ) -> None:
        """`output` gets each line the process writes, stderr and stdout, but for the announcement."""
        tether = [sys.executable, "-I", "-S", _TETHER, str(os.getpid())] if sys.platform == "linux" else []
        self._process = subprocess.Popen(  # noqa: S603  # the operator's own configuration says what to run
            [*tether, *command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
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
        """SIGTERM, then SIGKILL after STOP_SECONDS or when `now` is set. Afterwards the process has ended."""
        deadline = time.monotonic() + STOP_SECONDS
        self._signal(signal.SIGTERM)
        while not self.ended() and time.monotonic() < deadline and not now.is_set():
            time.sleep(0.02)
        if not self.ended():
            self._process.kill()
        self._process.wait()

    def cause(self) -> str:
        """Why it ended, for a message: its `error: …` line, else where it failed its last one, and how it ended."""
        for reader in self._readers:
            # A grandchild may still hold the pipe, so this wait is bounded.
            reader.join(1)
        status = self._process.wait()
        if status < 0:
            return f"signal {-status}"
        said = self._error or (self._last if status else "")
        return f"{said} (exit status {status})".lstrip()

    def _signal(self, number: signal.Signals) -> None:
        if os.name == "posix" and not self.ended():
            # Its whole group: `path` may be a shell script that did not `exec` the server.
            os.killpg(self.pid, number)
        else:
            self._process.terminate()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                text = line.rstrip("\r\n")
                if pipe is self._process.stdout and not self.address and text.startswith(_ANNOUNCEMENT):
                    self.address = text.removeprefix(_ANNOUNCEMENT).strip()
                    continue
                if text.startswith("error: "):
                    self._error = text.removeprefix("error: ")
                elif text.strip():
                    self._last = text.strip()
                self._output(text)
