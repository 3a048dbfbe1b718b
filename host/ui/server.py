"""Serves the page while the host runs, on loopback alone."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from host.config import HostConfig
from host.supervisor import Status
from host.ui.app import app
from host.ui.current import Current
from shared.errors import StartError

HOST = "127.0.0.1"
_STOP_SECONDS = 5.0
_MOST_CONNECTIONS = 128


@contextmanager
def serving(config: HostConfig, statuses: Callable[[], Sequence[Status]], listener: socket.socket) -> Iterator[str]:
    """Within, the page is served at the address that this yields, which has the token in it.

    The token stands behind the `#`, so that browsers send it to nobody. `listener`, of `listen`, is closed in the end.
    """
    token = secrets.token_urlsafe(24)
    ending = asyncio.Event()
    options = uvicorn.Config(
        app(Current(config, statuses), token, ending),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    server = _Server(options, ending)
    thread = threading.Thread(target=server.run, args=([listener],), name="ui", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}/#token={token}"
    finally:
        server.should_exit = True
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: the thread ends with the process
            thread.join(_STOP_SECONDS)
        listener.close()


class _Server(uvicorn.Server):
    """Ends what is under way before it waits for it."""

    def __init__(self, options: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(options)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await super().shutdown(sockets)


def listen(port: int) -> socket.socket:
    """Port 0 picks one. Raises StartError where it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise StartError(f"the page cannot listen on {HOST}:{port}: {error.strerror}; give --ui another port") from None
    return listener
