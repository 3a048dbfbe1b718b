"""Whether the server that some settings describe answers, for the health checks of containers: `--health`."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

from .config import BaseConfig

SECONDS = 5.0  # for the answer


def health(config: BaseConfig) -> tuple[bool, str]:
    """Whether it is SERVING, and what it answered.

    Behind TLS it is not asked, since its certificate is for another name than loopback's and it may want one of the
    caller's: there it is well when it takes a connection and shows a certificate.
    """
    if config.tls_cert and not config.socket:
        return _shakes_hands(_loopback(config.host), config.port)
    # Imported late, as a plugin's settings do not need them.
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    host = _loopback(config.host)
    target = f"unix:{config.socket}" if config.socket else f"{f'[{host}]' if ':' in host else host}:{config.port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = HealthStub(channel).Check(HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            return False, f"{error.code().name}: {error.details()}"
    status = HealthCheckResponse.ServingStatus.Name(reply.status)
    return status == "SERVING", status


def _loopback(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # it is not bound here


def _shakes_hands(host: str, port: int) -> tuple[bool, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with closing(socket.create_connection((host, port), SECONDS)) as raw, context.wrap_socket(raw):
            return True, "listening, over TLS"
    except OSError as error:
        return False, f"no TLS at {host}:{port}: {error.strerror or type(error).__name__}"
