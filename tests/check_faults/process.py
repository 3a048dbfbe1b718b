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
    "forgets-metadata": "survives_kill",
    "open-to-all": "beyond_loopback",
    "check-serves": "check_option",
    "any-setting": "unknown_setting",
    "shows-secrets": "secret_is_masked",
    "ignores-token": "token_from_file",
    "waits-for-watchers": "health_at_shutdown",
    "logs-on-stdout": "announces",
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
        if self.fault == "forgets-metadata":
            for collection in self.collections.values():
                for vector in collection.vectors.values():
                    vector.ClearField("metadata")
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


class Guard(grpc.ServerInterceptor):
    """Asks for a token, and for none where health is asked for."""

    def __init__(self, token: str) -> None:
        self.expected = f"Bearer {token}"
        self.refusal: Any = grpc.unary_unary_rpc_method_handler(self.refuse)

    @staticmethod
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or another one; send the one that is configured")

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        known = dict(details.invocation_metadata).get("authorization") == self.expected
        return continuation(details) if known or "grpc.health" in details.method else self.refusal


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
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments, unknown = parser.parse_known_args()
    fault = arguments.fault
    lines = arguments.config.read_text().splitlines() if arguments.config else []
    told = {name: value.strip(' "') for name, _, value in (line.partition(":") for line in lines)}
    if set(told) - {"token"} and fault != "any-setting":
        print(f"error: unknown setting {', '.join(told)}", file=sys.stderr)
        return 2
    if arguments.host != "127.0.0.1" and fault != "open-to-all":
        print(f"error: {arguments.host} takes a token", file=sys.stderr)
        return 2
    if arguments.check and fault != "check-serves":
        token = told.get("token", "")
        print(f"token: {token if fault == 'shows-secrets' else '*' * 3}")
        return 0
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
    options.append(("grpc.max_receive_message_length", 64 << 20))
    guards: list[grpc.ServerInterceptor] = (
        [Guard(told["token"])] if "token" in told and fault != "ignores-token" else []
    )
    server = grpc.server(ThreadPoolExecutor(12), interceptors=guards, options=options)
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
    host = "0.0.0.0" if fault == "every-address" else arguments.host
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
    if fault == "logs-on-stdout":
        print("stopping", flush=True)
    if fault != "serving-to-the-end":
        serve(not_serving)
        time.sleep(0.1)
    else:
        os._exit(0)
    grace = {"no-drain": 0, "waits-for-watchers": 3600}.get(fault, 10)
    server.stop(grace).wait()
    if fault == "saves-at-the-end":
        database.save()
    lock.unlink(missing_ok=True)
    return 1 if fault == "status-1" else 0


if __name__ == "__main__":
    sys.exit(main())
