"""Plugins to call in tests: as a real process (`start_plugin`) or inside this one (`served`).

    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        stub = DatabaseProviderStub(plugin.channel())

Nothing here sleeps and hopes: every wait is for something, and bounded. Both are under watch: a test fails in which a
plugin's event loop was kept busy or stood still (tests/loop_watchdog.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import grpc
import hypothesis
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared import logs
from shared.config import BaseConfig
from shared.server import PluginServer
from tests import loop_watchdog

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120.0  # the longest wait for anything; a busy machine is slow
Result = TypeVar("Result")

unhurried = hypothesis.settings()  # as tests/conftest.py has set them for all: an example may take its time


def missing(what: str) -> NoReturn:
    """Skips a test for want of a tool, but not on CI, where everything is to be tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {what}")
    pytest.skip(f"not installed: {what}")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# ---------------------------------------------------------------- a process


@dataclass
class Plugin:
    """A plugin that runs as a process of its own."""

    process: subprocess.Popen[str]
    address: str = ""
    _out: list[str] = field(default_factory=list)
    _err: list[str] = field(default_factory=list)
    _lines: queue.Queue[str] = field(default_factory=queue.Queue)
    _readers: list[threading.Thread] = field(default_factory=list)
    _channels: list[grpc.Channel] = field(default_factory=list)

    def channel(self, *, token: str = "") -> grpc.Channel:
        """A channel of its own (no shared connection); closed with the plugin. `token` goes with every call."""
        channel = dial(self.address)
        self._channels.append(channel)
        return with_token(channel, token) if token else channel

    def stdout(self) -> str:
        """What it has written so far; everything, once it has ended."""
        return "".join(self._out)

    def stderr(self) -> str:
        """What it has logged so far; everything, once it has ended."""
        return "".join(self._err)

    def wait_for_log(self, text: str, seconds: float = SECONDS, *, times: int = 1) -> None:
        """Returns once stderr holds `text`, that many times."""
        shown = f"{text!r} in the log"
        wait_until(lambda: self.stderr().count(text) >= times, shown, seconds, lambda: self.stderr())

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit status, once it has ended and everything it wrote is here."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        return status

    def terminate(self, seconds: float = SECONDS) -> int:
        """SIGTERM, and the exit status."""
        self.signal()
        return self.wait(seconds)

    def _read(self, pipe: IO[str], into: list[str], first: bool) -> None:
        for line in pipe:
            into.append(line)
            if first:
                self._lines.put(line)
        if first:
            self._lines.put("")
        pipe.close()


@contextlib.contextmanager
def start_plugin(
    module_or_argv: str | Sequence[str],
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    token: str = "",
    wait: str = "serving",
) -> Iterator[Plugin]:
    """Starts `python -m MODULE --port 0 ARGS` (or the command given as a list) and kills it in the end.

    `wait`: until health is "serving" (`token` is not needed for that), until it is "listening", or for "nothing".
    `env` comes on top of this process's environment; our modules can be imported from any `cwd`.
    """
    with tempfile.TemporaryDirectory(prefix="loop-watchdog-") as folder:
        report = Path(folder) / "report"
        if isinstance(module_or_argv, str):
            argv = [sys.executable, "-m", "tests.loop_watchdog", module_or_argv, *args]
            if not {"--port", "--socket"} & {arg.partition("=")[0] for arg in args}:
                argv += ["--port", "0"]
        else:
            argv = [*module_or_argv, *args]
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment(env), loop_watchdog.REPORT: str(report)},
            cwd=cwd,
        )
        with loop_watchdog.watching(f"{module_or_argv} (pid {process.pid})", report=report) as watched:
            yield from _running(Plugin(process), argv, wait, watched)


def _running(plugin: Plugin, argv: Sequence[str], wait: str, watched: loop_watchdog.Watched) -> Iterator[Plugin]:
    process = plugin.process
    assert process.stdout is not None
    assert process.stderr is not None
    for pipe, into, first in ((process.stdout, plugin._out, True), (process.stderr, plugin._err, False)):
        reader = threading.Thread(target=plugin._read, args=(pipe, into, first), daemon=True)
        reader.start()
        plugin._readers.append(reader)
    try:
        if wait != "nothing":
            line = plugin._lines.get(timeout=SECONDS)
            if not line.startswith("listening on "):
                process.wait(SECONDS)
                plugin.wait()
                raise AssertionError(f"{argv} did not listen: {line!r} {plugin.stderr()}")
            plugin.address = line.removeprefix("listening on ").strip()
        watched.since = time.monotonic()
        if wait == "serving":
            await_serving(plugin.channel())
        yield plugin
    finally:
        for channel in plugin._channels:
            channel.close()
        if process.poll() is None:
            process.kill()
        plugin.wait()


def run_plugin(
    module: str, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGS`, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        env=environment(env),
        cwd=cwd,
        check=False,
    )


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, our modules importable from any folder, `extra` on top."""
    paths = [str(ROOT), str(ROOT / "proto"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(extra or {})}


# ---------------------------------------------------------------- in this process


@dataclass
class Served:
    """A PluginServer that runs in a thread of this process."""

    server: PluginServer
    loop: asyncio.AbstractEventLoop
    log: Callable[[], str]
    _channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.server.address

    def channel(self, *, token: str = "", credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        """A channel of its own; closed when the server is. `token` goes with every call."""
        channel = dial(self.address, credentials)
        self._channels.append(channel)
        return with_token(channel, token) if token else channel

    def set_ready(self) -> None:
        self.loop.call_soon_threadsafe(self.server.set_ready)

    def stop(self, grace: float = 10.0) -> Future[None]:
        """Begins the shutdown; the future is done when the drain is over."""
        return asyncio.run_coroutine_threadsafe(self.server.stop(grace), self.loop)

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log(), f"{text!r} in the log", SECONDS, self.log)


@contextlib.contextmanager
def served(
    config: BaseConfig,
    service: str,
    register: Callable[[grpc.aio.Server], None],
    *,
    ready: bool = True,
    too_large_hints: Mapping[str, str] | None = None,
    most_items: Mapping[str, Mapping[str, int]] | None = None,
) -> Iterator[Served]:
    """A PluginServer as `shared.server.serve` would run it, without the process around it."""
    loop = loop_watchdog.WatchedLoop(shared=True)
    thread = threading.Thread(target=loop.run_forever, name="served", daemon=True)
    thread.start()

    async def start() -> PluginServer:
        server = PluginServer(
            config, service=service, register=register, too_large_hints=too_large_hints or {}, most_items=most_items
        )
        await server.start()
        if ready:
            server.set_ready()
        return server

    def run(work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, loop).result(SECONDS)

    try:
        with captured_log() as log, loop_watchdog.watching(f"the served {service}", loop=loop) as watched:
            plugin = Served(run(start()), loop, log)
            watched.since = time.monotonic()
            try:
                yield plugin
            finally:
                for channel in plugin._channels:
                    channel.close()
                run(plugin.server.stop(0))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


@contextlib.contextmanager
def captured_log() -> Iterator[Callable[[], str]]:
    """What is logged in the meantime, as `shared.logs.setup` would write it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logs.Logfmt())
    logger = logging.getLogger("hector")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield text.getvalue
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


# ---------------------------------------------------------------- a client's tools


def dial(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    # Without a pool of its own, channels to one address share one connection.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    if credentials is not None:
        return grpc.secure_channel(address, credentials, options=options)
    return grpc.insecure_channel(address, options=options)


def with_token(channel: grpc.Channel, token: str) -> grpc.Channel:
    return grpc.intercept_channel(channel, _Token(token))


class _Token(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    def _with(self, details: Any) -> Any:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self._token}")]
        return details._replace(metadata=metadata)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with(client_call_details), request)


def health(channel: grpc.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS, wait_for_ready=True).status)


def await_serving(channel: grpc.Channel) -> None:
    """Returns once health says SERVING; told by a Watch, not by asking again and again."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="plugin"), timeout=SECONDS, wait_for_ready=True
    )
    for reply in watch:
        if reply.status == health_pb2.HealthCheckResponse.SERVING:
            watch.cancel()
            return


@dataclass(frozen=True)
class Details:
    """What an error says, taken out of `grpc-status-details-bin` or a reply's `status`."""

    status: status_pb2.Status
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None


def details(of: Any) -> Details:
    """`of`: a grpc.RpcError, or a google.rpc.Status."""
    status = of
    if not isinstance(of, status_pb2.Status):
        trailers = {str(key): value for key, value in of.trailing_metadata() or ()}
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert status.code == of.code().value[0]
        assert status.message == of.details()
    found = Details(status)
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if not packed.Is(kind.DESCRIPTOR):
                continue
            detail = kind()
            packed.Unpack(detail)
            if isinstance(detail, error_details_pb2.ErrorInfo):
                new: dict[str, Any] = {
                    "reason": detail.reason,
                    "domain": detail.domain,
                    "metadata": dict(detail.metadata),
                }
            elif isinstance(detail, error_details_pb2.BadRequest):
                new = {"violations": tuple((v.field, v.description) for v in detail.field_violations)}
            else:
                new = {"retry_after": detail.retry_delay.ToMilliseconds() / 1000}
            found = Details(**{**found.__dict__, **new})
    return found


def wait_until(
    true: Callable[[], bool], what: str, seconds: float = SECONDS, otherwise: Callable[[], str] = lambda: ""
) -> None:
    """Returns as soon as `true()`; fails after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {seconds:g} s\n{otherwise()}")
        time.sleep(0.01)
