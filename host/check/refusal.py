"""What a failed call says, alike for a reply with success=false and for a gRPC status."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from host.check.claims import expect
from shared.errors import Code

DOMAIN = "plugins.hector.dev"
_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|\bgoroutine \d+ \[|^\s+at .+:\d+:\d+", re.M
)
_INSIDE = re.compile(
    r"site-packages|node_modules|/usr/(?:lib|local)/|/(?:home|root)/\w"
    r"|[\w/]\.(?:py|go|js|ts|rs):\d+|\bat 0x[0-9a-f]{6,}"
)
_LONGEST = 4000  # characters of a sentence


@dataclass(frozen=True)
class Refusal:
    """What a failed call says, alike for a reply with success=false and for a gRPC status."""

    message: str
    code: Code | None  # None: the reply has no `status`
    reason: str = ""
    domain: str = ""
    fields: tuple[str, ...] = ()
    retry: bool = False
    packed_code: Code | None = None  # that of the details of a gRPC status, where it has some
    reply: Any = None


def of_reply(reply: Any) -> Refusal:
    """What a reply with success=false says."""
    has_status = reply.HasField("status")
    details = _details(reply.status) if has_status else {}
    code = _code(reply.status.code) if has_status else None
    return Refusal(reply.error, code, reply=reply, **details)


def of_status(status: status_pb2.Status, reply: Any = None) -> Refusal:
    """What a google.rpc.Status says, such as that of one item."""
    return Refusal(status.message, _code(status.code), reply=reply, **_details(status))


def of_call(error: Any) -> Refusal:
    """What a failed call says, with the details in its trailers."""
    trailers = dict(error.trailing_metadata() or ())
    packed = trailers.get("grpc-status-details-bin", b"")
    try:
        status = status_pb2.Status.FromString(packed)
        details = _details(status) | ({"packed_code": _code(status.code)} if packed else {})
    except DecodeError:
        details = {}
    return Refusal(error.details() or "", _code(error.code().value[0]), reply=error, **details)


def expect_sentence(refusal: Refusal, what: str, secrets: Iterable[str] = ()) -> Refusal:
    """Raises Broken where what it says is not a sentence for a caller, or says what is none of a caller's business;
    `what` names the fault in the request."""
    text = refusal.message
    expect(text.strip(), f"{what}: the error has no text", refusal.reply)
    expect(not _TRACEBACK.search(text), f"{what}: the error is a traceback", refusal.reply)
    expect(not _INSIDE.search(text), f"{what}: the error shows the server's own files or objects", refusal.reply)
    expect("\n" not in text.strip(), f"{what}: the error is more than one line", refusal.reply)
    expect(len(text) <= _LONGEST, f"{what}: the error has {len(text)} characters", refusal.reply)
    shown = any(secret in text for secret in secrets)
    expect(not shown, f"{what}: the error shows the token", refusal.reply)
    return refusal


def expect_code(refusal: Refusal, what: str, code: Code, field: str = "") -> Refusal:
    """Raises Broken where it has not this code, an ErrorInfo of the contract and, where `field` is given, a violation
    that names it (`vectors[0].vector`)."""
    got = refusal.code.name if refusal.code is not None else "no `status`"
    expect(refusal.code == code, f"{what}: {got}, where {code.name} belongs", refusal.reply)
    same = refusal.packed_code in (None, code)
    expect(same, f"{what}: the details have another code than the status, {code.name}", refusal.reply)
    expect(refusal.domain == DOMAIN, f"{what}: ErrorInfo.domain is {refusal.domain!r}, not {DOMAIN}", refusal.reply)
    snake = re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", refusal.reason)
    expect(snake, f"{what}: ErrorInfo.reason is {refusal.reason!r}, not UPPER_SNAKE", refusal.reply)
    if field:
        expect(
            any(name == field or name.startswith((field + "[", field + ".")) for name in refusal.fields),
            f"{what}: no BadRequest violation names {field}, only {list(refusal.fields)}",
            refusal.reply,
        )
    return refusal


def _details(status: status_pb2.Status) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for packed in status.details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        try:
            if packed.Unpack(info):
                values |= {"reason": info.reason, "domain": info.domain}
            elif packed.Unpack(bad):
                values["fields"] = tuple(violation.field for violation in bad.field_violations)
            elif packed.Unpack(retry):
                values["retry"] = True
        except DecodeError:
            continue
    return values


def _code(number: int) -> Code:
    return Code(number) if number in Code._value2member_map_ else Code.UNKNOWN
