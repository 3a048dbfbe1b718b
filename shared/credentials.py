"""Who may call: TLS, the token, and the rule that nothing listens beyond loopback without one of them."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

import grpc

from shared.config import BaseConfig
from shared.errors import StartError, Unauthenticated
from shared.units import Secret

AUTHORIZATION = "authorization"


def check_exposure(config: BaseConfig) -> None:
    """Raises StartError where the settings would let anybody in from beyond this machine."""
    if config.socket or config.token or config.tls_cert or config.insecure or _is_loopback(config.host):
        return
    raise StartError(
        f"{config.host} can be reached from other machines: set tls_cert and tls_key, or token, "
        "or say insecure=true outright"
    )


def check_token(expected: Secret, metadata: Iterable[tuple[str, str | bytes]]) -> Unauthenticated | None:
    """What is wrong with the call's credential, or None."""
    sent = [value for key, value in metadata if key == AUTHORIZATION]
    if not sent:
        return Unauthenticated(
            "this plugin wants a token: send the metadata `authorization: Bearer TOKEN`", reason="TOKEN_MISSING"
        )
    # Compared as bytes and in constant time, so that neither content nor length of the token shows.
    wanted = b"Bearer " + expected.reveal().encode()
    got = sent[-1] if isinstance(sent[-1], bytes) else sent[-1].encode()
    if len(sent) == 1 and hmac.compare_digest(got, wanted):
        return None
    return Unauthenticated(
        "the token is not this plugin's; check the `token` setting on both sides", reason="TOKEN_WRONG"
    )


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
        text = Path(path).read_bytes()
    except OSError as error:
        raise StartError(f"setting {name}: cannot read {path}: {error.strerror}") from None
    if b"-----BEGIN " not in text:
        raise StartError(f"setting {name}: {path} is not a PEM file")
    return text


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except (OSError, ValueError):  # a UnicodeError too: names that cannot be encoded
        raise StartError(f"setting host: {host!r} is not an address of this machine") from None
    return all(ipaddress.ip_address(str(info[4][0]).partition("%")[0]).is_loopback for info in found)
