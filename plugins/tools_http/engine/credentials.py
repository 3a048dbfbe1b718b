"""What is sent to prove who we are: read from settings, bound to an origin each.

headers: {X-API-Key: KEY}
query: {key: KEY}
cookies: {session: KEY}
basic: {username: ME, password: KEY}
bearer: KEY
oauth2: {token_url: URL, client_id: ME, client_secret: KEY, scopes: [read]}
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from shared.errors import CallerError, StartError
from shared.nearest import nearest
from shared.units import name_for_message

from . import headers, urls
from .exchange import Client, Credential
from .redaction import Redactor
from .tool import Audit

_KEYS = ("headers", "query", "cookies", "basic", "bearer", "oauth2")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # the name of a cookie


class CredentialSource(Protocol):
    async def get(self, *, deadline: float, audit: Audit | None = None) -> Credential:
        """Raises a CallerError where it cannot be had."""
        ...

    def renew(self, refused: Credential) -> bool:
        """`refused` got a 401. Whether `get` will give another one."""
        ...


@dataclass(frozen=True)
class Fixed:
    credential: Credential

    async def get(self, *, deadline: float, audit: Audit | None = None) -> Credential:
        return self.credential

    def renew(self, refused: Credential) -> bool:
        return False


@dataclass(frozen=True)
class Together:
    """Several of one origin, sent together."""

    sources: tuple[CredentialSource, ...]

    async def get(self, *, deadline: float, audit: Audit | None = None) -> Credential:
        return merged([await source.get(deadline=deadline, audit=audit) for source in self.sources])

    def renew(self, refused: Credential) -> bool:
        # Each is asked: of two that can be renewed, either may be the one that was refused.
        renewed = [source.renew(refused) for source in self.sources]
        return any(renewed)


def merged(credentials: Iterable[Credential]) -> Credential:
    """One that has all of theirs; of two for one name the first counts, but cookies are put together."""
    credentials = list(credentials)
    lines: dict[str, str] = {}
    query: dict[str, str] = {}
    for credential in credentials:
        for name, value in credential.headers.items():
            known = next((key for key in lines if key.lower() == name.lower()), None)
            if known is None:
                lines[name] = value
            elif name.lower() == "cookie":
                lines[known] += f"; {value}"
        for name, value in credential.query.items():
            query.setdefault(name, value)
    return Credential(credentials[0].origin, lines, query)


def origin_of(url: str) -> str:
    """`https://api.example.com`, with a port where it is not the scheme's own. Raises ValueError.

    >>> origin_of("HTTPS://API.example.com:443/v1?x=1")
    'https://api.example.com'
    """
    try:
        return urls.parse(url).origin
    except CallerError as error:
        raise ValueError(error.message) from None


def read_credentials(settings: Mapping[str, Any], client: Client, redactor: Redactor) -> dict[str, CredentialSource]:
    """The setting `credentials`: what to send to each origin. `redactor` is told every secret. Raises StartError."""
    sources: dict[str, CredentialSource] = {}
    for url, about in settings.items():
        place = "setting credentials"
        try:
            origin = origin_of(url)
            if urlsplit(url).path not in ("", "/") or urlsplit(url).query:
                raise ValueError
        except ValueError:
            raise StartError(f"{place}: a name must be an origin such as https://api.example.com") from None
        if origin in sources:
            raise StartError(f"{place}: {origin} stands there twice; keep one of them")
        sources[origin] = read_credential(f"{place}: {origin}", about, origin, client, redactor)
    return sources


def read_credential(place: str, about: object, origin: str, client: Client, redactor: Redactor) -> CredentialSource:
    """`about` as the module's docstring shows it. Raises StartError, which begins with `place`."""
    from .oauth import read_oauth2

    about = checked_keys(place, about, _KEYS)
    for secret in secret_texts(about):
        redactor.add(secret)
    lines = texts(f"{place}: headers", about.get("headers", {}))
    cookies = texts(f"{place}: cookies", about.get("cookies", {}))
    for name in cookies:
        if not _TOKEN.fullmatch(name):
            raise StartError(f"{place}: {name_for_message(name)} is no name of a cookie")
    sources: list[CredentialSource] = []
    if cookies:
        lines["Cookie"] = cookie_text(cookies)
    if "basic" in about:
        lines["Authorization"] = basic_header(f"{place}: basic", about["basic"])
    if "bearer" in about:
        lines["Authorization"] = f"Bearer {text(f'{place}: bearer', about['bearer'])}"
    check_headers(place, lines)
    query = texts(f"{place}: query", about.get("query", {}))
    if lines or query:
        sources.append(Fixed(Credential(origin, lines, query)))
    if "oauth2" in about:
        sources.append(read_oauth2(f"{place}: oauth2", about["oauth2"], origin, client, redactor))
    if not sources:
        raise StartError(f"{place} is empty; it takes {', '.join(_KEYS)}")
    if sum(key in about for key in ("basic", "bearer", "oauth2")) > 1:
        raise StartError(f"{place}: basic, bearer and oauth2 are all sent as Authorization; keep one of them")
    return sources[0] if len(sources) == 1 else Together(tuple(sources))


def basic_header(place: str, about: object) -> str:
    """`Basic …` of `{username, password}` or of `username:password`. Raises StartError."""
    if isinstance(about, str):
        user, colon, password = text(place, about).partition(":")
        if not colon:
            raise StartError(f"{place} must be USERNAME:PASSWORD, or a mapping of username and password")
    else:
        about = checked_keys(place, about, ("username", "password"))
        user, password = (text(f"{place}: {name}", about.get(name)) for name in ("username", "password"))
        if ":" in user:
            raise StartError(f"{place}: the username has a colon in it, which Basic cannot send")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def cookie_text(cookies: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={quote(value, safe=_COOKIE_SAFE)}" for name, value in cookies.items())


_COOKIE_SAFE = "!#$%&'()*+-./:<=>?@[]^_`{|}~"


def secret_texts(about: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a credential that must not be shown, and how it is sent where that is another text."""
    for name, value in about.items():
        if name == "basic" and value:
            try:
                header = basic_header("", value)
            except StartError:
                continue
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
            yield from (header.removeprefix("Basic "), pair.partition(":")[2])
        elif name == "oauth2" and isinstance(value, Mapping):
            yield from _texts_below({name: value.get(name) for name in ("client_secret", "parameters")})
        else:
            # `Bearer KEY` in a header: the key is a secret by itself.
            for secret in _texts_below(value):
                yield from (secret, secret.rpartition(" ")[2])


def _texts_below(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_below(inner)
    elif isinstance(value, str):
        yield value


def check_headers(place: str, lines: Mapping[str, str]) -> None:
    """Raises StartError where a header could not be sent."""
    for name, value in lines.items():
        try:
            headers.check([(name, "x")])
        except CallerError:
            raise StartError(
                f"{place}: {name_for_message(name)} is no name of a header, or of one that the transport sets"
            ) from None
        # Such as one read from a file together with the end of its line.
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise StartError(f"{place}: {name_for_message(name)} must be printable ASCII, with no blank at either end")


def checked_keys(place: str, value: object, known: Iterable[str]) -> dict[str, Any]:
    """`value` as a mapping with no keys but those. Raises StartError."""
    known = tuple(known)
    if not isinstance(value, Mapping):
        raise StartError(f"{place} must be a mapping of {', '.join(known)}")
    for key, item in value.items():
        if key not in known:
            near = nearest(str(key), known)
            tail = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise StartError(f"{place}: unknown setting {name_for_message(key, item)}; {tail}")
    return dict(value)


def texts(place: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise StartError(f"{place} must be a mapping of names to texts")
    return {str(name): text(f"{place}: {name_for_message(name, item)}", item) for name, item in value.items()}


def text(place: str, value: object) -> str:
    if value is None or value == "":
        raise StartError(f"{place} is {'missing' if value is None else 'empty'}; write it as text")
    if not isinstance(value, str):
        raise StartError(f"{place} must be text; put it in quotes")
    return value
