"""How calls wait while a plugin is between two processes, and how the host waits for calls before it stops one.

    with calling(config.state, "vectors"):   # in any process: waits while the plugin is away, 30 s at most
        stub.SearchVectors(...)

Two files with locks, which the kernel takes back however a process ends. A call holds `NAME.calls` together with
others; before that it passes `NAME.turn`, which the host keeps to itself while the plugin is away, so that calls that
follow upon each other without a gap cannot keep the host waiting. On Windows, which has no such locks, nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from host.log_files import file_name
from shared.errors import StartError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT_SECONDS = 30.0  # a call waits so long for a plugin to come back
_PASSING_SECONDS = 5.0  # a call passes the turn in a moment; one that was stopped there (Ctrl-Z) is not waited for
_POLL_SECONDS = 0.005


class PluginAwayError(StartError):
    """The plugin did not come back in time. Nothing was sent to it."""


@contextmanager
def calling(state: Path, plugin: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Within, the host does not take the plugin down for a change. Raises PluginAwayError after `seconds`."""
    deadline = time.monotonic() + seconds
    with _lock(state, plugin, "turn") as turn, _lock(state, plugin, "calls") as calls:
        while not (_take(turn, exclusive=False) and _take(calls, exclusive=False)):
            if time.monotonic() > deadline:
                raise PluginAwayError(
                    f"plugin {plugin} was not back within {seconds:g} s; `python -m host status` and "
                    f"`python -m host logs {plugin}` say why"
                )
            time.sleep(_POLL_SECONDS)
        _release(turn)
        yield


class Gate:
    """The host's side, closed to begin with. For one thread."""

    def __init__(self, state: Path, plugin: str) -> None:
        folder = state / "gates"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._turn, self._calls = (
                os.open(folder / f"{file_name(plugin)}.{what}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                for what in ("turn", "calls")
            )
        except OSError as error:
            raise StartError(f"cannot write {folder}: {error.strerror}") from None
        self.close()

    def close(self) -> None:
        """No call begins from now on."""
        deadline = time.monotonic() + _PASSING_SECONDS
        while not _take(self._turn, exclusive=True) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def wait_for_calls(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Once closed: waits until the calls under way have ended; whether they have."""
        deadline = time.monotonic() + seconds
        while not _take(self._calls, exclusive=True):
            if time.monotonic() > deadline or give_up():
                return False
            time.sleep(_POLL_SECONDS)
        _release(self._calls)
        return True

    def open(self) -> None:
        _release(self._turn)

    def end(self) -> None:
        os.close(self._turn)
        os.close(self._calls)


@contextmanager
def _lock(state: Path, plugin: str, what: str) -> Iterator[int | None]:
    """The opened file; None where no host has ever made one."""
    try:
        descriptor = os.open(state / "gates" / f"{file_name(plugin)}.{what}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(lock: int | None, *, exclusive: bool) -> bool:
    if fcntl is None or lock is None:
        return True
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release(lock: int | None) -> None:
    if fcntl is not None and lock is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
