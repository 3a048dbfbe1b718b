"""Every setting of the tool provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.units import Duration, Secret, SecretMapping, SecretUrl, Size

# Of what holds secrets, what --check shows all the same.
_OF_A_TOOL = ("description", "method", "url", "parameters", "body", "idempotency_key", "answer", "read_only",
              "idempotent", "destructive", "max_response_bytes")  # fmt: skip
_OF_A_DOCUMENT = ("document", "include", "exclude", "server", "server_variables", "credentials", "prefix", "deprecated")
_PUBLIC_HEADERS = ("accept", "accept-language", "content-type", "user-agent", "prefer", "cache-control")
_PUBLIC_OF_A_CREDENTIAL = ("origin", "username", "client_id", "token_url", "scopes", "auth")


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    port: int = setting(8084, "Port to listen on; 0 picks a free one.", at_least=0, at_most=65535)
    timeout: Duration = setting("2m", "Longest a call may take; 0 sets no bound.", at_least=0)
    # The policy.
    allowed_hosts: tuple[str, ...] = setting("", "When set, only these: names, `*.example.com`, addresses, networks.")
    denied_hosts: tuple[str, ...] = setting("", "Never these; wins over allowed_hosts.")
    allowed_networks: tuple[str, ...] = setting("", "Private ranges that may be dialled; public ones stay allowed.")
    allowed_ports: tuple[str, ...] = setting("80,443", "Ports that may be dialled; a range as 8000-8099.")
    allowed_methods: tuple[str, ...] | dict[str, Any] = setting(
        "GET,HEAD", "Methods that may be used, or a mapping host → list."
    )
    robots: bool = setting(False, "Have fetch_page ask robots.txt first and do as it says.")
    # The client.
    request_timeout: Duration = setting("30s", "Longest a request may take, redirects included.", at_least=0.01)
    connect_timeout: Duration = setting("10s", "Longest a connection may take.", at_least=0.01)
    max_redirects: int = setting(5, "Redirects that are followed; 0 follows none.", at_least=0, at_most=20)
    max_response_bytes: Size = setting("5MiB", "Longest response, on the wire and unpacked.", at_least=1)
    max_body_bytes: Size = setting("1MiB", "Longest body that is sent.", at_least=0)
    proxy: SecretUrl = setting("", "URL of a proxy; empty takes none, whatever the environment says.")
    proxy_resolves: bool = setting(
        False, "The proxy is given names, not vetted addresses: only those in allowed_hosts, by name."
    )
    ca_bundle: str = setting("", "PEM file of the authorities to trust, in place of the usual ones.")
    user_agent: str = setting("", "Sent as User-Agent; empty sends hector-plugins.")
    credentials: SecretMapping = setting("{}", "What to send to whom: {ORIGIN: {headers: …, query: …, basic: …}}.")
    # Declared tools.
    tools: SecretMapping = setting("{}", "Endpoints as tools: {NAME: {description, url, parameters, …}}.")
    openapi: SecretMapping = setting("{}", "OpenAPI documents as tools: {NAME: {document, include, exclude, …}}.")
    max_operations: int = setting(60, "Operations of a document that become tools; of more, two tools.", at_least=1)
    # Results.
    max_result_chars: int = setting(20_000, "Longest text of a result; the rest is read on.", at_least=200)
    kept_bytes: Size = setting("64MiB", "Most of long results that are kept to be read on.", at_least=0)
    kept_for: Duration = setting("15m", "How long a long result is kept.", at_least=0)
    kept_calls: int = setting(1000, "Answers that are kept for a call_id that comes again.", at_least=0)
    fence: bool = setting(False, "Put results that come from outside between marks that say so.")
    # Work.
    max_rows: int = setting(1_000_000, "Most rows of data in one call.", at_least=1)
    work_timeout: Duration = setting("30s", "Longest a piece of work on data or a page may take.", at_least=0.01)
    work_memory: Size = setting("1GiB", "Most memory of a process that works on data or pages.", at_least=2**26)
    workers: int = setting(2, "Processes that work on data and pages.", at_least=1, at_most=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, shown in (("credentials", _credential), ("tools", _tool), ("openapi", _document)):
            values = {key: shown(about) for key, about in getattr(self, name).items()}
            object.__setattr__(self, name, SecretMapping(values, public=tuple(_names(values))))
        if self.proxy_resolves and self.proxy.reveal() in ("", "none"):
            raise StartError("setting proxy_resolves needs proxy beside it")


def plain(value: Any) -> Any:
    """A setting as plain values, secrets in the clear, for those that use them."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _tool(about: Any) -> Any:
    """A declared tool, its secrets as such."""
    if not isinstance(about, Mapping):
        return _secret(about)
    parts = {"headers": _headers, "credential": _credential}
    return {name: _part(name, value, parts, _OF_A_TOOL) for name, value in about.items()}


def _document(about: Any) -> Any:
    """An OpenAPI document, its secrets as such."""
    if not isinstance(about, Mapping):
        return _secret(about)
    shown = {name: _part(name, value, {"headers": _headers}, _OF_A_DOCUMENT) for name, value in about.items()}
    if "://" in str(about.get("document")):
        shown["document"] = SecretUrl(str(about["document"]))
    credentials = about.get("credentials")
    if isinstance(credentials, Mapping):
        shown["credentials"] = {name: _scheme(value) for name, value in credentials.items()}
    elif credentials is not None:
        shown["credentials"] = _secret(credentials)
    return shown


def _part(name: str, value: Any, parts: Mapping[str, Callable[[Any], Any]], known: tuple[str, ...]) -> Any:
    """What is under a name that nobody knows may be a secret under a mistyped one."""
    if name in parts:
        return parts[name](value)
    if name not in known:
        return _secret(value)
    return value


def _scheme(about: Any) -> Any:
    if not isinstance(about, Mapping):
        return _secret(about)
    return SecretMapping(about, public=_PUBLIC_OF_A_CREDENTIAL)


def _credential(about: Any) -> Any:
    if not isinstance(about, Mapping):
        return _secret(about)
    # Names of headers are anybody's: one may be `username`.
    return {
        name: SecretMapping(value, public=_PUBLIC_OF_A_CREDENTIAL if name in ("basic", "oauth2") else ())
        if isinstance(value, Mapping)
        else _secret(value)
        for name, value in about.items()
    }


def _headers(about: Any) -> Any:
    if not isinstance(about, Mapping):
        return _secret(about)
    return SecretMapping(about, public=tuple(name for name in about if str(name).lower() in _PUBLIC_HEADERS))


def _secret(value: Any) -> Any:
    """A text as a secret; what is none its reader refuses."""
    if isinstance(value, Mapping):
        return SecretMapping(value)
    if isinstance(value, list | tuple):
        return [_secret(item) for item in value]
    return Secret(value) if isinstance(value, str) else value


def _names(value: Any) -> Iterator[str]:
    """Every name below `value` that no secret mapping hides."""
    if isinstance(value, Mapping) and not isinstance(value, SecretMapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
