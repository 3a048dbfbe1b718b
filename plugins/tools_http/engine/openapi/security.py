"""Which credentials go along with an operation: the document says which are wanted, the operator has them.

A document does not decide where secrets go. A credential is bound to one origin: the one that it names itself
(`origin`), else that of the setting `server`, else, for a file, that of the document's first server, and for a document
from a URL that URL's. An operation of another origin is sent without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import StartError
from shared.units import name_for_message

from ..credentials import (
    CredentialSource,
    Fixed,
    Together,
    basic_header,
    checked_keys,
    cookie_text,
    origin_of,
    secret_texts,
    text,
)
from ..exchange import Client, Credential
from ..oauth import ClientCredentials, read_oauth2
from ..redaction import Redactor
from .document import BadReference, References

_MOST_ALTERNATIVES, _MOST_TOGETHER = 20, 10  # schemes; what a document has more of is not looked at


@dataclass(frozen=True)
class Covered:
    """A parameter that a credential fills, so that no argument is needed for it."""

    place: str
    name: str


@dataclass(frozen=True)
class Chosen:
    source: CredentialSource | None
    covered: Sequence[Covered] = ()
    remark: str = ""


@dataclass
class Security:
    """`origin` is what a credential is bound to that names none; empty: each has to name its own."""

    place: str  # of the setting, for messages
    schemes: Mapping[str, Any]  # the document's
    references: References
    settings: Mapping[str, Any]  # by the scheme's name
    origin: str
    from_url: bool
    client: Client
    redactor: Redactor
    _sources: dict[str, tuple[str, CredentialSource, Covered | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, about in self.settings.items():
            if name not in self.schemes:
                known = ", ".join(sorted(self.schemes)[:20]) or "none"
                raise StartError(
                    f"{self.place}: {name_for_message(name, about)} is no security scheme of it; it has {known}"
                )
            self._sources[name] = self._source(f"{self.place}: {name_for_message(name, about)}", name, about)

    def choose(self, requirements: Any, origin: str, others: Mapping[str, CredentialSource]) -> Chosen:
        """What to send to `origin`: the first alternative of the requirements that is configured for it in full, else
        what the setting `credentials` has for the origin (`others`)."""
        written = requirements[:_MOST_ALTERNATIVES] if isinstance(requirements, list) else ()
        alternatives = [one for one in written if isinstance(one, dict) and len(one) <= _MOST_TOGETHER]
        foreign = False
        for alternative in alternatives:
            if not alternative:
                continue
            found = [self._sources.get(name) for name in alternative]
            here = [entry for entry in found if entry and entry[0] == origin]
            foreign = foreign or (len(here) < len(found) and all(found))
            if len(here) == len(found):
                for name, scopes in alternative.items():
                    self._want(name, scopes)
                sources = tuple(source for _, source, _ in here)
                covered = [cover for _, _, cover in here if cover]
                return Chosen(sources[0] if len(sources) == 1 else Together(sources), covered)
        if origin in others:
            return Chosen(others[origin])
        if not alternatives or {} in alternatives:
            return Chosen(None)
        if foreign:
            return Chosen(None, remark=f"sent without a credential: those that it wants are not for {origin}")
        wanted = " or ".join(" and ".join(str(name)[:60] for name in one) for one in alternatives[:5])
        return Chosen(None, remark=f"sent without a credential: it wants {wanted}, which `credentials` has not")

    def _want(self, name: str, scopes: Any) -> None:
        """A token is asked for with the scopes of all operations, unless the operator says which."""
        source = self._sources[name][1]
        if isinstance(source, ClientCredentials) and not self._says_scopes(name) and isinstance(scopes, list):
            wanted = [scope for scope in scopes[:50] if isinstance(scope, str) and scope.isprintable()]
            source.scopes = tuple(dict.fromkeys([*source.scopes, *wanted]))[:200]

    def _says_scopes(self, name: str) -> bool:
        about = self.settings[name]
        return isinstance(about, Mapping) and "scopes" in about

    def _source(self, place: str, name: str, about: Any) -> tuple[str, CredentialSource, Covered | None]:
        try:
            scheme, _ = self.references.resolve(self.schemes[name])
        except BadReference as error:
            raise StartError(f"{place}: {error}") from None
        scheme = scheme if isinstance(scheme, dict) else {}
        origin = self._origin(place, about)
        kind, how = scheme.get("type"), str(scheme.get("scheme", "")).lower()
        if kind == "apiKey":
            return self._api_key(place, scheme, about, origin)
        if kind == "http" and how == "basic":
            for secret in secret_texts({"basic": _without_origin(about)}):
                self.redactor.add(secret)
            return origin, _header(origin, "Authorization", basic_header(place, _without_origin(about))), None
        if kind == "oauth2" and isinstance(about, Mapping) and "client_id" in about:
            return origin, self._oauth2(place, scheme, about, origin), None
        if kind in ("oauth2", "openIdConnect") or (kind == "http" and how == "bearer"):
            token = text(place, about) if not isinstance(about, Mapping) else _only(place, about, "token")
            self.redactor.add(token)
            return origin, _header(origin, "Authorization", f"Bearer {_plain(place, token)}"), None
        raise StartError(f"{place}: a scheme of type {str(kind)[:40]} {how[:40]} is not known here; remove it")

    def _origin(self, place: str, about: Any) -> str:
        written = about.get("origin", "") if isinstance(about, Mapping) else ""
        if written:
            try:
                return origin_of(text(f"{place}: origin", written))
            except ValueError as error:
                raise StartError(f"{place}: origin: {error}") from None
        if not self.origin:
            raise StartError(
                f"{place}: say to which server it may go: add `origin: https://api.example.com` beside it, or the "
                "setting `server`; where a secret goes is not for a document to say"
            )
        return self.origin

    def _api_key(
        self, place: str, scheme: Mapping[str, Any], about: Any, origin: str
    ) -> tuple[str, CredentialSource, Covered]:
        key = _plain(place, text(place, about) if not isinstance(about, Mapping) else _only(place, about, "key"))
        self.redactor.add(key)
        where, name = scheme.get("in"), scheme.get("name")
        if not isinstance(name, str) or where not in ("header", "query", "cookie"):
            raise StartError(f"{place}: its scheme says not where the key goes; correct the document")
        if where == "query":
            return origin, Fixed(Credential(origin, query={name: key})), Covered("query", name)
        if where == "cookie":
            return origin, _header(origin, "Cookie", cookie_text({name: key})), Covered("cookie", name)
        return origin, _header(origin, name, key), Covered("header", name)

    def _oauth2(self, place: str, scheme: Mapping[str, Any], about: Mapping[str, Any], origin: str) -> CredentialSource:
        settings = _without_origin(about)
        if "token_url" not in settings:
            flows = scheme.get("flows")
            flow = flows.get("clientCredentials") if isinstance(flows, dict) else None
            token_url = flow.get("tokenUrl") if isinstance(flow, dict) else None
            try:
                trusted = isinstance(token_url, str) and (not self.from_url or origin_of(token_url) == origin)
                if isinstance(token_url, str):
                    origin_of(token_url)
            except ValueError:
                trusted = False
            if not trusted:
                raise StartError(
                    f"{place}: say where the token is fetched: add `token_url`; where a secret goes is not for a "
                    "document to say"
                )
            settings["token_url"] = token_url
        for secret in secret_texts({"oauth2": settings}):
            self.redactor.add(secret)
        return read_oauth2(place, settings, origin, self.client, self.redactor)


def _header(origin: str, name: str, value: str) -> CredentialSource:
    return Fixed(Credential(origin, {name: value}))


def _without_origin(about: Any) -> Any:
    return {name: value for name, value in about.items() if name != "origin"} if isinstance(about, Mapping) else about


def _only(place: str, about: Mapping[str, Any], name: str) -> str:
    checked_keys(place, about, (name, "origin"))
    return text(f"{place}: {name}", about.get(name))


def _plain(place: str, key: str) -> str:
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        raise StartError(f"{place} must be printable ASCII, with no blank at either end")
    return key
