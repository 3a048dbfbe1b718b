"""A plugin as its own tests see it: a process, called over its port.

with started("my_plugin", "--data-dir", str(tmp_path)) as plugin:
    stub = DatabaseProviderStub(plugin.channel)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 60.0  # the longest wait for anything; a busy machine is slow


class Plugin:
    """A plugin that runs and is SERVING."""

    def __init__(self, process: subprocess.Popen[str], address: str, log: list[str]) -> None:
        self.process = process
        self.address = address
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.log = log  # what it has written to stderr so far, line by line

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def started(
    package: str, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Plugin]:
    """Runs `python -m PACKAGE --port 0 ARGS` until the block ends; within, it is SERVING.

    `env` comes on top of this process's environment.
    """
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", package, "--port", "0", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": _import_path(package), **(env or {})},
        cwd=cwd,
    )
    assert process.stdout is not None
    log: list[str] = []
    reader = threading.Thread(target=_read, args=(process, log), daemon=True)
    reader.start()
    watchdog = threading.Timer(SECONDS, process.kill)  # one that never says where it listens
    watchdog.start()
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            process.kill()
            reader.join(SECONDS)
            raise AssertionError(f"{package} did not start: {line}{''.join(log)}")
        watchdog.cancel()
        plugin = Plugin(process, line.removeprefix("listening on ").strip(), log)
        with plugin.channel:
            wait_until_serving(plugin.channel)
            yield plugin
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(SECONDS)
        process.stdout.close()
        reader.join(SECONDS)


def wait_until_serving(channel: grpc.Channel, seconds: float = SECONDS) -> None:
    """Returns once the health of the plugin behind `channel` is SERVING. Raises grpc.RpcError after `seconds`."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="plugin"), timeout=seconds, wait_for_ready=True
    )
    for reply in watch:
        if reply.status == health_pb2.HealthCheckResponse.SERVING:
            watch.cancel()
            return


def _import_path(package: str) -> str:
    """Where the tests find the package, since a process in another folder finds nothing of this one's."""
    spec = importlib.util.find_spec(package.partition(".")[0])
    assert spec is not None, f"there is no module {package}"
    assert spec.origin is not None
    return os.pathsep.join(filter(None, [str(Path(spec.origin).parents[1]), os.environ.get("PYTHONPATH")]))


def _read(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stderr is not None
    with process.stderr:
        log.extend(process.stderr)
