"""What an error of another plugin says, whether it came as a gRPC status or in a reply."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from shared.errors import Code
from shared.status import DETAILS_KEY

_LONGEST = 1_000  # characters of a message
_MOST_DETAILS = 20


@dataclass(frozen=True)
class Failure:
    """`reason`: of the ErrorInfo; empty where the error came without one, as gRPC's own do."""

    code: Code
    message: str
    reason: str = ""
    retry_after: float | None = None  # seconds

    @property
    def is_reply_too_large(self) -> bool:
        """Whether a reply came and was not taken in: gRPC here, and not the server, says so."""
        is_ours = self.code is Code.RESOURCE_EXHAUSTED and not self.reason
        return is_ours and "CLIENT: Received message larger" in self.message


def of_call(error: grpc.aio.AioRpcError) -> Failure:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status()
    try:
        status.ParseFromString(bytes(trailers.get(DETAILS_KEY, b"")))
    except (DecodeError, TypeError):
        status.Clear()
    # The status line counts: a proxy on the way may have written a new one.
    status.code = int(error.code().value[0])
    status.message = error.details() or ""
    return of_status(status)


def of_status(status: status_pb2.Status, message: str = "") -> Failure:
    """`message` is what the reply itself says in `error`."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after = None
    for detail in status.details[:_MOST_DETAILS]:
        try:
            if detail.Unpack(retry):
                retry_after = max(0.0, retry.retry_delay.ToMilliseconds() / 1000)
            else:
                detail.Unpack(info)
        except DecodeError:
            continue
    code = Code(status.code) if status.code in set(Code) else Code.UNKNOWN
    words = " ".join((message or status.message)[: 4 * _LONGEST].split())
    return Failure(code, words if len(words) <= _LONGEST else words[:_LONGEST] + "…", info.reason, retry_after)
