"""Every setting of the tool provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.config import BaseConfig, setting
from shared.errors import StartError
from shared.units import Duration, Secret, SecretMapping, SecretUrl, Size

# What is shown of these settings, in --check, is what stands under these names.
_OF_A_TOOL = ("description", "method", "url", "parameters", "body", "idempotency_key", "answer", "read_only",
              "idempotent", "destructive", "max_response_bytes")  # fmt: skip
_OF_A_PARAMETER = ("in", "name", "required", "style", "explode", "allow_reserved", "file", "schema", "type", "title",
                   "description", "enum", "const", "default", "examples", "format", "pattern", "minimum", "maximum",
                   "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "items", "minItems",
                   "maxItems", "uniqueItems", "properties", "additionalProperties")  # fmt: skip
_OF_A_DOCUMENT = ("document", "include", "exclude", "server", "prefix", "deprecated")
_OF_A_CREDENTIAL = ("oauth2", "token_url", "client_id", "scopes", "auth", "username")


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
    user_agent: str = setting("", "Sent as User-Agent; empty sends hector-plugins and its version.")
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
        for name, public in (("tools", _OF_A_TOOL), ("openapi", _OF_A_DOCUMENT), ("credentials", _OF_A_CREDENTIAL)):
            shown = {key: _masked(about, public) for key, about in getattr(self, name).items()}
            object.__setattr__(self, name, SecretMapping(shown, public=(*public, *_OF_A_PARAMETER)))
        if self.proxy_resolves and self.proxy.reveal() in ("", "none"):
            raise StartError("setting proxy_resolves needs proxy beside it")


def plain(value: Any) -> Any:
    """A setting as plain values, secrets in the clear, for those that use them."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _masked(about: Any, public: tuple[str, ...]) -> Any:
    """`about` with all of it a secret but for what has one of the names, and of a URL its address."""
    if not isinstance(about, Mapping):
        return _secret(about)
    shown: dict[str, Any] = {}
    for key, value in about.items():
        if key not in public:
            shown[key] = _secret(value)
        elif key == "parameters" and isinstance(value, Mapping):
            shown[key] = {name: _masked(item, _OF_A_PARAMETER) for name, item in value.items()}
        elif key == "oauth2":
            shown[key] = _masked(value, public)
        else:
            shown[key] = SecretUrl(value) if isinstance(value, str) and "://" in value else value
    return shown


def _secret(value: Any) -> Any:
    if isinstance(value, Mapping):
        return SecretMapping(value)
    if isinstance(value, list | tuple):
        return [_secret(item) for item in value]
    return value if value is None or isinstance(value, bool) else Secret(str(value))
