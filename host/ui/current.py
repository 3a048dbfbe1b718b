"""What the page is about at this moment: the YAML as it stands now, and how the plugins are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from host.config import ConfigError, HostConfig, Plugin, load
from host.discovery import folders_of
from host.health import SERVING, wait_until_serving
from host.supervisor import Status
from host.ui.secrets import hiding
from shared.errors import StartError
from shared.nearest import did_you_mean

_CHECK_SECONDS = 2.0  # between two health checks of a plugin, and how long one may take


class NotFound(Exception):
    """There is nothing of this name."""


class Current:
    """For any thread. `statuses` is the supervisor's."""

    def __init__(self, config: HostConfig, statuses: Callable[[], Sequence[Status]]) -> None:
        self.config = config
        self.hide = hiding(config)
        self.mistakes: tuple[str, ...] = ()  # of the YAML as it stands now; then `config` is the last that was whole
        self._statuses = statuses
        self._health = _Health()
        self._lock = threading.Lock()
        self._seen = _stamp(config)

    def look(self) -> None:
        """Reads the YAML anew where it, or a manifest, has changed."""
        with self._lock:
            stamp = _stamp(self.config)
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self.config = load(self.config.file)
            except ConfigError as error:
                self.mistakes = tuple(error.mistakes)
            except StartError as error:
                self.mistakes = (str(error),)
            else:
                self.mistakes = ()
                self.hide = hiding(self.config)

    def plugin(self, name: str) -> Plugin:
        if name not in self.config.plugins:
            raise NotFound(f"There is no plugin {name}{did_you_mean(name, self.config.plugins)}.")
        return self.config.plugins[name]

    def statuses(self) -> list[Status]:
        """Each with its health, as far as that is known by now: nobody waits for a plugin here."""
        statuses = list(self._statuses())
        for status in statuses:
            plugin = self.config.plugins.get(status.name)
            if status.status == SERVING and plugin:
                self._health.ask(plugin, status)
        return [self._health.seen(status) for status in statuses]


@dataclass
class _Check:
    pid: int | None
    answer: str = ""  # empty: none yet
    at: float = 0.0
    under_way: bool = False


class _Health:
    """What each plugin says of itself, asked by threads of its own, one a plugin."""

    def __init__(self) -> None:
        self._checks: dict[str, _Check] = {}

    def ask(self, plugin: Plugin, status: Status) -> None:
        check = self._checks.get(plugin.name)
        if check is None or check.pid != status.pid:  # it is another process by now
            check = self._checks[plugin.name] = _Check(status.pid)
        if check.under_way or time.monotonic() - check.at < _CHECK_SECONDS:
            return
        check.under_way = True
        threading.Thread(target=_check, args=(check, plugin, status.address), name="ui-health", daemon=True).start()

    def seen(self, status: Status) -> Status:
        check = self._checks.get(status.name)
        if status.status != SERVING or check is None or not check.answer or check.pid != status.pid:
            return status
        cause = "" if check.answer == SERVING else "what it answers to a health check, while its process lives"
        return replace(status, status=check.answer, cause=cause)


def _check(check: _Check, plugin: Plugin, address: str) -> None:
    try:
        check.answer = wait_until_serving(plugin.address or plugin.started_at(address), _CHECK_SECONDS)
    except StartError:  # a file of its certificates is gone
        check.answer = "UNREACHABLE"
    finally:
        check.at, check.under_way = time.monotonic(), False


def _stamp(config: HostConfig) -> list[tuple[str, int, int]]:
    """Differs where the YAML or a manifest has changed."""
    manifests = [file for folder in folders_of(config) for file in sorted(folder.glob("*.plugin.yaml"))]
    return [_of(file) for file in (config.file, *manifests)]


def _of(file: Path) -> tuple[str, int, int]:
    try:
        about = file.stat()
        return str(file), about.st_mtime_ns, about.st_size
    except OSError:
        return str(file), 0, 0
