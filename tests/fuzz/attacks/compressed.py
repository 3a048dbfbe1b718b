"""Messages that are compressed, say so and are not, or are a thousand times as large inside."""

from __future__ import annotations

import contextlib
import functools
import gzip
import zlib
from random import Random

from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.http2 import Connection
from tests.fuzz.methods import methods
from tests.fuzz.mutate import mutate

ENCODINGS = ("gzip", "deflate", "identity", "br", "", "gzip,gzip", "x" * 100)


@functools.cache
def bomb(mebibytes: int) -> bytes:
    """Empty messages of a first field, two bytes each, and a thousandth of that when compressed."""
    return gzip.compress(b"\x0a\x00" * (mebibytes * 2**19), 6)


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    while True:
        encoding = random.choice(ENCODINGS)
        plain = b"\x0a\x04fuzz" * random.choice((1, 1_000))
        payload = random.choice(
            (
                plain,
                gzip.compress(plain, 1),
                zlib.compress(plain, 1),
                mutate(gzip.compress(plain, 1), random),
                bomb(1),
                bomb(31),
                bomb(70),
                b"",
            )
        )
        method = random.choice(every)
        with contextlib.closing(Connection(target.address)) as connection:
            extra = [("grpc-encoding", encoding)] if random.random() < 0.8 else []
            stream = connection.open(method.path, target.maybe_token(random), extra)
            flag = random.choice((1, 1, 1, 0, 2, 255))
            connection.message(stream, payload, flag=flag, end=True)
            connection.wait(stream, 0.2)
            sent = Sent(f"compressed flag {flag}, {encoding}, on {method.path}", bytes(connection.sent))
            yield sent
            if bug := bug_of(connection, stream):
                yield Problem(f"{bug}, compressed", sent)
