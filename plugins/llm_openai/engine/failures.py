"""What can go wrong at an endpoint, and the error that a caller gets for it.

| the endpoint | error | reason |
|---|---|---|
| 400, other 4xx | INVALID_ARGUMENT | UPSTREAM_INVALID_REQUEST, or CONTEXT_LENGTH_EXCEEDED |
| 401 · 403 · 404 | UNAUTHENTICATED · PERMISSION_DENIED · NOT_FOUND | UPSTREAM_… and the same |
| 408, 504, silence | DEADLINE_EXCEEDED | UPSTREAM_TIMEOUT |
| 402, a quota that is used up · 429 | RESOURCE_EXHAUSTED | UPSTREAM_QUOTA · UPSTREAM_RATE_LIMITED with RetryInfo |
| a tool call that the endpoint could not read | FAILED_PRECONDITION | TOOL_CALL_NOT_READ |
| 5xx, 529, no connection | UNAVAILABLE | UPSTREAM_UNAVAILABLE, UPSTREAM_UNREACHABLE |
| a page, a redirect, anything that is no reply | UNAVAILABLE | UPSTREAM_MALFORMED |
| an empty reply, or one that was cut off | UNAVAILABLE | STREAM_TRUNCATED |
| one past `max_response_bytes` (`limits.py`) | RESOURCE_EXHAUSTED | RESPONSE_TOO_LARGE |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from shared.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    LimitReached,
    NotFound,
    PermissionDenied,
    PluginError,
    Unauthenticated,
    Unavailable,
)

from .halves import sound
from .waiting import fields, is_used_up, retry_after

_LONGEST_MESSAGE = 400  # characters that an endpoint's own words get in ours
_LONGEST_KEPT = 10_000  # of them, until secrets were taken out: a half would not be recognised
_LONGEST_GENERATION = 500  # characters of it: an error has to fit into the headers of HTTP/2
_MOST_COMPLAINTS = 5  # of a list of them
_LONGEST_WORD = 1_000  # characters of a code, before secrets were taken out
_OVERFLOWS = tuple(entry["words"] for entry in json.loads(Path(__file__).with_name("overflow.json").read_text()))
# What is said in words where there is no status, as in an error inside a stream.
_STATUS_OF = {
    "rate_limit": 429, "too_many_requests": 429, "quota": 429, "overloaded": 529, "timeout": 504, "not_found": 404,
    "authentication": 401, "invalid_api_key": 401, "unauthorized": 401, "permission": 403, "forbidden": 403,
    "context_length": 400, "invalid": 400, "badrequest": 400, "bad_request": 400, "unavailable": 503, "internal": 500,
    "server_error": 500,
}  # fmt: skip


# Where servers put the words: OpenAI and most, FastAPI, Cohere, RFC 9457, MiniMax, Baidu, Java and OAuth.
_MESSAGES = ("message", "msg", "error_description", "error", "title", "status_msg", "error_msg", "errorMessage",
             "error_message", "reason")  # fmt: skip
# And deeper in, in one spelling.
_DEEP_MESSAGES = ("message", "msg", "faultstring", "details", "detail", "errormessage", "errormsg", "statusmsg",
                  "description", "exception", "text", "error", "data")  # fmt: skip


class Kind(Enum):
    STATUS = "status"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"


class Failure(Exception):
    """One attempt at one endpoint failed. `status` is the HTTP status, or what an error inside a 200 stands for."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        param: str = "",
        retry_after: float | None = None,
        should_retry: bool | None = None,
        is_used_up: bool = False,
        generation: str = "",
    ) -> None:
        """`is_used_up`: no quota or money is left; `generation`: what the model wrote and the endpoint took for a tool
        call that it cannot read."""
        super().__init__(message)
        self.kind, self.message, self.status, self.code, self.param = kind, message, status, code, param
        self.retry_after, self.is_used_up, self.generation = retry_after, is_used_up, generation
        self._should_retry = should_retry
        self.endpoint = ""

    def tell(self, endpoint: str, secrets: Sequence[str]) -> None:
        """Names the endpoint, takes out secrets, which some repeat in their errors, and then cuts what is long."""
        self.endpoint = endpoint
        for secret in secrets:
            self.message, self.code = self.message.replace(secret, "***"), self.code.replace(secret, "***")
            self.generation = self.generation.replace(secret, "***")
        self.message, self.code = _cut(self.message, _LONGEST_MESSAGE), _cut(self.code, 100)
        self.generation = _cut(self.generation, _LONGEST_GENERATION)

    @property
    def is_overflow(self) -> bool:
        """The request is longer than the model's context."""
        words = f"{self.code} {self.message}".lower()
        return self.kind is Kind.STATUS and self.status not in (401, 429) and any(one in words for one in _OVERFLOWS)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed at the same endpoint a little later."""
        if self._should_retry is not None:
            return self._should_retry
        if self.kind is Kind.STATUS:
            lasting = self.is_used_up or self.is_overflow or self.status == 501
            return not lasting and (self.status in (408, 409, 425, 429) or self.status >= 500)
        return self.kind in (Kind.UNREACHABLE, Kind.TRUNCATED)

    @property
    def elsewhere(self) -> bool:
        """Whether another endpoint or model may do better: unless the request itself is wrong."""
        return (
            self.kind is not Kind.STATUS
            or self.is_used_up
            or (self.status >= 500 and not self.is_overflow)
            or self.status in (401, 402, 403, 404, 408, 409, 425, 429)
        )

    def error(self) -> PluginError:
        """What the caller gets."""
        status = self.status
        said = f"{self.endpoint} answered {status}: {self.message}" if status else f"{self.endpoint}: {self.message}"
        metadata = {"endpoint": self.endpoint} | ({"http_status": str(status)} if status else {})
        if self.code:
            metadata["code"] = self.code
        if self.kind is Kind.TIMEOUT or status in (408, 504):
            return DeadlineExceeded(
                f"{said}; ask for less or raise read_timeout", reason="UPSTREAM_TIMEOUT", metadata=metadata
            )
        if self.kind is Kind.UNREACHABLE:
            return Unavailable(
                said, reason="UPSTREAM_UNREACHABLE", metadata=metadata, retry_after=self.retry_after or 1
            )
        if self.kind is Kind.TRUNCATED:
            return Unavailable(said, reason="STREAM_TRUNCATED", metadata=metadata)
        if self.kind is Kind.MALFORMED:
            return Unavailable(said, reason="UPSTREAM_MALFORMED", metadata=metadata)
        if self.is_used_up:
            return LimitReached(f"{said}; top up the account", reason="UPSTREAM_QUOTA", metadata=metadata)
        if status == 429:
            return LimitReached(
                said, reason="UPSTREAM_RATE_LIMITED", metadata=metadata, retry_after=self.retry_after or 1
            )
        if self.generation:
            return FailedPrecondition(
                f"{said}; the model wrote a tool call that the endpoint cannot read: try again, or another model",
                reason="TOOL_CALL_NOT_READ",
                metadata=metadata | {"failed_generation": self.generation},
            )
        if self.is_overflow:
            return InvalidArgument(
                f"{said}; send fewer or shorter messages", reason="CONTEXT_LENGTH_EXCEEDED", metadata=metadata
            )
        if status == 401:
            return Unauthenticated(
                f"{said}; check the setting api_key", reason="UPSTREAM_UNAUTHENTICATED", metadata=metadata
            )
        if status == 403:
            return PermissionDenied(
                f"{said}; check what the key may do", reason="UPSTREAM_PERMISSION_DENIED", metadata=metadata
            )
        if status == 404:
            return NotFound(
                f"{said}; check model, and that endpoint ends where /chat/completions is to follow",
                reason="UPSTREAM_NOT_FOUND",
                metadata=metadata,
            )
        if status >= 500:
            return Unavailable(
                said, reason="UPSTREAM_UNAVAILABLE", metadata=metadata, retry_after=self.retry_after or 1
            )
        if 300 <= status < 400:
            return Unavailable(said, reason="UPSTREAM_MALFORMED", metadata=metadata)
        return InvalidArgument(said, reason="UPSTREAM_INVALID_REQUEST", metadata=metadata)


def of_status(status: int, body: Any, *, headers: Mapping[str, str]) -> Failure:
    """`body` is the parsed JSON of a reply with this status, or its text."""
    message, code, param, _ = describe(body)
    delay = retry_after(status, headers, body, message)
    return Failure(
        Kind.STATUS,
        message or "no reason was given",
        status=status,
        code=code,
        param=param,
        retry_after=delay,
        is_used_up=is_used_up(status, code, message, body, delay),
        generation=_generation(body),
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
    )


def in_reply(body: Any) -> Failure:
    """An error that came with a 200, alone or in the middle of a stream."""
    message, code, param, status = describe(body)
    status = status or 500
    delay = retry_after(status, {}, body, message)
    return Failure(
        Kind.STATUS,
        message or "an error without a reason",
        status=status,
        code=code,
        param=param,
        retry_after=delay,
        is_used_up=is_used_up(status, code, message, body, delay),
        generation=_generation(body),
    )


def _generation(body: Any) -> str:
    """Groq's `failed_generation`."""
    inner = body.get("error") if isinstance(body, Mapping) else None
    text = inner.get("failed_generation") if isinstance(inner, Mapping) else None
    return sound(text[:_LONGEST_KEPT]) if isinstance(text, str) else ""


def describe(body: Any, levels: int = 3) -> tuple[str, str, str, int]:
    """(message, code, param, status or 0) of an error in any of the shapes that servers have for it.

    >>> describe({"error": {"message": "slow down", "type": "rate_limit_error", "code": None}})
    ('slow down', 'rate_limit_error', '', 429)
    >>> describe({"detail": [{"loc": ["body", "stop"], "msg": "Extra inputs are not permitted"}]})
    ('stop: Extra inputs are not permitted', '', 'stop', 0)
    """
    if isinstance(body, Mapping):
        inner = next((body[key] for key in ("error", "detail", "errors", "base_resp") if body.get(key)), None)
        if isinstance(inner, Mapping):
            outer = {key: value for key, value in body.items() if not isinstance(value, Mapping | list)}
            body = outer | dict(inner)
        elif inner is not None and not (body.get("message") or body.get("error_description")):
            body = inner
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        placed = [placed for one in body[:_MOST_COMPLAINTS] if (placed := _placed(one))]
        if placed:
            return _short("; ".join(words for _, words in placed)), "", placed[0][0], 0
        return describe(body[0], levels - 1) if levels else _of_mapping(body[0])
    if not isinstance(body, Mapping):
        text = "" if body is None else str(_beginning(body))
        return _short(re.sub(r"<[^<>]*>", " ", text) if text.lstrip().startswith("<") else text), "", "", 0
    return _of_mapping(body)


def _placed(complaint: object) -> tuple[str, str] | None:
    """(the field at fault, the words) of a complaint as FastAPI has it."""
    loc = complaint.get("loc") if isinstance(complaint, Mapping) else None
    parts = [part for part in loc[:10] if isinstance(part, str | int)] if isinstance(loc, list) else []
    place = [_word(str(part)) for part in parts if part != "body"]
    if not place or not isinstance(complaint, Mapping):
        return None
    said = complaint.get("msg")
    return place[0], f"{'.'.join(place)}: {said if isinstance(said, str) else ''}"


def _words_of(body: Mapping[str, Any]) -> str:
    """The message of an error, whatever it is called, and the words of the provider behind a proxy."""
    words = ""
    for key in _MESSAGES:
        value = body.get(key)
        if isinstance(value, list):
            value = "; ".join(one for one in value[:_MOST_COMPLAINTS] if isinstance(one, str))
        if isinstance(value, str) and value:
            words = value
            break
    else:
        deep = (value for name, value in fields(body) if name in _DEEP_MESSAGES and isinstance(value, str) and value)
        words = next(deep, "")
    behind = body.get("metadata")
    raw = behind.get("raw") if isinstance(behind, Mapping) else None
    return f"{words}: {raw}" if isinstance(raw, str) and raw else words


def _of_mapping(body: Mapping[str, Any]) -> tuple[str, str, str, int]:
    named = [body.get(key) for key in ("code", "type", "status")]
    code = next((_word(one) for one in named if isinstance(one, str) and one and not one.isdigit()), "")
    number = next((int(str(one)) for one in named if _is_status(one)), 0)
    words = f"{code} {_word(body.get('type'))}".lower()
    status = number or next((status for word, status in _STATUS_OF.items() if word in words), 0)
    return _short(_words_of(body)), code, _word(body.get("param")), status


def _beginning(body: Any, levels: int = 3) -> Any:
    """Of a value that may be a list of a million lists. Texts stay whole, since they may hold a secret."""
    if isinstance(body, str):
        return body[:_LONGEST_KEPT]
    if isinstance(body, Mapping):
        return {key[:_LONGEST_KEPT]: _beginning(body[key], levels - 1) for key in list(body)[:5]} if levels else {}
    if isinstance(body, list):
        return [_beginning(one, levels - 1) for one in body[:5]] if levels else []
    return str(body)[:100]


def _word(value: object) -> str:
    """A name of something, which nobody needs by the megabyte."""
    return sound(value[:_LONGEST_WORD]) if isinstance(value, str) else ""


def _is_status(value: object) -> bool:
    return (isinstance(value, int) and 400 <= value <= 599) or (
        isinstance(value, str) and re.fullmatch(r"[45]\d\d", value) is not None
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _short(text: str) -> str:
    return _cut(sound(" ".join(text[:_LONGEST_KEPT].split())), _LONGEST_KEPT)
