"""Header blocks that are broken, huge or odd, and metadata that no client would send."""

from __future__ import annotations

import contextlib
from random import Random

from hyperframe.frame import ContinuationFrame, HeadersFrame

from tests.fuzz.attack import Problem, Sent, Steps, Target
from tests.fuzz.bugs import bug_of
from tests.fuzz.http2 import FRAME, Connection, Header
from tests.fuzz.methods import methods
from tests.fuzz.mutate import mutate

ODD: tuple[list[Header], ...] = (
    [("x-request-id", "\x01")],
    [("x-request-id", "x" * 8_000)],
    [("x-bin", "not base64 !!")],
    [("x-bin", b"\xff\xfe")],
    [("X-Upper", "1")],
    [("", "empty name")],
    [(b"\xff\x00", b"\xff\x00\r\n")],
    [("grpc-timeout", "99999999H")],
    [("grpc-timeout", "-1S")],
    [("grpc-timeout", "1n")],
    [("grpc-timeout", "")],
    [("grpc-status", "13")],
    [("grpc-status-details-bin", "AAAA")],
    [("authorization", b"Bearer \xff\xff")],
    [("authorization", "Bearer " + "x" * 4_000)],
    [("authorization", "Bearer fuzz-toke"), ("authorization", "Bearer fuzz-token")],
    [("x-embedding-model", b"\xf0\x9f\xa6")],
    [("content-length", "5")],
    [("connection", "close"), ("transfer-encoding", "chunked")],
    [(":path", "/again")],
    [("te", "gzip")],
    [("host", "a"), ("host", "b")],
    [(f"x-{number}", "y") for number in range(500)],
    [("x-long", "y" * 100_000)],
    [("x-million", "y" * 1_000_000)],
)


def run(target: Target, random: Random) -> Steps:
    every = methods(target.plugin)
    while True:
        with contextlib.closing(Connection(target.address)) as connection:
            method = random.choice(every)
            block = connection.headers(method.path, target.maybe_token(random), random.choice(ODD))
            if random.random() < 0.3:
                block = mutate(block, random)
            frames: list[bytes] = []
            for start in range(0, max(len(block), 1), FRAME):
                piece = block[start : start + FRAME]
                frame = ContinuationFrame(1, piece) if start else HeadersFrame(1, piece)
                if start + FRAME >= len(block):
                    frame.flags.add("END_HEADERS")
                frames.append(frame.serialize())
            connection.send(*frames)
            connection.message(1, b"", end=True)
            connection.wait(1, 0.05)
            sent = Sent(f"a header block of {len(block)} bytes for {method.path}", bytes(connection.sent))
            yield sent
            if bug := bug_of(connection, 1):
                yield Problem(f"{bug}, odd headers", sent)
