"""Calls of methods that are not there, and paths that are not even text."""

from __future__ import annotations

import contextlib
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

PATHS: tuple[bytes, ...] = (
    b"/\xff",
    b"/\xff\xfe/\x80",
    b"\xff",
    b"/grpc.health.v1.Health/\xff",
    b"/grpc.health.v1.Health/Check\xff",
    b"",
    b"/",
    b"//",
    b"*",
    b"no-slash",
    b"/a/b/c/d",
    b"/" + b"x" * 4_000,
    b"/grpc.health.v1.Health/check",
    b"/grpc.health.v1.Health/Unknown",
    b"/grpc.health.v1.Health/",
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/\xc0\xaf/\xed\xa0\x80",
    b"/a\x00b/c",
    b"/a b/c%00",
    b"http://127.0.0.1/grpc.health.v1.Health/Check",
)
IN_A_STEP = 20


def run(target: Target, random: Random) -> Steps:
    known = [method.path.encode() for method in methods(target.plugin)]
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            for _ in range(random.choice((1, 1, 5))):
                tried: dict[int, bytes] = {}
                for _ in range(random.choice((1, IN_A_STEP))):
                    path = random.choice(PATHS)
                    if random.random() < 0.3:
                        path = random.choice(known) + random.choice((b"\xff", b"/", b"x", b"\x80\x80", b"%ff"))
                    stream = connection.open(path, target.maybe_token(random))
                    tried[stream] = path
                    connection.message(stream, random.choice((b"", b"\x0a\x01x")), end=random.random() < 0.8)
                connection.read(0.005)
                yield Sent("paths " + " ".join(repr(path[:40]) for path in tried.values()), bytes(connection.sent))
                if connection.ended:
                    break
