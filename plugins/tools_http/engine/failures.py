"""What can go wrong on the way to a server and back, each as the error that a caller gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.errors import CallerError, Code, InvalidArgument, LimitReached


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


def of_argument(error: CallerError, url: str, method: str = "") -> CallerError:
    """`error`, where it refuses where a call leads, as a fault of the argument `url`, or `method`, that led there."""
    if error.reason.startswith("BLOCKED_") or error.reason == "BAD_URL":
        field = method if method and error.reason == "BLOCKED_METHOD" else url
        error.violations = error.violations or ((field, error.message),)
    return error


def located(error: CallerError, parameters: Mapping[str, Any], place: str) -> CallerError:
    """`error` with the arguments of the schema `parameters` that it names as fields below `place`, and with the reason
    that all faults of arguments have where it gives none of its own."""
    if error.reason == InvalidArgument.reason:
        error.reason = "BAD_ARGUMENTS"
    names = parameters.get("properties", {})
    error.violations = tuple(
        (f"{place}.{field}" if re.split(r"[.\[]", field, maxsplit=1)[0] in names else field, words)
        for field, words in error.violations
    )
    return error
