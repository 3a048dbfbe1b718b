"""What can go wrong on the way to a server and back, each as the error that a caller gets."""

from __future__ import annotations

from shared.errors import CallerError, Code, LimitReached


class Unreachable(CallerError):
    """No connection, or one that broke before the response was whole."""

    code = Code.UNAVAILABLE
    reason = "UPSTREAM_UNREACHABLE"

    def __init__(self, message: str, *, host: str = "") -> None:
        super().__init__(message, metadata={"host": host} if host else {})


class UpstreamTimeout(CallerError):
    code = Code.DEADLINE_EXCEEDED
    reason = "UPSTREAM_TIMEOUT"


class BadResponse(CallerError):
    """Something came that is no HTTP response, or not all of one."""

    code = Code.UNAVAILABLE
    reason = "BAD_RESPONSE"


def too_large(limit: int, why: str = "") -> LimitReached:
    return LimitReached(
        f"the response {why or f'has more than {limit} bytes'}; ask for less of it (a page, a range, fewer fields), "
        f"or have the operator raise the setting max_response_bytes",
        reason="TOO_LARGE",
    )
