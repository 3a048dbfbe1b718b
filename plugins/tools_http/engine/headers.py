"""Which headers a caller may send, and which of them may go on to another origin."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.errors import InvalidArgument, quoted

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
MOST = 100
MOST_BYTES = 32_768

# What the transport says of the message and the connection; a caller's word on it splits requests.
_TRANSPORT = frozenset(
    "host content-length transfer-encoding connection keep-alive te trailer upgrade http2-settings expect "
    "accept-encoding".split()
)

# What says nothing of who asks. Of all others nobody knows which is a key: X-API-Key, Api-Token, PRIVATE-TOKEN, …
_IMPERSONAL = frozenset(
    "accept accept-charset accept-language cache-control content-language content-type if-match if-modified-since "
    "if-none-match if-range if-unmodified-since pragma range user-agent".split()
)
_OF_BODY = frozenset("content-type content-language content-encoding content-location content-md5 digest".split())


def check(headers: Iterable[tuple[str, str]], field: str = "") -> list[tuple[str, str]]:
    """The headers, blanks at the ends of values gone. Raises InvalidArgument (BAD_HEADER), naming the header; `field`
    is the argument that has them."""
    checked = []
    size = 0
    for name, value in headers:
        place = f"{field}.{name[:64]}" if field else None
        if not _NAME.fullmatch(name):
            raise _bad(f"{quoted(name)} is no name of a header: letters, digits and - only", field or None)
        if name.lower() in _TRANSPORT or name.lower().startswith("proxy-"):
            raise _bad(f"the header {quoted(name)} belongs to the transport, which sets it; leave it out", place)
        value = value.strip(" \t")
        if not _VALUE.fullmatch(value):
            raise _bad(
                f"the header {quoted(name)} has a line end, a control character or more than ASCII in its value; "
                f"write it in printable ASCII",
                place,
            )
        size += len(name) + len(value) + 4
        checked.append((name, value))
    if len(checked) > MOST or size > MOST_BYTES:
        raise _bad(f"there are more than {MOST} headers or {MOST_BYTES} bytes of them; send fewer", field or None)
    return checked


def without_personal(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that may go on to another origin."""
    return [(name, value) for name, value in headers if name.lower() in _IMPERSONAL]


def without_body(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of a request that has lost its body."""
    return [(name, value) for name, value in headers if name.lower() not in _OF_BODY]


def _bad(message: str, field: str | None) -> InvalidArgument:
    return InvalidArgument(message, reason="BAD_HEADER", field=field)
