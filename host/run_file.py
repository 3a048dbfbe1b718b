"""`.hector/run.json`: where the plugins of a running `serve` are, for the commands beside it.

    {"pid": 4711, "config": "/home/me/hector.yaml", "addresses": {"vectors": "127.0.0.1:40123"},
     "plugins": {"vectors": {"kind": "database_provider", "address": …, "status": "SERVING", "pid": 4712, …}}}

It is written anew whenever a plugin's status changes. No tokens: those stand in the YAML. While it runs a host holds a
lock on `.hector/lock`, which the kernel takes back however the host ends. So a run.json without that lock was left by a
host that was killed and counts as none, whatever process has its pid by now, and of two hosts that start at one moment
one is refused. On Windows there is no such lock: a file that was left must be removed by hand there, and two hosts are
told apart by run.json alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from host import atomic
from shared.errors import StartError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LARGEST = 2**20  # bytes
_LOCK_SECONDS = 1.0  # for a host that is just ending
_LOOKING_SECONDS = 30.0  # whoever only looks holds the lock for a moment, unless its process stands still there


@dataclass(frozen=True)
class RunFile:
    pid: int  # of the host
    config: str  # its YAML, absolute
    addresses: Mapping[str, str]  # of each plugin that it started: HOST:PORT or unix:PATH
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # a Status of host/supervisor.py each


def path_in(state: Path) -> Path:
    return state / "run.json"


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Within, this is the one host that runs for the folder. Raises StartError where there is another."""
    path = state / "lock"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise StartError(f"{path} is not a plain file; remove it")
        began = time.monotonic()
        while not _taken(lock):
            waited = time.monotonic() - began
            if waited > _LOOKING_SECONDS or (waited > _LOCK_SECONDS and _is_a_hosts(lock)):
                raise StartError(_other(state))
            time.sleep(0.02)
        yield
    finally:
        os.close(lock)


def write(state: Path, run: RunFile) -> None:
    atomic.write(path_in(state), json.dumps(asdict(run), indent=1) + "\n")


def read(state: Path) -> RunFile | None:
    """The running host's; None where none runs, or one is just starting or stopping."""
    return _written(state) if held(state) else None


def remove(state: Path) -> None:
    with contextlib.suppress(OSError):
        path_in(state).unlink(missing_ok=True)


def held(state: Path) -> bool:
    """Whether a host runs for this folder, with or without a run.json yet."""
    if fcntl is None:
        return path_in(state).exists()
    try:
        lock = os.open(state / "lock", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _taken(lock, shared=True)
    finally:
        os.close(lock)


def _is_a_hosts(lock: int) -> bool:
    """Whether a host holds it, and not only those who look, who share it."""
    if not _taken(lock, shared=True):
        return True
    if fcntl is not None:
        fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def _taken(lock: int, *, shared: bool = False) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StartError(f"cannot lock .hector/lock: {error.strerror}; keep the YAML on a local disk") from None
    return True


def _other(state: Path) -> str:
    run = _written(state)
    if run is None:
        return f"another host is just starting or stopping in {state.parent}; stop it first"
    return f"a host runs already for {run.config} (pid {run.pid}); stop it first"


def _written(state: Path) -> RunFile | None:
    """What run.json holds; None where that is not what a host writes."""
    try:
        document = atomic.read(path_in(state), at_most=_LARGEST)
    except (OSError, ValueError):
        return None
    match document:
        case {"pid": int(pid), "config": str(config), "addresses": dict(addresses), **rest}:
            plugins = rest.get("plugins", {})
            if isinstance(pid, bool) or not isinstance(plugins, dict):
                return None
            if not all(isinstance(text, str) for text in addresses.values()):
                return None
            return RunFile(pid, config, addresses, plugins) if all(map(_is_status, plugins.values())) else None
    return None


def _is_status(value: object) -> bool:
    """Whether it is one, as a host of any version writes it."""
    match value:
        case {"kind": str(), "address": str(), "status": str(), "pid": int() | None}:
            return True
    return False
