"""Whose certificates are trusted: the system's authorities or the operator's file, never what the environment names.

`ssl.create_default_context` and OpenSSL's own default read SSL_CERT_FILE and SSL_CERT_DIR.
"""

from __future__ import annotations

import functools
import os
import ssl

from shared.errors import StartError

# Where systems keep them, beside the place that OpenSSL was built with.
_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@functools.lru_cache(maxsize=8)  # to read the system's hundred and more takes 30 ms
def context(ca_bundle: str = "") -> ssl.SSLContext:
    """For TLS 1.2 and up, host name and chain verified. Raises StartError where `ca_bundle` cannot be read."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    file = ca_bundle or _system_file()
    try:
        if file:
            made.load_verify_locations(file)
        elif os.path.isdir(folder := ssl.get_default_verify_paths().openssl_capath):
            made.load_verify_locations(capath=folder)
    except (OSError, ssl.SSLError):
        raise StartError(f"setting ca_bundle: {file!r} cannot be read as certificates in PEM") from None
    return made


def _system_file() -> str:
    files = (ssl.get_default_verify_paths().openssl_cafile, *_FILES)
    return next((file for file in files if os.path.isfile(file)), "")
