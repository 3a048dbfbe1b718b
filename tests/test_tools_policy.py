"""tools_http: what is a URL, what a public address, and what the policy says of both."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.tools_http.engine import urls
from plugins.tools_http.engine.addresses import PUBLIC, kind_of, plain, read_network
from plugins.tools_http.engine.hosts import HostSet
from plugins.tools_http.engine.policy import ALL_METHODS, Policy
from shared.errors import CallerError, StartError

README = Path(__file__).resolve().parent.parent / "plugins" / "tools_http"

REFUSED = "BAD_URL"
SCHEME = "BLOCKED_SCHEME"

# What is written, and what it is: a reason, or the form that it is brought into.
DISGUISES = [
    # Octal, decimal, hexadecimal, short
    ("http://0177.0.0.1/", REFUSED),
    ("http://0177.0.0.01", REFUSED),
    ("http://0177.0000.0000.0001/", REFUSED),
    ("http://017700000001/", REFUSED),
    ("http://00.0.0.0/", REFUSED),
    ("http://127.0.0.01/", REFUSED),
    ("http://2130706433/", REFUSED),
    ("http://2852039166/latest/meta-data/", REFUSED),
    ("http://18446744073709551615/", REFUSED),
    ("http://0x7f000001/", REFUSED),
    ("http://0X7F.0.0.1/", REFUSED),
    ("http://0x7f.0x0.0x0.0x1/", REFUSED),
    ("http://0xa9fea9fe/", REFUSED),
    ("http://0x/", REFUSED),
    ("http://127.1/", REFUSED),
    ("http://127.0.1/", REFUSED),
    ("http://0/", REFUSED),
    ("http://1/", REFUSED),
    ("http://169.254.43518/", REFUSED),
    ("http://256.0.0.1/", REFUSED),
    ("http://127.0.0.1.1/", REFUSED),
    ("http://example.0x7f/", REFUSED),
    ("http://example.1/", REFUSED),
    # IPv4 in IPv6, and IPv6 in other forms
    ("http://[::ffff:127.0.0.1]/", "http://127.0.0.1/"),
    ("http://[::FFFF:7F00:1]/", "http://127.0.0.1/"),
    ("http://[0:0:0:0:0:ffff:169.254.169.254]/", "http://169.254.169.254/"),
    ("http://[::127.0.0.1]/", "http://[::7f00:1]/"),
    ("http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b::7f00:1]/"),
    ("http://[2002:7f00:1::]/", "http://[2002:7f00:1::]/"),
    ("http://[::ffff:0:127.0.0.1]/", "http://[::ffff:0:7f00:1]/"),
    ("http://[0000:0000:0000:0000:0000:0000:0000:0001]/", "http://[::1]/"),
    ("http://[::1", REFUSED),
    ("http://::1/", REFUSED),
    ("http://[::1]x/", REFUSED),
    ("http://[::1].example.com/", REFUSED),
    ("http://[127.0.0.1]/", REFUSED),
    ("http://[::ffff:0177.0.0.1]/", REFUSED),
    ("http://[v1.fe80]/", REFUSED),
    ("http://[]/", REFUSED),
    ("http://[::１]/", REFUSED),
    ("http://[:::1]/", REFUSED),
    # Zones
    ("http://[fe80::1%eth0]/", REFUSED),
    ("http://[fe80::1%25eth0]/", REFUSED),
    ("http://[::1%25lo]/", REFUSED),
    # Digits, letters and dots of other scripts
    ("http://１２７.０.０.１/", "http://127.0.0.1/"),
    ("http://①②⑦.⓪.⓪.①/", "http://127.0.0.1/"),
    ("http://127。0。0。1/", "http://127.0.0.1/"),
    ("http://127．0．0．1/", "http://127.0.0.1/"),
    ("http://127｡0｡0｡1/", "http://127.0.0.1/"),
    ("http://０x7f.1/", REFUSED),
    ("http://𝟏𝟐𝟕.𝟎.𝟎.𝟏/", "http://127.0.0.1/"),
    ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://localhost/"),
    ("http://ｌｏｃａｌｈｏｓｔ/", "http://localhost/"),
    ("http://LOCALHOST/", "http://localhost/"),
    ("http://local\u00adhost/", "http://localhost/"),
    ("http://local\u200bhost/", "http://localhost/"),
    ("http://٠.0.0.1/", REFUSED),
    # IDNA
    ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
    ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
    ("http://faß.example/", "http://xn--fa-hia.example/"),
    ("http://evil.c℀.example.com/", REFUSED),
    ("http://a⁄b.example.com/", REFUSED),
    ("http://127.0.0.1⁄@example.com/", REFUSED),
    ("http://example。com⒈/", REFUSED),
    ("http://xn--a.example/", REFUSED),
    ("http://xn--.example/", REFUSED),
    ("http://xn--example.com-/", REFUSED),
    ("http://\u202eexample.com/", REFUSED),
    ("http://a\u200db.example/", REFUSED),
    ("http://exa\u0338mple.com\u2100/", REFUSED),
    # Percent-encoded hosts
    ("http://%31%32%37.0.0.1/", REFUSED),
    ("http://127.0.0.1%2f@example.com/", REFUSED),
    ("http://%6c%6f%63alhost/", REFUSED),
    ("http://localhost%00.example.com/", REFUSED),
    ("http://localhost%23.example.com/", REFUSED),
    # Users
    ("http://example.com@127.0.0.1/", REFUSED),
    ("http://example.com:80@127.0.0.1:80/", REFUSED),
    ("http://example.com%40127.0.0.1/", REFUSED),
    ("http://@127.0.0.1/", REFUSED),
    ("http://:@127.0.0.1/", REFUSED),
    ("http://a@b@127.0.0.1/", REFUSED),
    # Fragments and queries right behind the host
    ("http://127.0.0.1#@example.com/", "http://127.0.0.1/"),
    ("http://127.0.0.1?@example.com/", "http://127.0.0.1/?@example.com/"),
    ("http://example.com/#/../x", "http://example.com/"),
    ("http://example.com?.evil.test", "http://example.com/?.evil.test"),
    # Backslashes
    ("http://127.0.0.1\\@example.com/", REFUSED),
    ("http://example.com\\127.0.0.1/", REFUSED),
    ("http:\\\\127.0.0.1/", REFUSED),
    ("http:/\\127.0.0.1/", REFUSED),
    ("http://\\127.0.0.1/", REFUSED),
    ("http://example.com/a\\..\\b", REFUSED),
    ("\\\\127.0.0.1\\share", REFUSED),
    # Trailing and doubled dots
    ("http://localhost./", "http://localhost/"),
    ("http://127.0.0.1./", "http://127.0.0.1/"),
    ("http://localhost../", REFUSED),
    ("http://.localhost/", REFUSED),
    ("http://a..b/", REFUSED),
    ("http://./", REFUSED),
    ("http://2130706433./", REFUSED),
    # Slashes
    ("http:127.0.0.1/", REFUSED),
    ("http:/127.0.0.1/", REFUSED),
    ("http:///127.0.0.1/", REFUSED),
    ("http:////127.0.0.1/", REFUSED),
    ("//127.0.0.1/", REFUSED),
    ("/etc/passwd", REFUSED),
    ("127.0.0.1", REFUSED),
    ("localhost:8080/x", REFUSED),
    ("example.com/x", REFUSED),
    ("http://", REFUSED),
    ("http", REFUSED),
    ("", REFUSED),
    # Schemes
    ("file:///etc/passwd", SCHEME),
    ("gopher://127.0.0.1:6379/_x", SCHEME),
    ("ftp://example.com/", SCHEME),
    ("dict://127.0.0.1:11211/", SCHEME),
    ("ldap://127.0.0.1/", SCHEME),
    ("data:text/html,hello", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("jar:http://127.0.0.1!/", SCHEME),
    ("view-source:http://127.0.0.1/", SCHEME),
    ("url:http://127.0.0.1/", SCHEME),
    ("ws://127.0.0.1/", SCHEME),
    ("unix:///run/docker.sock", SCHEME),
    ("http+unix://%2frun%2fdocker.sock/", SCHEME),
    ("HTTP://127.0.0.1/", "http://127.0.0.1/"),
    ("ｈｔｔｐ://127.0.0.1/", REFUSED),
    ("httр://127.0.0.1/", REFUSED),
    # Ports
    ("http://127.0.0.1:80/", "http://127.0.0.1/"),
    ("http://127.0.0.1:/", "http://127.0.0.1/"),
    ("http://127.0.0.1:0080/", "http://127.0.0.1/"),
    ("https://127.0.0.1:80/", "https://127.0.0.1:80/"),
    ("http://127.0.0.1:0/", REFUSED),
    ("http://127.0.0.1:65616/", REFUSED),
    ("http://127.0.0.1:+80/", REFUSED),
    ("http://127.0.0.1:-1/", REFUSED),
    ("http://127.0.0.1:８０/", REFUSED),
    ("http://127.0.0.1:8 0/", REFUSED),
    ("http://127.0.0.1:80:80/", REFUSED),
    ("http://127.0.0.1:0x50/", REFUSED),
    ("http://127.0.0.1:000000080/", REFUSED),
    # Blanks and control characters
    (" http://127.0.0.1/ ", "http://127.0.0.1/"),
    ("http://127.0.0.1 .example.com/", REFUSED),
    ("http://127.0.0.1\t/", REFUSED),
    ("ht\ntp://127.0.0.1/", REFUSED),
    ("http://127.0.0.1/\r\nHost: evil", REFUSED),
    ("http://127.0.0.1/\0", REFUSED),
    ("http://exam\x7fple.com/", REFUSED),
    ("\u2028http://127.0.0.1/", REFUSED),
    ("http://127.0.0.1/\ud800", REFUSED),
    # Names
    ("http://exa mple.com/", REFUSED),
    ("http://-a.example/", REFUSED),
    ("http://a,b/", REFUSED),
    ("http://a;b/", REFUSED),
    ("http://a*b/", REFUSED),
    ("http://" + "a" * 64 + ".example/", REFUSED),
    ("http://" + "a." * 127 + "a/", REFUSED),
    ("http://a_b.example/", "http://a_b.example/"),
    # Paths and queries
    ("http://example.com/a/../../b", "http://example.com/b"),
    ("http://example.com/a/%2e%2E/b/.", "http://example.com/b/"),
    ("http://example.com/a b?c d", "http://example.com/a%20b?c%20d"),
    ("http://example.com/ü?ü", "http://example.com/%C3%BC?%C3%BC"),
    ("http://example.com/%zz", "http://example.com/%25zz"),
    ("http://example.com/a?b\\c", "http://example.com/a?b%5Cc"),
    ("http://example.com/%0d%0a", "http://example.com/%0d%0a"),
    ("http://example.com//a", "http://example.com//a"),
]


def read(text: str) -> str:
    """The reason for which it is refused, or its one form."""
    try:
        return str(urls.parse(text))
    except CallerError as error:
        return error.reason


@pytest.mark.parametrize(("text", "expected"), DISGUISES, ids=[ascii(text)[:40] for text, _ in DISGUISES])
def test_disguises(text: str, expected: str) -> None:
    """A URL in disguise is refused or brought into its one form; none that means an inner host passes the policy."""
    assert read(text) == expected
    decision = Policy(allowed_ports=["1-65535"]).decide(text)
    if decision.allowed:
        host = urlsplit(expected).hostname or ""
        assert re.fullmatch(r"localhost|(.*\.)?example(\.com)?", host), host
    else:
        assert decision.error is not None
        assert decision.error.reason in (REFUSED, SCHEME, "BLOCKED_ADDRESS")


def rows(heading: str) -> list[list[str]]:
    """Of the README's table below `heading`, without its head."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(README.glob("README*.md")))
    section = re.search(rf"^#+ {heading}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, heading
    table = [line.strip("|").split("|") for line in re.findall(r"^\|.*\|$", section[1], re.MULTILINE)]
    return [[cell.strip().strip("`") for cell in row] for row in table[2:]]


def test_the_readme_says_what_happens() -> None:
    """The README's tables of disguises and of embedded addresses are true of every example."""
    examples = rows("URLs")
    assert len(examples) > 15
    for _, text, expected in examples:
        assert read(text) == expected, text
    for _, text, what in rows("Addresses"):
        address = ipaddress.ip_address(text)
        assert (kind_of(address) != PUBLIC) == (what == "refused" or "8.8.8.8" not in text), text


# ---------------------------------------------------------------- addresses

NOT_PUBLIC = {
    "0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "10.0.0.1": "private", "10.255.255.255": "private",
    "100.64.0.1": "carrier-grade NAT", "100.127.255.255": "carrier-grade NAT", "100.100.100.200": "cloud metadata",
    "127.0.0.1": "loopback", "127.255.255.254": "loopback", "168.63.129.16": "cloud metadata",
    "169.254.0.1": "link-local", "169.254.169.254": "cloud metadata", "169.254.170.2": "cloud metadata",
    "172.16.0.1": "private", "172.31.255.255": "private", "192.0.0.1": "protocol assignments",
    "192.0.0.192": "cloud metadata", "192.0.2.1": "documentation", "192.88.99.1": "reserved",
    "192.168.255.255": "private", "198.18.0.1": "benchmarking", "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation", "203.0.113.7": "documentation", "224.0.0.1": "multicast",
    "239.255.255.255": "multicast", "240.0.0.1": "reserved", "255.255.255.255": "broadcast",
    "::": "unspecified", "::1": "loopback", "::2": "IPv4-compatible", "::a9fe:a9fe": "IPv4-compatible",
    "::8.8.8.8": "IPv4-compatible", "::ffff:127.0.0.1": "IPv4-mapped of loopback",
    "::ffff:169.254.169.254": "IPv4-mapped of cloud metadata", "::ffff:0:a9fe:a9fe": "IPv4-translated",
    "64:ff9b::a9fe:a9fe": "NAT64 of cloud metadata", "64:ff9b::10.0.0.1": "NAT64 of private",
    "64:ff9b:1::8.8.8.8": "local NAT64", "64:ff9b:1:a00:1::": "local NAT64", "64:ff9b:2::1": "reserved",
    "64:ff9b::1:808:808": "reserved", "100::1": "discard-only", "2001::1": "Teredo",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo", "2001:2::1": "benchmarking", "2001:10::1": "protocol assignments",
    "2001:db8::1": "documentation", "2002:a9fe:a9fe::1": "6to4 of cloud metadata", "2002:7f00:1::": "6to4 of loopback",
    "2001:470::5efe:10.0.0.1": "ISATAP of private", "2001:470::200:5efe:127.0.0.1": "ISATAP of loopback",
    "3fff::1": "documentation", "4000::1": "reserved", "5f00::1": "segment routing", "fc00::1": "private",
    "fd00:ec2::254": "cloud metadata", "fd12:3456::1": "private", "fe80::1": "link-local", "fe80::1%2": "link-local",
    "fe80::a9fe:a9fe": "cloud metadata", "febf::1": "link-local", "fec0::1": "site-local", "ff02::1": "multicast",
    "1::1": "reserved", "e000::1": "reserved",
    # Metadata services, each by what its provider documents.
    "169.254.170.23": "cloud metadata", "169.254.169.250": "cloud metadata", "169.254.169.251": "cloud metadata",
    "169.254.169.253": "cloud metadata", "169.254.0.23": "cloud metadata", "169.254.10.10": "cloud metadata",
    "169.254.42.42": "cloud metadata", "fd00:ec2::23": "cloud metadata", "fd00:ec2::253": "cloud metadata",
    "fd20:ce::254": "cloud metadata", "fd00:42::42": "cloud metadata", "fd00:c1::a9fe:a9fe": "cloud metadata",
}  # fmt: skip
ARE_PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111",
    "2a00:1450:4001::1", "2001:4860:4860::8888", "2001:200::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
    "2002:808:808::1", "2001:470::5efe:8.8.8.8",
]  # fmt: skip


def test_addresses_that_are_not_public() -> None:
    """Every special range, every metadata service and every form that embeds one has its kind, at both ends."""
    assert {text: kind_of(ipaddress.ip_address(text)) for text in NOT_PUBLIC} == NOT_PUBLIC


def test_public_addresses() -> None:
    """Neighbours of the special ranges, and NAT64 of a public address, are public."""
    assert [text for text in ARE_PUBLIC if kind_of(ipaddress.ip_address(text))] == []


few = settings(max_examples=30)
quads = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([text for text in NOT_PUBLIC if ":" not in text]).map(lambda text: int(ipaddress.ip_address(text))),
)


@few
@given(quads)
def test_an_ipv4_address_in_any_ipv6_form(number: int) -> None:
    """An IPv6 form of an IPv4 address is public only where that is, and forms of the past never are."""
    public = kind_of(ipaddress.IPv4Address(number)) == PUBLIC
    judged = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1]
    judged.append(0x20010470 << 96 | 0x5EFE << 32 | number)
    never = [number, 0xFFFF << 48 | number, 0x64FF9B0001 << 80 | number, 0x20010000 << 96 | number << 64]
    assert [kind_of(ipaddress.IPv6Address(bits)) == PUBLIC for bits in judged] == [public] * 4
    assert [kind_of(ipaddress.IPv6Address(bits)) == PUBLIC for bits in never] == [False] * 4


@few
@given(quads, st.integers(0, 2**128 - 1), st.sampled_from([0, 0x2 << 124, 0x2001 << 112, 0xFE << 120]))
def test_no_address_that_the_standard_library_knows_as_special_is_public(number: int, bits: int, prefix: int) -> None:
    """What `ipaddress` calls private, link-local, multicast or reserved is never public, but for two forms."""
    for address in (ipaddress.IPv4Address(number), ipaddress.IPv6Address(prefix | bits % 2**112)):
        if address in ipaddress.ip_network("::ffff:0:0/96") or address in ipaddress.ip_network("64:ff9b::/96"):
            continue
        special = not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local
        assert not special or kind_of(address), address


def test_networks_as_settings_write_them() -> None:
    """A network of IPv4-mapped addresses is that of the IPv4 addresses, and what has bits behind its prefix is none."""
    assert str(read_network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(read_network("[::1]")) == "::1/128"
    assert [read_network(text) for text in ("10.0.0.1/8", "10.0.0", "10.0.0.0/33", "a.test", "", "fe80::1%2/64")][
        :5
    ] == [None] * 5
    assert str(plain(ipaddress.ip_address("::ffff:10.0.0.1"))) == "10.0.0.1"


# ---------------------------------------------------------------- URLs: any text

pieces = st.sampled_from(
    ["http", "https", "ftp", ":", "//", "/", "\\", "@", "#", "?", "%", "%2e", "%00", ".", "..", "[", "]", "::", "ffff",
     "127", "0177", "0x7f", "1", "0", "2130706433", "localhost", "example", "com", "xn--", "１", "。", "ß", "ü", "℀",
     "\t", "\n", "\0", " ", "\u200d", "\ud800", "80", "-", "_", "+", "=", "&", "٣", "fe80::1%eth0", ",", ";", "*"]
)  # fmt: skip
disguised = st.tuples(
    st.sampled_from([text for text, _ in DISGUISES]),
    st.integers(0, 60),
    st.integers(0, 3),
    st.one_of(pieces, st.text(max_size=2)),
).map(lambda item: item[0][: item[1]] + item[3] + item[0][item[1] + item[2] :])
texts = st.one_of(
    disguised,
    st.lists(pieces, max_size=14).map("".join),
    st.lists(pieces, max_size=10).map(lambda parts: "http://" + "".join(parts)),
    st.text(max_size=40).map(lambda text: "http://" + text),
    st.text(max_size=20).map(lambda text: f"http://a.example/{text}"),
    st.tuples(st.integers(0, 2**33), st.sampled_from(["{}", "0{:o}", "0x{:x}", "1.{}", "1.2.{}", "1.2.3.{}"])).map(
        lambda item: "http://" + item[1].format(item[0]) + "/"
    ),
)


def check_any_text(text: str) -> None:
    if read(text) in (REFUSED, SCHEME):
        return
    url = urls.parse(text)
    written = str(url)
    assert written.isascii()
    assert written.isprintable()
    assert " " not in written
    assert str(urls.parse(written)) == written
    # Two other parsers see the same host, port and target in it.
    other = urlsplit(written)
    assert (other.scheme, other.hostname, other.username) == (url.scheme, url.host, None)
    assert (other.port or {"http": 80, "https": 443}[url.scheme]) == url.port
    third = httpx2.URL(written)
    assert third.raw_host.decode().strip("[]") == url.host
    assert third.raw_path.decode() == url.target
    # What the system would take for an address is known as one.
    if url.address is None:
        with pytest.raises(OSError):
            socket.inet_aton(url.host)
        with pytest.raises(OSError):
            socket.getaddrinfo(url.host, 80, flags=socket.AI_NUMERICHOST)
    else:
        assert str(url.address) == url.host
        dialled = socket.getaddrinfo(url.host, 80, flags=socket.AI_NUMERICHOST)[0][4][0]
        assert ipaddress.ip_address(dialled) == url.address


@few
@given(texts)
@example("http://example.com:0")
@example("http://0x7f.1./")
def test_any_text_as_url(text: str) -> None:
    """Any text is refused with a reason, or becomes a URL of one form in which other parsers see the same."""
    check_any_text(text)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(texts)
def test_much_text_as_url(text: str) -> None:
    """The same of many more."""
    check_any_text(text)


@few
@given(
    st.one_of(texts, st.text(max_size=20), st.sampled_from(["?lang=en", "../x", "", "#a", "//b.example/c", "./", "/"]))
)
def test_any_location(location: str) -> None:
    """A redirect to any text is refused with a reason or leads to a URL of one form; if relative, on its origin."""
    base = urls.parse("https://a.example/doc/page?q=1")
    try:
        url = urls.join(base, location)
    except CallerError as error:
        reason = error.reason
    else:
        reason = ""
    if reason:
        assert reason in (REFUSED, SCHEME)
        return
    assert str(urls.parse(str(url))) == str(url)
    if not re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*:|[/\\]{2}|/\\)", location):
        assert url.origin == base.origin


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("?lang=en", "https://a.test/doc/page?lang=en"), ("x", "https://a.test/doc/x"), ("/x", "https://a.test/x"),
        ("../x", "https://a.test/x"), ("../../../x", "https://a.test/x"), ("./", "https://a.test/doc/"),
        ("..", "https://a.test/"), ("//b.test/x", "https://b.test/x"), ("#top", "https://a.test/doc/page?q=1"),
        ("", "https://a.test/doc/page?q=1"), ("http://b.test", "http://b.test/"), ("x:y", "BLOCKED_SCHEME"),
        ("https:x", "BAD_URL"), ("/\\b.test", "BAD_URL"), ("\\\\b.test", "BAD_URL"), (";x", "https://a.test/doc/;x"),
        ("\r\n /x", "https://a.test/x"), ("/x\r\ny", "BAD_URL"), ("x?y#z", "https://a.test/doc/x?y"),
        ("//user@b.test/", "BAD_URL"), ("///b.test", "BAD_URL"),
    ],
)  # fmt: skip
def test_where_a_location_leads(location: str, expected: str) -> None:
    """A location is resolved as RFC 3986 has it, against path and origin of the URL that it came from."""
    try:
        led = str(urls.join(urls.parse("https://a.test/doc/page?q=1"), location))
    except CallerError as error:
        led = error.reason
    assert led == expected


# ---------------------------------------------------------------- rules


def decide(url: str, method: str = "GET", **settings: Any) -> tuple[bool, str]:
    """Whether it is allowed, and the rule."""
    decision = Policy(**settings).decide(url, method)
    return decision.allowed, decision.rule


def refusal(url: str, method: str = "GET", **settings: Any) -> CallerError:
    error = Policy(**settings).decide(url, method).error
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("a.test", "a.test"), ("b.a.test", "*.a.test"), ("c.b.a.test", "*.a.test"), ("api-1.x.test", "api-*.x.test"),
        ("8.8.8.8", "8.8.0.0/16"), ("[2a00::1]", "2a00::/16"), ("bücher.example", "BÜCHER.example."), ("x.test", "*"),
        ("[::ffff:8.8.8.8]", "8.8.8.8"),
    ],
)  # fmt: skip
def test_forms_of_hosts(host: str, entry: str) -> None:
    """Each form of an entry allows what it names, and on the other list denies it."""
    assert decide(f"http://{host}/", allowed_hosts=[entry]) == (True, "allowed_hosts")
    assert decide(f"http://{host}/", allowed_hosts=[entry], denied_hosts=[entry]) == (False, "denied_hosts")


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("a.test", "*.a.test"), ("xa.test", "a.test"), ("a.test.evil.test", "a.test"), ("evil-a.test", "*.a.test"),
        ("b.api-1.x.test", "api-*.x.test"), ("api-1.b.x.test", "api-*.x.test"),
        ("8.9.8.8", "8.8.0.0/16"), ("a.test", "A.test.uk"),
    ],
)  # fmt: skip
def test_hosts_that_look_alike(host: str, entry: str) -> None:
    """A host that only resembles an entry is not among those allowed, and the refusal names setting and host."""
    error = refusal(f"http://{host}/", allowed_hosts=[entry])
    assert error.reason == "BLOCKED_HOST"
    assert error.metadata == {"rule": "allowed_hosts", "setting": "allowed_hosts"}
    assert f"add {host}" in error.message


def test_the_most_exact_entry_counts() -> None:
    """Of methods by host the exact name goes before wildcards, a long wildcard before a short one, `*` comes last."""
    methods = {"a.b.test": ["GET"], "*.b.test": ["POST"], "*.test": "PUT, DELETE", "*": [], "10.0.0.0/8": ["*"]}
    policy = Policy(allowed_methods=methods)
    urls_of = ("http://a.b.test", "http://c.b.test", "http://c.test", "http://c.example", "http://10.1.1.1")
    assert [policy.methods(urls.parse(url)) for url in urls_of] == [
        ("GET",), ("POST",), ("PUT", "DELETE"), (), ALL_METHODS
    ]  # fmt: skip
    assert Policy(allowed_methods={"a.test": ["POST"]}).methods(urls.parse("http://b.test")) == ("GET", "HEAD")


def test_methods_are_refused_by_name() -> None:
    """By default what changes something is refused; the error names method, host, rule and setting."""
    error = refusal("http://a.test/", "DELETE")
    assert error.reason == "BLOCKED_METHOD"
    assert all(word in error.message for word in ("'DELETE'", "a.test", "`allowed_methods`", "add DELETE"))
    assert decide("http://a.test/", "POST", allowed_methods=["post"]) == (True, "allowed_methods")
    assert decide("http://a.test/", "GET", allowed_methods=["post"]) == (False, "allowed_methods")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "GET ", "G\r\nET", "", "X" * 1000])
def test_odd_methods_are_never_allowed(method: str) -> None:
    """No setting allows CONNECT and TRACE, and none allows what is no method."""
    assert decide("http://a.test/", method, allowed_methods=["*"]) == (False, "allowed_methods")


def test_ports() -> None:
    """80 and 443 by default, for both schemes; single ports and ranges by setting."""
    assert decide("http://a.test:443/") == decide("https://a.test:80/") == (True, "default")
    error = refusal("http://a.test:22/")
    assert error.reason == "BLOCKED_PORT"
    assert "allowed_ports" in error.message
    ports = ["8000-8099", "22"]
    allowed = [
        port for port in (22, 80, 7999, 8000, 8099, 8100) if decide(f"http://a.test:{port}", allowed_ports=ports)[0]
    ]
    assert allowed == [22, 8000, 8099]


@pytest.mark.parametrize("host", [f"[{text}]" if ":" in text else text for text in NOT_PUBLIC if "%" not in text])
def test_addresses_in_urls(host: str) -> None:
    """An address that is not public is refused by default; its own entry in allowed_networks allows it."""
    error = refusal(f"http://{host}/")
    assert error.reason == "BLOCKED_ADDRESS"
    assert "allowed_networks" in error.message
    assert decide(f"http://{host}/", allowed_networks=[host.strip("[]")]) == (True, "allowed_networks")


def test_a_range_does_not_open_metadata() -> None:
    """Metadata services are opened by their very address only, in whatever form they are written."""
    everything = ["0.0.0.0/0", "::/0"]
    for host in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"):
        assert decide(f"http://{host}/", allowed_networks=everything) == (False, "address")
    assert decide("http://[64:ff9b::a9fe:a9fe]/", allowed_networks=everything) == (False, "address")
    assert decide("http://169.254.1.1/", allowed_networks=everything) == (True, "allowed_networks")


def test_public_addresses_stay_allowed() -> None:
    """`allowed_networks` adds ranges, it does not restrict to them."""
    assert decide("http://8.8.8.8/", allowed_networks=["10.0.0.0/8"]) == (True, "default")


def vet(host: str, address: str, **settings: Any) -> tuple[bool, str]:
    decision = Policy(**settings).decide_address(urls.parse(f"http://{host}/"), ipaddress.ip_address(address))
    return decision.allowed, decision.rule


def test_addresses_that_names_have() -> None:
    """A name is judged by each of its addresses: by kind, by denied networks, and by allowed ones if only they fit."""
    assert vet("a.test", "8.8.8.8") == (True, "address")
    assert vet("a.test", "::ffff:10.0.0.1") == (False, "address")
    assert vet("a.test", "::ffff:10.0.0.1", allowed_networks=["10.0.0.0/8"]) == (True, "allowed_networks")
    assert vet("a.test", "8.8.8.8", denied_hosts=["8.0.0.0/8"]) == (False, "denied_hosts")
    for form in ("64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1", "2001:470::5efe:8.8.8.8"):
        assert vet("a.test", form, denied_hosts=["8.8.8.0/24"]) == (False, "denied_hosts")
    assert decide("http://a.test/", allowed_hosts=["8.0.0.0/8"]) == (True, "allowed_hosts")
    assert vet("a.test", "8.8.8.8", allowed_hosts=["8.0.0.0/8"]) == (True, "address")
    assert vet("a.test", "9.9.9.9", allowed_hosts=["8.0.0.0/8"]) == (False, "allowed_hosts")
    assert vet("a.test", "9.9.9.9", allowed_hosts=["8.0.0.0/8", "a.test"]) == (True, "address")
    assert vet("a.test", "10.0.0.1", allowed_hosts=["10.0.0.0/8", "a.test"]) == (False, "address")


def test_refusals_do_not_map_the_network() -> None:
    """What a name leads to inside is not told to the model, only that it is not public."""
    policy = Policy()
    error = policy.decide_address(urls.parse("http://db.test/"), ipaddress.ip_address("10.20.30.40")).error
    assert error is not None
    assert "10.20.30.40" not in error.message
    assert "db.test" in error.message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"allowed_hosts": ["https://a.test"]}, ("allowed_hosts", "without scheme")),
        ({"allowed_hosts": ["a.test:80"]}, ("allowed_hosts", "without scheme")),
        ({"denied_hosts": [".a.test"]}, ("denied_hosts", "write *.a.test")),
        ({"denied_hosts": ["a.*.test"]}, ("denied_hosts", "first label")),
        ({"denied_hosts": ["**.test"]}, ("denied_hosts", "first label")),
        ({"denied_hosts": ["bü*.test"]}, ("denied_hosts", "ASCII")),
        ({"denied_hosts": ["127.1"]}, ("denied_hosts", "IPv4")),
        ({"denied_hosts": ["10.0.0.1/8"]}, ("denied_hosts", "10.0.0.1/8")),
        ({"allowed_networks": ["10.0.0.1/8"]}, ("allowed_networks", "10.0.0.0/8")),
        ({"allowed_networks": ["a.test"]}, ("allowed_networks", "a.test")),
        ({"allowed_ports": ["0"]}, ("allowed_ports", "1 to 65535")),
        ({"allowed_ports": ["90-80"]}, ("allowed_ports", "1 to 65535")),
        ({"allowed_ports": ["http"]}, ("allowed_ports", "8000-8099")),
        ({"allowed_ports": ["８０"]}, ("allowed_ports", "8080")),
        ({"allowed_methods": ["CONNECT"]}, ("allowed_methods", "CONNECT")),
        ({"allowed_methods": {"a.test": 5}}, ("allowed_methods", "list")),
        ({"allowed_methods": {"a.test:80": ["GET"]}}, ("allowed_methods", "without scheme")),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], words: Sequence[str]) -> None:
    """An entry that no host, network, port or method can be ends the start, in a line that names setting and remedy."""
    with pytest.raises(StartError) as error:
        Policy(**settings)
    assert all(word in str(error.value) for word in words), str(error.value)


@few
@given(st.lists(pieces, max_size=6).map("".join))
def test_any_entry(entry: str) -> None:
    """Any text as an entry is refused in a line, or is a set that matches the host that it names."""
    try:
        hosts = HostSet("allowed_hosts", [entry])
    except StartError:
        return
    for name in hosts.names:
        assert name == "*" or hosts.entry_of(name, None) == entry.strip()
