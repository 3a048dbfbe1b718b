"""Where a process that was started listens: what it prints of that, or where it is expected."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator

from host.config import Plugin
from host.memory import below

_ANNOUNCEMENT = "listening on "
_LONGEST_ADDRESS = 512  # characters
_ADDRESS = re.compile(r"unix:[^\0]+|(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_DIAL_SECONDS = 0.5
_LISTEN = "0A"  # the state of such a socket in /proc/net/tcp
# The line of HashiCorp's go-plugin: core protocol, the application's, network, address, protocol, and more.
_HANDSHAKE = re.compile(r"1\|\d{1,9}\|(tcp|unix)\|([^|\s]{1,512})\|grpc(?:\|[^|]*)*")


def announced(line: str) -> str:
    """The address that a line of stdout names, HOST:PORT or unix:PATH; empty where it is another line.

    >>> announced("listening on 127.0.0.1:8081"), announced("1|1|tcp|127.0.0.1:1234|grpc")
    ('127.0.0.1:8081', '127.0.0.1:1234')
    >>> announced("listening on port 3000")
    ''
    """
    address = line.removeprefix(_ANNOUNCEMENT).strip() if line.startswith(_ANNOUNCEMENT) else ""
    handshake = _HANDSHAKE.fullmatch(line.strip())
    if handshake:
        network, address = handshake.groups()
        address = f"unix:{address}" if network == "unix" else address
    is_one = len(address) <= _LONGEST_ADDRESS and address.isprintable() and _ADDRESS.fullmatch(address)
    return address if is_one else ""


class Expected:
    """Where a plugin should listen that does not print it: at its `address`, else where the guide's samples do."""

    def __init__(self, plugin: Plugin) -> None:
        """To be made before the process is started: what answers there by then is another."""
        self._port = plugin.usual_port if not plugin.listens_at else None
        self._address = plugin.listens_at.address if plugin.listens_at else f"127.0.0.1:{self._port}" * bool(self._port)
        # The guide's ports are anybody's, and there it must be the plugin's own process, where that can be told. At an
        # `address` that was given it may be another's, as of a container that the plugin starts.
        self._must_own = bool(self._port) and sys.platform == "linux"
        self._taken = not self._must_own and _accepts(self._address)

    def address(self, parent: int) -> str:
        """Empty as long as nothing of its own accepts connections there; its processes are those below `parent`."""
        if self._taken or not _accepts(self._address):
            return ""
        return "" if self._port and self._must_own and not _own(self._port, below(parent)) else self._address

    def silence(self) -> str:
        """Why there is no address, for a message."""
        remedy = "have it print that, or give its `address` beside `path`"
        if not self._address:
            return f"it did not print `listening on HOST:PORT`; {remedy}"
        if self._taken or _accepts(self._address):
            return f"it did not print `listening on HOST:PORT`, and at {self._address} another server runs; {remedy}"
        return f"it neither printed `listening on HOST:PORT` nor listens at {self._address}; {remedy}"


def _accepts(address: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as dialled:
                dialled.settimeout(_DIAL_SECONDS)
                dialled.connect(address.removeprefix("unix:"))
                return True
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _DIAL_SECONDS).close()
        return True
    return False


def _own(port: int, pids: Iterable[int]) -> bool:
    """Whether these processes listen at the port and nobody else, who could do so beside them; by /proc."""
    sockets = set(_listening_at(port))
    others = set(sockets)
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    others.discard(os.readlink(descriptor.path))
    return bool(sockets) and not others


def _listening_at(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            for fields in map(str.split, lines):
                # NUMBER: LOCAL:PORT REMOTE:PORT STATE, and the inode as the tenth.
                if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(f":{port:04X}"):
                    yield f"socket:[{fields[9]}]"
