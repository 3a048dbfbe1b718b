"""Keeps plugins running: starts them, waits until they serve, starts one that died again, stops them all.

    with supervise(config, config.plugins.values()) as supervisor:
        print(supervisor.statuses())

One thread a plugin. It starts the process, watches it, asks its health and ends with it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host import child
from host.config import HostConfig, Plugin
from host.health import SERVING, UNANSWERED, Heartbeat, wait_until_serving
from shared import logs
from shared.client import Address
from shared.errors import StartError

ANNOUNCE_SECONDS = 60.0  # from start to `listening on …`; a plugin loads nothing before that
LOAD_SECONDS = 600.0  # from there to SERVING; a model may have to be downloaded
REACH_SECONDS = 15.0  # for a server that is said to run already
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0  # between restarts; doubled each time
_STEADY_SECONDS = 60.0  # having run this long, a plugin starts again with FIRST_DELAY
_POLL_SECONDS = 0.1
_ROUTINE = re.compile(r"\S+Z (DEBUG|INFO) ")  # the plugins' own log lines (shared/logs.py) that report no trouble


@dataclass(frozen=True)
class Status:
    """A plugin as it is now."""

    name: str
    kind: str
    address: str
    status: str  # SERVING, or what it is doing instead
    pid: int | None  # None: it is not the host's process


@contextmanager
def supervise(config: HostConfig, plugins: Iterable[Plugin], *, quiet: bool = False) -> Iterator[Supervisor]:
    """Within, every plugin has been SERVING once; afterwards those that were started have ended.

    Raises StartError when one cannot be started or reached. The plugins' stderr goes to this stderr, with their
    names before it; `quiet` leaves out their routine log lines.
    """
    supervisor = Supervisor(config, plugins, quiet)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


class Supervisor:
    """All plugins of one host. Use `supervise`."""

    def __init__(self, config: HostConfig, plugins: Iterable[Plugin], quiet: bool) -> None:
        self._plugins = list(plugins)
        self._started = {plugin.name: _Started(plugin, config, quiet) for plugin in self._plugins if plugin.path}

    def start(self) -> None:
        for started in self._started.values():
            started.start()
        for plugin in self._plugins:
            if plugin.address:
                _reach(plugin, plugin.address)
        while not all(started.served for started in self._started.values()):
            for started in self._started.values():
                if started.failure:
                    raise StartError(f"plugin {started.plugin.name} did not start: {started.failure}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ends every process. A second Ctrl-C kills those that are not done yet."""
        threads = [started for started in self._started.values() if started.is_alive()]
        for thread in threads:
            thread.stopping.set()
        try:
            for thread in threads:
                thread.ended.wait()
        except KeyboardInterrupt:
            for thread in threads:
                thread.killing.set()
            for thread in threads:
                thread.ended.wait()
            raise

    def statuses(self) -> list[Status]:
        return [self._status(plugin) for plugin in self._plugins]

    def addresses(self) -> dict[str, str]:
        """Where each plugin listens that was started here."""
        return {name: started.address for name, started in self._started.items()}

    def _status(self, plugin: Plugin) -> Status:
        if plugin.address:
            return Status(plugin.name, plugin.kind, plugin.address.address, SERVING, None)
        started = self._started[plugin.name]
        return Status(plugin.name, plugin.kind, started.address, started.status, started.pid)


class _Started(threading.Thread):
    """A plugin that the host runs. The fields without underscore may be read from any thread."""

    def __init__(self, plugin: Plugin, config: HostConfig, quiet: bool) -> None:
        super().__init__(name=plugin.name)
        self.plugin = plugin
        self.address = ""
        self.status = "starting"
        self.pid: int | None = None
        self.served = False  # it has been SERVING once
        self.failure = ""  # why it never was
        self.stopping = threading.Event()
        self.killing = threading.Event()
        # Waited for in place of join(), which until Python 3.13 forgets a running thread when Ctrl-C interrupts it.
        self.ended = threading.Event()
        self._quiet = quiet
        self._command = child.command(plugin, config)
        self._folder = config.folder
        self._environment = child.environment(config.environment(plugin))

    def run(self) -> None:
        try:
            self._keep_running()
        finally:
            self.ended.set()

    def _keep_running(self) -> None:
        delay = FIRST_DELAY
        while True:
            began = time.monotonic()
            cause = self._run_once()
            self.pid = None
            if self.stopping.is_set():
                return
            if not self.served:
                self.failure = cause
                return
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = FIRST_DELAY
            self.status = "restarting"
            logs.event(
                "plugin_ended", level=logging.WARNING, plugin=self.plugin.name, cause=cause, restart_in=f"{delay:g}s"
            )
            self.stopping.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _run_once(self) -> str:
        """One process, until it has ended, of itself or because `stopping` is set; why it ended."""
        # The port is kept over restarts, so that addresses that were handed out stay good.
        port = self.address.rpartition(":")[2]
        try:
            process = child.Child(
                [*self._command, "--port", port if port.isdigit() else "0"],
                cwd=self._folder,
                environment=self._environment,
                output=self._show,
            )
        except OSError as error:
            return f"cannot run {self._command[0]}: {error.strerror}"
        self.pid = process.pid
        try:
            try:
                answer = self._wait_until_serving(process)
                if answer == SERVING:
                    self.status, self.served = SERVING, True
                    logs.event("plugin_serving", plugin=self.plugin.name, address=self.address, pid=process.pid)
                    answer = self._watch(process)
            finally:
                process.stop(self.killing)
            return answer or process.cause()
        finally:
            process.close()

    def _watch(self, process: child.Child) -> str:
        """Empty, once the process has ended or is to end; or what is wrong with one that lives."""
        with Heartbeat(self.plugin.started_at(self.address)) as heartbeat:
            while not process.ended() and not self.stopping.wait(_POLL_SECONDS):
                if heartbeat.unanswered() >= UNANSWERED:
                    return f"its process lives, but {UNANSWERED} health checks in a row got no answer"
        return ""

    def _wait_until_serving(self, process: child.Child) -> str:
        """SERVING; or empty, where the process has ended or is to end; or what it did not do in time."""

        def over() -> bool:
            return process.ended() or self.stopping.is_set()

        self.status = "starting"
        deadline = time.monotonic() + ANNOUNCE_SECONDS
        while not process.address:
            if over():
                return ""
            if time.monotonic() > deadline:
                return f"it did not print `listening on HOST:PORT` within {ANNOUNCE_SECONDS:g} s"
            time.sleep(_POLL_SECONDS)
        self.address, self.status = process.address, "loading"
        answer = wait_until_serving(self.plugin.started_at(self.address), LOAD_SECONDS, over)
        if answer == SERVING:
            return SERVING
        return "" if over() else f"it is {answer} after {LOAD_SECONDS:g} s"

    def _show(self, line: str) -> None:
        if not (self._quiet and _ROUTINE.match(line)):
            logs.line(f"{self.plugin.name} | {line}")


def _reach(plugin: Plugin, address: Address) -> None:
    answer = wait_until_serving(address, REACH_SECONDS)
    if answer != SERVING:
        raise StartError(
            f"plugin {plugin.name} at {address.address} is {answer}; start it, or give `path` to have it started"
        )
