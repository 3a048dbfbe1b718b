"""When a request may be made a second time."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from .exchange import Request, Response

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_LATER = frozenset({429, 503})


def is_repeatable(request: Request) -> bool:
    """Whether twice is as good as once (RFC 9110, 9.2.2), unless the request itself says."""
    return request.method in IDEMPOTENT if request.repeatable is None else request.repeatable


def wait_of(response: Response) -> float | None:
    """Seconds until a response of 429 or 503 says to come again; None where it does not, or is none."""
    return retry_after(response) if response.status in _LATER else None


def retry_after(response: Response) -> float | None:
    """Seconds, of Retry-After as a number or a date; None without a sound one."""
    value = response.header("retry-after").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
