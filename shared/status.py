"""How an error of `shared/errors.py` travels: in the reply (`success=false`) or as a gRPC status, details alike."""

from __future__ import annotations

from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from shared.errors import CallerError, Code, PluginError

DOMAIN = "plugins.hector.dev"
DETAILS_KEY = "grpc-status-details-bin"
# Status details ride in a header, and peers refuse headers of more than 8 KiB.
_LONGEST_MESSAGE = 1_000
_MOST_VIOLATIONS = 16

_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Failing(Protocol):
    success: bool
    error: str

    @property
    def status(self) -> status_pb2.Status: ...


Reply = TypeVar("Reply", bound=_Failing)


def to_status(error: PluginError) -> status_pb2.Status:
    """The error as google.rpc.Status: code, message, ErrorInfo, and BadRequest and RetryInfo where they apply."""
    status = status_pb2.Status(code=int(error.code), message=_clip(error.message))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for field, description in error.violations[:_MOST_VIOLATIONS]:
            bad.field_violations.add(field=field, description=_clip(description))
        status.details.add().Pack(bad)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def failure(reply: Reply, error: CallerError) -> Reply:
    """`reply` with `success=false`, `error` and `status` filled. Use: `return failure(pb.GetResponse(), error)`."""
    reply.success = False
    reply.error = _clip(error.message)
    reply.status.CopyFrom(to_status(error))
    return reply


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: PluginError) -> NoReturn:
    """Ends the call with the error's code and message, the details in `grpc-status-details-bin`."""
    status = to_status(error)
    metadata = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(grpc_code(error.code), status.message, trailing_metadata=metadata)
    raise AssertionError("abort returned")


def grpc_code(code: Code) -> grpc.StatusCode:
    return _GRPC_CODES[int(code)]


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
