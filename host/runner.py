"""One plugin that the host runs: a thread that starts its process, watches it, and starts it anew when it ended or when
its files changed. `host/supervisor.py` has one for each plugin."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host import child, environment, memory, wiring
from host.config import HostConfig, Plugin
from host.gate import Gate
from host.health import SERVING, UNANSWERED, UNREACHABLE, Heartbeat, wait_until_serving
from host.listening import Expected
from host.log_files import LogFile
from host.security import check, check_enforceable, confinement, may_be_dialled, variables
from shared import logs
from shared.errors import StartError

ANNOUNCE_SECONDS = 60.0  # from start to `listening on …`; a plugin loads nothing before that
LOAD_SECONDS = 600.0  # from there to SERVING; a model may have to be downloaded
DEAF_SECONDS = 120.0  # of these so many without any answer at all
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0  # between restarts; doubled each time
DRAIN_SECONDS = 10.0  # calls under way have so long before the process is told to end, and there once more
_STEADY_SECONDS = 60.0  # having run this long, a plugin starts again with FIRST_DELAY
_POLL_SECONDS = 0.1
_IN_USE = "address already in use"  # as what listens says it, in most languages
_ROUTINE = re.compile(r"\S+Z (DEBUG|INFO) ")  # the plugins' own log lines (shared/logs.py) that report no trouble


@dataclass(frozen=True)
class Launch:
    """All that decides how a plugin's process is; where two are equal nothing has to start anew."""

    plugin: Plugin
    command: list[str]  # all but `--port`
    folder: Path  # in which it runs
    environment: dict[str, str]
    confinement: dict[str, Any]  # options of the tether
    needs: tuple[str, ...] = ()  # whose addresses it is told (`host/wiring.py`)


def launch_of(plugin: Plugin, config: HostConfig) -> Launch:
    """Raises StartError where it cannot be run so."""
    check(plugin)
    check_enforceable(plugin)
    return Launch(
        plugin,
        child.command(plugin, config),
        config.folder,
        {**environment.of(plugin, config), **variables(plugin, config)},
        confinement(plugin, config),
        wiring.outline(plugin, config.plugins.values()),
    )


class Runner(threading.Thread):
    """The fields without underscore may be read from any thread."""

    def __init__(
        self,
        launch: Launch,
        *,
        state: Path | None,
        quiet: bool,
        on_change: Callable[[], None],
        wired: Callable[[Plugin], dict[str, str] | None] = lambda plugin: {},
    ) -> None:
        """`state` is where its log and its gate are; None: it has neither. `on_change` is called whenever a field has
        another value. `wired` gives the variables with the addresses of others; None while one is not known."""
        super().__init__(name=launch.plugin.name)
        self.plugin = launch.plugin
        self.address = ""
        self.status = "starting"
        self.cause = ""  # why it is not SERVING
        self.pid: int | None = None
        self.restarts = 0  # not counting those for a change
        self.served = False  # it has been SERVING once
        self.failure = ""  # why it never was, and will not be tried again
        self.patient = False  # what fails before it was ever SERVING waits for a change
        self.needed = True  # not: it is started again whatever it fails of, and the others run on
        self.killing = threading.Event()
        # Waited for in place of join(), which until Python 3.13 forgets a running thread when Ctrl-C interrupts it.
        self.ended = threading.Event()
        self._launch: Launch | None = launch
        self._untried = False  # the last change has not been SERVING yet
        self._port_is_taken = False  # that on which it listened before, by now
        self._stopping = False
        self._changed = False
        self._woken = threading.Event()  # by either
        self._changing = threading.Lock()  # a change is taken as a whole, or is still to come
        self._quiet = quiet
        self._on_change = on_change
        self._wired = wired
        self._state = state
        self._gate: Gate | None = None
        self._log: LogFile | None = None

    def stop(self) -> None:
        """The process is told to end, and the thread ends with it."""
        self._stopping = True
        self._woken.set()

    def change(self, launch: Launch | None) -> None:
        """Calls under way end, then the process; another starts as `launch` says, or none and the thread ends."""
        with self._changing:
            self._launch = launch
            self._changed = True
            self._woken.set()

    @property
    def launch(self) -> Launch | None:
        return self._launch

    @property
    def is_settled(self) -> bool:
        """It has been SERVING once, or need not be for the others to run."""
        return self.served or not self.needed

    @property
    def has_shown_itself(self) -> bool:
        """It has been SERVING as it is to be run now."""
        return self.served and not self._untried and not self._changed

    @property
    def is_up(self) -> bool:
        """It is SERVING, and not about to be started anew for a change."""
        return self.status == SERVING and not self._changed

    def run(self) -> None:
        try:
            if self._state:
                # A runner before this one, of the same name, may still be ending; the gate is its own until it has.
                self._gate = Gate(self._state, self.plugin.name)
                self._log = LogFile(self._state, self.plugin.name)
            self._keep_running()
        except StartError as error:
            self.failure = str(error)
        except Exception as error:  # a bug, or what no system call takes; whoever waits for this plugin is told
            self.failure = f"{type(error).__name__}: {error}"
            logs.event("runner_failed", level=logging.ERROR, exc_info=True, plugin=self.plugin.name)
        finally:
            self._become("stopped", self.failure)
            if self._gate:
                self._gate.end()
            if self._log:
                self._log.close()
            self.ended.set()

    def _keep_running(self) -> None:
        delay = FIRST_DELAY
        while not self._stopping and (launch := self._take_launch()):
            began = time.monotonic()
            try:
                cause = self._run_once(launch)
            except StartError as error:  # a file of its certificates is gone, say
                cause = str(error)
            self.pid = None
            if self._stopping:
                return
            if self._gate:
                self._gate.close()
            if self._changed:
                delay = FIRST_DELAY
                continue
            if not self.served and not self.patient and self.needed:
                self.failure = cause
                return
            if _IN_USE in cause.casefold() and self.address and not self._port_is_taken:
                # Between two processes it is anybody's, any connection's that goes out from here too.
                self._port_is_taken = True
                continue
            if self._untried and self.needed:
                self._become("broken", cause)
                self._event("plugin_broken", logging.ERROR, cause=cause, remedy="edit it once more")
                self._woken.wait()
                continue
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = FIRST_DELAY
            self.restarts += 1
            self._become("restarting", cause)
            self._event("plugin_ended", logging.WARNING, cause=cause, restart_in=f"{delay:g}s")
            self._woken.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _take_launch(self) -> Launch | None:
        """What to start now; a change that comes later is seen as one."""
        with self._changing:
            self._untried = self._untried or self._changed or (self.patient and not self.served)
            self._changed = False
            self._woken.clear()
            if self._stopping:
                self._woken.set()
            launch = self._launch
        if launch:
            self.plugin = launch.plugin
        return launch

    def _run_once(self, launch: Launch) -> str:
        """One process, until it has ended, of itself or because it is to; why it ended."""
        while (addresses := self._wired(launch.plugin)) is None:
            if self._woken.wait(_POLL_SECONDS):
                return ""
        expected = Expected(launch.plugin)
        bound = None
        if (largest := launch.plugin.security.max_memory) is not None:
            bound = memory.Bound(largest, memory.cgroup_folder())
        options = {**launch.confinement, "cgroup": str(bound.cgroup)} if bound and bound.cgroup else launch.confinement
        try:
            process = child.Child(
                [*launch.command, *child.port_arguments(launch.plugin, "" if self._port_is_taken else self.address)],
                cwd=launch.folder,
                environment={**launch.environment, **addresses},
                output=self._show,
                confinement=options,
            )
        except OSError as error:
            return f"cannot run {launch.command[0]}: {error.strerror}"
        self.pid = process.pid
        run = _Run(process, expected, bound)
        try:
            try:
                answer = self._wait_until_serving(run, options)
                if answer == SERVING:
                    self._serves(process)
                    answer = self._watch(run)
            finally:
                process.stop(run.at_once if run.past_memory else self.killing)
            return run.look() or answer or process.cause()
        finally:
            process.close()
            if bound:
                bound.remove()

    def _serves(self, process: child.Child) -> None:
        self._untried = self._port_is_taken = False
        self._become(SERVING)
        self._event("plugin_serving", address=self.address, pid=process.pid)
        if self._gate:
            self._gate.open()
        self.served = True  # last: whoever waits for it looks at the status and calls

    def _watch(self, run: _Run) -> str:
        """Empty, once the process has ended or is to end; or what is wrong with one that lives."""
        with Heartbeat(self.plugin.started_at(self.address)) as heartbeat:
            while not run.process.ended() and not self._woken.wait(_POLL_SECONDS):
                if heartbeat.unanswered() >= UNANSWERED:
                    return f"its process lives, but {UNANSWERED} health checks in a row got no answer"
                if run.look():
                    return ""
        if self._changed and not self._stopping:
            self._become("reloading", "its configuration or its source changed")
            self._event("plugin_changed")
            if self._gate:
                self._gate.close()
                self._gate.wait_for_calls(DRAIN_SECONDS, lambda: self._stopping or run.process.ended())
        return ""

    def _wait_until_serving(self, run: _Run, options: Mapping[str, Any]) -> str:
        """SERVING; or empty, where the process has ended or is to end; or what it did not do in time."""

        def over() -> bool:
            return run.process.ended() or self._woken.is_set() or bool(run.look())

        self._become("starting")
        deadline = time.monotonic() + ANNOUNCE_SECONDS
        while not (address := run.process.address or run.expected.address(run.process.parent)):
            if over():
                return ""
            if time.monotonic() > deadline:
                return f"after {ANNOUNCE_SECONDS:g} s {run.expected.silence()}"
            time.sleep(_POLL_SECONDS)
        if address == run.process.address and not may_be_dialled(address, options):
            return f"it says that it listens at {address}, which its `security` keeps it from reaching itself"
        self.address = address
        self._become("loading")
        answer = wait_until_serving(self.plugin.started_at(self.address), LOAD_SECONDS, over, deaf=DEAF_SECONDS)
        if answer == SERVING:
            return SERVING
        if over():
            return ""
        if answer == UNREACHABLE:
            return f"nothing has answered at {self.address} for {DEAF_SECONDS:g} s"
        return f"it is {answer} after {LOAD_SECONDS:g} s"

    def _become(self, status: str, cause: str = "") -> None:
        self.status, self.cause = status, cause
        self._on_change()

    def _event(self, name: str, level: int = logging.INFO, **fields: str | int) -> None:
        logs.event(name, level=level, exc_info=False, plugin=self.plugin.name, **fields)
        if self._log:
            self._log.host_line(" ".join([name.removeprefix("plugin_"), *(f"{k}={v}" for k, v in fields.items())]))

    def _show(self, line: str) -> None:
        if self._log:
            self._log.line(line)
        if not (self._quiet and _ROUTINE.match(line)):
            logs.line(f"{self.plugin.name} | {line}")


class _Run:
    """A process with its bound of memory."""

    def __init__(self, process: child.Child, expected: Expected, bound: memory.Bound | None) -> None:
        self.process = process
        self.expected = expected  # where it should listen, should it not say so
        self.past_memory = ""  # what to say of it
        self.at_once = threading.Event()
        self.at_once.set()
        self._bound = bound
        self._next = 0.0

    def look(self) -> str:
        """What to say where it is past its bound. May be called often."""
        if self._bound and not self.past_memory and time.monotonic() >= self._next:
            self.past_memory = self._bound.exceeded(self.process.parent)
            self._next = time.monotonic() + _POLL_SECONDS
        return self.past_memory
