"""Two plugins in one small server, for tests of the host: bag-of-words vectors and a dict that is searched whole.

In a test's process: `with fakes() as fake: ... fake.embedder.texts`. As a process that the host starts: this file is
a `path`, and its block's `config` may say `refuse: MESSAGE` (exit 2), `load_seconds`, `stubborn` (ignores SIGTERM),
`flood: BYTES` (so much on stderr and on stdout, without a line end), `chatter: LINES` (so many on stderr),
`offspring: FILE` (three children that ignore SIGTERM and hold its pipes, their pids in FILE), `deaf_after: CHECKS`
(so many health checks said SERVING; shuts its port then, and lives on), `check_seconds` (what a health check takes), or
`unready_after: CHECKS` (NOT_SERVING from then on).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import yaml
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

DIMENSION = 64


def vector_of(text: str) -> list[float]:
    counts = [0.0] * DIMENSION
    for word in text.lower().split():
        counts[int(hashlib.sha256(word.strip(".,?!#`").encode()).hexdigest(), 16) % DIMENSION] += 1
    norm = math.sqrt(sum(count * count for count in counts)) or 1.0
    return [count / norm for count in counts]


class FakeEmbedder(rpc.EmbedderProviderServicer):
    def __init__(self) -> None:
        self.model = "fake-model"
        self.texts: list[str] = []  # every document text that was embedded
        self.queries: list[str] = []
        self.fail_after: int | None = None  # texts

    def GetDimensions(self, request: Any, context: Any) -> Any:
        return pb.GetDimensionsResponse(success=True, dimensions=DIMENSION, model=self.model)

    def EmbedBatch(self, request: Any, context: Any) -> Any:
        seen = self.queries if request.options.input_type == pb.INPUT_TYPE_QUERY else self.texts
        if self.fail_after is not None and len(seen) + len(request.texts) > self.fail_after:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the fake was told to fail")
        seen.extend(request.texts)
        reply = pb.EmbedBatchResponse(success=True, model=self.model)
        for text in request.texts:
            reply.embeddings.add(vector=vector_of(text), truncated=len(text) > 5000)
        return reply


@dataclass
class Stored:
    dimension: int
    model: str
    vectors: dict[str, Any] = field(default_factory=dict)


class FakeDatabase(rpc.DatabaseProviderServicer):
    def __init__(self) -> None:
        self.collections: dict[str, Stored] = {}
        self.models: list[str | None] = []  # the x-embedding-model of every upsert and search
        self.lose_next: set[str] = set()  # RPCs that do their work and then lose the reply, once

    def CreateCollection(self, request: Any, context: Any) -> Any:
        there = self.collections.get(request.name)
        if there and (not request.if_not_exists or (there.dimension, there.model) != self._wanted(request)):
            reply = pb.CreateCollectionResponse(error=f"collection {request.name} exists with model {there.model}")
            reply.status.code = 6
            return reply
        if not there:
            self.collections[request.name] = Stored(*self._wanted(request))
        self._perhaps_lose("CreateCollection", context)
        return pb.CreateCollectionResponse(success=True, created=not there)

    def UpsertVectors(self, request: Any, context: Any) -> Any:
        self._note_model(context)
        vectors = self.collections[request.collection].vectors
        vectors.update({vector.id: vector for vector in request.vectors})
        self._perhaps_lose("UpsertVectors", context)
        return pb.UpsertVectorsResponse(success=True, upserted_count=len(request.vectors))

    def DeleteVectors(self, request: Any, context: Any) -> Any:
        vectors = self.collections[request.collection].vectors
        gone = [vectors.pop(key) for key in request.ids if key in vectors]
        self._perhaps_lose("DeleteVectors", context)
        return pb.DeleteVectorsResponse(success=True, deleted_count=len(gone))

    def SearchVectors(self, request: Any, context: Any) -> Any:
        self._note_model(context)
        if request.collection not in self.collections:
            reply = pb.SearchVectorsResponse(error=f"no collection {request.collection}")
            reply.status.code = 5
            return reply
        scored = [
            (sum(a * b for a, b in zip(request.vector, stored.vector, strict=True)), key, stored.metadata)
            for key, stored in self.collections[request.collection].vectors.items()
        ]
        reply = pb.SearchVectorsResponse(success=True, exact=True, complete=True)
        for score, key, metadata in sorted(scored, key=lambda item: (-item[0], item[1]))[: request.limit]:
            reply.results.add(id=key, score=score, metadata=metadata)
        return reply

    def _wanted(self, request: Any) -> tuple[int, str]:
        return request.dimension, request.embedding_model

    def _note_model(self, context: Any) -> None:
        self.models.append(dict(context.invocation_metadata()).get("x-embedding-model"))

    def _perhaps_lose(self, name: str, context: Any) -> None:
        if name in self.lose_next:
            self.lose_next.discard(name)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the reply was lost")


@dataclass
class Fakes:
    address: str
    embedder: FakeEmbedder
    database: FakeDatabase

    @property
    def ids(self) -> set[str]:
        """Of the collection `docs`, without the root's hash: "a.md#0"."""
        return {key.partition("/")[2] for key in self.database.collections["docs"].vectors}


class FakeHealth(health.HealthServicer):  # type: ignore[misc]
    check_seconds = 0.0
    after: dict[int, Callable[[], object]]  # by how many answers said SERVING, what happens then

    def __init__(self) -> None:
        super().__init__()
        self.after = {}
        self._serving = itertools.count(1)

    def Check(self, request: Any, context: Any) -> Any:
        time.sleep(self.check_seconds)
        reply = super().Check(request, context)
        if reply.status == HealthCheckResponse.SERVING and (then := self.after.get(next(self._serving))):
            threading.Timer(0.2, then).start()  # not at once: whoever asked is to have this answer
        return reply


@contextmanager
def fakes(
    port: int = 0,
    load_seconds: float = 0,
    deaf_after: int = 0,
    check_seconds: float = 0,
    unready_after: int = 0,
) -> Iterator[Fakes]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    checks = FakeHealth()
    checks.set("", HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    embedder, database = FakeEmbedder(), FakeDatabase()
    rpc.add_EmbedderProviderServicer_to_server(embedder, server)
    rpc.add_DatabaseProviderServicer_to_server(database, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    threading.Timer(load_seconds, checks.set, ("", HealthCheckResponse.SERVING)).start()
    checks.check_seconds = check_seconds
    if deaf_after:
        checks.after[deaf_after] = lambda: server.stop(0)
    if unready_after:
        checks.after[unready_after] = lambda: checks.set("", HealthCheckResponse.NOT_SERVING)
    try:
        yield Fakes(f"127.0.0.1:{bound}", embedder, database)
    finally:
        server.stop(0).wait()


def config_for(address: str, **database: Any) -> dict[str, Any]:
    """The YAML of a host that uses fakes that run at `address`."""
    return {
        "plugins": {
            "database_providers": {"vectors": {"address": address}},
            "embedder_providers": {"words": {"address": address}},
        },
        "databases": {"store": {"type": "plugin:vectors", "config": {"collection": "docs", **database}}},
        "embedders": {"default": {"type": "plugin:words", "config": {"model": "fake-model"}}},
    }


def write_config(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hector.yaml"
    # As an editor does it: the old content or the new, never a part.
    other = folder / "hector.yaml.new"
    other.write_text(yaml.safe_dump(document, sort_keys=False))
    other.replace(file)
    return file


_CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] != "group" and os.fork():  # an orphan
    os._exit(0)
if sys.argv[2] == "session":
    os.setsid()
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
time.sleep(600)
"""


def bear(pids: Path) -> None:
    """Three children as above: one of this group, one without parent, and one that has left the session too."""
    for kind in ("group", "orphan", "session"):
        subprocess.Popen([sys.executable, "-c", _CHILD, str(pids), kind])
    while not pids.exists() or len(pids.read_text().splitlines()) < 3:
        time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("host", "port", "config", "name"):
        parser.add_argument("--" + name, required=True)
    arguments = parser.parse_args()
    plugins = yaml.safe_load(Path(arguments.config).read_text())["plugins"]
    settings = next(
        section[arguments.name].get("config", {}) for section in plugins.values() if arguments.name in section
    )
    if "refuse" in settings:
        print(f"error: {settings['refuse']}", file=sys.stderr)
        return 2
    stop = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in settings else lambda *_: stop.set())
    keys = ("load_seconds", "deaf_after", "check_seconds", "unready_after")
    with fakes(int(arguments.port), **{key: settings[key] for key in keys if key in settings}) as fake:
        if "offspring" in settings:
            bear(Path(settings["offspring"]))
        print(f"listening on {fake.address}", flush=True)
        print("a line after the announcement", flush=True)
        for _ in range(settings.get("flood", 0) // 2**16):
            os.write(1, b"x" * 2**16)
            os.write(2, b"\xff" * 2**16)
        for number in range(settings.get("chatter", 0)):
            print(f"line {number} " + "x" * 80, file=sys.stderr)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
