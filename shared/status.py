"""How an error of `shared/errors.py` travels: in the reply (`success=false`) or as a gRPC status, details alike."""

from __future__ import annotations

from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from .errors import CallerError, Code, PluginError

DOMAIN = "plugins.hector.dev"
DETAILS_KEY = "grpc-status-details-bin"
# A gRPC status rides in headers, and peers refuse more than 8 KiB of them. The message stands there percent-encoded, up
# to three bytes for one, and once more in the details, in base64. So, in bytes of UTF-8:
_LONGEST_TEXT = 1_000
_LONGEST_DETAILS = 3_000

_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Failing(Protocol):
    success: bool
    error: str

    @property
    def status(self) -> status_pb2.Status: ...


Reply = TypeVar("Reply", bound=_Failing)


def to_status(error: PluginError, most: int = 100) -> status_pb2.Status:
    """The error as google.rpc.Status: code, message, ErrorInfo, and BadRequest and RetryInfo where they apply.

    At most `most` violations and pieces of metadata; texts that are too long are cut.
    """
    error.let_go()
    status = status_pb2.Status(code=int(error.code), message=_text(error.message))
    metadata = {key: _text(value, 200) for key, value in list(error.metadata.items())[:most]}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if error.violations[:most]:
        bad = error_details_pb2.BadRequest()
        for field, description in error.violations[:most]:
            bad.field_violations.add(field=_text(field, 200), description=_text(description))
        status.details.add().Pack(bad)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def failure(reply: Reply, error: CallerError) -> Reply:
    """`reply` with `success=false`, `error` and `status` filled. Use: `return failure(pb.GetResponse(), error)`."""
    reply.success = False
    reply.error = _text(error.message)
    reply.status.CopyFrom(to_status(error))
    return reply


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: PluginError) -> NoReturn:
    """Ends the call with the error's code and message, the details in `grpc-status-details-bin`."""
    message, metadata = as_trailers(error)
    await context.abort(grpc_code(error.code), message, trailing_metadata=metadata)
    raise AssertionError("abort returned")


def as_trailers(error: PluginError) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """The message, and the metadata that goes with it. Kept with the error, which may end thousands of calls."""
    kept: tuple[str, tuple[tuple[str, bytes], ...]] | None = vars(error).get("trailers")
    if kept is None:
        status = next(s for most in (100, 16, 4, 1, 0) if (s := to_status(error, most)).ByteSize() <= _LONGEST_DETAILS)
        kept = vars(error)["trailers"] = status.message, ((DETAILS_KEY, status.SerializeToString()),)
    return kept


def grpc_code(code: Code) -> grpc.StatusCode:
    return _GRPC_CODES[int(code)]


def _text(text: str, limit: int = _LONGEST_TEXT) -> str:
    """`text` as a protobuf string can hold it, in at most `limit` bytes."""
    # Half a surrogate pair, as JSON and file names can bring in, has no UTF-8.
    raw = text.encode("utf-8", "backslashreplace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"
