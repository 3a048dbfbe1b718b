"""How long an endpoint that is busy wants to be left alone, wherever it says so; and whether waiting is of any use."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_DURATION = re.compile(
    r"(\d{1,9}(?:\.\d{1,12})?) ?(ms|milliseconds?|h|hours?|m|min|minutes?|s|secs?|seconds?)(?![a-z])", re.IGNORECASE
)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\d{1,13}(\.\d{1,9})?")
# "Please try again in 1m2.5s", as OpenAI and Groq have it; "retry in 36.2s" is Google's, "after 26 seconds" Azure's.
_IN_WORDS = re.compile(
    r"(?:(?:try again|retry) (?:in|after)|wait|resets? in) "
    r"((?:\d{1,9}(?:\.\d{1,12})?\s?(?:m|h|s)[a-z]{0,11} ?){1,4})",
    re.IGNORECASE,
)
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached", "exceeded_current_quota", "insufficient balance",
            "credit balance is too low", "insufficient credits", "out of credits", "in arrears", "perday")  # fmt: skip
_PERHAPS_USED_UP = ("current quota", "quota exceeded")  # Google says so of a quota a minute too, with a delay


def retry_after(status: int, headers: Mapping[str, str], body: Any, message: str) -> float | None:
    """Seconds; None where it does not say."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if _NUMBER.fullmatch(text) and len(text) <= 12:
            return float(text) * scale
    if (delay := _of_date(headers.get("retry-after", ""))) is not None:
        return delay
    if (delay := _duration(headers.get("retry-after", ""))) is not None:
        return delay
    for name, value in fields(body):
        if name in ("retrydelay", "retryafter", "retryafterseconds", "retryafterms"):
            scale = 1e-3 if name.endswith("ms") else 1.0
            if isinstance(value, int | float) and 0 <= value < 10**9:
                return float(value) * scale
            if isinstance(value, str) and (delay := _duration(value)) is not None:
                return delay * scale
        elif name == "xratelimitreset" and status == 429 and (delay := _until(str(value)[:50])) is not None:
            return delay  # a header of the provider's, in the body of a proxy such as OpenRouter
    if (said := _IN_WORDS.search(message)) and (delay := _duration(said[1])) is not None:
        return delay
    return _reset(headers) if status == 429 else None


def is_used_up(status: int, code: str, message: str, body: Any, delay: float | None) -> bool:
    """Whether it is no matter of waiting: an account without money, a quota of the day."""
    if status == 402:
        return True
    if status not in (400, 403, 429):
        return False
    names = [value for name, value in fields(body) if name == "quotaid" and isinstance(value, str)]
    words = " ".join([code, message, *names]).lower()
    return any(one in words for one in _USED_UP) or (delay is None and any(one in words for one in _PERHAPS_USED_UP))


def fields(body: Any, levels: int = 6) -> Iterator[tuple[str, Any]]:
    """Every field in the body with its name in one spelling; of long lists the beginning."""
    if isinstance(body, Mapping):
        for name, value in list(body.items())[:50]:
            yield str(name).replace("_", "").replace("-", "").lower(), value
            if levels:
                yield from fields(value, levels - 1)
    elif isinstance(body, list) and levels:
        for value in body[:20]:
            yield from fields(value, levels - 1)


def _duration(text: str) -> float | None:
    """
    >>> _duration("1m2.5s"), _duration("36s"), _duration("20"), _duration("soon")
    (62.5, 36.0, 20.0, None)
    """
    text = text.strip()[:50]
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _DURATION.findall(text)
    return sum(float(number) * _seconds(unit.lower()) for number, unit in parts) if parts else None


def _seconds(unit: str) -> float:
    return _SECONDS["ms" if unit.startswith(("ms", "milli")) else unit[0]]


def _of_date(text: str) -> float | None:
    """Seconds until a date as HTTP or RFC 3339 writes it."""
    try:
        if date := email.utils.parsedate_tz(text):
            return max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):  # a date that no calendar has
        pass
    if "T" in text:
        try:
            return max(0.0, datetime.fromisoformat(text.strip()[:50]).timestamp() - time.time())
        except (ValueError, OverflowError):
            pass
    return None


def _until(text: str) -> float | None:
    """Seconds until what a reset is said to be at: a duration, a date, or a time in seconds or milliseconds."""
    delay = _duration(text)
    if delay is None:
        return _of_date(text)
    if delay > 10**8:
        delay = max(0.0, (delay if delay < 10**11 else delay / 1e3) - time.time())
    return delay


def _reset(headers: Mapping[str, str]) -> float | None:
    """What `x-ratelimit-reset*` says of the limits of which nothing remains, or of all where none says so."""
    delays: dict[str, float] = {}
    for name, text in headers.items():
        is_reset = name.startswith(("x-ratelimit-reset", "ratelimit-reset", "anthropic-ratelimit-")) and "reset" in name
        if is_reset and (delay := _until(text)) is not None:
            delays[name] = delay
    empty = [delay for name, delay in delays.items() if headers.get(name.replace("reset", "remaining")) == "0"]
    return max(empty or delays.values(), default=None)
