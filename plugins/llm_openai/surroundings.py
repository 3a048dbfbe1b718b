"""What the environment says of TLS and proxies, so that errors name the variable or the proxy that is at fault."""

from __future__ import annotations

import os
import ssl
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import StartError


def check_tls() -> None:
    """Raises StartError where a variable of OpenSSL names what cannot be used: it would be a traceback at the start."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        if path and not (Path(path).is_file() if name == "SSL_CERT_FILE" else Path(path).is_dir()):
            kind = "file of PEM certificates" if name == "SSL_CERT_FILE" else "folder of PEM certificates"
            raise StartError(f"environment variable {name}: {path} is no {kind}; correct it or take it out")
    if path := os.environ.get("SSLKEYLOGFILE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).keylog_filename = path
        except OSError as error:
            raise StartError(
                f"environment variable SSLKEYLOGFILE: cannot write {path}: {error.strerror}; correct it or take it out"
            ) from None


def proxy_of(url: str, setting: str) -> str:
    """The proxy that requests to `url` go through, without user and password; empty: none.

    >>> proxy_of("http://h/v1", "http://me:secret@127.0.0.1:3128"), proxy_of("http://h/v1", "none")
    ('http://127.0.0.1:3128', '')
    """
    if setting:
        return "" if setting == "none" else _bare(setting)
    parts = urlsplit(url)
    proxies = urllib.request.getproxies_environment()
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return _bare(proxies.get(parts.scheme, proxies.get("all", "")))


def _bare(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if url else ""
