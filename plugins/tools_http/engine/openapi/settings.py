"""The settings of one document: `openapi: {NAME: …}`.

openapi:
  shop:
    document: ./shop.yaml                    # or a URL, which is fetched under the policy
    include: [listOrders, "GET /items/*", "tag:stock"]
    exclude: ["*Delete*"]
    server: https://eu.shop.example/v2       # in place of the document's own
    server_variables: {region: eu}
    credentials:                             # by the names of its security schemes
      api_key: "${SHOP_KEY}"
      oauth: {client_id: me, client_secret: "${SHOP_SECRET}", origin: https://eu.shop.example}
    headers: {X-Tenant: "${SHOP_TENANT}"}    # of every request; sent where the credentials go
    prefix: shop_                            # of the tools' names; none by default
    deprecated: true                         # take deprecated operations too
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from shared.errors import StartError
from shared.units import SecretUrl, name_for_message, read_bool, read_list

from ..credentials import CredentialSource, Fixed, Together, check_headers, checked_keys, origin_of, text, texts
from ..declared.reader import PUBLIC_HEADERS
from ..exchange import Credential

_KEYS = ("document", "include", "exclude", "server", "server_variables", "credentials", "headers", "prefix",
         "deprecated")  # fmt: skip
_ACCEPT = "application/json, */*;q=0.5"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, kw_only=True)
class DocumentSettings:
    name: str
    document: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    server: str = ""
    server_variables: Mapping[str, str]
    credentials: Mapping[str, Any]
    headers: Mapping[str, str]
    prefix: str = ""
    deprecated: bool = False

    @property
    def place(self) -> str:
        return f"setting openapi: {self.name!r}"

    @property
    def is_url(self) -> bool:
        return "://" in self.document

    @property
    def shown_source(self) -> str:
        return str(SecretUrl(self.document)) if self.is_url else self.document

    @property
    def tool_prefix(self) -> str:
        return self.prefix.rstrip("_-") or self.name

    @property
    def public_headers(self) -> Mapping[str, str]:
        own = {name: value for name, value in self.headers.items() if name.lower() in PUBLIC_HEADERS}
        return own if any(name.lower() == "accept" for name in own) else {**own, "Accept": _ACCEPT}

    @property
    def secret_headers(self) -> Mapping[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() not in PUBLIC_HEADERS}

    def with_headers(self, source: CredentialSource | None, origin: str, bound: str) -> CredentialSource | None:
        """`source` and the headers that are not public, which go to the origin `bound` only."""
        if not self.secret_headers or origin != bound:
            return source
        own = Fixed(Credential(origin, self.secret_headers))
        return Together((own, source)) if source else own


def read_settings(settings: Mapping[str, Any]) -> list[DocumentSettings]:
    """The setting `openapi`. Raises StartError."""
    return [_read(name, about) for name, about in settings.items()]


def _read(name: str, about: object) -> DocumentSettings:
    if not _NAME.fullmatch(name) or about is None:
        raise StartError(
            f"setting openapi: {name_for_message(name, about)} is no name: 1 to 40 letters, digits, _ and -"
        )
    place = f"setting openapi: {name_for_message(name, about)}"
    about = checked_keys(place, about, _KEYS)
    headers = texts(f"{place}: headers", about.get("headers", {}))
    check_headers(f"{place}: headers", headers)
    credentials = about.get("credentials", {})
    if not isinstance(credentials, Mapping):
        raise StartError(f"{place}: credentials must be a mapping of the document's security schemes")
    server = text(f"{place}: server", about["server"]) if "server" in about else ""
    if server:
        _check_url(f"{place}: server", server)
    document = text(f"{place}: document", about.get("document"))
    if "://" in document:
        _check_url(f"{place}: document", document)
    prefix = text(f"{place}: prefix", about["prefix"]) if "prefix" in about else ""
    if prefix and not _NAME.fullmatch(prefix):
        raise StartError(f"{place}: prefix must be at most 40 letters, digits, _ and -")
    try:
        include, exclude = (read_list(about.get(key, [])) for key in ("include", "exclude"))
        deprecated = read_bool(about.get("deprecated", False))
    except ValueError as error:
        raise StartError(f"{place}: include, exclude or deprecated: {error}") from None
    return DocumentSettings(
        name=name,
        document=document,
        include=include,
        exclude=exclude,
        server=server,
        server_variables=texts(f"{place}: server_variables", about.get("server_variables", {})),
        credentials=credentials,
        headers=headers,
        prefix=prefix,
        deprecated=deprecated,
    )


def _check_url(place: str, url: str) -> None:
    try:
        origin_of(url)
        if "{" in urlsplit(url).netloc or urlsplit(url).fragment:
            raise ValueError("it has a { or # in it")
    except ValueError as error:
        raise StartError(f"{place}: {error}") from None
