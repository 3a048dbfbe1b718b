"""tools_http: TLS with its own authorities, and proxies, through a real proxy that notes what it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from plugins.tools_http.engine import trust
from plugins.tools_http.engine.stream import connect
from shared.errors import CallerError
from tests.servers import SECONDS, missing
from tests.tools_world import Dialler, Server, World


class Proxy(Server):
    """An HTTP proxy that knows CONNECT only: `asked` has the target and Proxy-Authorization of each. Whatever the
    target, it leads to `lead_to`."""

    lead_to = 0
    answer = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        super().__init__(context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            login = next((line for line in head if line.lower().startswith("proxy-authorization:")), "")
            self.asked.append((head[0], login.partition(": ")[2]))
            writer.write(self.answer)
            if self.answer.startswith(b"HTTP/1.1 200"):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.lead_to)
                await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.contextmanager
def proxied(
    names: dict[str, list[list[str]]], *, login: str = "", policy: dict[str, Any] | None = None, **settings: Any
) -> Iterator[tuple[World, Proxy]]:
    proxy = Proxy()
    try:
        with World(
            names=names,
            policy={"allowed_networks": [], "allowed_methods": ["*"]} | (policy or {}),
            settings={"proxy": f"http://{login}127.0.0.1:{proxy.port}"} | settings,
        ) as world:
            world.on("*", b"through")
            proxy.lead_to = world.server.port
            yield world, proxy
    finally:
        proxy.close()


def refused(world: World, path: str, **how: Any) -> CallerError:
    with pytest.raises(CallerError) as error:
        world.send(path, **how)
    return error.value


def test_a_proxy_is_given_vetted_addresses() -> None:
    """By default names are resolved and vetted here: the proxy is asked for the address, the server sees the name."""
    with proxied({"a.test": [["8.8.8.8"]], "b.test": [["2606:4700::1"]]}) as (world, proxy):
        assert world.send("http://a.test/x").body == b"through"
        assert world.send("http://b.test:8080/", "POST", body=b"x").body == b"through"
        assert [line for line, _ in proxy.asked] == [
            "CONNECT 8.8.8.8:80 HTTP/1.1", "CONNECT [2606:4700::1]:8080 HTTP/1.1"
        ]  # fmt: skip
        assert [seen.headers["host"] for seen in world.server.seen] == ["a.test", "b.test:8080"]
        assert world.server.targets == ["/x", "/"]


def test_a_proxy_does_not_weaken_the_policy() -> None:
    """What would not be dialled is not asked of the proxy, redirects included."""
    names = {"in.test": [["10.0.0.1"]], "mixed.test": [["8.8.8.8", "127.0.0.1"]], "a.test": [["8.8.8.8"]]}
    with proxied(names) as (world, proxy):
        for url in ("http://in.test/", "http://mixed.test/", "http://169.254.169.254/", "http://[::1]/"):
            assert refused(world, url).reason == "BLOCKED_ADDRESS"
        assert proxy.asked == []
        world.server.redirect("/", "http://in.test/")
        assert refused(world, "http://a.test/").reason == "BLOCKED_ADDRESS"
        assert len(proxy.asked) == 1


def test_a_login_at_the_proxy() -> None:
    """User and password of the proxy's URL go to the proxy, decoded, and to nobody else."""
    with proxied({"a.test": [["8.8.8.8"]]}, login="me:open%20sesame@") as (world, proxy):
        world.send("http://a.test/")
        assert proxy.asked[0][1] == "Basic bWU6b3BlbiBzZXNhbWU="
        assert "bWU6b3BlbiBzZXNhbWU" not in str(world.server.seen)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403"), (b"HTTP/1.1 407 Log in\r\n\r\n", "status 407"),
        (b"", "broke off"),
        (b"SSH-2.0\r\n\r\n", "refuses"), (b"x" * 20_000, "broke off"), (b"HTTP/1.1 200 OK\r\n\r\nextra", "refuses"),
        (b"HTTP/1.1 2\r\n\r\n", "refuses"),
    ],
)  # fmt: skip
def test_a_proxy_that_refuses(answer: bytes, words: str) -> None:
    """What is no yes of a proxy is an error that names the setting, and not its login."""
    with proxied({"a.test": [["8.8.8.8"]]}, login="me:sesame@") as (world, proxy):
        proxy.answer = answer
        error = refused(world, "http://a.test/")
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert words in error.message
        assert "setting proxy" in error.message
        assert "sesame" not in error.message


def test_a_proxy_that_resolves() -> None:
    """With proxy_resolves the proxy is given names, but only those that are allowed by name; addresses are vetted."""
    policy = {"allowed_hosts": ["a.test", "*.b.test", "10.0.0.0/8", "8.8.8.8"], "allowed_networks": []}
    with proxied({}, policy=policy, proxy_resolves=True) as (world, proxy):
        assert world.send("http://a.test/").body == b"through"
        assert world.send("http://x.b.test/").body == b"through"
        assert world.send("http://8.8.8.8/").body == b"through"
        assert [line.split(" ")[1] for line, _ in proxy.asked] == ["a.test:80", "x.b.test:80", "8.8.8.8:80"]
        assert refused(world, "http://c.test/").reason == "BLOCKED_HOST"
        assert refused(world, "http://10.0.0.1/").reason == "BLOCKED_ADDRESS"
        assert (world.resolver.asked, len(proxy.asked)) == ([], 3)


def test_everything_is_no_name() -> None:
    """`*` in allowed_hosts does not answer for where a name leads."""
    with proxied({}, policy={"allowed_hosts": ["*"]}, proxy_resolves=True) as (world, proxy):
        error = refused(world, "http://a.test/")
        assert (error.reason, error.metadata["setting"], proxy.asked) == ("BLOCKED_HOST", "allowed_hosts", [])


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, server.pem and server.key, for a.test and 127.0.0.1."""
    if shutil.which("openssl") is None:
        missing("the openssl command, which makes the certificates")
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=SECONDS, cwd=folder)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    openssl("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=a.test")
    (folder / "names").write_text("subjectAltName=DNS:a.test,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    return folder


@pytest.fixture
def secure(authority: Path) -> Iterator[Server]:
    """A server that speaks TLS, and notes the name that it was asked for (SNI)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    server = Server(context)
    server.names = []  # type: ignore[attr-defined]
    context.sni_callback = lambda _, name, __: server.names.append(name)  # type: ignore[attr-defined]
    server.on("*", b"secret")
    yield server
    server.close()


def test_the_name_in_tls(authority: Path, secure: Server) -> None:
    """Certificate and SNI are those of the name, though the address is what is dialled."""
    settings = {"ca_bundle": str(authority / "ca.pem")}
    names = {"a.test": [["8.8.8.8"]], "b.test": [["8.8.8.8"]]}
    with World(settings=settings, names=names, dialler=Dialler(secure.port)) as world:
        assert world.send("https://a.test/").body == b"secret"
        assert secure.names == ["a.test"]  # type: ignore[attr-defined]
        error = refused(world, "https://b.test/")
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert "certificate of b.test" in error.message
        assert "ca_bundle" in error.message
        assert len(secure.seen) == 1


def test_an_authority_that_is_not_trusted(secure: Server, monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """A certificate of an authority that is not the system's is refused, also where the environment names it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(authority))
    trust.context.cache_clear()
    with World() as world:
        error = refused(world, secure.url + "/")
        assert error.reason == "UPSTREAM_UNREACHABLE"
        assert "certificate" in error.message
        assert secure.seen == []


def test_other_speech_on_the_port(authority: Path, secure: Server) -> None:
    """https to a port that speaks http, and http to one that speaks TLS, end as errors."""
    settings = {"ca_bundle": str(authority / "ca.pem")}
    with World(settings=settings | {"connect_timeout": 0.5}) as world:
        assert refused(world, f"https://127.0.0.1:{world.server.port}/").reason == "UPSTREAM_UNREACHABLE"
    with World(settings=settings) as world:
        assert refused(world, f"http://127.0.0.1:{secure.port}/").reason == "BAD_RESPONSE"


def test_words_before_tls(authority: Path) -> None:
    """What comes in the clear before TLS begins is not taken for a response from inside of it."""
    context = ssl.create_default_context(cafile=str(authority / "ca.pem"))

    async def talk() -> None:
        server = await asyncio.start_server(_too_early, "127.0.0.1", 0)
        async with server:
            stream = await connect("127.0.0.1", server.sockets[0].getsockname()[1])
            async with asyncio.timeout(20):
                while not stream.get_extra_info("is_readable"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                with pytest.raises(httpcore2.ConnectError):
                    await stream.start_tls(context, "a.test")

    asyncio.run(talk())


async def _too_early(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")


def test_from_https_to_http(authority: Path, secure: Server) -> None:
    """A redirect from https to http is refused; from http to https it is followed."""
    with World(settings={"ca_bundle": str(authority / "ca.pem")}) as world:
        secure.redirect("/down", world.url("/"))
        error = refused(world, secure.url + "/down")
        assert (error.reason, error.metadata["rule"]) == ("BLOCKED_SCHEME", "redirect_downgrade")
        assert world.server.seen == []
        world.server.redirect("/up", secure.url + "/")
        assert world.send("/up").body == b"secret"


def test_the_same_host_with_tls(authority: Path, secure: Server) -> None:
    """From http://a.test to https://a.test a body goes along; a credential does not."""
    dialler = Dialler()
    with World(
        settings={"ca_bundle": str(authority / "ca.pem")}, names={"a.test": [["8.8.8.8"]]}, dialler=dialler,
        policy={"allowed_methods": ["*"]},
    ) as world:  # fmt: skip
        world.server.redirect("/", "https://a.test/", 308)

        async def dial(address: str, port: int) -> Any:
            dialler.port = secure.port if port == 443 else world.server.port
            return await dialler(address, port)

        world.client._backend._dial = dial
        assert world.send("http://a.test/", "POST", body=b"x", headers=[("X-API-Key", "k")]).body == b"secret"
        assert secure.seen[0].body == b"x"
        assert "x-api-key" not in secure.seen[0].headers


def test_tls_through_a_proxy(authority: Path, secure: Server) -> None:
    """https goes through the tunnel end to end, with the name in TLS; the proxy may speak TLS itself."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    for proxy in (Proxy(), Proxy(context)):
        proxy.lead_to = secure.port
        settings = {"ca_bundle": str(authority / "ca.pem"), "proxy": proxy.url}
        with World(settings=settings, names={"a.test": [["8.8.8.8"]]}) as world:
            assert world.send("https://a.test/").body == b"secret"
            assert [line for line, _ in proxy.asked] == ["CONNECT 8.8.8.8:443 HTTP/1.1"]
        proxy.close()
    assert secure.names == ["a.test", "a.test"]  # type: ignore[attr-defined]
