"""What a failed call says, alike for a reply with success=false and for a gRPC status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from shared.errors import Code

DOMAIN = "plugins.hector.dev"


@dataclass(frozen=True)
class Refusal:
    """What a failed call says, alike for a reply with success=false and for a gRPC status."""

    message: str
    code: Code | None  # None: the reply has no `status`
    reason: str = ""
    domain: str = ""
    fields: tuple[str, ...] = ()
    retry: bool = False
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
        details = _details(status_pb2.Status.FromString(packed))
    except DecodeError:
        details = {}
    return Refusal(error.details() or "", _code(error.code().value[0]), reply=error, **details)


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
