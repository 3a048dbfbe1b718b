"""Bytes on the port that are no HTTP/2, or only begin as if they were."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import PREFACE
from tests.fuzz.mutate import mutate

HELD = 20  # connections that are left open, the oldest closed for a new one
BEGINNINGS = (
    b"",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"x" * 70_000,
    b"POST /grpc.health.v1.Health/Check HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + bytes(190),  # the beginning of a TLS handshake
    b"SSH-2.0-x\r\n",
    b"\x00" * 4_096,
    PREFACE[:-1],
    PREFACE,
    PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    PREFACE + b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff",  # a window above the largest
    PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # a frame of 16 MiB
    PREFACE + PREFACE,
)


def _close(connections: Iterable[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def run(target: Target, random: Random) -> Steps:
    host, _, port = target.address.rpartition(":")
    with contextlib.ExitStack() as stack:
        held: deque[socket.socket] = deque()
        stack.callback(_close, held)
        while True:
            data = mutate(random.choice(BEGINNINGS), random) + random.randbytes(random.choice((0, 0, 9, 100, 5_000)))
            connection = socket.create_connection((host, int(port)), 1)
            held.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(data)
            if random.random() < 0.5 or len(held) > HELD:
                held.popleft().close()
            yield Sent("bytes", data[:65_536])
