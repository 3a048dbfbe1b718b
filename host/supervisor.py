"""Keeps plugins running: starts them, waits until they serve, starts one that died or changed anew, stops them all.

    with supervise(config, config.plugins.values()) as supervisor:
        print(supervisor.statuses())

What happens to one plugin is in `host/runner.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from host import gate, security, wiring
from host.config import ANY_KIND, ConfigError, HostConfig, Plugin
from host.health import SERVING, wait_until_serving
from host.kinds import kind_of
from host.runner import Launch, Runner, launch_of
from shared import logs
from shared.client import Address
from shared.errors import StartError

REACH_SECONDS = 15.0  # for a server that is said to run already
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Status:
    """A plugin as it is now."""

    name: str
    kind: str
    address: str
    status: str  # SERVING, or what it is doing instead
    pid: int | None  # None: it is not the host's process
    restarts: int = 0  # because it had ended
    cause: str = ""  # why it is not SERVING


@contextmanager
def supervise(
    config: HostConfig, plugins: Iterable[Plugin], *, quiet: bool = False, state: Path | None = None
) -> Iterator[Supervisor]:
    """Within, every plugin has been SERVING once; afterwards those that were started have ended.

    Raises StartError when one cannot be started or reached. The plugins' stderr goes to this stderr, with their
    names before it; `quiet` leaves out their routine log lines. In `state` their logs are kept, and calls that are made
    through `host/gate.py` wait there for a plugin that is between two processes; one host at a time may use it.
    """
    supervisor = Supervisor(config, plugins, quiet, state)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


class Supervisor:
    """All plugins of one host. Use `supervise`."""

    def __init__(
        self, config: HostConfig, plugins: Iterable[Plugin], quiet: bool = False, state: Path | None = None
    ) -> None:
        self._plugins = {plugin.name: plugin for plugin in plugins}
        self._quiet = quiet
        self._state = state
        self._lock = threading.RLock()
        self._listener: Callable[[], None] | None = None
        self._kinds: dict[str, str] = {}  # what each has shown itself to be
        launches = _launches(self._plugins.values(), config)
        self._runners = {name: self._runner(launch) for name, launch in launches.items()}

    def start(self) -> None:
        for runner in self._runners.values():
            runner.start()
        for plugin in self._plugins.values():
            if plugin.address:
                _reach(plugin, plugin.address)
        while not all(runner.is_settled for runner in self._runners.values()):
            for runner in self._runners.values():
                if runner.failure:
                    raise StartError(f"plugin {runner.plugin.name} did not start: {runner.failure}")
            time.sleep(_POLL_SECONDS)
        self._kinds = {
            name: kind_of(plugin, self.address(name)) for name, plugin in self._plugins.items() if not plugin.reader_of
        }

    def stop(self) -> None:
        """Ends every process. A second Ctrl-C kills those that are not done yet."""
        try:
            self._end()
        except KeyboardInterrupt:  # perhaps before all were told to stop
            self._end(at_once=True)
            raise

    def _end(self, *, at_once: bool = False) -> None:
        runners = [runner for runner in self._runners.values() if runner.is_alive()]
        for runner in runners:
            if at_once:
                runner.killing.set()
            runner.stop()
        for runner in runners:
            runner.ended.wait()

    def reload(self, config: HostConfig) -> bool:
        """Brings the plugins in line with `config`; those for which nothing changed go on undisturbed. Whether any
        was started, stopped or started anew.

        Raises StartError where one cannot be run so, and then nothing was changed.
        """
        launches = _launches(config.plugins.values(), config)
        changed = False
        with self._lock:
            self._plugins = dict(config.plugins)
            for name in self._runners.keys() - launches.keys():
                logs.event("plugin_removed", plugin=name)
                self._runners.pop(name).change(None)
                changed = True
            for name, launch in launches.items():
                runner = self._runners.get(name)
                if runner is None or not runner.is_alive():
                    self._runners[name] = self._runner(launch)
                    self._runners[name].patient = True
                    self._runners[name].start()
                    changed = True
                elif runner.launch != launch:
                    runner.change(launch)
                    changed = True
        self._tell()
        return changed

    def restart(self, name: str) -> None:
        """Starts one plugin anew, because its source changed."""
        with self._lock:
            runner = self._runners.get(name)
            if runner:
                runner.change(runner.launch)

    @contextmanager
    def calling(self, name: str) -> Iterator[Address]:
        """Within, the plugin is not taken down for a change; one that is between two processes is waited for, 30 s at
        most (PluginAwayError)."""
        with ExitStack() as stack:
            if self._state:
                stack.enter_context(gate.calling(self._state, name))
            yield self.address(name)

    def address(self, name: str) -> Address:
        plugin = self._plugins[name]
        return plugin.address or plugin.started_at(self._runners[name].address)

    def launches(self) -> list[Launch]:
        """Of those that run here."""
        with self._lock:
            return [runner.launch for runner in self._runners.values() if runner.launch]

    def statuses(self) -> list[Status]:
        with self._lock:
            return [self._status(plugin) for plugin in self._plugins.values()]

    def addresses(self) -> dict[str, str]:
        """Where each plugin listens that was started here."""
        with self._lock:
            return {name: runner.address for name, runner in self._runners.items()}

    def listen(self, listener: Callable[[], None] | None) -> None:
        """`listener` is called now and whenever a status has changed, one call at a time: what it saw last is what is.
        Raises what it raises now."""
        with self._lock:
            self._listener = listener
            if listener:
                listener()

    def _tell(self) -> None:
        with self._lock:
            if self._listener:
                try:
                    self._listener()
                except StartError as error:
                    logs.event("state_not_written", level=logging.WARNING, cause=error)

    def _runner(self, launch: Launch) -> Runner:
        runner = Runner(launch, state=self._state, quiet=self._quiet, on_change=self._tell, wired=self._wired)
        runner.needed = launch.plugin.reader_of not in self._plugins
        return runner

    def _wired(self, plugin: Plugin) -> dict[str, str] | None:
        """The variables that tell `plugin` where others are; None while one of them is about to say where, or while the
        plugin that it reads beside may have no store yet."""
        writer, reader = self._runners.get(plugin.reader_of), self._runners.get(plugin.name)
        if writer and not writer.is_up and not (reader and reader.has_shown_itself):
            return None
        addresses: dict[str, Address] = {}
        for llm in wiring.needs(plugin, self._plugins.values()):
            runner = self._runners.get(llm.name)
            if llm.address or (runner and runner.address):
                addresses[llm.name] = self.address(llm.name)
            elif runner and runner.status in ("starting", "loading"):
                return None
        return wiring.environment(plugin, addresses)

    def _status(self, plugin: Plugin) -> Status:
        kind = self._kinds.get(plugin.reader_of or plugin.name, ANY_KIND) if plugin.kind == ANY_KIND else plugin.kind
        if plugin.address:
            return Status(plugin.name, kind, plugin.address.address, SERVING, None)
        runner = self._runners[plugin.name]
        return Status(plugin.name, kind, runner.address, runner.status, runner.pid, runner.restarts, runner.cause)


def _launches(plugins: Iterable[Plugin], config: HostConfig) -> dict[str, Launch]:
    """Raises ConfigError with what is wrong with any of `plugins`."""
    launches: dict[str, Launch] = {}
    mistakes: list[str] = []
    for plugin in plugins:
        try:
            if plugin.address:
                security.check(plugin)
            else:
                launches[plugin.name] = launch_of(plugin, config)
        except StartError as error:
            mistakes.append(f"{config.file}:{plugin.line}: {error}" if plugin.line else str(error))
    if mistakes:
        raise ConfigError(mistakes)
    return launches


def _reach(plugin: Plugin, address: Address) -> None:
    answer = wait_until_serving(address, REACH_SECONDS)
    if answer != SERVING:
        raise StartError(
            f"plugin {plugin.name} at {address.address} is {answer}; start it, or give `path` to have it started"
        )
