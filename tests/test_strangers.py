"""What a stranger may send and what becomes of it, over real sockets: `shared/accept.py`, `patience.py`, `calls.py`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from grpc_health.v1 import health_pb2
from hector_plugins_pb2_grpc import DatabaseProviderStub, LLMProviderStub
from hyperframe.frame import DataFrame, WindowUpdateFrame

from shared import accept, patience
from shared.places import Places
from tests import http2
from tests.fuzz.http2 import Connection
from tests.fuzz.memory import settled
from tests.servers import SECONDS, Plugin, details, dial, health, start_plugin, wait_until
from tests.toy_plugin import SERVICE

TOY = "tests.toy_plugin"
GENERATE = f"/{SERVICE}/GenerateText"
STREAM = f"/{SERVICE}/StreamText"
CHECK = "/grpc.health.v1.Health/Check"
MIB = 2**20


def ask(prompt: str = "echo yes") -> pb.GenerateTextRequest:
    return pb.GenerateTextRequest(prompt=prompt)


def works(plugin: Plugin, token: str = "") -> bool:
    return LLMProviderStub(plugin.channel(token=token)).GenerateText(ask(), timeout=SECONDS).text == "yes"


def raw(kind: Callable[..., Any], path: str | bytes) -> Any:
    """The call of a path with bytes in place of messages: `kind` is a channel's method for the kind of call."""
    return kind(path)


def refused(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def resident(plugin: Plugin) -> float:
    """MiB of memory."""
    pages = int(Path(f"/proc/{plugin.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@contextlib.contextmanager
def most_resident(plugin: Plugin) -> Iterator[list[float]]:
    """The most MiB that the plugin takes meanwhile, as the one item of a list."""
    most, over = [resident(plugin)], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], resident(plugin))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


# ---------------------------------------------------------------- paths


def test_this_grpcio_is_one_that_was_tested() -> None:
    """What leans on grpcio's inside holds for the versions in accept.HOLDS, and the installed one is of them."""
    assert accept.HOLDS == ("1.84", "1.85")
    assert accept.holds()


def test_paths_that_are_no_text() -> None:
    """2,000 requests for a path that is not UTF-8, half of them at any moment, cost no other call its answer."""
    with start_plugin(TOY) as plugin, http2.connections(plugin.address, 4) as strangers:
        over = threading.Event()
        answers: list[str] = []

        def normal() -> None:
            stub = LLMProviderStub(plugin.channel())
            while not over.is_set() or not answers:
                answers.append(stub.GenerateText(ask(), timeout=SECONDS).text)

        client = threading.Thread(target=normal)
        client.start()
        for stream in range(1, 1000, 2):
            for stranger in strangers:
                stranger.call(stream, b"/\xff", b"")
        for stranger in strangers:
            ended = 0
            while ended < 500:
                kind, flags, _, _ = stranger.read_frame()
                ended += kind == http2.HEADERS and bool(flags & http2.END_STREAM)
        over.set()
        client.join(SECONDS)
        assert not client.is_alive()
        assert set(answers) == {"yes"}
        assert health(plugin.channel()) == health_pb2.HealthCheckResponse.SERVING
        assert "raceback" not in plugin.stderr()


@pytest.mark.parametrize(
    "path", [b"/\xff", b"", b"/", b"no/slash", b"/x/y", b"/" + b"a" * 200, CHECK.encode() + b"\xff"]
)
def test_unknown_paths_are_answered(path: bytes) -> None:
    """A call of a method that nobody registered is UNIMPLEMENTED at once, whatever its path."""
    with start_plugin(TOY) as plugin:
        with http2.connections(plugin.address, 1) as (stranger,):
            stranger.call(1, path, b"")
            while True:
                kind, flags, stream, _ = stranger.read_frame()
                if stream == 1 and flags & http2.END_STREAM:
                    break
            # 12 is UNIMPLEMENTED; a path without its slash HTTP/2 itself resets.
            assert kind == http2.HEADERS
        assert works(plugin)


def test_another_grpcio(tmp_path: Path) -> None:
    """With a grpcio that was not tested the plugin says so at the start, and ends when its server does."""
    script = tmp_path / "plugin.py"
    script.write_text(
        "from shared import accept\naccept.HOLDS = ('0.1',)\n"
        "from tests import toy_plugin\ntoy_plugin.run(toy_plugin.main)\n"
    )
    with start_plugin([sys.executable, str(script), "--port", "0"]) as plugin:
        plugin.wait_for_log("reason=GRPCIO_NOT_TESTED")
        assert works(plugin)
        with pytest.raises(grpc.RpcError):
            raw(plugin.channel().unary_unary, b"/\xff")(b"", timeout=SECONDS)
        assert plugin.wait() == 1
        plugin.wait_for_log("event=server_ended")


# ---------------------------------------------------------------- messages that do not arrive


@pytest.mark.parametrize("path", [GENERATE, CHECK])
def test_half_messages_hold_little(path: str) -> None:
    """40 calls that send 60 of 64 MiB and stop do not hold 2.4 GB, and what they held is given back."""
    with start_plugin(TOY, "--max-held-bytes", "64MiB") as plugin:
        assert works(plugin)
        before = resident(plugin)
        with most_resident(plugin) as most, http2.connections(plugin.address, 40) as strangers:
            uploads = [
                threading.Thread(
                    target=stranger.upload, args=(1, path), kwargs={"announced": 64 * MIB, "sent": 60 * MIB}
                )
                for stranger in strangers
            ]
            http2.at_once(uploads, SECONDS)
            assert works(plugin)
        assert most[0] - before < 1_000
        wait_until(lambda: resident(plugin) - before < 100, "memory back")
        if path == GENERATE:
            plugin.wait_for_log("reason=MESSAGES_NOT_ARRIVING")


def test_a_message_has_its_time() -> None:
    """A message that is not whole within `transfer_timeout` ends its call, also one of which nothing came."""
    with (
        start_plugin(TOY, "--transfer-timeout", "500ms") as plugin,
        http2.connections(plugin.address, 1) as (stranger,),
    ):
        stranger.call(1, GENERATE)
        assert stranger.upload(3, GENERATE, announced=1000, sent=500)
        wait_until(lambda: plugin.stderr().count("code=DEADLINE_EXCEEDED") >= 2, "both ends")
        error = refused(lambda: _never_sends(plugin))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert details(error).reason == "MESSAGE_TIMEOUT"
        assert "transfer_timeout of 0.5 s" in error.details()
        assert works(plugin)


def _never_sends(plugin: Plugin) -> Any:
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        over.wait(SECONDS)
        yield from ()

    try:
        return list(raw(plugin.channel().stream_stream, GENERATE)(requests(), timeout=SECONDS))
    finally:
        over.set()


@pytest.mark.slow
def test_calls_without_a_message() -> None:
    """Of 5,000 calls that send no message all but 1,024 are ended, the oldest first, and others get their answers."""
    with start_plugin(TOY, "--transfer-timeout", "1h") as plugin, http2.connections(plugin.address, 5) as strangers:
        for stranger in strangers:
            for stream in range(1, 2000, 2):
                stranger.call(stream, GENERATE)
        assert works(plugin)
        ended = 5_000 - patience.MOST_AWAITED
        wait_until(lambda: sum(_ends(stranger) for stranger in strangers) >= ended, f"{ended} ends")
        # Not each of them has its line in the log, since nobody could read it then.
        assert works(plugin)
        plugin.wait_for_log("reason=FLOOD")
        assert 100 <= plugin.stderr().count("reason=MESSAGES_NOT_ARRIVING") < ended


def _ends(stranger: http2.Connection, seen: dict[http2.Connection, int] = {}) -> int:  # noqa: B006
    """Calls of this connection that the server has ended so far."""
    stranger.socket.settimeout(0.01)
    with contextlib.suppress(TimeoutError):
        while True:
            kind, flags, _, _ = stranger.read_frame()
            seen[stranger] = seen.get(stranger, 0) + (kind == http2.HEADERS and bool(flags & http2.END_STREAM))
    return seen.get(stranger, 0)


def test_a_call_that_ends_without_a_message() -> None:
    """A call that is half closed and has sent no message is INVALID_ARGUMENT."""
    with start_plugin(TOY) as plugin:
        error = refused(lambda: raw(plugin.channel().stream_unary, GENERATE)(iter(()), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(error).reason == "NO_MESSAGE"


def test_without_the_token_nothing_is_read() -> None:
    """Who has no token cannot make the plugin take in a message: the call ends in its first MiB."""
    with start_plugin(TOY, env={"TOY_PLUGIN__TOKEN": "open sesame"}) as plugin:
        with http2.connections(plugin.address, 1) as (stranger,):
            assert not stranger.upload(1, GENERATE, announced=64 * MIB, sent=MIB)
        plugin.wait_for_log("reason=TOKEN_MISSING")
        assert works(plugin, "open sesame")


def test_an_announced_length_is_believed_as_far_as_it_may_be() -> None:
    """A message announced with 4 GiB is refused before it comes."""
    with start_plugin(TOY) as plugin:
        with http2.connections(plugin.address, 1) as (stranger,):
            assert not stranger.upload(1, GENERATE, announced=2**32 - 1, sent=MIB)
        assert works(plugin)


def test_a_large_health_request() -> None:
    """A health request of more than 1,024 bytes is refused; what it names could be no service."""
    with start_plugin(TOY) as plugin:
        request = health_pb2.HealthCheckRequest(service="x" * 2000).SerializeToString()
        error = refused(lambda: raw(plugin.channel().unary_unary, CHECK)(request, timeout=SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert health(plugin.channel()) == health_pb2.HealthCheckResponse.SERVING


def test_connections_are_bounded() -> None:
    """One connection more than `max_connections` is closed; once another has gone there is room again."""
    with start_plugin(TOY, "--max-connections", "4") as plugin:
        assert works(plugin)
        with http2.connections(plugin.address, 8) as strangers:

            def is_closed(stranger: http2.Connection) -> bool:
                stranger.socket.settimeout(SECONDS)
                try:
                    stranger.send(http2.frame(http2.PING, 0, 0, b"12345678"))
                    while stranger.read_frame()[0] != http2.PING:
                        pass
                except OSError:
                    return True
                return False

            assert sum(map(is_closed, strangers)) >= 4

        def has_room() -> bool:
            # Closed each time: channels that were refused would come again, and take the room of the next one.
            with contextlib.suppress(grpc.RpcError), dial(plugin.address) as channel:
                # The server may not have heard yet that others have gone.
                return bool(LLMProviderStub(channel).GenerateText(ask(), timeout=SECONDS).text == "yes")
            return False

        wait_until(has_room, "room")


# ---------------------------------------------------------------- bytes that are no message


BROKEN = b"\x0a\x05a"  # a text of five bytes, of which one is there


@pytest.mark.parametrize("path", [GENERATE, STREAM, CHECK, "/grpc.health.v1.Health/Watch"])
def test_malformed_messages(path: str) -> None:
    """Bytes that are no message are INVALID_ARGUMENT with details and one line in the log, for every kind of call."""
    with start_plugin(TOY) as plugin:
        error = refused(lambda: list(raw(plugin.channel().unary_stream, path)(BROKEN, timeout=SECONDS)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(error).reason == "MALFORMED_MESSAGE"
        assert plugin.terminate() == 0
        assert "raceback" not in plugin.stderr()
        assert plugin.stderr().count("event=call") == ("Health" not in path)


def test_malformed_messages_of_a_stream(tmp_path: Path) -> None:
    """A stream of requests ends with INVALID_ARGUMENT where one is no message; those before it were answered."""
    with start_plugin("plugins.vector_hnsw", "--data-dir", str(tmp_path)) as plugin:
        good = pb.UpsertVectorsRequest(collection="none").SerializeToString()
        upload = raw(plugin.channel().stream_stream, "/hector.plugins.v1.DatabaseProvider/UpsertVectorsStream")
        replies = upload(iter([good, BROKEN]), timeout=SECONDS)
        assert not pb.UpsertVectorsResponse.FromString(next(replies)).success
        error = refused(lambda: next(replies))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(error).reason == "MALFORMED_MESSAGE"
        assert "raceback" not in plugin.stderr()


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(algorithm: grpc.Compression) -> None:
    """A compressed request is refused, unless the setting `compression` allows it."""
    for allowed in (False, True):
        with start_plugin(TOY, *(["--compression"] if allowed else [])) as plugin:
            channel = grpc.insecure_channel(plugin.address, compression=algorithm)
            with channel:
                stub = LLMProviderStub(channel)
                request = ask("echo " + "x" * 10_000)
                if allowed:
                    assert stub.GenerateText(request, timeout=SECONDS).text == "x" * 10_000
                    continue
                error = refused(functools.partial(stub.GenerateText, request, timeout=SECONDS))
                assert error.code() is grpc.StatusCode.UNIMPLEMENTED
                assert works(plugin)


# ---------------------------------------------------------------- replies that are not read


@pytest.mark.slow
@pytest.mark.loop_may_stall("the toy makes replies of 4 MB, several in a turn")
def test_replies_that_nobody_reads() -> None:
    """1,000 replies of 4 MB to clients that never read hold a bounded part of memory, and others get theirs."""
    with start_plugin(TOY, "--max-held-bytes", "64MiB", "--transfer-timeout", "2s") as plugin:
        assert works(plugin)
        before = resident(plugin)
        request = ask("bytes 4000000").SerializeToString()
        with most_resident(plugin) as most, http2.connections(plugin.address, 40, window=0) as strangers:
            for stranger in strangers:
                for stream in range(1, 51, 2):
                    stranger.call(stream, GENERATE, request)
            assert works(plugin)  # calls of one method are taken in turn, so all others have been
            plugin.wait_for_log("reason=REPLY_NOT_READ")
            # At last every one of them is dropped.
            wait_until(lambda: resident(plugin) - before < 100, "memory back")
        assert most[0] - before < 1_000
        assert "raceback" not in plugin.stderr()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_health_that_nobody_reads(method: str) -> None:
    """Answers of the health service to clients that do not read are dropped after 5 seconds."""
    with start_plugin(TOY) as plugin:
        with http2.connections(plugin.address, 1, window=0) as (stranger,):
            for stream in range(1, 41, 2):
                stranger.call(stream, f"/grpc.health.v1.Health/{method}", b"")
            plugin.wait_for_log("reason=REPLY_NOT_READ", times=20)
        assert works(plugin)


@pytest.mark.slow
def test_a_stream_that_nobody_reads() -> None:
    """A stream whose client does not read is dropped a while after its time is over."""
    with start_plugin(TOY, "--timeout", "500ms") as plugin:
        with http2.connections(plugin.address, 1, window=0) as (stranger,):
            stranger.call(1, STREAM, pb.StreamTextRequest(prompt="flood").SerializeToString())
            plugin.wait_for_log("code=DEADLINE_EXCEEDED")
            plugin.wait_for_log("reason=REPLY_NOT_READ")
            while True:
                kind, _, stream, _ = stranger.read_frame()
                if (kind, stream) == (http2.RST_STREAM, 1):
                    break
        assert plugin.terminate() == 0


@pytest.mark.slow
def test_messages_that_come_after_their_refusal() -> None:
    """A message that becomes whole after its call was refused, as the client does not read that, leaves no memory."""
    size = 900_000  # bytes; the first window of a stream has room for it
    with start_plugin(TOY, "--transfer-timeout", "500ms", "--max-held-bytes", "256MiB") as plugin:
        assert works(plugin)
        before, sent, refusals = resident(plugin), 0, 0
        while sent < 100 * MIB:
            refusals += 40
            with contextlib.closing(Connection(plugin.address, settings={4: 2**31 - 1}, seconds=SECONDS)) as stranger:
                stranger.send(WindowUpdateFrame(0, window_increment=2**31 - 2**16))
                streams = [stranger.open(GENERATE) for _ in range(40)]
                for stream in streams:
                    stranger.message(stream, b"begins", length=size)
                stranger.read(0.5)
                room = stranger._window
                asks = ask("bytes 4000000").SerializeToString()
                for _ in range(3):  # more than fits between two sockets, so that nothing comes out any more
                    stranger.send(DataFrame(stranger.open(GENERATE), bytes(4) + bytes((len(asks),)) + asks))
                plugin.wait_for_log("code=DEADLINE_EXCEEDED", times=refusals)
                for stream in streams[: room // size]:
                    rest = bytes(size - len(b"begins"))
                    stranger.send(*(DataFrame(stream, rest[start : start + 2**14]) for start in range(0, size, 2**14)))
                    sent += size
        wait_until(lambda: resident(plugin) - before < 60, "memory back")
        assert works(plugin)


@pytest.mark.slow
def test_calls_whose_clients_do_not_wait() -> None:
    """Health checks whose clients are gone before the answer leave no memory, as many as there may be."""
    with start_plugin(TOY) as plugin:

        def ask_and_go(checks: int) -> None:
            for _ in range(checks // 50):
                with contextlib.closing(Connection(plugin.address, seconds=SECONDS)) as stranger:
                    for _ in range(50):
                        stranger.message(stranger.open("/grpc.health.v1.Health/Check"), b"", end=True)

        ask_and_go(20_000)
        assert works(plugin)
        quiet = sum(patience._QUIET)  # after which what is free has gone back to the system
        before = settled(plugin.process.pid, quiet)
        ask_and_go(100_000)
        assert settled(plugin.process.pid, quiet) - before < 15 * MIB
        assert works(plugin)


# ---------------------------------------------------------------- streams that send nothing


@pytest.mark.slow
def test_idle_streams_take_no_place(tmp_path: Path) -> None:
    """300 upload streams that send nothing leave each of 2 places to others; a silent one ends after `timeout`."""
    data_dir = str(tmp_path / "data")
    with start_plugin(
        "plugins.vector_hnsw", "--data-dir", data_dir, "--max-concurrent", "2", "--timeout", "15s"
    ) as plugin:
        over = threading.Event()

        def silence() -> Iterator[pb.UpsertVectorsRequest]:
            over.wait(SECONDS)
            yield from ()

        stub = DatabaseProviderStub(plugin.channel())
        streams = [stub.UpsertVectorsStream(silence(), timeout=SECONDS) for _ in range(300)]
        try:
            made = stub.CreateCollection(pb.CreateCollectionRequest(name="docs", dimension=2), timeout=SECONDS)
            assert made.success
            note = pb.Vector(id="a", vector=[1, 0])
            one = pb.UpsertVectorsRequest(collection="docs", vectors=[note])
            # Beside them, one that works takes a place for each message and gives it back.
            assert [reply.success for reply in stub.UpsertVectorsStream(iter([one] * 20), timeout=SECONDS)] == [
                True
            ] * 20
            assert stub.GetVectors(pb.GetVectorsRequest(collection="docs", ids=["a"]), timeout=SECONDS).success
            error = refused(lambda: next(streams[0]))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            over.set()


def test_watches_are_bounded() -> None:
    """Of 1,100 Watch calls all but 100 are ended, and Check goes on."""
    with start_plugin(TOY) as plugin, http2.connections(plugin.address, 2) as strangers:
        request = health_pb2.HealthCheckRequest(service="plugin").SerializeToString()
        for stranger in strangers:
            for stream in range(1, 1100, 2):
                stranger.call(stream, "/grpc.health.v1.Health/Watch", request)
        while True:
            kind, flags, _, _ = strangers[0].read_frame()
            if kind == http2.HEADERS and flags & http2.END_STREAM:
                break
        assert health(plugin.channel()) == health_pb2.HealthCheckResponse.SERVING


def test_the_places() -> None:
    """A place that is given back goes to whoever has waited longest, and not to one who has stopped waiting."""

    async def scenario() -> list[str]:
        places, order = Places(1), []
        assert places.take()
        assert not places.take()

        async def wait(name: str) -> None:
            await places.wait()
            order.append(name)

        first, second, third = (asyncio.create_task(wait(name)) for name in ("first", "second", "third"))
        await asyncio.sleep(0)
        second.cancel()
        places.give_back()
        await first
        assert not places.take()
        places.give_back()
        await third
        places.give_back()
        assert places.take()
        return order

    assert asyncio.run(asyncio.wait_for(scenario(), SECONDS)) == ["first", "third"]
