"""Who may call: the token, TLS, and the rule that beyond loopback a caller must prove something.

TLS by itself lets anybody in: it proves the server to the caller, and the caller to nobody. A token or the certificates
of a client CA are what keeps strangers out.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from .bounded_file import read_bounded
from .certificates import validities
from .config import BaseConfig
from .errors import StartError, Unauthenticated
from .units import Secret

AUTHORIZATION = "authorization"
_SOON = timedelta(days=30)
_LARGEST_PEM = 8 * 2**20  # bytes; all authorities of the world are a quarter of one MiB


@dataclass(frozen=True)
class SecurityWarning:
    """What does not keep a plugin from serving but should be known. `reason` is UPPER_SNAKE and stable."""

    reason: str
    message: str

    def __str__(self) -> str:
        return self.message


def check_exposure(config: BaseConfig) -> None:
    """Raises StartError where the settings would let anybody call from beyond this machine."""
    if config.insecure or not _is_open(config):
        return
    tls = "; TLS by itself lets anybody in" if config.tls_cert else ""
    raise StartError(
        f"{config.host} can be reached from other machines{tls}: set token, or tls_client_ca (with tls_cert and "
        "tls_key), or say insecure=true outright"
    )


def security_warnings(config: BaseConfig) -> list[SecurityWarning]:
    """What the operator should hear at each start. Raises StartError where a file cannot be read."""
    found: list[SecurityWarning] = []
    if config.insecure and _is_open(config):
        message = f"insecure is set: anybody who reaches {config.host} may call; set token or tls_client_ca instead"
        found.append(SecurityWarning("INSECURE", message))
    for name in ("tls_cert", "tls_client_ca"):
        if path := getattr(config, name):
            found += _date_warnings(f"setting {name}: {path}", _pem(name, path))
    return found


def _date_warnings(where: str, pem: bytes) -> list[SecurityWarning]:
    """At most one of each kind, since a bundle of authorities can have many that are old."""
    now = datetime.now(UTC)
    chain = validities(pem)
    found: dict[str, SecurityWarning] = {}
    for number, dates in enumerate(chain, 1):
        which = f"{where}: certificate {number} of {len(chain)}" if len(chain) > 1 else f"{where}: the certificate"
        if dates is None:
            reason, message = "CERTIFICATE_UNREADABLE", f"{which} has dates that cannot be read"
        elif dates.end < now:
            reason, message = "CERTIFICATE_EXPIRED", f"{which} expired on {dates.end:%Y-%m-%d}; renew it"
        elif dates.begin > now:
            when = f"{dates.begin:%Y-%m-%d %H:%M} UTC"
            reason, message = "CERTIFICATE_NOT_YET_VALID", f"{which} is not valid before {when}; check the clock"
        elif dates.end - now < _SOON:
            reason, message = "CERTIFICATE_EXPIRES_SOON", f"{which} expires on {dates.end:%Y-%m-%d}; renew it"
        else:
            continue
        found.setdefault(reason, SecurityWarning(reason, message))
    return list(found.values())


_MISSING = Unauthenticated(
    "this plugin wants a token: send the metadata `authorization: Bearer TOKEN`", reason="TOKEN_MISSING"
)
_WRONG = Unauthenticated(
    "the token is not this plugin's; check the `token` setting on both sides", reason="TOKEN_WRONG"
)


def check_token(expected: Secret, metadata: Iterable[tuple[str, str | bytes]]) -> Unauthenticated | None:
    """What is wrong with the call's credential, or None."""
    sent = [value for key, value in metadata if key == AUTHORIZATION]
    if not sent:
        return _MISSING
    # Compared as bytes and in constant time, so that neither content nor length of the token shows.
    wanted = b"Bearer " + expected.reveal().encode()
    got = sent[-1] if isinstance(sent[-1], bytes) else sent[-1].encode()
    if len(sent) == 1 and hmac.compare_digest(got, wanted):
        return None
    return _WRONG


def server_credentials(config: BaseConfig) -> grpc.ServerCredentials | None:
    """TLS as the settings say; None for plain text. Raises StartError where a file cannot be used."""
    if not config.tls_cert:
        return None
    pair = [(_pem("tls_key", config.tls_key), _pem("tls_cert", config.tls_cert))]
    clients = _pem("tls_client_ca", config.tls_client_ca) if config.tls_client_ca else None
    # gRPC takes files that do not fit and then cannot listen, or refuses every client, without a reason.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key, password="")
    except (ssl.SSLError, OSError):
        raise StartError(
            "settings tls_cert and tls_key: not a certificate and its private key, the key without a passphrase"
        ) from None
    try:
        if clients is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=clients.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise StartError(f"setting tls_client_ca: {config.tls_client_ca} holds no certificate") from None
    return grpc.ssl_server_credentials(pair, root_certificates=clients, require_client_auth=clients is not None)


def _pem(name: str, path: str) -> bytes:
    try:
        # Only a file: OpenSSL reads it a second time.
        text = read_bounded(Path(path), _LARGEST_PEM, only_files=True)
    except OSError as error:
        raise StartError(f"setting {name}: cannot read {path}: {error.strerror}") from None
    if b"-----BEGIN " not in text:
        raise StartError(f"setting {name}: {path} is not a PEM file")
    return text


def _is_open(config: BaseConfig) -> bool:
    return not (config.socket or config.token or config.tls_client_ca or _is_loopback(config.host))


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except (OSError, ValueError):  # a UnicodeError too: names that cannot be encoded
        raise StartError(f"setting host: {host!r} is not an address of this machine") from None
    return all(ipaddress.ip_address(str(info[4][0]).partition("%")[0]).is_loopback for info in found)
