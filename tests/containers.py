"""Containers of our images, for tests: `with container("vector-hnsw", 8082) as box`."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import grpc

from tests.servers import ROOT, SECONDS, dial, missing, wait_until

# As an operator who trusts nothing would start them.
STRICT = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=2g", "--pids-limit=200")


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def need_engine() -> None:
    """Skips the test where no container engine answers: a client alone is none."""
    if shutil.which("docker") is None or not docker("info", "--format", "{{.ServerVersion}}", check=False):
        missing("a container engine")


@functools.cache
def build(image: str) -> str:
    """Builds it as the README says, and gives its tag. Skips the test where there is no engine."""
    need_engine()
    done = subprocess.run(
        ["make", f"image-{image}"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return f"hector-plugins/{image}"


class Container:
    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def facts(self) -> Mapping[str, Any]:
        return dict(json.loads(docker("inspect", self.name))[0])

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with dial(self.address) as channel:
            yield channel

    def python(self, code: str) -> str:
        """What a program prints that runs beside the server."""
        return docker("exec", self.name, "/venv/bin/python", "-c", code)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        docker("stop", "--time", "20", self.name)
        return int(self.facts()["State"]["ExitCode"])


@contextlib.contextmanager
def container(
    image: str, port: int, *options: str, settings: tuple[str, ...] = (), in_network_of_host: bool = False
) -> Iterator[Container]:
    """One that its own health check calls healthy, reached at a port of loopback; removed in the end. In the network of
    the host it reaches what listens on loopback there, and listens there itself, at `port`."""
    name = f"hector-plugins-test-{uuid.uuid4().hex[:12]}"
    network = ["--publish", f"127.0.0.1::{port}"]
    if in_network_of_host:
        prefix = image.removesuffix("-light").replace("-", "_").upper()
        network = ["--network=host", "--env", f"{prefix}__HOST=127.0.0.1", "--env", f"{prefix}__PORT={port}"]
    variables = [part for setting in settings for part in ("--env", setting)]
    docker("run", "--detach", "--name", name, *network, "--health-interval=1s", *STRICT, *variables, *options,
           build(image))  # fmt: skip
    try:
        box = Container(name, f"127.0.0.1:{port}" if in_network_of_host else _published(name, port))
        wait_until(
            lambda: box.facts()["State"]["Health"]["Status"] == "healthy" or not box.facts()["State"]["Running"],
            f"{image} to be healthy",
            SECONDS,
            box.log,
        )
        assert box.facts()["State"]["Running"], box.log()
        yield box
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


def _published(name: str, port: int) -> str:
    return docker("port", name, str(port)).splitlines()[0]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def volume() -> Iterator[str]:
    name = f"hector-plugins-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name, check=False)
