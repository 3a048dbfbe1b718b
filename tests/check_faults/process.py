"""A plugin as a process, right or wrong in one thing of its start or its end.

python -m tests.check_faults.process FAULT [--kind database|embedder] --folder DIR [--port N]
"""

from __future__ import annotations

import argparse
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from hector_plugins_pb2_grpc import (
    add_DatabaseProviderServicer_to_server,
    add_EmbedderProviderServicer_to_server,
)

from tests.check_faults.database import Collection, Database
from tests.check_faults.embedder import Embedder

# What is wrong, and the claim that finds it.
FAULTS = {
    "banner": "announces",
    "log-on-stdout": "announces",
    "no-announcement": "announces",
    "own-port": "given_port",
    "every-address": "loopback",
    "shared-port": "busy_port",
    "port-traceback": "busy_port",
    "port-status-0": "busy_port",
    "any-option": "unknown_option",
    "late-health": "health_while_loading",
    "early-serving": "health_while_loading",
    "deaf": "sigterm",
    "status-1": "sigterm",
    "interrupted": "sigint",
    "serving-to-the-end": "health_at_shutdown",
    "no-drain": "drains",
    "stays-locked": "starts_after_kill",
    "in-memory": "survives_kill",
    "saves-at-the-end": "survives_kill",
    "forgets-deletions": "survives_stop",
}


class Kept(Database):
    """A database that is written to a file whenever it changes."""

    def __init__(self, file: Path, fault: str) -> None:
        super().__init__()
        self.file, self.fault = file, fault
        if file.exists():
            for name, (dimension, vectors) in pickle.loads(file.read_bytes()).items():
                made = {key: self.kind().FromString(data) for key, data in vectors.items()}
                self.collections[name] = Collection(dimension, made)

    @staticmethod
    def kind() -> Any:
        import hector_plugins_pb2 as pb

        return pb.Vector

    def save(self) -> None:
        values = {
            name: (one.dimension, {key: vector.SerializeToString() for key, vector in one.vectors.items()})
            for name, one in self.collections.items()
        }
        new = self.file.with_suffix(".new")
        new.write_bytes(pickle.dumps(values))
        new.replace(self.file)

    def changed(self) -> None:
        if self.fault not in ("in-memory", "saves-at-the-end"):
            self.save()

    def make(self, name: str, dimension: int) -> None:
        super().make(name, dimension)
        self.changed()

    def drop(self, name: str) -> None:
        super().drop(name)
        self.changed()

    def write(self, collection: Collection, vectors: Sequence[Any]) -> None:
        super().write(collection, vectors)
        self.changed()

    def delete(self, collection: Collection, keys: Sequence[str]) -> int:
        if self.fault == "forgets-deletions":
            kept = {key: collection.vectors[key] for key in keys}
            count = super().delete(collection, keys)
            collection.vectors |= kept
            self.save()
            super().delete(collection, keys)
            self.changed = lambda: None  # type: ignore[method-assign]
            return count
        count = super().delete(collection, keys)
        self.changed()
        return count


class Slow(Embedder):
    def batch(self, texts: Sequence[str], options: Any, allow_partial: bool) -> list[Any]:
        time.sleep(0.005 * len(texts))
        return super().batch(texts, options, allow_partial)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("fault", choices=["none", *FAULTS])
    parser.add_argument("--kind", default="database")
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument("--folder", type=Path, required=True)
    arguments, unknown = parser.parse_known_args()
    fault = arguments.fault
    if unknown and fault != "any-option":
        print(f"error: unknown option {unknown[0]}", file=sys.stderr)
        return 2
    lock = arguments.folder / "lock"
    if fault == "stays-locked":
        if lock.exists():
            print(f"error: {lock} exists; another one runs", file=sys.stderr)
            return 2
        lock.touch()
    if fault == "banner":
        print("Welcome!", flush=True)

    if fault == "early-serving":
        # It says that it serves, and its calls still wait for the model.
        Database.SearchVectors = lambda self, request, context: context.abort(  # type: ignore[method-assign]
            grpc.StatusCode.UNAVAILABLE, "loading"
        )
    options = [("grpc.so_reuseport", 1 if fault == "shared-port" else 0)]
    server = grpc.server(ThreadPoolExecutor(12), options=[*options, ("grpc.max_receive_message_length", 64 << 20)])
    if arguments.kind == "database":
        database = Kept(arguments.folder / "vectors", fault)
        add_DatabaseProviderServicer_to_server(database, server)
        name = "hector.plugins.v1.DatabaseProvider"
    else:
        add_EmbedderProviderServicer_to_server(Slow(), server)
        name = "hector.plugins.v1.EmbedderProvider"
    healthy = health.HealthServicer()
    if fault != "late-health":
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    host = "0.0.0.0" if fault == "every-address" else "127.0.0.1"
    try:
        port = server.add_insecure_port(f"{host}:{0 if fault == 'own-port' else arguments.port}")
    except RuntimeError:
        if fault == "port-traceback":
            raise
        print(f"error: port {arguments.port} is taken", file=sys.stderr)
        return 0 if fault == "port-status-0" else 2

    def serve(status: Any) -> None:
        for known in ("", "plugin", name):
            healthy.set(known, status)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    serve(serving)
    server.start()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        if fault == "deaf":
            signal.signal(number, signal.SIG_IGN)
        elif not (fault == "interrupted" and number == signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    if fault != "no-announcement":
        print(f"listening on {host}:{port}", flush=True)
    if fault == "log-on-stdout":
        print("ready", flush=True)
    while not stopping.wait(0.05):
        pass
    if fault != "serving-to-the-end":
        serve(not_serving)
        time.sleep(0.1)
    else:
        os._exit(0)
    server.stop(0 if fault == "no-drain" else 10).wait()
    if fault == "saves-at-the-end":
        database.save()
    lock.unlink(missing_ok=True)
    return 1 if fault == "status-1" else 0


if __name__ == "__main__":
    sys.exit(main())
