"""Requests that are HTTP/2 and no gRPC: other content types, methods and schemes, no `te`, no path."""

from __future__ import annotations

import contextlib
from random import Random

from tests.fuzz.attack import Sent, Steps, Target
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods

TYPES = (
    "",
    "application/json",
    "application/grpc-web",
    "application/grpc+json",
    "text/html",
    "application/grpc;x",
    "\xff",
)


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            for _ in range(random.choice((1, 10))):
                method = random.choice(every)
                stream = connection.open(
                    method.path,
                    target.maybe_token(random),
                    method=random.choice(("POST", "GET", "PUT", "OPTIONS", "CONNECT", "")),
                    scheme=random.choice(("http", "https", "ftp", "")),
                    authority=random.choice(("localhost", "", "a" * 1_000, "\xff", "evil.example:80")),
                    content_type=random.choice(TYPES),
                )
                connection.message(stream, random.choice((b"", b"{}")), end=True)
            connection.read(0.005)
            yield Sent("no gRPC", bytes(connection.sent))
