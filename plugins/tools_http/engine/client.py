"""The one door to the network: every request of every tool goes through `Client.send`, each redirect as if it were new.

It keeps no cookies and reads no environment. What follows from where a redirect leads is `redirects.py`'s, who is
dialled `network.py`'s, and what is allowed at all `policy.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import httpcore2

from shared.errors import CallerError, InvalidArgument, LimitReached, StartError

from . import body, headers, redirects, trust, urls
from .connections import Connections, bound_trailers
from .exchange import Request, Response
from .failures import BadResponse, Unreachable, UpstreamTimeout, too_large
from .network import Backend, Budget, Dial, Resolve, Resolver, budget
from .policy import Policy
from .proxy import tunnel
from .retry import is_repeatable, wait_of
from .tool import Audit
from .urls import Url

_SHORT = 2**14  # bytes of a redirect's body that are read, so that its connection can be used again
_LEAST = 0.5  # seconds that a second attempt has to have left
_METHOD = re.compile(r"[A-Z]{1,20}")


class Client:
    """`request_timeout` and `connect_timeout` are in seconds, sizes in bytes. Implements `exchange.Client`.

    `resolve` gives the addresses of (host, port), the system's resolver by default; `dial` connects to one of them.
    Must be closed.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        request_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_redirects: int = 5,
        max_response_bytes: int = 5 * 2**20,
        max_body_bytes: int = 2**20,
        max_connections: int = 256,
        proxy: str = "",
        proxy_resolves: bool = False,
        ca_bundle: str = "",
        user_agent: str = "",
        resolve: Resolve | None = None,
        dial: Dial | None = None,
    ) -> None:
        self._policy = policy
        self._request_timeout = request_timeout
        self._max_redirects = max_redirects
        self._max_response_bytes, self._max_body_bytes = max_response_bytes, max_body_bytes
        try:
            self._user_agent = headers.check([("User-Agent", user_agent or _own_name())])[0]
        except CallerError as error:
            raise StartError(f"setting user_agent: {error.message}") from None
        trusted = trust.context(ca_bundle)
        if proxy and proxy != "none":
            dial = tunnel(proxy, trusted)
        elif proxy_resolves:
            raise StartError("setting proxy_resolves: needs the setting proxy")
        if proxy_resolves and not policy.names_hosts:
            raise StartError("setting proxy_resolves: needs allowed_hosts, since nobody here can vet where names lead")
        self._backend = Backend(policy, resolve or Resolver(), dial, by_name=proxy_resolves)
        self._connections = Connections(self._backend, trusted, connect_timeout=connect_timeout, most=max_connections)

    async def close(self) -> None:
        await self._connections.aclose()

    async def send(self, request: Request, *, deadline: float, audit: Audit | None = None) -> Response:
        """The response, whatever its status; see `exchange.Client`. A status of 429 or 503 with Retry-After is tried
        again once, where the request can be repeated and the deadline allows."""
        audit = audit if audit is not None else Audit()
        url = self._checked(request, audit)
        end = min(deadline, time.monotonic() + self._request_timeout)
        try:
            async with asyncio.timeout(end - time.monotonic()):
                response = await self._follow(request, url, audit)
                wait = wait_of(response) if is_repeatable(request) else None
                if wait is not None and time.monotonic() + wait + _LEAST < end:
                    await asyncio.sleep(wait)
                    # Where the second one fails, there is still the first one's response.
                    with contextlib.suppress(CallerError):
                        response = replace(await self._follow(request, url, audit), attempts=2)
                return response
        except TimeoutError:
            raise UpstreamTimeout(
                f"{url.host} did not answer in time; ask for less, give the call more time, or have the operator raise "
                f"the setting request_timeout"
            ) from None

    def _checked(self, request: Request, audit: Audit) -> Url:
        url = urls.parse(request.url)
        audit.host = url.host
        if request.body is not None and len(request.body) > self._max_body_bytes:
            raise LimitReached(
                f"the body has {len(request.body)} bytes, more than {self._max_body_bytes}; send less, or have the "
                f"operator raise the setting max_body_bytes",
                reason="BODY_TOO_LARGE",
            )
        if not _METHOD.fullmatch(request.method):
            raise InvalidArgument("a method is written in capital letters, such as GET", reason="BAD_METHOD")
        headers.check(request.headers)
        return url

    async def _follow(self, request: Request, url: Url, audit: Audit) -> Response:
        hop = redirects.Hop(request.method, url, headers.check(request.headers), request.body)
        most = self._max_response_bytes
        if request.max_bytes is not None:
            most = request.max_bytes
        led: list[str] = []
        while True:
            audit.host = hop.url.host
            try:
                audit.rule = self._policy.check(hop.url, hop.method)
                if led and request.before_redirect is not None:
                    await request.before_redirect(str(hop.url))
                signed = redirects.signed(hop, request.credential)
                response = await self._exchange(signed, most, is_repeatable(request), audit)
            except CallerError as error:
                audit.rule = error.metadata.get("rule", audit.rule)
                raise redirects.told(error, led[-1]) if led else error from None
            audit.status = response.status
            shown = redirects.shown(hop.url, request.credential)
            if not self._max_redirects or not redirects.leads_on(response):
                return replace(response, url=shown, redirects=tuple(led))
            led.append(shown)
            if len(led) > self._max_redirects:
                raise LimitReached(
                    f"{url.host} redirects more than {self._max_redirects} times; ask for where it ends, or have the "
                    f"operator raise the setting max_redirects",
                    reason="TOO_MANY_REDIRECTS",
                )
            try:
                hop = redirects.following(hop, response, request.credential)
            except CallerError as error:
                raise redirects.told(error, hop.url) from None

    async def _exchange(self, hop: redirects.Hop, most: int, repeatable: bool, audit: Audit) -> Response:
        """One request and its response, on a connection that stands or a new one."""
        spent = Budget(most)
        token = budget.set(spent)
        try:
            return await self._once(hop, most, spent)
        except _BROKEN as error:
            # A connection that was kept can be gone by the time it is used again: then nothing came at all.
            if not repeatable or spent.used or isinstance(error, httpcore2.ConnectError):
                raise _failure(error, hop.url) from None
            try:
                return await self._once(hop, most, spent)
            except _FAILED as again:
                raise _failure(again, hop.url) from None
        except _FAILED as error:
            raise _failure(error, hop.url) from None
        finally:
            budget.reset(token)
            audit.bytes += spent.used

    async def _once(self, hop: redirects.Hop, most: int, spent: Budget) -> Response:
        request = self._raw_request(hop)
        async with self._connections.to(request.url) as connection:
            raw = await connection.handle_async_request(request)
            try:
                spent.in_head = False
                spent.in_chunks = any(name.lower() == b"transfer-encoding" for name, _ in raw.headers)
                bound_trailers(connection)
                response = Response(status=raw.status, url="", headers=_named(raw.headers), body=b"", wire_bytes=0)
                content = await self._body(hop, raw, response, most)
            finally:
                await raw.aclose()
        return replace(response, body=content, wire_bytes=spent.used)

    async def _body(self, hop: redirects.Hop, raw: httpcore2.Response, head: Response, most: int) -> bytes:
        length = head.header("content-length")
        if self._max_redirects and redirects.leads_on(head):
            return await _short(raw, length)
        if hop.method == "HEAD" or raw.status in (204, 304):
            return await body.read(raw, "", most)
        if length.isascii() and length.isdigit() and int(length[:20]) > most:
            raise too_large(most)
        encoding = ",".join(value for name, value in head.headers if name == "content-encoding")
        return await body.read(raw, encoding, most)

    def _raw_request(self, hop: redirects.Hop) -> httpcore2.Request:
        url = hop.url
        lines = [("Host", url.authority), *hop.headers, ("Accept-Encoding", "gzip")]
        names = {name.lower() for name, _ in hop.headers}
        if "user-agent" not in names:
            lines.append(self._user_agent)
        if "accept" not in names:
            lines.append(("Accept", "*/*"))
        if hop.body is not None or hop.method in ("POST", "PUT", "PATCH"):
            lines.append(("Content-Length", str(len(hop.body or b""))))
        return httpcore2.Request(
            hop.method,
            httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=lines,
            content=hop.body,
        )


_BROKEN = (httpcore2.NetworkError, httpcore2.RemoteProtocolError)
_FAILED = (*_BROKEN, httpcore2.TimeoutException, httpcore2.ProxyError, httpcore2.LocalProtocolError, ssl.SSLError)


async def _short(raw: httpcore2.Response, length: str) -> bytes:
    """The body of a redirect, which nobody reads: nothing, and where it is long the connection is given up."""
    if length.isascii() and length.isdigit() and int(length[:20]) <= _SHORT:
        await body.read(raw, "", _SHORT)
    return b""


def _own_name() -> str:
    try:
        return f"hector-plugins/{version('hector-plugins')}"
    except PackageNotFoundError:  # a copy that was not installed
        return "hector-plugins"


def _named(raw: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("ascii", "replace").lower(), _text(value)) for name, value in raw]


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _failure(error: Exception, url: Url) -> CallerError:
    """What the library says, without its words: they can hold what a server sent."""
    if isinstance(error, CallerError):
        return error
    if isinstance(error, httpcore2.ConnectTimeout):
        return Unreachable(
            f"{url.host} takes no connection in time; it may be down, or the operator can raise the setting "
            f"connect_timeout", host=url.host
        )  # fmt: skip
    if isinstance(error, httpcore2.TimeoutException):
        return UpstreamTimeout(f"{url.host} did not answer in time; try again later")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {url.host} cannot be trusted ({cause.verify_message}); check the host, or have the "
            f"operator put its authority into the setting ca_bundle", host=url.host
        )  # fmt: skip
    if isinstance(error, httpcore2.RemoteProtocolError | httpcore2.ReadError | httpcore2.WriteError):
        if "too long" in str(error):
            return too_large_headers()
        return BadResponse(f"{url.host} broke off, or sent what is no HTTP response; try again, or ask another host")
    if isinstance(error, httpcore2.LocalProtocolError):
        return BadResponse(f"the request to {url.host} cannot be written as HTTP; check its headers")
    return Unreachable(f"no connection to {url.host}:{url.port} ({url.scheme}); check the host, or try later",
                       host=url.host)  # fmt: skip


def too_large_headers() -> LimitReached:
    return LimitReached("the headers of the response are longer than any should be; ask another host",
                        reason="TOO_LARGE")  # fmt: skip
