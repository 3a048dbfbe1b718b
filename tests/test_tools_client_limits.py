"""tools_http: responses that are too much, too slow or no responses, each of which ends as a bounded, clear error."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine import body, stream
from shared.errors import CallerError, Code
from tests.servers import ROOT, SECONDS
from tests.tools_world import Play, World

GZIP = [("Content-Encoding", "gzip")]


def refused(world: World, path: str = "/", **how: Any) -> CallerError:
    with pytest.raises(CallerError) as error:
        world.send(path, **how)
    return error.value


# ---------------------------------------------------------------- too much


def test_a_gzip_bomb() -> None:
    """net-gzip-bomb: 200 MB of zeros in 203,861 bytes of gzip end as TOO_LARGE and cost less than 32 MB of memory."""
    done = subprocess.run(
        [sys.executable, "-c", _BOMB], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=True
    )
    told = json.loads(done.stdout)
    assert (told["wire"], told["reason"]) == (203_861, "TOO_LARGE")
    assert "5242880" in told["message"]
    assert told["grown_mb"] < 32


_BOMB = """
import json, resource, sys, zlib
sys.path[:0] = [".", "proto"]
from shared.errors import CallerError
from tests.tools_world import Play, World

packer = zlib.compressobj(9, zlib.DEFLATED, 31)
bomb = b"".join(packer.compress(b"0" * 2**20) for _ in range(200)) + packer.flush()
with World() as world:
    world.on("/warm", Play([b"x" * 2**16]))
    world.on("/bomb", Play([bomb], headers=[("Content-Encoding", "gzip")]))
    world.send("/warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        world.send("/bomb")
    except CallerError as error:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told = {"wire": len(bomb), "reason": error.reason, "message": error.message, "grown_mb": grown / 1000}
        print(json.dumps(told))
"""


@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_body(chunked: bool) -> None:
    """A body without an end is cut at the bound, and the error names the bound, the setting and a remedy."""
    with World(settings={"max_response_bytes": 100_000}) as world:
        world.on("/", Play([b"x" * 8_192], endless=True, chunked=chunked))
        error = refused(world)
        assert (error.reason, error.code) == ("TOO_LARGE", Code.RESOURCE_EXHAUSTED)
        assert all(word in error.message for word in ("100000 bytes", "max_response_bytes", "ask for less"))


def test_a_body_that_says_it_is_too_large() -> None:
    """A Content-Length past the bound ends the call before the body is read."""
    with World(settings={"max_response_bytes": 1_000}) as world:
        world.on("/", Play([b"x", 60.0], headers=[("Content-Length", "1001")]))
        assert refused(world).reason == "TOO_LARGE"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
def test_at_the_bound(packed: bool, chunked: bool) -> None:
    """A body of just the bound is read whole, one byte more is too large, packed or not; a request may lower it."""
    with World(settings={"max_response_bytes": 10_000}) as world:
        for size in (10_000, 10_001):
            content = b"x" * size
            pieces = [gzip.compress(content)] if packed else [content[:5_000], content[5_000:]]
            world.on(f"/{size}", Play(pieces, headers=GZIP if packed else [], chunked=chunked))
        assert world.send("/10000").body == b"x" * 10_000
        assert refused(world, "/10001").reason == "TOO_LARGE"
        assert refused(world, "/10000", max_bytes=9_999).reason == "TOO_LARGE"


def test_endless_headers() -> None:
    """Headers without an end, one long one and endless heads before the real one (1xx) are cut."""
    with World() as world:
        many = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000))
        world.on("/many", Play([b"X: y\r\n" * 1_000], head=many, endless=True))
        world.on("/long", Play([b"x" * 8_192], head=b"HTTP/1.1 200 OK\r\nX: ", endless=True))
        world.on("/status", Play([b"x" * 8_192], head=b"HTTP/1.1 200 ", endless=True))
        world.on("/early", Play([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100], head=b"", endless=True))
        world.on("/lines", Play(head=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2_000 + b"\r\n", close=True))
        paths = ("/many", "/long", "/status", "/early", "/lines")
        assert [refused(world, path).reason for path in paths] == ["TOO_LARGE"] * 5


def test_many_small_pieces() -> None:
    """A body in a hundred thousand pieces is cut: each costs as much as a large one."""
    with World(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_MOST_PIECES", 1_000)
        with World() as world:
            world.on(
                "/",
                Play(
                    [b"1\r\nx\r\n" * 1_000], head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", endless=True
                ),
            )
            error = refused(world)
            assert error.reason == "TOO_LARGE"
            assert "1000 pieces" in error.message


def test_long_extensions_of_chunks() -> None:
    """What stands beside the body's bytes on the wire counts too."""
    with World(settings={"max_response_bytes": 1_000}) as world:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        world.on("/", Play([b"1;" + b"x" * 8_000 + b"\r\ny\r\n"], head=head, endless=True))
        assert refused(world).reason == "TOO_LARGE"


def test_what_nobody_reads_stays_with_the_server() -> None:
    """A server that sends faster than its response is read is held up, and all of it comes when it is read."""
    most = 2**26
    came: list[int] = []

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sum(came) < most:
            writer.write(b"x" * 2**16)
            came.append(2**16)
            await writer.drain()
        writer.close()

    async def read() -> tuple[int, int]:
        server = await asyncio.start_server(send, "127.0.0.1", 0)
        async with server:
            connection = await stream.connect("127.0.0.1", server.sockets[0].getsockname()[1])
            count = -1
            while count < len(came):  # until the server stands still
                count = len(came)
                await asyncio.sleep(0.1)
            held = len(connection._protocol._came)
            total = 0
            while data := await connection.read(2**20):
                total += len(data)
            await connection.aclose()
        return held, total

    held, total = asyncio.run(read())
    assert total == most
    assert held <= 2 * stream._HIGH


# ---------------------------------------------------------------- too slow


def test_a_slow_drip() -> None:
    """A server that sends a byte now and then is given up at the deadline, not at the last byte's pause."""
    with World() as world:
        world.on("/", Play([b"x", 0.05], endless=True, chunked=True))
        began = time.monotonic()
        error = refused(world, seconds=0.4)
        assert (error.reason, error.code) == ("UPSTREAM_TIMEOUT", Code.DEADLINE_EXCEEDED)
        assert 0.4 <= time.monotonic() - began < 20
        assert "127.0.0.1" in error.message
        assert "request_timeout" in error.message


@pytest.mark.parametrize(
    "play", [Play([60.0], head=b""), Play([60.0], head=b"HTTP/1.1 200 OK\r\n"), Play([60.0], endless=True)]
)
def test_silence(play: Play) -> None:
    """A server that says nothing, half a head or no body is given up after request_timeout."""
    with World(settings={"request_timeout": 0.2}) as world:
        world.on("/", play)
        assert refused(world).reason == "UPSTREAM_TIMEOUT"


def test_slow_redirects_share_one_deadline() -> None:
    """The time is that of all hops together."""
    with World(settings={"request_timeout": 0.5, "max_redirects": 20}) as world:
        world.on(
            "*",
            lambda seen: Play([0.1], status=302, headers=[("Location", f"{seen.target}x"), ("Content-Length", "0")]),
        )
        began = time.monotonic()
        assert refused(world).reason in ("UPSTREAM_TIMEOUT", "TOO_MANY_REDIRECTS")
        assert time.monotonic() - began < 20


def test_a_deadline_that_has_passed() -> None:
    """Without time left nothing is sent."""
    with World() as world:
        assert refused(world, seconds=-1.0).reason == "UPSTREAM_TIMEOUT"
        assert world.server.seen == []


def test_a_connection_that_does_not_come() -> None:
    """Where no connection comes in time the error says so and names connect_timeout."""
    with World(settings={"connect_timeout": 0.1}) as world:

        async def dial(address: str, port: int) -> Any:
            import asyncio

            await asyncio.sleep(60)

        world.client._backend._dial = dial
        error = refused(world)
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert "connect_timeout" in error.message


# ---------------------------------------------------------------- no responses


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\r\n\r\n", b"HTTP/x 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"<html></html>", b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\n\x80\xff: x\r\n\r\n", b"HTTP/2 200\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_response(head: bytes) -> None:
    """What is no HTTP response, or not all of one, is an error with a reason and without the server's words."""
    with World() as world:
        world.on("/", Play(head=head, close=True))
        error = refused(world)
        assert (error.reason, error.code) == ("BAD_RESPONSE", Code.UNAVAILABLE)
        assert "127.0.0.1" in error.message
        assert "SSH" not in error.message


fragments = st.sampled_from(
    [b"HTTP/1.1 ", b"200", b" OK", b"302", b"101", b"103", b"\r\n", b"\n", b"\r", b": ", b":", b" ", b"\t", b"\0",
     b"\xff",
     b"Location",
     b"/", b"//", b"http://169.254.169.254/", b"Content-Length", b"Transfer-Encoding", b"chunked", b"Content-Encoding",
     b"gzip",
     b"Connection", b"close", b"0", b"5", b"-1", b"99999999999999999999999", b"x" * 300, b"Retry-After", b"503",
     gzip.compress(b"x")]
)  # fmt: skip
answers = st.lists(fragments | st.binary(max_size=8), max_size=24).map(b"".join)


SOON = 100.0  # seconds; each answer is there at once, and one that hangs is a timeout


def check_any_answers(examples: int) -> None:
    with World(settings={"request_timeout": SOON}) as world:

        @settings(max_examples=examples)
        @given(answers | answers.map(lambda answer: b"HTTP/1.1 200 OK\r\n" + answer))
        def check(answer: bytes) -> None:
            world.on("*", Play(head=answer, close=True))
            try:
                response = world.send("/", seconds=SOON)
            except CallerError as error:
                outcome = error.reason
            else:
                outcome = "" if 100 < response.status < 1000 else "what a status"
            assert outcome in ("", "BAD_RESPONSE", "BAD_URL", "TOO_LARGE", "UNSUPPORTED_ENCODING", "TOO_MANY_REDIRECTS",
                               "BLOCKED_ADDRESS", "BLOCKED_SCHEME", "UPSTREAM_UNREACHABLE"), outcome  # fmt: skip

        check()


def test_any_answer() -> None:
    """Whatever bytes a server sends, they are a response or an error with a reason, never a traceback or a hang."""
    check_any_answers(30)


@pytest.mark.slow
def test_many_answers() -> None:
    """The same of many more."""
    check_any_answers(1_000)


@pytest.mark.parametrize("status", [100, 103, 226, 299, 418, 599, 600, 999])
def test_odd_statuses(status: int) -> None:
    """A status that nobody knows comes back as it is; one of a hundred and something is not the last word."""
    with World() as world:
        head = b"HTTP/1.1 %d \r\nContent-Length: 0\r\n\r\n"
        world.on("/", Play(head=head % status + (head % 200 if status < 200 else b"")))
        assert world.send("/").status == (200 if status < 200 else status)


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "compress", "x"])
def test_other_encodings(coding: str) -> None:
    """What is packed otherwise than asked is an error that says so: nothing but gzip is unpacked, and that once."""
    with World() as world:
        world.on("/", Play([gzip.compress(b"x")], headers=[("Content-Encoding", coding)]))
        assert refused(world).reason == "UNSUPPORTED_ENCODING"
        world.on("/twice", Play([gzip.compress(gzip.compress(b"x"))], headers=[*GZIP, *GZIP]))
        assert refused(world, "/twice").reason == "UNSUPPORTED_ENCODING"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip", " gzip ,"])
def test_gzip(coding: str) -> None:
    """gzip is unpacked, in one piece and in many, in one member and in many, with whatever stands behind it."""
    content = bytes(range(256)) * 100
    packed = gzip.compress(content)
    with World() as world:
        headers = [("Content-Encoding", coding)]
        world.on("/one", Play([packed], headers=headers))
        world.on("/many", Play([packed[at : at + 7] for at in range(0, len(packed), 7)], headers=headers, chunked=True))
        world.on("/members", Play([packed + packed + gzip.compress(b"") + packed], headers=headers))
        world.on("/behind", Play([packed + b"\0\0\0 garbage"], headers=headers))
        assert [world.send(path).body for path in ("/one", "/many", "/members", "/behind")] == [
            content, content, content * 3, content
        ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"x", b"hello world", gzip.compress(b"x" * 1_000)[:-1], gzip.compress(b"x" * 1_000)[:20],
     gzip.compress(b"x")[:-8] + b"\0" * 8,
     zlib.compress(b"x")],
    ids=["a byte", "text", "without its end", "cut", "of a wrong sum", "deflate"],
)  # fmt: skip
def test_gzip_that_is_broken(content: bytes) -> None:
    """What is no gzip, or not all of it, or has another checksum, is an error."""
    with World() as world:
        world.on("/", Play([content], headers=GZIP))
        assert refused(world).reason == "BAD_RESPONSE"


def test_many_members_of_gzip() -> None:
    """A gzip stream of thousands of members is refused."""
    with World() as world:
        world.on("/", Play([gzip.compress(b"") * 2_000], headers=GZIP))
        error = refused(world)
        assert (error.reason, "members" in error.message) == ("BAD_RESPONSE", True)


def test_small_bounds() -> None:
    """The smallest bound is kept too, packed and not."""
    with World(settings={"max_response_bytes": 1}) as world:
        world.on("/", b"x", b"xy")
        world.on("/packed", Play([gzip.compress(b"x")], headers=GZIP, chunked=True))
        assert world.send("/").body == b"x"
        assert refused(world).reason == "TOO_LARGE"
        assert refused(world, "/packed").reason == "TOO_LARGE"  # 21 bytes as it comes over the wire
