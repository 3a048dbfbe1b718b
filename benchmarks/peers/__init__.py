"""Vector databases that vector_hnsw is measured beside: a Chroma server, and PostgreSQL with pgvector.

Both are on this machine, their data in a temporary folder: Chroma over HTTP on 127.0.0.1, PostgreSQL on a unix socket.
They live in `.venv-peers` (`make .venv-peers/.installed`), so `client.py` runs there and is talked to over its stdin
and stdout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PYTHON = Path(__file__).parents[2] / ".venv-peers/bin/python"
CLIENT = Path(__file__).with_name("client.py")
STOP = 60  # seconds that a peer may take to stop its server and remove its data


class Peer:
    """A running database. What goes wrong in it is a RuntimeError here, the details on stderr, and its end."""

    name: str
    """What it is, with versions: `pgvector 0.8.5 (PostgreSQL 18.4)`."""

    address: str
    """What libpq takes to reach it: PostgreSQL's; "" for others."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        told = self._read()
        self.name, self.address = told["name"], told.get("address", "")

    def load(self) -> float:
        """Loads all vectors, three fields of metadata with each, and builds the HNSW index (cosine, M=16,
        ef_construction=200). Seconds, preparation of the requests included; once only, and before all else."""
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(self.name, total=None)
            self._write("load")
            while "result" not in (answer := self._read()):
                description = f"{self.name}: {answer['stage']}"
                progress.update(task, description=description, completed=answer["done"], total=answer["of"] or None)
        return float(answer["result"])

    def recall(self, ef: int, nearest: Path, k: int = 10) -> float:
        """recall@k, 0 to 1, with an ef_search of `ef`: `nearest` is a .npy of the numbers of the exact nearest, int64
        (m, at least k), for the first m queries."""
        self._write("recall", ef=ef, nearest=str(nearest.absolute()), k=k)
        return float(self._read()["result"])

    def rate(self, clients: int, ef: int, k: int = 10) -> float:
        """Queries a second with `clients` threads: each query once, or as many as fit in three seconds, after half a
        second of warming up. Replies carry id, distance and metadata."""
        self._write("rate", clients=clients, ef=ef, k=k)
        return float(self._read()["result"])

    def vacuum(self) -> None:
        """PostgreSQL's housekeeping, of all that is in it by now."""
        self._write("vacuum")
        self._read()

    def copy_rate(self, count: int) -> float:
        """Vectors a second of the first `count`, with their metadata, by COPY into a new table without an index of
        them. PostgreSQL alone."""
        self._write("copy", count=count)
        return float(self._read()["result"])

    def _write(self, call: str, **arguments: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the next read tells better
            self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
            self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait()}; stderr says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


@contextmanager
def running_peer(
    kind: Literal["chroma", "pgvector"], vectors: Path, queries: Path, *, python: Path = PYTHON
) -> Iterator[Peer]:
    """The database, empty. `vectors` and `queries` are .npy files, float32 (n, dimension), of unit length.

    FileNotFoundError where the peers' environment is missing. However this ends, Ctrl-C included, the server is
    stopped and its data removed; so they are when this process is killed.
    """
    if not python.exists():
        raise FileNotFoundError(f"{python} is missing: run `make .venv-peers/.installed`")
    command = [str(part) for part in (python, "-P", CLIENT, kind, vectors.absolute(), queries.absolute())]
    # In a session of its own Ctrl-C does not reach it: it ends when its stdin does, in good order.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    ) as process:
        assert process.stdin is not None
        try:
            yield Peer(process)
        finally:
            try:
                with suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait(STOP)
            finally:
                if process.poll() != 0:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
