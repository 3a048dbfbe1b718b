"""URLs as they are dialled: read once, strictly, and from then on never as text again.

A parser that forgives is what makes a disguise: two programs read one text in two ways. So what browsers repair is
refused here with what to write instead (backslashes, `0177.0.0.1`, `http:host`), and what has but one meaning is
brought into one form (case, trailing dot, default port, dot segments, IDNA). The host that the policy sees is the host
that is dialled and stands in `Host`.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

import idna

from shared.errors import InvalidArgument, PermissionDenied, quoted

from .addresses import Address, plain

LONGEST = 16_384  # characters of a URL, as written and as sent
_LONGEST_HOST = 253
_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40}):")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOT = re.compile(r"%2e", re.IGNORECASE)
# What stands as it is; all else is percent-encoded as UTF-8.
_IN_PATH = "/:@!$&'()*+,;=-._~%[]"
_IN_QUERY = _IN_PATH + "?`{}|^"


@dataclass(frozen=True)
class Url:
    """`host` is in lower case, ASCII, without brackets; `target` is path and query as sent."""

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None  # where the host is one

    @functools.cached_property
    def authority(self) -> str:
        """As in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @functools.cached_property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def with_query(self, query: str) -> Url:
        """With that one, encoded already, in place of its own."""
        target = f"{self.path}?{query}" if query else self.path
        return Url(self.scheme, self.host, self.port, target, self.address)

    def __str__(self) -> str:
        return self.origin + self.target


@functools.lru_cache(maxsize=64)
def parse(text: str) -> Url:
    """Raises InvalidArgument (BAD_URL) for what is no URL in the one form, PermissionDenied (BLOCKED_SCHEME) for
    schemes other than http and https.

    >>> str(parse("HTTP://Example.COM.:80/a/../b?q=hello world#top"))
    'http://example.com/b?q=hello%20world'
    """
    text = text.strip(" ")
    if len(text) > LONGEST:
        raise _bad(f"the URL has more than {LONGEST} characters; shorten it")
    if found := _FORBIDDEN.search(text):
        raise _bad(f"the URL has the character U+{ord(found[0]):04X} in it; leave it out, or percent-encode it")
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if not match or (scheme not in _PORTS and _looks_like_host(text, match)):
        raise _bad(f"{quoted(text)} is no absolute URL; write it as https://host/path")
    if scheme not in _PORTS:
        raise PermissionDenied(
            f"the scheme {quoted(scheme)} is blocked by the rule `scheme`: only http and https are spoken, and no "
            f"setting allows others; use an http or https URL",
            reason="BLOCKED_SCHEME",
            metadata={"rule": "scheme", "setting": ""},
        )
    rest = text[match.end() :]
    if not rest.startswith("//") or rest[2:3] in ("/", "\\", ""):
        raise _bad(f"{quoted(text)} has no host; write it as {scheme}://host/path, with two slashes")
    end = next((place for place, char in enumerate(rest[2:], 2) if char in "/?#"), len(rest))
    host, address, port = _authority(rest[2:end], scheme)
    url = Url(scheme, host, port, _target(rest[end:]), address)
    _check_length(url)
    return url


def join(base: Url, location: str) -> Url:
    """Where a redirect at `base` to `location` leads (RFC 3986, 5.2). Raises as `parse` does.

    >>> str(join(parse("https://a.test/doc/page?x=1"), "?lang=en"))
    'https://a.test/doc/page?lang=en'
    """
    location = location.strip(" \t\r\n")
    if _SCHEME.match(location):
        return parse(location)
    if location.startswith(("//", "/\\", "\\")):
        return parse(f"{base.scheme}:{location}")
    if location.startswith("/"):
        return parse(base.origin + location)
    if location.startswith("?"):
        return parse(base.origin + base.path + location)
    if not location or location.startswith("#"):
        return base
    return parse(base.origin + base.path.rpartition("/")[0] + "/" + location)


def add_query(url: Url, pairs: list[tuple[str, str]]) -> Url:
    """With `pairs`, not encoded yet, behind its own. Raises InvalidArgument (BAD_URL) where it becomes too long."""
    if not pairs:
        return url
    added = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs]
    url = url.with_query("&".join(filter(None, [url.query, *added])))
    _check_length(url)
    return url


def _check_length(url: Url) -> None:
    if len(url.origin) + len(url.target) > LONGEST:
        raise _bad(f"the URL has more than {LONGEST} characters once it is encoded; send less in it")


def query_pairs(url: Url) -> list[tuple[str, str, str]]:
    """Of each part of the query (name, value, the part as it stands)."""
    parts = [part for part in url.query.split("&") if part]
    split = ((part.partition("="), part) for part in parts)
    return [(unquote_plus(name), unquote_plus(value), part) for (name, _, value), part in split]


def read_host(text: str) -> tuple[str, Address | None]:
    """The one form of a host, and its address where it is one. Raises InvalidArgument (BAD_URL)."""
    if text.startswith("["):
        return _ipv6(text)
    if len(text) > _LONGEST_HOST + 1:
        raise _bad(f"the host has more than {_LONGEST_HOST} characters")
    if "%" in text:
        raise _bad(f"the host {quoted(text)} is percent-encoded; write it in plain letters")
    host = _ascii(text).removesuffix(".")
    labels = host.split(".")
    if len(host) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise _bad(f"{quoted(text)} is no host name: labels of letters, digits, - and _ are joined by dots")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host, text)
    return host, None


def _looks_like_host(text: str, match: re.Match[str]) -> bool:
    """`example.com:8080/x` and `localhost:80` read as schemes, which nobody meant."""
    return "." in match[1] or text[match.end() : match.end() + 1].isdigit()


def _authority(text: str, scheme: str) -> tuple[str, Address | None, int]:
    if "@" in text:
        raise _bad("the URL has a user or password before an @; leave them out: credentials belong into the settings")
    if "\\" in text:
        raise _bad("the host has a backslash behind it or in it; write / instead")
    if text.startswith("["):
        host, bracket, port = text.partition("]")
        host += bracket
        if port and not port.startswith(":"):
            raise _bad(f"{quoted(text)} is no host: behind ] only a colon and a port may stand")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    name, address = read_host(host)
    return name, address, _port(port, scheme)


def _port(text: str, scheme: str) -> int:
    if not text:
        return _PORTS[scheme]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise _bad(f"{quoted(text)} is no port; ports are 1 to 65535 (an IPv6 address stands in brackets)")
    return int(text)


def _ascii(host: str) -> str:
    if host.isascii() and "xn--" not in host.lower():
        return host.lower()
    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode("ascii").lower()
    except (UnicodeError, ValueError, IndexError):
        raise _bad(f"{quoted(host)} is no international host name (IDNA 2008, UTS 46)") from None


def _ipv4(host: str, written: str) -> tuple[str, Address]:
    if _QUAD.fullmatch(host):
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            pass
        else:
            return str(address), address
    raise _bad(f"{quoted(written)} is no IPv4 address in its usual form; write four decimal numbers, as in 192.0.2.1")


def _ipv6(text: str) -> tuple[str, Address]:
    inner = text[1:-1] if text.endswith("]") else ""
    if "%" in inner:
        raise _bad(f"{quoted(text)} has a zone in it, and those are not dialled; leave it out")
    try:
        if not inner.isascii():
            raise ValueError
        address = plain(ipaddress.IPv6Address(inner))
    except ValueError:
        raise _bad(f"{quoted(text)} is no IPv6 address; write it as in [2001:db8::1]") from None
    return str(address), address


def _target(text: str) -> str:
    text = text.partition("#")[0]
    path, mark, query = text.partition("?")
    if "\\" in path:
        raise _bad("the path has a backslash in it; write / or %5C")
    target = _without_dots(quote(_PERCENT.sub("%25", path), safe=_IN_PATH)) or "/"
    if mark:
        target += "?" + quote(_PERCENT.sub("%25", query), safe=_IN_QUERY)
    return target


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, with `%2e` for a dot as browsers have it: servers resolve them, and differ in how."""
    if "." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for place, segment in enumerate(segments):
        plain_segment = _DOT.sub(".", segment) if len(segment) <= 6 else segment
        if plain_segment == "..":
            del kept[-1:]
        elif plain_segment != ".":
            kept.append(segment)
            continue
        if place == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept) if segments else path


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="BAD_URL", metadata={"rule": "url", "setting": ""})
