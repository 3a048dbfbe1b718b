"""From when until when the certificates of a PEM file are valid.

`ssl` tells the dates of a peer's certificate, once it has verified it, which an expired one does not pass; of a file it
tells them by `ssl._ssl._test_decode_cert` only, which is private. They stand at a fixed place of X.509 (RFC 5280, 4.1),
so they are read from there. OpenSSL has checked the file before, and a package for certificates would be much for two
dates.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

_BLOCK = re.compile(
    r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.DOTALL
)


class Validity(NamedTuple):
    begin: datetime
    end: datetime


def validities(pem: bytes) -> list[Validity | None]:
    """Of each certificate in `pem`, in their order; None for one whose dates cannot be read."""
    return [_validity(block) for block in _BLOCK.findall(pem.decode("ascii", "replace"))]


def _validity(block: str) -> Validity | None:
    try:
        der = ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}\n{block.strip()}\n{ssl.PEM_FOOTER}")
        certificate = _elements(_elements(der)[0][1])[0][1]
        fields = _elements(certificate)
        # version [0] (absent in version 1), serialNumber, signature, issuer, validity
        validity = fields[4 if fields[0][0] == 0xA0 else 3][1]
        begin, end = (_time(tag, value.decode("ascii")) for tag, value in _elements(validity))
    except (ValueError, IndexError):
        return None
    return Validity(begin, end)


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The elements that stand one after the other in `der`, as (tag, content)."""
    found = []
    while der:
        tag, length, start = der[0], der[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start], "big")
        found.append((tag, der[start : start + length]))
        der = der[start + length :]
    return found


def _time(tag: int, text: str) -> datetime:
    if tag == 0x17:  # UTCTime has two digits for the year, of which 50 and above are of the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
