"""Runs one plugin: bind, announce, load, serve, drain. Every `__main__` ends in a call of `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection

from shared import logs
from shared.calls import CallInterceptor
from shared.config import BaseConfig, secret_texts
from shared.credentials import check_exposure, security_warnings, server_credentials
from shared.errors import StartError
from shared.health import Health

DRAIN_SECONDS = 10.0


def serve(
    config: BaseConfig,
    *,
    service: str,
    register: Callable[[grpc.aio.Server], None],
    load: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
    too_large_hints: Mapping[str, str] | None = None,
) -> NoReturn:
    """Serves until SIGTERM or SIGINT, then ends the process with status 0.

    `service` is the full name of the gRPC service, `register` adds its servicer to the server. `load` runs in a
    thread once the port is bound; until it returns, health says NOT_SERVING and calls are UNAVAILABLE. `close` runs
    when the last call has ended. A StartError, also one of `load`, is for `run`.
    """
    logs.setup(config.log_level, secret_texts(config))
    server = PluginServer(config, service=service, register=register, too_large_hints=too_large_hints or {})
    asyncio.run(_run(server, load, close))
    raise AssertionError("_run ends the process")


def run(main: Callable[[], int]) -> None:
    """Ends the process with the status of `main`; a StartError is one line on stderr and status 2."""
    try:
        status = main()
    except StartError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
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
        self._health = Health(self._names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((self._service, HEALTH_NAME, reflection.SERVICE_NAME), self._server)
        self._register(self._server)
        self.address = self._bind()
        for warning in security_warnings(self._config):
            logs.event("security", level=logging.WARNING, reason=warning.reason, message=warning.message)
        await self._server.start()

    def set_ready(self) -> None:
        """From here on calls are answered and health is SERVING."""
        self._calls.ready = True
        self._health.set_serving()

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Takes no new calls, waits up to `grace` seconds for those under way, then ends what is left."""
        self._health.shut_down()
        await self._server.stop(grace)

    def _bind(self) -> str:
        config = self._config
        if config.socket:
            path = Path(config.socket).absolute()
            target = f"unix:{path}"
            why_not = _why_not_path(path)
        else:
            bare = _spelled_out(config.host.strip("[]"))
            host = f"[{bare}]" if ":" in bare else bare
            target = f"{host}:{config.port}"
            why_not = _why_not_port(bare, config.port)
        if why_not:
            raise StartError(f"cannot listen on {target}: {why_not}")
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(target)
            else:
                port = self._server.add_secure_port(target, self._credentials)
        except RuntimeError:
            raise StartError(f"cannot listen on {target}: it was taken at this moment; try again") from None
        return target if config.socket else f"{host}:{port}"


async def _run(server: PluginServer, load: Callable[[], None], close: Callable[[], None]) -> NoReturn:
    stop = _stop_signal()
    await server.start()
    print(f"listening on {server.address}", flush=True)
    loading = _in_daemon_thread(load)
    await asyncio.wait([loading, stop], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # What `load` does must survive a kill anyway, so there is nothing to wait for.
        logs.event("stopped", during="loading")
        os._exit(0)
    try:
        loading.result()
    except BaseException:
        await server.stop(0)
        raise
    if not stop.done():
        server.set_ready()
        logs.event("serving", address=server.address)
    await stop
    logs.event("stopping")
    await server.stop()
    await _in_daemon_thread(close)
    logs.event("stopped")
    # Not by returning: a call that was cut off, now or by its time limit, may still keep a thread of an executor busy,
    # and both asyncio and the interpreter would wait for it. For the same reason `close` has a thread of its own.
    os._exit(0)


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

    threading.Thread(target=target, name=getattr(work, "__name__", "work"), daemon=True).start()
    return done


def _spelled_out(host: str) -> str:
    """An address that is written short, such as `127.1`, in full: gRPC knows no other form."""
    try:
        return str(socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)[0][4][0])
    except (OSError, ValueError):
        return host  # a name


# gRPC does not say why it cannot listen, so the operating system is asked beforehand.


def _why_not_port(host: str, port: int) -> str | None:
    refusals: list[OSError] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # a UnicodeError too: names that cannot be encoded
        return "the host is not an address of this machine"
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # elsewhere it would let two servers share the port
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            refusals.append(error)
    # Of a name's addresses gRPC is content with one; but half of `localhost` may not be another server's.
    taken = [error for error in refusals if error.errno == errno.EADDRINUSE]
    if taken or len(refusals) == len(found):
        return f"{(taken or refusals)[0].strerror}; choose another --host or --port, --port 0 for a free one"
    return None


def _why_not_path(path: Path) -> str | None:
    if len(os.fsencode(path)) > 107:
        return "the path is longer than the 107 bytes a unix socket may have"
    if not os.access(path.parent, os.W_OK):
        return f"{path.parent} is not a folder that can be written to"
    if path.exists() and not path.is_socket():
        return "a file is in the way"
    # gRPC replaces an existing socket file, also one that another server still listens on.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None  # no file, or one that a killed server left
        except OSError:
            pass  # too busy to answer, or another user's: alive all the same
    return "another server listens there"
