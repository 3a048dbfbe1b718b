"""tools_http: who is dialled, what is sent and what comes back, through a real server and a resolver that lies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from plugins.tools_http.engine import network
from plugins.tools_http.engine.client import Client
from plugins.tools_http.engine.exchange import Request
from plugins.tools_http.engine.network import Resolver
from plugins.tools_http.engine.policy import Policy
from plugins.tools_http.engine.tool import Audit
from shared.errors import CallerError, Code, StartError
from tests.tools_world import Dialler, Play, Seen, Server, World


def refused(world: World, path: str, method: str = "GET", **how: Any) -> CallerError:
    with pytest.raises(CallerError) as error:
        world.send(path, method, **how)
    return error.value


# ---------------------------------------------------------------- who is dialled


def test_rebinding_to_loopback() -> None:
    """net-rebind: a name that is public when checked and loopback afterwards is resolved once, and loopback is not
    reached, be it that what dials was led astray."""
    names = {"rebind.test": [["8.8.8.8"], ["127.0.0.1"]]}
    with World(names=names, policy={"allowed_networks": []}) as world, pytest.MonkeyPatch.context() as patch:
        real, dialled = world._loop.create_connection, []

        async def led_astray(protocol: Any, host: str, port: int) -> Any:
            dialled.append(host)
            return await real(protocol, "127.0.0.1", world.server.port)

        patch.setattr(world._loop, "create_connection", led_astray)
        error = refused(world, f"http://rebind.test:{world.server.port}/")
        assert error.reason == "BLOCKED_ADDRESS"
        assert (world.resolver.asked, dialled, world.server.seen) == (["rebind.test"], ["8.8.8.8"], [])


def test_rebinding_between_calls() -> None:
    """A name is judged anew for each connection: what it was before opens nothing."""
    dialler = Dialler()
    names = {"rebind.test": [["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "10.0.0.1"]]}
    with World(names=names, policy={"allowed_networks": []}, dialler=dialler) as world:
        reasons = [refused(world, "http://rebind.test/").reason for _ in range(3)]
    assert reasons == ["UPSTREAM_UNREACHABLE", "BLOCKED_ADDRESS", "BLOCKED_ADDRESS"]
    assert dialler.dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "169.254.169.254"], ["2606:4700::1111", "::ffff:10.0.0.1"], ["fe80::1%2"], ["::1"],
     ["64:ff9b::a9fe:a9fe"], ["0.0.0.0"]],
)  # fmt: skip
def test_every_address_of_a_name_is_checked(addresses: list[str]) -> None:
    """A name one of whose addresses is not public is refused as a whole, before any is dialled."""
    dialler = Dialler()
    with World(names={"trap.test": [addresses]}, policy={"allowed_networks": []}, dialler=dialler) as world:
        error = refused(world, "http://trap.test/")
    assert (error.reason, error.code) == ("BLOCKED_ADDRESS", Code.PERMISSION_DENIED)
    assert dialler.dialled == []


def test_dead_addresses() -> None:
    """Where an address is dead the others are tried, families by turns, and the first that answers is used."""
    dead = ["2606:4700::1", "2606:4700::2", "8.8.8.8"]
    names = {"many.test": [["2606:4700::1", "2606:4700::2", "8.8.8.8", "8.8.4.4"]]}
    with served(names, dead=dead) as world:
        assert world.send("http://many.test/").body == b"hello"
        assert world.dialler is not None
        assert world.dialler.dialled == ["2606:4700::1", "8.8.8.8", "2606:4700::2", "8.8.4.4"]
        error = refused(world, "http://gone.test/")
        assert (error.reason, error.code) == ("UPSTREAM_UNREACHABLE", Code.UNAVAILABLE)


def test_a_silent_address() -> None:
    """An address that does not answer holds up the next one for a moment only, and its attempt is given up."""
    with served({"slow.test": [["8.8.8.8", "8.8.4.4"]]}) as world:
        quick, gone = world.dialler, []
        assert quick is not None

        async def dial(address: str, port: int) -> Any:
            if address == "8.8.8.8":
                try:
                    await asyncio.sleep(60)
                finally:
                    gone.append(address)
            return await quick(address, port)

        world.client._backend._dial = dial
        assert world.send("http://slow.test/").body == b"hello"
        assert gone == ["8.8.8.8"]


def test_all_addresses_dead() -> None:
    """Where none answers, the error names the host and not what it leads to."""
    with served({"dead.test": [["8.8.8.8", "8.8.4.4"]]}, dead=["8.8.8.8", "8.8.4.4"]) as world:
        error = refused(world, "http://dead.test/")
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert "dead.test" in error.message
        assert "8.8" not in error.message


@contextlib.contextmanager
def served(names: Mapping[str, Sequence[Sequence[str]]], dead: Iterable[str] = ()) -> Iterator[World]:
    """A world in which the names are served at `/`, wherever they lead."""
    dialler = Dialler(dead=dead)
    with World(names=names, policy={"allowed_networks": []}, dialler=dialler) as world:
        world.on("/", b"hello")
        dialler.port = world.server.port
        yield world


def test_host_header() -> None:
    """Whatever address is dialled, Host has the name, in lower case, and its port where that is not the default."""
    with served({"a.test": [["8.8.8.8"]]}) as world:
        world.send("http://A.Test./")
        world.send("http://a.test:8080/")
        world.send("http://a.test:443/")
        assert [seen.headers["host"] for seen in world.server.seen] == ["a.test", "a.test:8080", "a.test:443"]


def test_connections_are_kept() -> None:
    """Calls to one origin share a connection, and resolve once."""
    with served({"a.test": [["8.8.8.8"]]}) as world:
        for _ in range(5):
            world.send("http://a.test/")
        assert world.server.connections == 1
        assert world.resolver.asked == ["a.test"]


def test_idle_connections_are_few_and_young() -> None:
    """Of idle connections the oldest are closed where they are too many, and none is used that is too old."""
    with World(names={f"{name}.test": [["127.0.0.1"]] for name in "abcd"}) as world:
        world.on("*", b"")
        connections = world.client._connections
        connections._most_idle = 2
        for name in "abc":
            world.send(f"http://{name}.test:{world.server.port}/")
        assert [origin[1] for origin in connections._idle.values()] == [b"b.test", b"c.test"]
        connections._keep_alive = 0.0
        world.send(f"http://d.test:{world.server.port}/")
        world.send(f"http://d.test:{world.server.port}/")
        assert world.server.connections == 5


@pytest.mark.parametrize(
    ("at_once", "later", "close"),
    [(b"", [], True), (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", [], False), (b"", [0.02, b"evil"], False)],
)
def test_a_connection_that_is_not_clean(at_once: bytes, later: Sequence[bytes | float], close: bool) -> None:
    """A connection that the server has closed, or has written more to than its response, is not used again: that would
    be the response to somebody else's request."""
    with World() as world:
        connections = world.client._connections
        connections._keep_alive = 600.0  # so that its age is no reason

        async def noticed() -> None:
            """Returns once what the server does after its response has come."""
            async with asyncio.timeout(60):
                while not all(one.has_expired() for one in connections._idle):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        world.on("/", Play(later, head=head + at_once, close=close))
        world.on("/after", b"good")
        assert world.send("/").body == b""
        world.run(noticed())
        assert world.send("/after").body == b"good"
        assert world.server.connections == 2


def test_a_kept_connection_that_is_gone() -> None:
    """A server that closes a kept connection as it is used again costs a new connection, not the call; what may not be
    repeated fails."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("/first", b"1")
        cut = Play(head=b"", close=True)
        world.on("/cut", cut, b"2")
        world.send("/first")
        assert world.send("/cut").body == b"2"
        world.on("/post", cut, b"2")
        assert refused(world, "/post", "POST").reason == "BAD_RESPONSE"
        assert world.server.targets == ["/first", "/cut", "/cut", "/post"]


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, certificates and logins that the environment or the home folder names are not used."""
    with World() as world:
        world.on("/", b"direct")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        monkeypatch.setenv("NETRC", "/nowhere")
        client = Client(Policy(allowed_networks=["127.0.0.1"], allowed_ports=["1-65535"]))
        other, world.client = world.client, client
        assert world.send("/").body == b"direct"
        world.run(client.close())
        world.client = other


def test_the_systems_resolver() -> None:
    """Names are resolved by the system, in threads: those that it does not know are unreachable, odd ones too."""
    resolver = Resolver()
    assert "127.0.0.1" in asyncio.run(resolver("localhost", 80))
    with World(settings={"resolve": None}) as world:
        world.on("/", b"ok")
        assert world.send(f"http://localhost:{world.server.port}/").body == b"ok"

        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", unknown)
            error = refused(world, "http://other.test/")
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert "cannot be resolved" in error.message


def test_a_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that takes long ends with the call, holds up no other, and frees its place when it comes back."""
    answer, names = threading.Event(), []

    def slow(host: str, *_: Any, **__: Any) -> Any:
        names.append(host)
        if host == "slow.test":
            answer.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with World(settings={"resolve": None, "connect_timeout": 0.2}) as world:
        monkeypatch.setattr(network, "_RESOLVERS", 1)
        world.client._backend._resolve = Resolver()
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        assert "no connection in time" in refused(world, "http://slow.test/").message
        assert "no connection in time" in refused(world, "http://waits.test/").message
        answer.set()
        world.client._connections._connect_timeout = 30.0
        assert "cannot be resolved" in refused(world, "http://other.test/").message
        assert names == ["slow.test", "other.test"]


# ---------------------------------------------------------------- what is sent


def test_what_is_sent() -> None:
    """A request has our own headers of the transport, the caller's others, its body and nothing else."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        world.on("*", b"")
        world.send("/a?b=c", "POST", headers=[("X-One", " 1\t"), ("Accept", "text/csv")], body=b"data")
        world.send("/a", "POST")
        world.send("/a", "DELETE")
        first, second, third = world.server.seen
        assert first.body == b"data"
        assert dict(first.headers) == {
            "host": f"127.0.0.1:{world.server.port}", "x-one": "1", "accept": "text/csv", "accept-encoding": "gzip",
            "user-agent": first.headers["user-agent"], "content-length": "4",
        }  # fmt: skip
        assert first.headers["user-agent"].startswith("hector-plugins")
        assert second.headers["content-length"] == "0"
        assert "content-length" not in third.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "internal.test"), ("host", "x"), ("Transfer-Encoding", "chunked"), ("Content-Length", "5"),
        ("Connection", "close"), ("Proxy-Authorization", "x"), ("proxy-x", "x"), ("Keep-Alive", "1"),
        ("TE", "trailers"),
        ("Trailer", "x"), ("Upgrade", "h2c"), ("Expect", "100-continue"), ("Accept-Encoding", "br"),
        ("X-T", "a\r\nX-Evil: 1"),
        ("X-T", "a\nb"), ("X-T", "a\rb"), ("X-T", "a\0b"), ("X-T", "日本"), ("X-T", "é"), ("X-T", "a\x7f"),
        ("X T", "a"),
        ("X-T:", "a"), ("", "a"), ("X\r\nY", "a"), ("日本", "a"), ("X-T\0", "a"),
    ],
)  # fmt: skip
def test_headers_that_are_refused(name: str, value: str) -> None:
    """net-model-headers: a header of the transport, or with a line end or more than ASCII, is refused by name before
    a connection is made."""
    with World() as world:
        error = refused(world, "/", headers=[("X-Good", "1"), (name, value)])
        assert (error.reason, error.code) == ("BAD_HEADER", Code.INVALID_ARGUMENT)
        assert repr(name) in error.message
        assert world.server.connections == 0


def test_too_many_headers() -> None:
    """The number of headers and their bytes are bounded, before a connection is made."""
    with World() as world:
        assert refused(world, "/", headers=[(f"X-{i}", "1") for i in range(101)]).reason == "BAD_HEADER"
        assert refused(world, "/", headers=[("X-A", "x" * 40_000)]).reason == "BAD_HEADER"
        assert world.server.connections == 0


@pytest.mark.parametrize(
    ("path", "method", "reason"),
    [
        ("http://127.0.0.1:1/", "GET", "BLOCKED_PORT"), ("ftp://127.0.0.1/", "GET", "BLOCKED_SCHEME"),
        ("http://10.0.0.1:8080/", "GET", "BLOCKED_ADDRESS"), ("http://127.1:8080/", "GET", "BAD_URL"),
        ("http://denied.test:8080/", "GET", "BLOCKED_HOST"), ("http://a.test:8080/", "POST", "BLOCKED_METHOD"),
        ("http://a.test:8080/", "get", "BAD_METHOD"), ("http://a.test:8080/", "GET / HTTP/1.1\r\nX: ", "BAD_METHOD"),
    ],
)  # fmt: skip
def test_refusals_come_before_anything(path: str, method: str, reason: str) -> None:
    """What the policy refuses is neither resolved nor dialled, and the audit has host and rule."""
    dialler, audit = Dialler(), Audit()
    policy = {"allowed_ports": ["8080"], "denied_hosts": ["denied.test"]}
    with World(policy=policy, dialler=dialler, names={"a.test": [["8.8.8.8"]]}) as world:
        assert refused(world, path, method, audit=audit).reason == reason
        assert (world.resolver.asked, dialler.dialled) == ([], [])
    if reason.startswith("BLOCKED_") and reason != "BLOCKED_SCHEME":
        assert audit.host in path
        assert audit.rule


def test_a_body_that_is_too_large() -> None:
    """A body past the bound is not sent, and the error names the setting."""
    with World(settings={"max_body_bytes": 10}, policy={"allowed_methods": ["*"]}) as world:
        error = refused(world, "/", "POST", body=b"x" * 11)
        assert error.reason == "BODY_TOO_LARGE"
        assert "max_body_bytes" in error.message
        assert world.server.connections == 0


# ---------------------------------------------------------------- what comes back


def test_what_comes_back() -> None:
    """Status, final URL, headers in lower case and order, body and bytes on the wire, whatever the status."""
    with World() as world:
        headers = [("X-B", "2"), ("x-a", "1"), ("X-B", "3"), ("X-U", "ü")]
        world.on("/", Play([b"gone"], status=410, headers=headers))
        audit = Audit()
        response = world.send("/", audit=audit)
        assert (response.status, response.body, response.url) == (410, b"gone", world.url("/"))
        assert [pair for pair in response.headers if pair[0].startswith("x-")] == [
            ("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-u", "ü")
        ]  # fmt: skip
        world.on("/large", Play([b"x" * 1_000]))
        too_large = Audit()
        refused(world, "/large", max_bytes=10, audit=too_large)
        assert too_large.bytes > 20
        assert audit == Audit(host="127.0.0.1", status=410, bytes=response.wire_bytes, rule="allowed_networks")
        assert len(b"gone") < response.wire_bytes < 200


def test_cookies_are_not_kept() -> None:
    """A cookie that a server sets is not sent with the next call, nor to where a redirect leads."""
    with World() as world:
        world.on("/set", Play(status=302, headers=[("Set-Cookie", "id=1; Path=/"), ("Location", "/after")]))
        world.on("/after", b"")
        world.send("/set")
        world.send("/after")
        assert all("cookie" not in seen.headers for seen in world.server.seen)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304])
def test_responses_without_a_body(method: str, status: int) -> None:
    """HEAD, 204 and 304 have none, whatever their headers say of it."""
    headers = [("Content-Length", "0" if method == "GET" else "99999999999"), ("Content-Encoding", "gzip")]
    with World() as world:
        world.on("/", Play(status=status, headers=headers))
        assert world.send("/", method).body == b""


# ---------------------------------------------------------------- again


@pytest.mark.parametrize(("status", "seconds"), [(429, 1), (503, 0)])
def test_again_after_a_while(status: int, seconds: int) -> None:
    """429 and 503 with Retry-After are tried again once, after that time, and the second response counts."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        busy = Play([b"slow"], status=status, headers=[("Retry-After", str(seconds))])
        world.on("/", busy, b"ok")
        began = time.monotonic()
        response = world.send("/")
        assert time.monotonic() - began >= seconds
        assert (response.status, response.body, response.attempts) == (200, b"ok", 2)
        world.on("/twice", Play(status=status, headers=[("Retry-After", "0")]))
        assert (world.send("/twice", "PUT").status, world.server.targets.count("/twice")) == (status, 2)


@pytest.mark.parametrize(
    ("method", "how", "retry_after", "times"),
    [
        ("POST", {}, "0", 1), ("PATCH", {}, "0", 1), ("POST", {"repeatable": True}, "0", 2), ("DELETE", {}, "0", 2),
        ("GET", {"repeatable": False}, "0", 1), ("GET", {}, "30", 1), ("GET", {}, "", 1), ("GET", {}, "-1", 1),
        ("GET", {}, "soon", 1), ("GET", {}, "1e9", 1), ("GET", {}, "9" * 5000, 1), ("GET", {}, "٣", 1),
        ("GET", {}, "Thu, 01 Jan 1970 00:00:00 GMT", 2), ("GET", {}, "Fri, 31 Dec 9999 23:59:59 GMT", 1),
        ("GET", {}, "Mon, 99 Foo 0000 99:99:99", 1),
    ],
)  # fmt: skip
def test_when_it_is_tried_again(method: str, how: dict[str, Any], retry_after: str, times: int) -> None:
    """Only what is idempotent, or says that it may be repeated, and only where the time allows."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        headers = [("Retry-After", retry_after)] if retry_after else []
        world.on("/", Play(status=503, headers=headers))
        response = world.send("/", method, seconds=20, **how)
        assert (response.status, response.attempts, len(world.server.seen)) == (503, times, times)


def test_a_second_attempt_that_fails() -> None:
    """Where the second attempt brings nothing, the first one's response is the answer."""
    with World() as world:
        world.on("/", Play([b"slow"], status=429, headers=[("Retry-After", "0")]), Play(head=b"nonsense", close=True))
        response = world.send("/")
        assert (response.status, response.body, response.attempts) == (429, b"slow", 1)


def test_other_statuses_are_not_tried_again() -> None:
    """500 and 404 are not, even with Retry-After."""
    with World() as world:
        world.on("*", Play(status=500, headers=[("Retry-After", "0")]))
        assert (world.send("/").attempts, len(world.server.seen)) == (1, 1)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_bundle": "/nowhere.pem"}, "ca_bundle"), ({"ca_bundle": __file__}, "ca_bundle"),
        ({"proxy": "socks5://127.0.0.1:1080"}, "proxy"), ({"proxy_resolves": True}, "proxy"),
        ({"proxy": "http://127.0.0.1:1", "proxy_resolves": True}, "allowed_hosts"),
        ({"user_agent": "naïve"}, "user_agent"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(settings: dict[str, Any], words: str) -> None:
    """A file that is no PEM, a proxy of another kind and names resolved by nobody end the start in one line."""
    with pytest.raises(StartError) as error:
        Client(Policy(), **settings)
    assert words in str(error.value)


def test_many_at_once() -> None:
    """A hundred calls at once get a hundred answers, on as many connections as are allowed."""
    with World(settings={"max_connections": 8}) as world:
        world.on("*", lambda seen: Play([seen.target.encode()]))

        async def all_at_once() -> list[bytes]:
            end = time.monotonic() + 60
            sends = [world.client.send(Request(method="GET", url=world.url(f"/{i}")), deadline=end) for i in range(100)]
            return [response.body for response in await asyncio.gather(*sends)]

        assert world.run(all_at_once()) == [f"/{i}".encode() for i in range(100)]
        assert world.server.connections <= 8


def test_a_cancelled_call_leaves_nothing() -> None:
    """A call that is cancelled closes its connection, and the next call works."""
    with World(settings={"max_connections": 1}) as world:
        arrived = threading.Event()

        def hang(_: Seen) -> Play:
            arrived.set()
            return Play([b"x", 60.0, b"y"])

        world.on("/hang", hang)
        world.on("/", b"ok")

        async def cancelled() -> None:
            request = Request(method="GET", url=world.url("/hang"))
            task = asyncio.create_task(world.client.send(request, deadline=time.monotonic() + 60))
            await asyncio.to_thread(arrived.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        world.run(cancelled())
        assert world.send("/").body == b"ok"


def test_the_server_of_these_tests_is_real() -> None:
    """What the helper serves is read by another client too."""
    import httpx2

    server = Server()
    try:
        server.on("/", Play([b"a", b"b"], chunked=True))
        assert httpx2.get(server.url + "/").text == "ab"
    finally:
        server.close()
