"""`python -m host status` and `logs`: what a running `serve` has to say, asked from beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from host import log_files, run_file, show
from host.config import HostConfig
from host.health import SERVING, wait_until_serving
from host.supervisor import Status
from shared.config import suggest
from shared.errors import StartError

_ANSWER_SECONDS = 10.0  # a busy plugin may take so long


def status(config: HostConfig, as_json: bool) -> int:
    """A table or JSON; 0 where every plugin is SERVING now, 1 where one is not, 3 where no host runs."""
    run = run_file.read(config.state)
    if run is None:
        raise StartError(f"no host runs in {config.folder}; `python -m host serve` starts one")
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda each: _now(config, each), _written(run)))
    if as_json:
        document = {"pid": run.pid, "config": run.config, "plugins": [vars(each) for each in statuses]}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        show.plugins(statuses)
        for each in statuses:
            if each.cause:
                show.out.print(show.plain(f"{each.name}: {each.cause}"), markup=False, soft_wrap=True)
    return 0 if all(each.status == SERVING for each in statuses) else 1


def logs(config: HostConfig, name: str, lines: int, follow: bool) -> int:
    """The newest lines of a plugin's log, then with `follow` each new one until Ctrl-C."""
    path = log_files.path_of(config.state, name)
    if not path.exists() and not (follow and name in config.plugins):
        known = list(config.plugins)
        if name not in known:
            raise StartError(f"there is no plugin {name!r}{suggest(name, known)}")
        raise StartError(f"{name} has no log yet; `python -m host serve` keeps one at {path}")
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in log_files.read(config.state, name, lines, lambda: follow):
            print(show.plain(line), flush=follow)
    return 0


def _written(run: run_file.RunFile) -> Iterator[Status]:
    for name, each in run.plugins.items():
        restarts, cause = each.get("restarts"), each.get("cause")
        yield Status(
            name,
            each["kind"],
            each["address"],
            each["status"],
            each["pid"],
            restarts if isinstance(restarts, int) else 0,
            cause if isinstance(cause, str) else "",
        )


def _now(config: HostConfig, written: Status) -> Status:
    """With what the plugin itself says of its health."""
    plugin = config.plugins.get(written.name)
    if written.status != SERVING or plugin is None:
        return written
    address = plugin.address or plugin.started_at(written.address)
    return Status(**{**vars(written), "status": wait_until_serving(address, _ANSWER_SECONDS)})
