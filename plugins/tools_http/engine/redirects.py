"""Where a redirect leads, and what of the request goes along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import CallerError, PermissionDenied

from . import headers, urls
from .exchange import Credential, Response
from .urls import Url

_STATUSES = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Hop:
    """A request on its way; without what the credential adds."""

    method: str
    url: Url
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    at_home: bool = True  # it has not left the first URL's origin: who did comes back as a stranger


def leads_on(response: Response) -> bool:
    """Whether it is a redirect that says where to."""
    return response.status in _STATUSES and any(name == "location" for name, _ in response.headers)


def following(hop: Hop, response: Response, credential: Credential | None) -> Hop:
    """The next hop, of a response that leads on. Raises CallerError where that is no URL, and PermissionDenied where
    following it would undo what the first URL promised."""
    url = urls.join(hop.url, response.header("location"))
    method, content, kept = hop.method, hop.body, list(hop.headers)
    if _becomes_get(response.status, method):
        method, content = "GET", None
        kept = headers.without_body(kept)
    if hop.url.scheme == "https" and url.scheme == "http":
        raise _refused("from https to http, where anybody on the way can read and change it", "downgrade", url)
    at_home = hop.at_home and url.origin == hop.url.origin
    if url.origin != hop.url.origin:
        if content and not _is_upgrade(hop.url, url):
            raise _refused("a request with a body to another origin, which was not meant to have it", "body", url)
        kept = headers.without_personal(kept)
        url = _without_secrets(url, credential)
    return Hop(method, url, kept, content, at_home)


def told(error: CallerError, source: Url | str) -> CallerError:
    """`error`, which now says that a redirect led there."""
    host = (urls.parse(source) if isinstance(source, str) else source).host
    error.message = f"{host} redirects, and {error.message}"
    error.args = (error.message,)
    return error


def signed(hop: Hop, credential: Credential | None) -> Hop:
    """With the credential's headers in place of the caller's, and its query parameters; at its origin only, and only
    until a redirect has led away from there."""
    if credential is None or not hop.at_home or urls.parse(credential.origin).origin != hop.url.origin:
        return hop
    own = headers.check(credential.headers.items())
    names = {name.lower() for name, _ in own}
    lines = [(name, value) for name, value in hop.headers if name.lower() not in names] + own
    url = urls.add_query(_without_names(hop.url, credential), list(credential.query.items()))
    return Hop(hop.method, url, lines, hop.body)


def shown(url: Url, credential: Credential | None) -> str:
    """The URL as the model may see it: a server can have put our key into its redirect."""
    return str(_without_secrets(url, credential))


def _becomes_get(status: int, method: str) -> bool:
    """As browsers do: RFC 9110 leaves 301 and 302 to them, and 303 is for that."""
    return (status == 303 and method not in ("GET", "HEAD")) or (status in (301, 302) and method == "POST")


def _is_upgrade(old: Url, new: Url) -> bool:
    return old.host == new.host and (old.scheme, old.port, new.scheme, new.port) == ("http", 80, "https", 443)


def _without_secrets(url: Url, credential: Credential | None) -> Url:
    """Without the parameters of the query that have a value of the credential's."""
    given = [*credential.query.values(), *credential.headers.values()] if credential else []
    secrets = {*given, *(value.rpartition(" ")[2] for value in given)} - {""}  # of `Bearer KEY` the key too
    parts = urls.query_pairs(url) if secrets else []
    if not any(value in secrets for _, value, _ in parts):
        return url
    return url.with_query("&".join(part for _, value, part in parts if value not in secrets))


def _without_names(url: Url, credential: Credential) -> Url:
    """Without the parameters that the credential sets."""
    parts = urls.query_pairs(url) if credential.query else []
    if not any(name in credential.query for name, _, _ in parts):
        return url
    return url.with_query("&".join(part for name, _, part in parts if name not in credential.query))


def _refused(what: str, kind: str, url: Url) -> PermissionDenied:
    return PermissionDenied(
        f"the server redirects {what}: blocked by the rule `redirect_{kind}`, and no setting allows it; if "
        f"{url.host} is meant, call {url.origin + url.path!r} itself",
        reason="BLOCKED_SCHEME" if kind == "downgrade" else "BLOCKED_REDIRECT",
        metadata={"rule": f"redirect_{kind}", "setting": ""},
    )
