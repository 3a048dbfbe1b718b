"""Who may call: `shared/credentials.py` and `shared/client.py`, over real sockets."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import pytest
from hector_plugins_pb2_grpc import LLMProviderStub
from hypothesis import given
from hypothesis import strategies as st

from shared.certificates import validities
from shared.client import Address, channel
from shared.config import BaseConfig
from shared.credentials import check_exposure, check_token, security_warnings
from shared.errors import StartError
from shared.units import Secret
from tests.servers import (
    SECONDS,
    Served,
    details,
    has_ipv6,
    health,
    missing,
    run_plugin,
    served,
    start_plugin,
    unhurried,
)
from tests.toy_plugin import SERVICE, Toy, register

TOKEN = "let-me-in-please"
ASK = pb.GenerateTextRequest(prompt="echo yes")


def toy(**config: Any) -> Any:
    return served(BaseConfig(**config), SERVICE, lambda server: register(Toy(), server))


# ---------------------------------------------------------------- the token


def call(plugin: Served, *authorization: str | bytes) -> Any:
    """The reply, or the error that it ended in."""
    metadata = tuple(("authorization", value) for value in authorization)
    try:
        return LLMProviderStub(plugin.channel()).GenerateText(ASK, timeout=SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        return error


def test_the_right_token() -> None:
    """With its token a call is answered."""
    with toy(token=Secret(TOKEN)) as plugin:
        assert call(plugin, f"Bearer {TOKEN}").text == "yes"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ([], "TOKEN_MISSING"),
        ([""], "TOKEN_WRONG"),
        (["Bearer "], "TOKEN_WRONG"),
        (["Bearer wrong"], "TOKEN_WRONG"),
        ([TOKEN], "TOKEN_WRONG"),
        ([f"Basic {TOKEN}"], "TOKEN_WRONG"),
        ([f"Bearer {TOKEN[:-1]}"], "TOKEN_WRONG"),
        ([f"Bearer {TOKEN}x"], "TOKEN_WRONG"),
        ([f"Bearer {TOKEN}, Bearer {TOKEN}"], "TOKEN_WRONG"),
        (["Bearer wrong", f"Bearer {TOKEN}"], "TOKEN_WRONG"),
        ([f"Bearer {TOKEN}", "Bearer wrong"], "TOKEN_WRONG"),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], "TOKEN_WRONG"),
    ],
)
def test_any_other_token(sent: Iterable[str], reason: str) -> None:
    """No token, a wrong one, or one sent twice is UNAUTHENTICATED with a reason, and a security event."""
    with toy(token=Secret(TOKEN)) as plugin:
        error = call(plugin, *sent)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert details(error).reason == reason
        assert details(error).domain == "plugins.hector.dev"
        plugin.wait_for_log("event=security")
        security = next(line for line in plugin.log().splitlines() if "event=security" in line)
        assert f"method=GenerateText reason={reason}" in security
        assert " peer=" in security
        assert "event=accepted" not in plugin.log()
        assert TOKEN not in plugin.log() + error.details()


def test_every_kind_of_call_needs_the_token() -> None:
    """A stream, an unknown RPC and reflection need the token too; only health does not."""
    with toy(token=Secret(TOKEN)) as plugin:
        raw = plugin.channel()
        for attempt in (
            lambda: list(LLMProviderStub(raw).StreamText(pb.StreamTextRequest(prompt="x"), timeout=SECONDS)),
            lambda: raw.unary_unary("/no.such.Service/Call")(b"", timeout=SECONDS),
            lambda: list(
                raw.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
                    iter([b"\x3a\x00"]), timeout=SECONDS
                )
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                attempt()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert health(raw) == 1


def test_a_stranger_cannot_make_the_server_read() -> None:
    """Without the token a request is not even parsed: the refusal comes before a malformed message is noticed."""
    with toy(token=Secret(TOKEN)) as plugin:
        with pytest.raises(grpc.RpcError) as caught:
            plugin.channel().unary_unary(f"/{SERVICE}/GenerateText")(b"\xff" * 100, timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

        def endless() -> Iterable[bytes]:
            while True:
                yield b"\x0a\x02hi" + b"x" * 100_000

        with pytest.raises(grpc.RpcError) as caught:
            plugin.channel().stream_unary(f"/{SERVICE}/GenerateText")(endless(), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_stranger_learns_nothing_of_the_state() -> None:
    """While the plugin loads, a wrong token is still UNAUTHENTICATED."""
    config = BaseConfig(token=Secret(TOKEN))
    with served(config, SERVICE, lambda server: register(Toy(), server), ready=False) as plugin:
        assert call(plugin, "Bearer wrong").code() is grpc.StatusCode.UNAUTHENTICATED
        assert call(plugin, f"Bearer {TOKEN}").code() is grpc.StatusCode.UNAVAILABLE


def test_tokens_are_compared_as_bytes() -> None:
    """Metadata that is no ASCII text is a wrong token, not an exception."""
    for value in (b"Bearer \xff", b"Bearer " + TOKEN.encode() + b"\xff", "Bearer ü"):
        refusal = check_token(Secret(TOKEN), [("authorization", value)])
        assert refusal is not None
        assert refusal.reason == "TOKEN_WRONG"
    assert check_token(Secret(TOKEN), [("authorization", f"Bearer {TOKEN}".encode())]) is None


def test_the_token_is_in_no_log_of_a_process() -> None:
    """A process never writes its token, whether refused, answered, or in the traceback of a bug that quotes it."""
    env = {"TOY_PLUGIN__TOKEN": TOKEN, "TOY_PLUGIN__LOG_LEVEL": "debug"}
    with start_plugin("tests.toy_plugin", env=env) as plugin:
        stub = LLMProviderStub(plugin.channel(token=TOKEN))
        stub.GenerateText(pb.GenerateTextRequest(prompt=f"echo {TOKEN}", model=TOKEN), timeout=SECONDS)
        for token, prompt in ((TOKEN, f"bug header 'Bearer {TOKEN}'"), ("wrong", "echo"), (TOKEN + "x", "echo")):
            with pytest.raises(grpc.RpcError):
                LLMProviderStub(plugin.channel(token=token)).GenerateText(
                    pb.GenerateTextRequest(prompt=prompt), timeout=SECONDS
                )
        assert plugin.terminate() == 0
        assert plugin.stderr().count("event=security") == 2
        assert "event=bug" in plugin.stderr()
        assert TOKEN not in plugin.stderr() + plugin.stdout()


# ---------------------------------------------------------------- beyond loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "0", "192.0.2.7", "2001:db8::1", "::ffff:0.0.0.0"])
def test_beyond_loopback(host: str) -> None:
    """Beyond loopback a plugin starts only with a token, a client CA or `insecure` outright; TLS is not enough."""
    tls: dict[str, Any] = {"tls_cert": "cert.pem", "tls_key": "key.pem"}
    none: dict[str, Any] = {}
    for settings, word in ((none, ""), (tls, "; TLS by itself lets anybody in")):
        with pytest.raises(StartError) as caught:
            check_exposure(BaseConfig(host=host, **settings))
        assert str(caught.value) == (
            f"{host} can be reached from other machines{word}: set token, or tls_client_ca (with tls_cert and "
            "tls_key), or say insecure=true outright"
        )
    check_exposure(BaseConfig(host=host, token=Secret(TOKEN)))
    check_exposure(BaseConfig(host=host, **tls, tls_client_ca="ca.pem"))
    check_exposure(BaseConfig(host=host, insecure=True))
    check_exposure(BaseConfig(host=host, **tls, insecure=True))


def test_tls_alone_is_refused_by_a_process(pem: Certificates) -> None:
    """A plugin with TLS and nothing else ends with one line and status 2 beyond loopback; on loopback it serves."""
    env = {"TOY_PLUGIN__TLS_CERT": pem["server"], "TOY_PLUGIN__TLS_KEY": pem.key("server")}
    for check in ([], ["--check"]):
        done = run_plugin("tests.toy_plugin", "--port", "0", "--host", "0.0.0.0", *check, env=env)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1 + done.stderr.count("warning: "))
        assert "TLS by itself lets anybody in: set token" in done.stderr
    with start_plugin("tests.toy_plugin", env=env, wait="listening") as plugin:
        assert plugin.address.startswith("127.0.0.1:")


def test_insecure_is_said_at_each_start() -> None:
    """Where `insecure` is what lets strangers in, each start and --check warn of it; where it is not, none does."""
    with toy(host="0.0.0.0", insecure=True) as plugin:
        assert "WARNING event=security reason=INSECURE message=" in plugin.log()
        assert "anybody who reaches 0.0.0.0 may call; set token or tls_client_ca instead" in plugin.log()
    for settings in ({"host": "127.0.0.1"}, {"host": "0.0.0.0", "token": Secret(TOKEN)}):
        with toy(insecure=True, **settings) as plugin:
            assert "event=security" not in plugin.log()
    done = run_plugin("tests.toy_plugin", "--host", "0.0.0.0", "--insecure", "--check")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("warning: insecure is set: anybody who reaches 0.0.0.0 may call")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_on_loopback(host: str) -> None:
    """On loopback and on a unix socket a plugin starts without any of them."""
    check_exposure(BaseConfig(host=host))
    check_exposure(BaseConfig(host="0.0.0.0", socket="/run/x.sock"))


@pytest.mark.parametrize("host", ["", "no.such.host.invalid", "a..b", "x" * 300, "nul\0"])
def test_a_host_that_is_none(host: str) -> None:
    """A host that cannot be resolved is refused in one line."""
    with pytest.raises(StartError, match=r"setting host: .* is not an address of this machine"):
        check_exposure(BaseConfig(host=host))


def test_a_token_really_opens_all_interfaces() -> None:
    """With a token a plugin serves on 0.0.0.0."""
    with start_plugin("tests.toy_plugin", "--host", "0.0.0.0", env={"TOY_PLUGIN__TOKEN": TOKEN}) as plugin:
        assert plugin.address.startswith("0.0.0.0:")
        stub = LLMProviderStub(plugin.channel(token=TOKEN))
        assert stub.GenerateText(ASK, timeout=SECONDS).text == "yes"


# ---------------------------------------------------------------- TLS


class Certificates:
    """A CA, a server's certificate for 127.0.0.1 and a client's, and another CA's of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for ca, names in (("ca", ("server", "client")), ("other-ca", ("other-server", "other-client"))):
            self._openssl("req", "-x509", "-subj", f"/CN={ca}", *self._new_key(ca), "-out", self[ca])
            for name in names:
                request = str(folder / f"{name}.csr")
                extension = folder / f"{name}.ext"
                extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
                self._openssl("req", "-subj", f"/CN={name}", *self._new_key(name), "-out", request)
                signed_by = ["-CA", self[ca], "-CAkey", self.key(ca), "-CAcreateserial", "-extfile", str(extension)]
                self._openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-out", self[name])
        self._openssl("pkey", "-in", self.key("server"), "-aes256", "-passout", "pass:x", "-out", self.key("locked"))

    def __getitem__(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def _new_key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key(name)]

    def _openssl(self, *args: str) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=SECONDS)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        missing("the openssl command, which makes the certificates")
    return Certificates(tmp_path_factory.mktemp("certificates"))


def ask(address: Address) -> str:
    """What the toy answers to a client that connects as `address` says; else the name of the status code."""
    with channel(address) as connection:
        try:
            stub = LLMProviderStub(connection)
            return str(stub.GenerateText(ASK, timeout=SECONDS, metadata=address.metadata).text)
        except grpc.RpcError as error:
            return str(error.code().name)


def test_tls(pem: Certificates) -> None:
    """With a certificate a plugin speaks TLS only, to clients that trust its CA."""
    with toy(tls_cert=pem["server"], tls_key=pem.key("server")) as plugin:
        assert ask(Address(plugin.address, tls_ca=pem["ca"])) == "yes"
        assert ask(Address(f"ipv4:{plugin.address},{plugin.address}", tls_ca=pem["ca"])) == "yes"
        assert ask(Address(plugin.address, tls_ca=pem["other-ca"])) == "UNAVAILABLE"
        assert ask(Address(plugin.address)) == "UNAVAILABLE"


def test_mutual_tls(pem: Certificates) -> None:
    """With a client CA a plugin talks to clients with a certificate of it, and to nobody else."""
    with toy(tls_cert=pem["server"], tls_key=pem.key("server"), tls_client_ca=pem["ca"]) as plugin:
        known = Address(plugin.address, tls_ca=pem["ca"], tls_cert=pem["client"], tls_key=pem.key("client"))
        stranger = Address(
            plugin.address, tls_ca=pem["ca"], tls_cert=pem["other-client"], tls_key=pem.key("other-client")
        )
        assert ask(known) == "yes"
        assert ask(Address(plugin.address, tls_ca=pem["ca"])) == "UNAVAILABLE"
        assert ask(stranger) == "UNAVAILABLE"


def test_tls_and_token(pem: Certificates) -> None:
    """TLS and token together ask for both."""
    with toy(tls_cert=pem["server"], tls_key=pem.key("server"), token=Secret(TOKEN)) as plugin:
        assert ask(Address(plugin.address, tls_ca=pem["ca"], token=Secret(TOKEN))) == "yes"
        assert ask(Address(plugin.address, tls_ca=pem["ca"])) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "says"),
    [
        ("server", "other-server", "", "tls_cert and tls_key: not a certificate and its private key"),
        ("server", "locked", "", "the key without a passphrase"),
        ("none", "server", "", r"setting tls_cert: cannot read .*none\.pem: No such file"),
        ("server", "none", "", r"setting tls_key: cannot read .*none\.key: No such file"),
        ("text", "server", "", r"setting tls_cert: .*text\.pem is not a PEM file"),
        ("garbage", "server", "", "not a certificate and its private key"),
        ("server", "server", "none", r"setting tls_client_ca: cannot read .*none\.pem: No such file"),
        ("server", "server", "garbage", r"setting tls_client_ca: .*garbage\.pem holds no certificate"),
        ("fifo", "server", "", r"setting tls_cert: cannot read .*fifo\.pem: it is not a regular file"),
        ("server", "zero", "", r"setting tls_key: cannot read .*zero\.key: it is not a regular file"),
        ("server", "server", "fifo", r"setting tls_client_ca: cannot read .*fifo\.pem: it is not a regular file"),
    ],
)
def test_tls_files_that_do_not_do(pem: Certificates, cert: str, key: str, client_ca: str, says: str) -> None:
    """A TLS file that is missing, no PEM, or does not fit the other is refused at the start, in one line."""
    Path(pem["text"]).write_text("no PEM")
    if not Path(pem["fifo"]).exists():
        os.mkfifo(pem["fifo"])
        Path(pem.key("zero")).symlink_to("/dev/zero")
    Path(pem["garbage"]).write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    files = {"tls_cert": pem[cert], "tls_key": pem.key(key), "tls_client_ca": client_ca and pem[client_ca]}
    with pytest.raises(StartError, match=says) as caught, toy(**files):
        pass
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- certificates' dates


def dated(pem: Certificates, begin: str, end: str, name: str = "dated") -> str:
    """The path of a certificate for the server's key that is valid in that time, such as 20240101000000Z."""
    database = pem.folder / f"{name}-db"
    database.mkdir(exist_ok=True)
    (database / "index").write_text("")
    (database / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={database}/index\nnew_certs_dir={database}\nrand_serial=yes\n"
        "policy=p\ndefault_md=sha256\nunique_subject=no\n[p]\ncommonName=supplied\n"
    )
    signed_by = ["-cert", pem["ca"], "-keyfile", pem.key("ca"), "-extfile", str(pem.folder / "server.ext")]
    dates = ["-startdate", begin, "-enddate", end, "-in", str(pem.folder / "server.csr"), "-out", pem[name]]
    pem._openssl("ca", "-batch", "-notext", "-config", str(database / "openssl.cnf"), *signed_by, *dates)
    return pem[name]


def at(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


@pytest.mark.parametrize(
    ("begin", "end", "reason", "words"),
    [
        (-9, -1, "CERTIFICATE_EXPIRED", "the certificate expired on "),
        (-9, -0.001, "CERTIFICATE_EXPIRED", "the certificate expired on "),
        (1, 90, "CERTIFICATE_NOT_YET_VALID", "the certificate is not valid before "),
        (-9, 29, "CERTIFICATE_EXPIRES_SOON", "the certificate expires on "),
        (-9, 31, None, ""),
        (-9, 365 * 100, None, ""),  # its end is written with a year of four digits
    ],
)
def test_the_dates_of_a_certificate(
    pem: Certificates, begin: float, end: float, reason: str | None, words: str
) -> None:
    """A certificate that has expired, will within 30 days, or is not valid yet: said at each start, and by --check."""
    env = {"TOY_PLUGIN__TLS_CERT": dated(pem, at(begin), at(end)), "TOY_PLUGIN__TLS_KEY": pem.key("server")}
    with toy(tls_cert=pem["dated"], tls_key=pem.key("server")) as plugin:  # and it serves all the same
        log = plugin.log()
    done = run_plugin("tests.toy_plugin", "--check", env=env)
    assert done.returncode == 0
    if reason is None:
        assert ("event=security" in log, done.stderr) == (False, "")
    else:
        assert f"WARNING event=security reason={reason} message=" in log
        assert (done.stderr.count("\n"), words in done.stderr) == (1, True)
        assert done.stderr.startswith(f"warning: setting tls_cert: {pem['dated']}: {words}")
        assert words in log


def test_the_dates_of_all_certificates(pem: Certificates) -> None:
    """Intermediate certificates and those of the client CA are looked at too, and each trouble is said once a file."""
    old = Path(dated(pem, at(-9), at(-1), "old")).read_text()
    fresh = Path(dated(pem, at(-9), at(99), "fresh")).read_text()
    Path(pem["chain"]).write_text(fresh + old)
    Path(pem["authorities"]).write_text("Somebody's comment\n" + old + fresh + old)
    config = BaseConfig(tls_cert=pem["chain"], tls_key=pem.key("server"), tls_client_ca=pem["authorities"])
    assert [(warning.reason, str(warning).partition(" expired on ")[0]) for warning in security_warnings(config)] == [
        ("CERTIFICATE_EXPIRED", f"setting tls_cert: {pem['chain']}: certificate 2 of 2"),
        ("CERTIFICATE_EXPIRED", f"setting tls_client_ca: {pem['authorities']}: certificate 1 of 3"),
    ]


def test_the_dates_are_those_that_openssl_reads(pem: Certificates) -> None:
    """What is read of a certificate's dates is what the openssl command says of it, to the second."""
    for begin, end in (
        ("19500101000000Z", "20491231235959Z"),
        ("20000229120000Z", "20500101000000Z"),
        (at(0), at(9999)),
    ):
        path = dated(pem, begin, end)
        argv = ["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", path]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=SECONDS)
        expected = [
            datetime.strptime(line.partition("=")[2], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
            for line in done.stdout.splitlines()
        ]
        assert [list(dates or ()) for dates in validities(Path(path).read_bytes())] == [expected]


@unhurried
@given(st.binary(max_size=60), st.integers(0, 10_000), st.booleans())
def test_dates_that_cannot_be_read(pem: Certificates, junk: bytes, at_byte: int, cut: bool) -> None:
    """Of bytes that are no certificate the dates are None or some dates, and nothing is raised."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(Path(pem["server"]).read_text()))
    where = at_byte % len(der)
    der[where : where + len(junk)] = junk
    (dates,) = validities(ssl.DER_cert_to_PEM_cert(bytes(der[:where] if cut else der) or b"\0").encode())
    assert dates is None or dates.begin.tzinfo is UTC


# ---------------------------------------------------------------- addresses of other plugins


def test_addresses() -> None:
    """An address is text or a mapping; what it prints as never holds its token."""
    assert Address.read("127.0.0.1:8082") == Address("127.0.0.1:8082")
    read = Address.read({"address": "h:1", "token": TOKEN, "tls_ca": "ca.pem"})
    assert read.metadata == (("authorization", f"Bearer {TOKEN}"),)
    assert read.tls_ca == "ca.pem"
    assert TOKEN not in repr(read)
    assert Address("h:1").metadata == ()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"token": TOKEN},
        {"address": 5},
        {"address": "h:1", "tokn": TOKEN},
        {f"token {TOKEN}": None},
        {1: 2},
        5,
        None,
        ["h:1"],
    ],
)
def test_addresses_that_are_none(value: Any) -> None:
    """Anything else is a StartError, which does not show the token either."""
    with pytest.raises(StartError, match="an address") as caught:
        Address.read(value)
    assert TOKEN not in str(caught.value)


def test_a_client_whose_files_are_missing() -> None:
    """A client's TLS file that cannot be read, or a certificate without its key, is a StartError."""
    with pytest.raises(StartError, match=r"address h:1: cannot read /nowhere\.pem: No such file"):
        channel(Address("h:1", tls_ca="/nowhere.pem"))
    with pytest.raises(StartError, match="address h:1: tls_cert and tls_key go together"):
        channel(Address("h:1", tls_cert="/nowhere.pem"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "unix:"])
def test_no_proxy_to_this_machine(host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy in the environment does not stand between a client and a plugin of this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    config = {"socket": str(tmp_path / "s")} if host == "unix:" else {"host": host}
    if host == "[::1]" and not has_ipv6():
        return
    with toy(**config) as plugin:
        assert ask(Address(plugin.address)) == "yes"
        if host == "127.0.0.1":
            assert ask(Address(f"ipv4:{plugin.address},{plugin.address}")) == "yes"
