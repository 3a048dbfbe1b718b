"""Serving, over real sockets: `shared/server.py`, `shared/calls.py`, `shared/health.py`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hector_plugins_pb2_grpc import LLMProviderServicer, LLMProviderStub

from shared.config import BaseConfig
from shared.errors import StartError
from shared.units import Secret
from tests.servers import (
    SECONDS,
    Plugin,
    Served,
    await_serving,
    details,
    dial,
    has_ipv6,
    health,
    run_plugin,
    served,
    start_plugin,
    wait_until,
)
from tests.toy_plugin import SERVICE, Context, Toy, register

TOY = "tests.toy_plugin"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ["", "plugin", SERVICE]
GENERATE = f"/{SERVICE}/GenerateText"


def toy(servicer: LLMProviderServicer | None = None, *, ready: bool = True, **config: Any) -> Any:
    return served(
        BaseConfig(**config),
        SERVICE,
        lambda server: register(servicer or Toy(), server),
        ready=ready,
        too_large_hints={"GenerateText": "lower max_tokens", "StreamText": "stream smaller pieces"},
    )


def ask(prompt: str, name: str = "") -> pb.GenerateTextRequest:
    return pb.GenerateTextRequest(prompt=prompt, model=name)


def stream(prompt: str, name: str = "") -> pb.StreamTextRequest:
    return pb.StreamTextRequest(prompt=prompt, model=name)


def refused(call: Any) -> Any:
    """The grpc.RpcError that `call()` ends in."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def still_works(plugin: Served | Plugin) -> bool:
    return LLMProviderStub(plugin.channel()).GenerateText(ask("echo yes"), timeout=SECONDS).text == "yes"


def watch(channel: grpc.Channel, service: str = "plugin") -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Watch(request, timeout=SECONDS, wait_for_ready=True)


# ---------------------------------------------------------------- health and readiness


def test_loading() -> None:
    """While it loads, a plugin is NOT_SERVING under all three names and calls are UNAVAILABLE with a RetryInfo."""
    with toy(ready=False) as plugin:
        channel = plugin.channel()
        assert [health(channel, name) for name in NAMES] == [NOT_SERVING] * 3
        for call in (
            lambda: LLMProviderStub(channel).GenerateText(ask("echo x"), timeout=SECONDS),
            lambda: list(LLMProviderStub(channel).StreamText(stream("echo x"), timeout=SECONDS)),
        ):
            error = refused(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error).reason == "LOADING"
            assert details(error).retry_after == 1
        plugin.set_ready()
        await_serving(channel)
        assert [health(channel, name) for name in NAMES] == [SERVING] * 3
        assert still_works(plugin)


@pytest.mark.parametrize("name", NAMES)
def test_watch_from_loading_to_shutdown(name: str, tmp_path: Path) -> None:
    """A Watch sees NOT_SERVING, SERVING and, from the moment a shutdown begins, NOT_SERVING, and then ends."""
    with toy(ready=False) as plugin:
        watching = watch(plugin.channel(), name)
        assert next(watching).status == NOT_SERVING
        plugin.set_ready()
        assert next(watching).status == SERVING
        slow = LLMProviderStub(plugin.channel()).GenerateText.future(ask(f"until {tmp_path / 'now'}"))
        plugin.wait_for_log("event=accepted")
        stopping = plugin.stop(SECONDS)
        assert next(watching).status == NOT_SERVING
        assert not slow.done()
        (tmp_path / "now").touch()
        assert refused(lambda: next(watching)).code() is grpc.StatusCode.UNAVAILABLE
        slow.result(SECONDS)
        stopping.result(SECONDS)


def test_health_of_an_unknown_service() -> None:
    """Health of a service that is not here is NOT_FOUND, and SERVICE_UNKNOWN in a Watch."""
    with toy() as plugin:
        error = refused(lambda: health(plugin.channel(), "hector.plugins.v1.ToolProvider"))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        watching = watch(plugin.channel(), "no.such.Service")
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()
        assert still_works(plugin)


def test_health_list() -> None:
    """Health's List answers with the status of every name, and leaves no error in the log."""
    if not hasattr(health_pb2, "HealthListRequest"):  # the floor of grpcio-health-checking has no List yet
        return
    for ready, status in ((False, NOT_SERVING), (True, SERVING)):
        with toy(ready=ready) as plugin:
            stub = health_pb2_grpc.HealthStub(plugin.channel())
            reply = stub.List(health_pb2.HealthListRequest(), timeout=SECONDS)
            assert {name: one.status for name, one in reply.statuses.items()} == dict.fromkeys(NAMES, status)
            assert "ERROR" not in plugin.log()


def test_health_under_overload() -> None:
    """With all places taken, one more call is RESOURCE_EXHAUSTED with a RetryInfo, and health answers."""
    with toy(max_concurrent=2, token=Secret("let-me-in")) as plugin:
        stub = LLMProviderStub(plugin.channel(token="let-me-in"))
        taken = [stub.GenerateText.future(ask("sleep 60")) for _ in range(2)]
        wait_until(lambda: plugin.log().count("event=accepted") == 2, "two calls under way")
        for call in (
            lambda: stub.GenerateText(ask("echo x"), timeout=SECONDS),
            lambda: list(stub.StreamText(stream("echo x"), timeout=SECONDS)),
        ):
            error = refused(call)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (details(error).reason, details(error).retry_after) == ("OVERLOADED", 1)
            assert "max_concurrent" in error.details()
        assert "event=security method=GenerateText reason=OVERLOADED" in plugin.log()
        assert [health(plugin.channel(), name) for name in NAMES] == [SERVING] * 3
        for call in taken:
            call.cancel()
        wait_until(lambda: plugin.log().count("code=CANCELLED") == 2, "both places free")
        assert stub.GenerateText(ask("echo yes"), timeout=SECONDS).text == "yes"


def test_refused_calls_take_no_place() -> None:
    """However many calls are refused, for overload or a wrong token, whoever comes when a place is free gets it."""
    with toy(max_concurrent=1, token=Secret("let-me-in")) as plugin:
        right, wrong = (LLMProviderStub(plugin.channel(token=token)) for token in ("let-me-in", "let-me-in-too"))
        stop = threading.Event()

        def hammer(_: int) -> None:
            while not stop.is_set():
                refused(lambda: wrong.GenerateText(ask("echo x"), timeout=SECONDS))

        with ThreadPoolExecutor(4) as pool:
            hammering = [pool.submit(hammer, i) for i in range(4)]
            try:
                for _ in range(50):
                    assert right.GenerateText(ask("echo yes"), timeout=SECONDS).text == "yes"
            finally:
                stop.set()
            for one in hammering:
                one.result(SECONDS)


# ---------------------------------------------------------------- what there is to call


def test_reflection() -> None:
    """Reflection, v1 and v1alpha, lists the plugin's service and describes its methods, to who has the token."""
    with toy(token=Secret("let-me-in")) as plugin:
        stub = plugin.channel()
        with pytest.raises(grpc.RpcError) as caught:
            ProtoReflectionDescriptorDatabase(stub).get_services()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with toy() as plugin:
        database = ProtoReflectionDescriptorDatabase(plugin.channel())
        services = set(database.get_services())
        of_v1 = plugin.channel().stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (reply,) = of_v1(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=SECONDS)
        assert {service.name for service in reply.list_services_response.service} == services
        assert services == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        described = database.FindFileContainingSymbol(SERVICE)
        assert next(s for s in described.service if s.name == "LLMProvider").method[0].name == "GenerateText"


@pytest.mark.parametrize("method", [f"/{SERVICE}/CallTool", f"/{SERVICE}/NoSuchCall", "/no.such.Service/Call"])
def test_unknown_rpcs(method: str) -> None:
    """An RPC that the plugin does not have is UNIMPLEMENTED, and named if its service is the plugin's."""
    with toy() as plugin:
        channel = plugin.channel()
        for call in (
            lambda: channel.unary_unary(method)(b"", timeout=SECONDS),
            lambda: list(channel.unary_stream(method)(b"", timeout=SECONDS)),
            lambda: list(channel.stream_stream(method)(iter([b""]), timeout=SECONDS)),
        ):
            error = refused(call)
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            # The path of any other may hold anything, so it is not looked at.
            name = "CallTool" if method.endswith("/CallTool") else "the method that was called"
            assert error.details() == f"this plugin does not have {name}"
            assert details(error).reason == "UNIMPLEMENTED"
        plugin.wait_for_log(f"event=call method={'CallTool' if name == 'CallTool' else 'unknown'} code=UNIMPLEMENTED")


# ---------------------------------------------------------------- time


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_timeout(kind: str) -> None:
    """A call that takes longer than `timeout` is DEADLINE_EXCEEDED, and what a stream gave until then has arrived."""
    with toy(timeout=2.0) as plugin:
        stub = LLMProviderStub(plugin.channel())
        seen: list[str] = []

        def call() -> None:
            if kind == "unary":
                stub.GenerateText(ask("sleep 60"), timeout=SECONDS)
            else:
                seen.extend(reply.text for reply in stub.StreamText(stream("sleep 60"), timeout=SECONDS))

        error = refused(call)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert details(error).reason == "TIMEOUT"
        assert "timeout of 2 s" in error.details()
        assert seen == ([] if kind == "unary" else ["first"])
        assert "event=security" in plugin.log()
        assert still_works(plugin)


@pytest.mark.slow
def test_timeout_of_a_client_that_does_not_read() -> None:
    """`timeout` also ends a stream whose client does not read: place free, generator closed, end logged."""
    with toy(timeout=2.0, max_concurrent=1) as plugin:
        flood = LLMProviderStub(plugin.channel()).StreamText(stream("flood"), timeout=SECONDS)
        next(flood)
        plugin.wait_for_log("code=DEADLINE_EXCEEDED")
        # At once: the error, too, waits for a client that does not read for some seconds only.
        assert refused(lambda: list(flood)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "event=stream_closed" in plugin.log()
        assert still_works(plugin)


def test_a_client_that_goes_without_reading() -> None:
    """A client that reads nothing of a stream and goes is CANCELLED in the log, and no bug."""
    with toy() as plugin:
        flood = LLMProviderStub(plugin.channel()).StreamText(stream("flood"), timeout=SECONDS)
        next(flood)
        time.sleep(0.5)  # until the connection is full
        flood.cancel()
        plugin.wait_for_log("method=StreamText")
        assert "method=StreamText code=CANCELLED" in plugin.log()
        assert "event=bug" not in plugin.log()
        assert still_works(plugin)


def test_no_timeout() -> None:
    """A `timeout` of 0 sets no bound."""
    with toy(timeout=0.0) as plugin:
        assert LLMProviderStub(plugin.channel()).GenerateText(ask("sleep 0.2")).text == "0.2"


class Noticing(LLMProviderServicer):
    """Notes how its calls end."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def GenerateText(self, request: pb.GenerateTextRequest, context: Context) -> pb.GenerateTextResponse:
        try:
            await self._wait()
        finally:
            self.notes.append("unary ended")
        return pb.GenerateTextResponse()

    async def StreamText(self, request: pb.StreamTextRequest, context: Context) -> AsyncIterator[pb.StreamTextResponse]:
        try:
            yield pb.StreamTextResponse(text="first")
            await self._wait()
        finally:
            # More than one step of the loop, as closing a connection would take.
            await asyncio.sleep(0.01)
            self.notes.append("stream ended")

    async def _wait(self) -> None:
        self.notes.append("waiting")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize("end", ["deadline", "cancel", "gone"])
def test_a_client_that_gives_up(kind: str, end: str) -> None:
    """A client's deadline, cancel or disappearance reaches the behaviour as CancelledError; it cleans up at once."""
    servicer = Noticing()
    with toy(servicer) as plugin:
        channel = dial(plugin.address)
        await_serving(channel)  # so that the time to connect is none of the call's
        stub = LLMProviderStub(channel)
        timeout = 3 if end == "deadline" else SECONDS
        call: Any
        if kind == "unary":
            call = stub.GenerateText.future(ask(""), timeout=timeout)
        else:
            call = stub.StreamText(stream(""), timeout=timeout)
            next(call)
        wait_until(lambda: "waiting" in servicer.notes, "the call to arrive")
        if end == "cancel":
            call.cancel()
        elif end == "gone":
            channel.close()
        # At its deadline a client also cancels, and on a busy machine the server may hear of that first.
        codes = "DEADLINE_EXCEEDED|CANCELLED" if end == "deadline" else "CANCELLED"
        wait_until(lambda: bool(re.search(f"code=({codes}) ", plugin.log())), "end in the log", otherwise=plugin.log)
        assert servicer.notes == ["waiting", "cancelled", f"{kind} ended"]
        channel.close()


# ---------------------------------------------------------------- bugs


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_a_bug(kind: str) -> None:
    """A bug is INTERNAL with a request id and nothing of the exception; the log has its traceback under that id."""
    with toy() as plugin:
        stub = LLMProviderStub(plugin.channel())
        call = stub.GenerateText if kind == "unary" else lambda *a, **k: list(stub.StreamText(*a, **k))
        request = ask("bug oh-dear /etc/passwd") if kind == "unary" else stream("bug oh-dear /etc/passwd")
        error = refused(lambda: call(request, timeout=SECONDS))
        assert error.code() is grpc.StatusCode.INTERNAL
        said = details(error)
        assert said.reason == "INTERNAL"
        assert said.metadata["request_id"] in error.details()
        everything = f"{error.details()} {error.trailing_metadata()} {error.initial_metadata()}"
        for text in ("oh-dear", "passwd", "RuntimeError", "Traceback", ".py"):
            assert text not in everything
        bug = next(line for line in plugin.log().splitlines() if "event=bug" in line)
        assert f"request_id={said.metadata['request_id']}" in bug
        assert "RuntimeError: bug".replace("bug", "oh-dear") in bug
        assert still_works(plugin)


def test_not_implemented_inside_of_a_behaviour() -> None:
    """A NotImplementedError from the depths of a behaviour is a bug, not an RPC that is missing."""
    with toy() as plugin:
        error = refused(lambda: LLMProviderStub(plugin.channel()).GenerateText(ask("unfinished x"), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.INTERNAL


def test_a_cancelled_error_that_nobody_sent() -> None:
    """A CancelledError of the behaviour's own making is a bug; the client is answered, not left to wait for ever."""
    with toy() as plugin:
        error = refused(lambda: LLMProviderStub(plugin.channel()).GenerateText(ask("astray"), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.INTERNAL
        plugin.stop().result(SECONDS)


def test_a_behaviour_that_aborts() -> None:
    """A behaviour that calls context.abort itself gets its way."""
    with toy() as plugin:
        error = refused(lambda: LLMProviderStub(plugin.channel()).GenerateText(ask("abort far"), timeout=SECONDS))
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "far")
        plugin.wait_for_log("code=OUT_OF_RANGE")
        assert "event=bug" not in plugin.log()


# ---------------------------------------------------------------- sizes and malformed requests


def test_replies_too_large() -> None:
    """A reply over max_reply_bytes is RESOURCE_EXHAUSTED naming both sizes and the way out, unary and in a stream."""
    with toy(max_reply_bytes=2048) as plugin:
        stub = LLMProviderStub(plugin.channel())
        assert len(stub.GenerateText(ask("bytes 2000")).text) == 2000
        error = refused(lambda: stub.GenerateText(ask("bytes 5000"), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error).reason == "REPLY_TOO_LARGE"
        assert "5003 bytes" in error.details()
        assert "max_reply_bytes of 2048: lower max_tokens" in error.details()
        replies = []
        error = refused(lambda: replies.extend(stub.StreamText(stream("bytes 5000"), timeout=SECONDS)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details().endswith("stream smaller pieces")
        assert "event=security" in plugin.log()
        assert still_works(plugin)


def test_the_default_reply_limit_is_the_clients() -> None:
    """By default a reply that a client with gRPC's own limit takes goes through, and a larger one is refused."""
    with toy() as plugin, grpc.insecure_channel(plugin.address) as plain:
        stub = LLMProviderStub(plain)
        assert len(stub.GenerateText(ask(f"bytes {4 * 2**20 - 100}")).text) == 4 * 2**20 - 100
        error = refused(lambda: stub.GenerateText(ask(f"bytes {4 * 2**20}"), timeout=SECONDS))
        assert details(error).reason == "REPLY_TOO_LARGE"


def test_requests_too_large() -> None:
    """A request over max_request_bytes is RESOURCE_EXHAUSTED, one below is answered, and the server goes on."""
    with toy(max_request_bytes=10_000) as plugin:
        stub = LLMProviderStub(plugin.channel())
        assert len(stub.GenerateText(ask("echo " + "x" * 9_000), timeout=SECONDS).text) == 9_000
        error = refused(lambda: stub.GenerateText(ask("echo " + "x" * 20_000), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert still_works(plugin)


@pytest.mark.parametrize(
    "raw", [b"\x0a\x02\xff\xfe", b"\x0a\xff", b"\xff" * 50, b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0b" * 2000]
)
def test_malformed_requests(raw: bytes) -> None:
    """What is no protobuf, or bad UTF-8 in one, is an error of the call; the server goes on."""
    with toy() as plugin:
        for call in (
            lambda: plugin.channel().unary_unary(GENERATE)(raw, timeout=SECONDS),
            lambda: list(plugin.channel().unary_stream(f"/{SERVICE}/StreamText")(raw, timeout=SECONDS)),
        ):
            assert refused(call).code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert still_works(plugin)


def test_odd_metadata() -> None:
    """Metadata that is huge, binary or repeated does not stop the server."""
    with toy() as plugin:
        stub = LLMProviderStub(plugin.channel())
        huge = refused(lambda: stub.GenerateText(ask("echo x"), timeout=SECONDS, metadata=(("x-big", "x" * 100_000),)))
        assert huge.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        odd = (("x-request-id", "a"), ("x-request-id", "b"), ("authorization", ""), ("x-bin", b"\x00\xff"))
        assert stub.GenerateText(ask("echo yes"), timeout=SECONDS, metadata=odd).text == "yes"


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99]
)
def test_what_is_not_grpc(raw: bytes) -> None:
    """Bytes that are not gRPC do not stop the server."""
    with toy() as plugin:
        host, _, port = plugin.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as client, contextlib.suppress(OSError):
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        assert still_works(plugin)


# ---------------------------------------------------------------- addresses


def test_one_owner_of_a_port() -> None:
    """A second server on a port does not start: one line on stderr that says why, status 2."""
    with toy() as plugin:
        done = run_plugin(TOY, "--port", plugin.address.rpartition(":")[2])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert re.match(
            r"error: cannot listen on 127\.0\.0\.1:\d+: Address already in use; choose another", done.stderr
        )
        assert still_works(plugin)


def test_an_address_of_another_machine() -> None:
    """A host that is not this machine's is refused with the reason."""
    with (
        pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:.*Cannot assign requested address"),
        toy(host="192.0.2.1", insecure=True),
    ):
        pass


def test_half_of_localhost() -> None:
    """Where one of a name's addresses is another server's, the port is taken."""
    with toy() as plugin:
        port = int(plugin.address.rpartition(":")[2])
        with pytest.raises(StartError, match="Address already in use"), toy(host="localhost", port=port):
            pass


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 300, "nul\0", "unix", "127.0.0.1:80"])
def test_hosts_that_are_none(host: str) -> None:
    """A host that cannot be resolved is refused in one line, whatever else is allowed."""
    with (
        pytest.raises(StartError, match=r"cannot listen on .*: the host is not an address of this machine"),
        toy(host=host, insecure=True),
    ):
        pass


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    "host", [pytest.param("::1", marks=IPV6), pytest.param("[::1]", marks=IPV6), "localhost", "127.0.0.1"]
)
def test_hosts(host: str) -> None:
    """IPv6, with brackets or without, and names can be listened on."""
    with toy(host=host) as plugin:
        assert plugin.address.rpartition(":")[0].strip("[]") == host.strip("[]")
        assert still_works(plugin)


def test_a_host_that_is_written_short() -> None:
    """An address in a short form, which gRPC does not know, is listened on and announced in full."""
    with toy(host="127.1") as plugin:
        assert plugin.address.startswith("127.0.0.1:")
        assert still_works(plugin)


@IPV6
def test_all_interfaces_means_ipv6_too() -> None:
    """On 0.0.0.0 a plugin can also be reached over IPv6, as the README says."""
    with (
        toy(host="0.0.0.0", insecure=True) as plugin,
        dial(f"[::1]:{plugin.address.rpartition(':')[2]}") as channel,
    ):
        assert health(channel) == SERVING


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room in the 107 bytes of a socket's."""
    return tmp_path_factory.mktemp("s")


def test_a_unix_socket(short: Path) -> None:
    """A plugin can listen on a unix socket, and its address says so."""
    with toy(socket=str(short / "a.sock")) as plugin:
        assert plugin.address == f"unix:{short / 'a.sock'}"
        assert still_works(plugin)


def test_a_stale_socket(short: Path) -> None:
    """The socket file of a server that was killed is replaced."""
    path = short / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with toy(socket=str(path)) as plugin:
        assert still_works(plugin)


def test_a_live_socket(short: Path) -> None:
    """The socket of a server that lives is refused, and that server goes on."""
    path = str(short / "a.sock")
    with toy(socket=path) as plugin:
        with pytest.raises(StartError, match="another server listens there"), toy(socket=path):
            pass
        assert still_works(plugin)


def test_a_busy_socket(short: Path) -> None:
    """The socket of a server that is too busy to accept is not taken from it."""
    path = short / "a.sock"
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(path))
        with pytest.raises(StartError, match="another server listens there"), toy(socket=str(path)):
            pass


def test_bad_socket_paths(short: Path) -> None:
    """A path that cannot be a socket is refused with the reason: too long, a file in the way, no folder."""
    (short / "file").write_text("kept")
    for path, says in (
        (short / ("x" * 200), "longer than the 107 bytes"),
        (short / "file", "a file is in the way"),
        (short / "none" / "a.sock", "is not a folder that can be written to"),
    ):
        with pytest.raises(StartError, match=says), toy(socket=str(path)):
            pass
    assert (short / "file").read_text() == "kept"


def test_a_socket_of_a_process(short: Path) -> None:
    """--socket with a relative path announces the whole path."""
    with start_plugin(TOY, "--socket", "a.sock", cwd=short) as plugin:
        assert plugin.address == f"unix:{short / 'a.sock'}"
        assert plugin.terminate() == 0


# ---------------------------------------------------------------- the end of a process


def test_stdout_holds_one_line() -> None:
    """From start to end a plugin writes exactly one line to stdout, with the port it got; the log goes to stderr."""
    with start_plugin(TOY) as plugin:
        assert still_works(plugin)
        assert plugin.terminate() == 0
        assert re.fullmatch(r"listening on 127\.0\.0\.1:[1-9]\d*\n", plugin.stdout())
        events = re.findall(r"event=(\w+)", plugin.stderr())
        assert events == ["serving", "accepted", "call", "stopping", "closed", "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(number: signal.Signals, tmp_path: Path) -> None:
    """On SIGTERM and SIGINT a call and a stream under way finish, new calls are refused, and the status is 0."""
    with start_plugin(TOY) as plugin, ThreadPoolExecutor(2) as pool:
        stub = LLMProviderStub(plugin.channel())
        watching = watch(plugin.channel())
        assert next(watching).status == SERVING
        until = f"until {tmp_path / 'now'}"
        slow = pool.submit(stub.GenerateText, ask(until, "slow"), timeout=SECONDS)
        streaming = pool.submit(lambda: list(stub.StreamText(stream(until, "slow"), timeout=SECONDS)))
        wait_until(lambda: plugin.stderr().count("event=accepted") == 2, "both calls under way")
        plugin.signal(number)
        assert next(watching).status == NOT_SERVING
        # An open Watch is ended at once, and so does not hold the end up for the ten seconds that calls are given.
        assert "shutting down" in refused(lambda: next(watching)).details()
        for channel in (plugin.channel(), plugin.channel()):
            error = refused(
                lambda c=channel: LLMProviderStub(c).GenerateText(ask("echo late", "late"), timeout=SECONDS)
            )
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        (tmp_path / "now").touch()
        assert slow.result(SECONDS).text == str(tmp_path / "now")
        assert streaming.result(SECONDS)[-1].done
        assert plugin.wait() == 0
        log = plugin.stderr()
        assert "call=late" not in log
        assert log.rindex("code=OK") < log.index("event=closed") < log.index("event=stopped")


def test_a_request_that_is_still_arriving() -> None:
    """A call whose request is still on its way when the shutdown begins is under way too, and is answered."""
    with toy() as plugin:
        channel = plugin.channel()
        await_serving(channel)  # calls that wait for a connection go out in any order
        may_send = threading.Event()

        def requests() -> Iterator[bytes]:
            may_send.wait(SECONDS)
            yield ask("echo arrived").SerializeToString()

        arriving = channel.stream_unary(GENERATE).future(requests(), timeout=SECONDS)
        # On the same connection, so behind the call above: once this is answered, that one is known to the server.
        LLMProviderStub(channel).GenerateText(ask("echo x"), timeout=SECONDS)
        watching = watch(plugin.channel())
        assert next(watching).status == SERVING
        stopping = plugin.stop(SECONDS)
        assert next(watching).status == NOT_SERVING
        late = refused(lambda: LLMProviderStub(plugin.channel()).GenerateText(ask("echo late"), timeout=SECONDS))
        assert late.code() is grpc.StatusCode.UNAVAILABLE
        may_send.set()
        assert pb.GenerateTextResponse.FromString(arriving.result(SECONDS)).text == "arrived"
        stopping.result(SECONDS)


def test_a_call_that_takes_too_long_to_end() -> None:
    """A call that is not done when the grace is over is cut off, and the drain ends."""
    with toy() as plugin:
        call = LLMProviderStub(plugin.channel()).GenerateText.future(ask("sleep 60"))
        plugin.wait_for_log("event=accepted")
        plugin.stop(0.2).result(SECONDS)
        assert call.exception(SECONDS).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        plugin.wait_for_log("code=CANCELLED")


def test_a_thread_that_never_ends() -> None:
    """A thread that a timed-out call left busy does not keep the process from ending, nor `close` from running."""
    with start_plugin(TOY, "--timeout", "100ms") as plugin:
        stub = LLMProviderStub(plugin.channel())
        # More than an executor has threads.
        calls: list[Any] = [stub.GenerateText.future(ask("block 300")) for _ in range(40)]
        assert {call.exception(SECONDS).code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert plugin.terminate() == 0
        assert "event=closed" in plugin.stderr()


def test_saving_may_take_its_time() -> None:
    """`close` is waited for, and a second signal does not cut it short."""
    with start_plugin(TOY, "--closing", "500ms") as plugin:
        plugin.signal()
        plugin.wait_for_log("event=stopping")
        plugin.signal()
        plugin.signal(signal.SIGINT)
        assert plugin.wait() == 0
        assert "event=closed" in plugin.stderr()


def test_a_signal_while_loading() -> None:
    """SIGTERM while a plugin is still loading ends it at once, with status 0."""
    with start_plugin(TOY, "--loading", "endless", wait="listening") as plugin:
        assert health(plugin.channel()) == NOT_SERVING
        assert plugin.terminate() == 0
        assert "event=stopped during=loading" in plugin.stderr()


def test_loading_that_is_refused() -> None:
    """A StartError of `load` is one line on stderr and status 2."""
    with start_plugin(TOY, "--loading", "refused", wait="listening") as plugin:
        assert plugin.wait() == 2
        assert plugin.stderr() == "error: the model is not there; get it first\n"


def test_loading_with_a_bug() -> None:
    """Any other exception of `load` ends the process too, with its traceback and status 1."""
    with start_plugin(TOY, "--loading", "buggy", wait="listening") as plugin:
        assert plugin.wait() == 1
        assert "RuntimeError: loading has a bug" in plugin.stderr()


def test_sigterm_under_load_loses_no_accepted_call() -> None:
    """SIGTERM while eight clients hammer: every call that reached the plugin was answered, no other was."""
    with start_plugin(TOY, "--max-concurrent", "1000") as plugin:
        answered: set[str] = set()
        codes: set[grpc.StatusCode] = set()
        enough = threading.Event()

        def hammer(client: int) -> None:
            stub = LLMProviderStub(plugin.channel())
            for number in range(1_000_000):
                name = f"{client}-{number}"
                kind = ("echo x", "sleep 0.005", "sleep 0.05")[number % 3]
                try:
                    if number % 4:
                        stub.GenerateText(ask(kind, name), timeout=SECONDS)
                    else:
                        assert list(stub.StreamText(stream(kind, name), timeout=SECONDS))[-1].done
                except grpc.RpcError as error:
                    codes.add(error.code())
                    return
                answered.add(name)
                if len(answered) > 400:
                    enough.set()

        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(hammer, client) for client in range(8)]
            assert enough.wait(SECONDS)
            plugin.signal()
            for client in clients:
                client.result(SECONDS)
        assert plugin.wait() == 0
        accepted = re.findall(r"event=accepted call=(\S+)", plugin.stderr())
        assert len(accepted) == len(set(accepted))
        assert set(accepted) == answered
        assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
