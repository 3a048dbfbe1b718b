"""`.hector/run.json`: where the plugins of a running `serve` are, for the commands beside it.

    {"pid": 4711, "config": "/home/me/hector.yaml", "addresses": {"vectors": "127.0.0.1:40123"}}

No tokens: those stand in the YAML. A file whose process is gone was left by a host that was killed, and counts as
none. On Windows a process cannot be asked for without harm, so there such a file must be removed by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from host import atomic


@dataclass(frozen=True)
class RunFile:
    pid: int  # of the host
    config: str  # its YAML, absolute
    addresses: Mapping[str, str]  # of each plugin that it started: HOST:PORT or unix:PATH


def path_in(state: Path) -> Path:
    return state / "run.json"


def write(state: Path, run: RunFile) -> None:
    atomic.write(path_in(state), json.dumps(asdict(run), indent=1) + "\n")


def read(state: Path) -> RunFile | None:
    """The running host's; None where none runs."""
    try:
        run = RunFile(**json.loads(path_in(state).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return run if _alive(run.pid) else None


def remove(state: Path) -> None:
    path_in(state).unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
