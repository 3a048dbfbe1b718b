"""Runs one plugin: bind, announce, load, serve, drain. Every `__main__` ends in a call of `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from shared import logs
from shared.calls import CallInterceptor
from shared.config import BaseConfig
from shared.credentials import check_exposure, server_credentials
from shared.errors import StartError

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
DRAIN_SECONDS = 10.0


def serve(
    config: BaseConfig,
    *,
    service: str,
    register: Callable[[grpc.aio.Server], None],
    load: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
    too_large_hints: Mapping[str, str] | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT and returns the exit status.

    `service` is the full name of the gRPC service, `register` adds its servicer to the server. `load` runs in a
    thread once the port is bound; until it returns, health says NOT_SERVING and calls are UNAVAILABLE. `close` runs
    when the last call has ended. A StartError of `load` ends the process with status 2.
    """
    logs.setup(config.log_level)
    server = PluginServer(config, service=service, register=register, too_large_hints=too_large_hints or {})
    return asyncio.run(_run(server, load, close))


def run(main: Callable[[], int]) -> None:
    """Ends the process with the status of `main`; a StartError is one line on stderr and status 2."""
    try:
        status = main()
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


class PluginServer:
    """A gRPC server with health, reflection and the plugin's own service. Must be used inside an event loop."""

    def __init__(
        self,
        config: BaseConfig,
        *,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        too_large_hints: Mapping[str, str],
    ) -> None:
        check_exposure(config)
        self.address = ""
        self._config = config
        self._credentials = server_credentials(config)
        self._names = ("", "plugin", service)
        self._service = service
        self._register = register
        self._calls = CallInterceptor(config, too_large_hints)

    async def start(self) -> None:
        """Binds and listens, NOT_SERVING. Afterwards `address` is `HOST:PORT` or `unix:PATH`. Raises StartError."""
        self._server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                # Without this a second process binds the same port and takes half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._config.max_request_bytes),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._health = health.aio.HealthServicer()
        for name in self._names:
            await self._health.set(name, NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((self._service, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._register(self._server)
        self.address = self._bind()
        await self._server.start()

    async def set_ready(self) -> None:
        """From here on calls are answered and health is SERVING."""
        self._calls.ready = True
        for name in self._names:
            await self._health.set(name, SERVING)

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Takes no new calls, waits up to `grace` seconds for those under way, then ends what is left."""
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(grace))
        # A health Watch never ends by itself, so the drain is over when the plugin's own calls are; twice in a row,
        # because a call that was accepted just now may not have reached its handler yet.
        idle = 0
        while not stopping.done() and idle < 2:
            await asyncio.wait([stopping], timeout=0.05)
            idle = 0 if self._calls.in_flight else idle + 1
        await self._server.stop(0)
        await stopping

    def _bind(self) -> str:
        config = self._config
        if config.socket:
            target = "unix:" + str(Path(config.socket).absolute())
            _refuse_live_socket(config.socket)
        else:
            host = f"[{config.host.strip('[]')}]" if ":" in config.host else config.host
            target = f"{host}:{config.port}"
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(target)
            else:
                port = self._server.add_secure_port(target, self._credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise StartError(f"cannot listen on {target}: {_why_not(config)}")
        return target if config.socket else f"{host}:{port}"


async def _run(server: PluginServer, load: Callable[[], None], close: Callable[[], None]) -> int:
    stop = _stop_signal()
    await server.start()
    print(f"listening on {server.address}", flush=True)
    loading = _in_daemon_thread(load)
    await asyncio.wait([loading, stop], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # What `load` does must survive a kill anyway, so there is nothing to wait for.
        logs.event("stopped", while_="loading")
        os._exit(0)
    try:
        loading.result()
    except BaseException:
        await server.stop(0)
        raise
    if not stop.done():
        await server.set_ready()
        logs.event("serving", address=server.address)
    await stop
    logs.event("stopping")
    await server.stop()
    await asyncio.to_thread(close)
    logs.event("stopped")
    return 0


def _stop_signal() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))
    return stop


def _in_daemon_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """`work` in a thread that does not keep the process alive, as an executor's would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def target() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=target, name="load", daemon=True).start()
    return done


def _refuse_live_socket(path: str) -> None:
    """gRPC replaces an existing socket file, also one that another server still listens on."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise StartError(f"cannot listen on unix:{path}: another server listens there")


def _why_not(config: BaseConfig) -> str:
    """gRPC does not say why it could not bind, so the operating system is asked once more."""
    if config.socket:
        path = Path(config.socket).absolute()
        folder = path.parent
        if len(str(path).encode()) > 107:
            return "the path is longer than the 107 bytes a unix socket may have"
        return f"{folder} is not a folder that can be written to" if not os.access(folder, os.W_OK) else "unknown cause"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host.strip("[]"), config.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        return f"{error.strerror}; choose another with --port, or --port 0 for a free one"
    return "the port was taken for a moment; try again"
