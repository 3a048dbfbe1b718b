"""Runs one plugin: bind, announce, load, serve, drain. Every `__main__` ends in a call of `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME

from . import logs
from .accept import HOLDS, aio_server, holds
from .calls import CallInterceptor
from .config import BaseConfig, secret_texts
from .credentials import check_exposure, security_warnings, server_credentials
from .errors import StartError
from .health import Health
from .patience import Patience
from .reflection import add_reflection
from .start import run as run  # most plugins have it from here
from .under_way import Calls
from .wakeups import gather

DRAIN_SECONDS = 10.0
STREAMS_PER_CONNECTION = 1000


def serve(
    config: BaseConfig,
    *,
    service: str,
    register: Callable[[grpc.aio.Server], None],
    load: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
    too_large_hints: Mapping[str, str] | None = None,
    most_items: Mapping[str, Mapping[str, int]] | None = None,
) -> NoReturn:
    """Serves until SIGTERM or SIGINT, then ends the process with status 0.

    `service` is the full name of the gRPC service, `register` adds its servicer to the server. `load` runs in a
    thread once the port is bound; until it returns, health says NOT_SERVING and calls are UNAVAILABLE. `close` runs
    when the last call has ended. A StartError, also one of `load`, is for `run`.

    `too_large_hints`: for an RPC's name, what to do when its reply is too large. `most_items`: for an RPC's name, how
    many items the fields of its request may have, or bytes where they do not repeat: {"EmbedBatch": {"texts": 1000}}.
    """
    logs.setup(config.log_level, secret_texts(config))
    server = PluginServer(
        config, service=service, register=register, too_large_hints=too_large_hints or {}, most_items=most_items
    )
    asyncio.run(_run(server, load, close))
    raise AssertionError("_run ends the process")


class PluginServer:
    """A gRPC server with health, reflection and the plugin's own service. Must be used inside an event loop."""

    def __init__(
        self,
        config: BaseConfig,
        *,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        too_large_hints: Mapping[str, str],
        most_items: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        check_exposure(config)
        self.address = ""
        self._config = config
        self._credentials = server_credentials(config)
        self._names = ("", "plugin", service)
        self._service = service
        self._register = register
        self._calls = Calls()
        self._interceptor = CallInterceptor(config, self._calls, too_large_hints, most_items)

    async def start(self) -> None:
        """Binds and listens, NOT_SERVING. Raises StartError.

        Afterwards `address` is `HOST:PORT` or `unix:PATH`, and `ended` is done when the server takes no more calls.
        """
        _allow_files(self._config.max_connections)
        self._server = aio_server(self._interceptor, _options(self._config), self._calls)
        self._health = Health(self._names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_reflection((self._service, HEALTH_NAME), self._server)
        self._register(self._server)
        self.address = self._bind()
        for warning in security_warnings(self._config):
            logs.event("security", level=logging.WARNING, reason=warning.reason, message=warning.message)
        await self._server.start()
        # Kept here: a task that nobody refers to may be forgotten.
        self._watch = asyncio.create_task(Patience(self._calls, self._config).watch())
        self.ended = asyncio.create_task(self._end())

    async def _end(self) -> None:
        # With a limit, since without one gRPC does not tell of a crash before the last client has gone.
        while await self._server.wait_for_termination(1):
            pass

    def set_ready(self) -> None:
        """From here on calls are answered and health is SERVING."""
        self._interceptor.ready = True
        self._health.set_serving()

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Takes no new calls, waits up to `grace` seconds for those under way, then ends what is left."""
        self._health.shut_down()
        await self._server.stop(grace)
        self._watch.cancel()

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


def _allow_files(connections: int) -> None:
    """As many open files as the connections take, as far as the system lets this process have them."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 200
    if resource.RLIM_INFINITY not in (soft, hard):
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _options(config: BaseConfig) -> list[tuple[str, Any]]:
    return [
        # Without this a second process binds the same port and takes half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        # Compressed, a thousandth of max_request_bytes is as much; a bit for each algorithm, the first for none.
        ("grpc.compression_enabled_algorithms_bitset", -1 if config.compression else 1),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        # What a call may send before somebody reads it. gRPC would begin with 4 MiB and let it grow.
        ("grpc.http2.lookahead_bytes", 128 * 1024),
        ("grpc.http2.bdp_probe", 0),
        # Calls of a method that came while others were being accepted, 10 kB each. Past the first number gRPC ends some
        # of them by chance, past the second all.
        ("grpc.server.max_pending_requests", 5_000),
        ("grpc.server.max_pending_requests_hard_limit", 10_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # Until a client acknowledges these settings gRPC takes 16 MiB of metadata a call, up to 60 MB of memory, and
        # not the 16 kB that they say. It would wait for that for a minute.
        ("grpc.http2.settings_timeout", 5_000),
        ("grpc.max_connection_idle_ms", 300_000),
        # gRPC closes a connection that pings too much, but where it cannot write each ping makes the reason longer, and
        # thousands take seconds. Without that it answers each, and closes where 10,000 answers wait.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", 60_000),  # a client that has gone without a word is noticed
    ]


async def _run(server: PluginServer, load: Callable[[], None], close: Callable[[], None]) -> NoReturn:
    stop = _stop_signal()
    await server.start()
    if holds():
        gather(asyncio.get_running_loop())
    else:
        logs.event(
            "security",
            level=logging.WARNING,
            reason="GRPCIO_NOT_TESTED",
            version=grpc.__version__,
            effect="one request of a stranger can end the server, and with it this process",
            remedy="install grpcio " + " or ".join(HOLDS),
        )
    print(f"listening on {server.address}", flush=True)

    def loaded() -> None:
        load()
        # What there is now stays, so collections of garbage need not look at it. They come more seldom, too: with one
        # for each 10,000 new objects they took a fifth of the event loop's time in a flood of calls.
        gc.collect()
        gc.freeze()
        gc.set_threshold(25_000, 20, 100)

    loading = _in_daemon_thread(loaded)
    await asyncio.wait([loading, stop], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # What `load` does must survive a kill anyway, so there is nothing to wait for.
        logs.event("stopped", during="loading")
        logs.flush()
        os._exit(0)
    try:
        loading.result()
    except BaseException:
        await server.stop(0)
        raise
    if not stop.done():
        server.set_ready()
        logs.event("serving", address=server.address)
    ends: list[asyncio.Future[Any]] = [stop, server.ended]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        give_up("server_ended", "unknown" if server.ended.cancelled() else server.ended.exception())
    logs.event("stopping")
    await server.stop()
    await _in_daemon_thread(close)
    logs.event("stopped")
    # Not by returning: a call that was cut off, now or by its time limit, may still keep a thread of an executor busy,
    # and both asyncio and the interpreter would wait for it. For the same reason `close` has a thread of its own.
    logs.flush()
    os._exit(0)


def give_up(event: str, cause: object) -> NoReturn:
    """Ends the process, from any thread, with a line in the log and status 1, for whoever starts it again: it listens
    or works no more, and would look alive."""
    logs.event(event, level=logging.ERROR, cause=cause, remedy="start the plugin again")
    logs.flush()
    os._exit(1)


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
