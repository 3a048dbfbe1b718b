"""How one program reaches a plugin: an address with its credentials, and a channel to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from .config import suggest
from .errors import StartError
from .units import Secret, name_for_message, read_str


@dataclass(frozen=True)
class Address:
    """`HOST:PORT`, `unix:PATH` or, of several servers, `dns:///NAME:PORT` and `ipv4:HOST:PORT,HOST:PORT`; and what they
    ask for."""

    address: str
    token: Secret = Secret()
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    @classmethod
    def read(cls, value: str | Mapping[str, Any]) -> Address:
        """From settings: "HOST:PORT", or `{address, token, tls_ca, tls_cert, tls_key}`. Raises StartError."""
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise StartError("an address is HOST:PORT, or a mapping with `address`")
        known = ("address", "token", "tls_ca", "tls_cert", "tls_key")
        for key, item in value.items():
            if key not in known:
                raise StartError(f"an address has no {name_for_message(key, item)}{suggest(str(key), known)}")
        if "address" not in value:
            raise StartError("an address is HOST:PORT, or a mapping with `address`")
        try:
            texts = {key: read_str(item) for key, item in value.items()}
        except ValueError as error:
            raise StartError(f"an address: {error}") from None
        return cls(**(texts | {"token": Secret(texts.get("token", ""))}))  # type: ignore[arg-type]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", "Bearer " + self.token.reveal()),) if self.token else ()


def channel(address: Address, *, aio: bool = False, largest: int = -1) -> Any:
    """A grpc.Channel, or with `aio` a grpc.aio.Channel, that takes replies of `largest` bytes; -1: of any size.

    Raises StartError where a TLS file cannot be used."""
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_reconnect_backoff_ms", 2_000),  # a server that was away is found soon, not after two minutes
    ]
    if address.address.startswith(("dns:", "ipv4:")):  # of several servers each gets its turn
        options.append(("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'))
    if address.address.startswith("ipv4:"):  # the list of them is no name that a certificate could have
        options.append(("grpc.default_authority", _each(address.address)[0]))
    if _is_local(address.address):
        options.append(("grpc.enable_http_proxy", 0))  # a proxy's loopback is another machine's
    module: Any = grpc.aio if aio else grpc
    if not (address.tls_ca or address.tls_cert):
        return module.insecure_channel(address.address, options=options)
    if bool(address.tls_cert) != bool(address.tls_key):
        raise StartError(f"address {address.address}: tls_cert and tls_key go together")
    try:
        ca, cert, key = (
            Path(path).read_bytes() if path else None for path in (address.tls_ca, address.tls_cert, address.tls_key)
        )
    except OSError as error:
        raise StartError(f"address {address.address}: cannot read {error.filename}: {error.strerror}") from None
    return module.secure_channel(address.address, grpc.ssl_channel_credentials(ca, key, cert), options=options)


def _each(address: str) -> list[str]:
    return address.removeprefix("ipv4:").split(",")


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    hosts = [each.rpartition(":")[0].strip("[]") for each in _each(address)]
    try:
        return all(host == "localhost" or ipaddress.ip_address(host).is_loopback for host in hosts)
    except ValueError:
        return False
