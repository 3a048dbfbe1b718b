"""One HTTP request and its response, as tools see them. `Client` carries them out: the one door to the network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .tool import Audit


@dataclass(frozen=True)
class Credential:
    """What proves who we are, sent to its origin and nowhere else, redirects included."""

    origin: str  # `https://api.example.com` or `https://api.example.com:8443`
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    credential: Credential | None = None
    max_bytes: int | None = None  # of the response, on the wire and unpacked; None: the setting's
    # The call may be made twice: its method says so, or it carries an Idempotency-Key.
    repeatable: bool | None = None  # None: by the method
    # Asked of each URL that a redirect leads to, once the policy allows it; what it raises ends the request.
    before_redirect: Callable[[str], Awaitable[None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Response:
    status: int
    url: str  # the final one, without credentials
    headers: Sequence[tuple[str, str]]  # names in lower case, in their order
    body: bytes  # unpacked
    wire_bytes: int
    redirects: Sequence[str] = ()  # the URLs that led here, the first one first
    attempts: int = 1  # 2: it was tried again, for Retry-After

    def header(self, name: str) -> str:
        """The first of that name (in lower case), or nothing."""
        return next((value for key, value in self.headers if key == name), "")


class Client(Protocol):
    async def send(self, request: Request, *, deadline: float, audit: Audit | None = None) -> Response:
        """The response, whatever its status. `deadline` is of time.monotonic().

        Raises a CallerError where the policy refuses (reasons BLOCKED_HOST, BLOCKED_ADDRESS, BLOCKED_PORT,
        BLOCKED_METHOD, BLOCKED_SCHEME, BAD_URL, BAD_HEADER), where a bound is passed (TOO_LARGE, TOO_MANY_REDIRECTS,
        UPSTREAM_TIMEOUT) or nothing comes (UPSTREAM_UNREACHABLE).
        """
        ...
