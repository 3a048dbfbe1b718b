"""OAuth 2 client credentials (RFC 6749, 4.4): a token that is fetched once, shared, and renewed before it expires."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from shared.errors import CallerError, Code, StartError

from .credentials import CredentialSource, checked_keys, origin_of, text, texts
from .exchange import Client, Credential, Request, Response
from .redaction import Redactor
from .tool import Audit

_KEYS = ("token_url", "client_id", "client_secret", "scopes", "auth", "parameters")
_MOST_BYTES = 2**16  # of a token server's answer
_LONGEST_TOKEN = 2**14  # characters: with a longer one each call would fail until it expires
_EARLY = 60.0  # seconds before its end a token is renewed; of a short one, a tenth of its time
_UNKNOWN_LIFE = 300.0  # seconds that a token without `expires_in` is used
_LONGEST = 30.0  # seconds a token request may take; callers wait until their own deadlines


class UpstreamRefused(CallerError):
    code = Code.UNAUTHENTICATED
    reason = "TOKEN_REFUSED"


@dataclass(frozen=True, kw_only=True)
class _Token:
    text: str
    renew_at: float  # of time.monotonic()


@dataclass(kw_only=True)
class ClientCredentials:
    """A CredentialSource. One request at a time, however many calls wait for it."""

    origin: str
    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    client: Client
    redactor: Redactor  # is told each token
    scopes: tuple[str, ...] = ()
    in_body: bool = False  # the secret goes into the form, not into a header
    extra: Mapping[str, str] = field(default_factory=dict)
    _token: _Token | None = field(default=None, repr=False)
    _last: _Token | None = field(default=None, repr=False)
    _fetching: asyncio.Task[_Token] | None = field(default=None, repr=False)

    async def get(self, *, deadline: float, audit: Audit | None = None) -> Credential:
        token = self._token
        if token is None or time.monotonic() >= token.renew_at:
            if self._fetching is None:
                # A task of its own: a caller that gives up ends the wait of no other.
                self._fetching = asyncio.create_task(self._fetch())
                self._fetching.add_done_callback(self._fetched)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    token = await asyncio.shield(self._fetching)
            except TimeoutError:
                raise _error(
                    f"no token came from {origin_of(self.token_url)} in time; try again", Code.DEADLINE_EXCEEDED
                ) from None
        return Credential(self.origin, {"Authorization": f"Bearer {token.text}"})

    def renew(self, refused: Credential) -> bool:
        token = self._token
        if token and refused.headers.get("Authorization") == f"Bearer {token.text}":
            self._token = None
        return "Authorization" in refused.headers

    def _fetched(self, task: asyncio.Task[_Token]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            # The one before may still come back from a server that was sent it.
            known = [token.text for token in (self._last, task.result()) if token]
            self._token = self._last = task.result()
            self.redactor.renew(f"oauth2 {id(self)}", known)

    async def _fetch(self) -> _Token:
        form = {"grant_type": "client_credentials", **self.extra}
        if self.scopes:
            form["scope"] = " ".join(self.scopes)
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        credential = None
        if self.in_body:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:
            # RFC 6749, 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
            basic = base64.b64encode(pair.encode()).decode()
            credential = Credential(origin_of(self.token_url), {"Authorization": f"Basic {basic}"})
        request = Request(
            method="POST",
            url=self.token_url,
            headers=headers,
            body=urlencode(form).encode(),
            credential=credential,
            max_bytes=_MOST_BYTES,
            repeatable=True,
        )
        began = time.monotonic()
        response = await self.client.send(request, deadline=began + _LONGEST)
        return self._read(response, began)

    def _read(self, response: Response, began: float) -> _Token:
        where = origin_of(self.token_url)
        try:
            answer = json.loads(response.body)
        except (ValueError, RecursionError):
            answer = None
        if response.status >= 400 or not isinstance(answer, dict):
            reason = answer.get("error") if isinstance(answer, dict) else None
            said = f" ({reason!r})" if isinstance(reason, str) and len(reason) <= 60 else ""
            raise _error(f"{where} gave no token: HTTP {response.status}{said}; the operator has to look at it")
        token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise _error(f"{where} answered without an access_token; the operator has to look at it")
        if len(token) > _LONGEST_TOKEN:
            raise _error(f"{where} gave a token of {len(token)} characters, too long for a header; the operator has to "
                         f"look at it")  # fmt: skip
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise _error(f"{where} gave a token that is no bearer token, which is the only kind known here")
        life = answer.get("expires_in", _UNKNOWN_LIFE)
        try:
            life = float(life)
        except (TypeError, ValueError, OverflowError):
            life = _UNKNOWN_LIFE
        life = min(max(life, 0.0), 86_400.0) if life == life else _UNKNOWN_LIFE
        return _Token(text=token, renew_at=began + life - min(_EARLY, life / 10))


def read_oauth2(place: str, about: object, origin: str, client: Client, redactor: Redactor) -> CredentialSource:
    """`{token_url, client_id, client_secret, scopes, auth: basic|body, parameters}`. Raises StartError."""
    settings = checked_keys(place, about, _KEYS)
    token_url = text(f"{place}: token_url", settings.get("token_url"))
    try:
        origin_of(token_url)
    except ValueError as error:
        raise StartError(f"{place}: token_url: {error}") from None
    scopes = settings.get("scopes", [])
    if isinstance(scopes, str):
        scopes = scopes.replace(",", " ").split()
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise StartError(f"{place}: scopes must be a list of texts")
    auth = settings.get("auth", "basic")
    if auth not in ("basic", "body"):
        raise StartError(f"{place}: auth must be basic or body: where the secret goes")
    return ClientCredentials(
        origin=origin,
        token_url=token_url,
        client_id=text(f"{place}: client_id", settings.get("client_id")),
        client_secret=text(f"{place}: client_secret", settings.get("client_secret")),
        client=client,
        redactor=redactor,
        scopes=tuple(scopes),
        in_body=auth == "body",
        extra=texts(f"{place}: parameters", settings.get("parameters", {})),
    )


def _error(message: str, code: Code = Code.UNAUTHENTICATED) -> UpstreamRefused:
    error = UpstreamRefused(message)
    error.code = code
    return error
