"""Connections through an HTTP proxy, as tunnels (CONNECT) to addresses that were vetted here.

A proxy that is given names resolves them by itself, and what it then dials nobody has checked. So it is given
addresses; with the setting `proxy_resolves` it is given names, but only those that `allowed_hosts` has by name.
"""

from __future__ import annotations

import base64
import ssl
from urllib.parse import unquote, urlsplit

import httpcore2

from shared.errors import StartError

from .failures import Unreachable
from .network import Dial
from .stream import connect

_LONGEST_HEAD = 16_384  # bytes of the proxy's answer


def tunnel(proxy: str, trusted: ssl.SSLContext) -> Dial:
    """What dials (host, port) through the proxy at the URL `proxy`, which is dialled whatever the policy says: it is
    the operator's own. Raises StartError where it is no http or https URL."""
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartError("setting proxy: expected an http or https URL, such as http://127.0.0.1:3128")
    address, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    lines = ""
    if parts.username or parts.password:
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        lines = f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}\r\n"

    async def dial(host: str, host_port: int) -> httpcore2.AsyncNetworkStream:
        stream: httpcore2.AsyncNetworkStream = await connect(address, port)
        try:
            if parts.scheme == "https":
                stream = await stream.start_tls(trusted, address)
            target = f"[{host}]:{host_port}" if ":" in host else f"{host}:{host_port}"
            await stream.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{lines}\r\n".encode("ascii"))
            await _accepted(stream)
        except BaseException:
            await stream.aclose()
            raise
        return stream

    return dial


async def _accepted(stream: httpcore2.AsyncNetworkStream) -> None:
    """Raises Unreachable unless the proxy says that the tunnel stands."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await stream.read(4096)
        head += piece
        if not piece or len(head) > _LONGEST_HEAD:
            raise Unreachable("the proxy broke off, or is none; the operator can change the setting proxy")
    head, _, rest = head.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split(b" ")
    status = words[1] if len(words) > 1 and words[0].startswith(b"HTTP/1.") else b""
    # In a tunnel it is we who speak first.
    if len(status) != 3 or not status.startswith(b"2") or rest:
        told = f" (status {status.decode()})" if status.isdigit() and len(status) == 3 else ""
        raise Unreachable(f"the proxy refuses the connection{told}; the operator can change the setting proxy")
