"""Why a run could not go on: what a plugin says, as a gRPC status or in its reply."""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from shared.errors import Code, StartError
from shared.status import DETAILS_KEY

_LONGEST = 1_000  # characters of a message
_MOST_DETAILS = 20


class AgentFailed(StartError):
    """The run ended without an answer. One sentence that names the plugin; `code` is the canonical one, `reason` that
    of its ErrorInfo, empty where gRPC itself failed."""

    def __init__(self, message: str, code: Code = Code.UNKNOWN, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    @property
    def is_passing(self) -> bool:
        """Whether the same call may well succeed in a moment."""
        return self.code is Code.UNAVAILABLE and not self.reason.startswith("UPSTREAM_")


def of_call(who: str, error: grpc.RpcError) -> AgentFailed:
    """`who`: the plugin, for the message."""
    status = status_pb2.Status()
    with contextlib.suppress(DecodeError, TypeError):
        status.ParseFromString(details_of(error))
    status.code = int(error.code().value[0])
    reason = _reason(status)
    # gRPC's own words for a server that is not there are long, and name what nobody asked about.
    words = error.details() or ""
    if status.code == Code.UNAVAILABLE and not reason:
        words = "it is not there, or has gone"
    elif status.code == Code.UNIMPLEMENTED and not words:
        words = "it has no such call"
    return AgentFailed(f"{who}: {_code(status.code).name}: {_short(words)}", _code(status.code), reason)


def details_of(error: grpc.RpcError) -> bytes:
    """The google.rpc.Status that rides with it; empty where none does."""
    trailers: Any = error.trailing_metadata() or ()
    value = dict(trailers).get(DETAILS_KEY, b"")
    return value if isinstance(value, bytes) else b""


def of_reply(who: str, reply: Any) -> AgentFailed:
    """Of a reply with `success` false."""
    code = _code(reply.status.code)
    return AgentFailed(f"{who}: {_short(reply.error) or 'it failed and does not say why'}", code, _reason(reply.status))


def _reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details[:_MOST_DETAILS]:
        try:
            if detail.Unpack(info):
                return str(info.reason)
        except DecodeError:
            continue
    return ""


def _code(number: int) -> Code:
    return Code(number) if number in set(Code) else Code.UNKNOWN


def _short(text: str) -> str:
    text = " ".join(text[: 4 * _LONGEST].split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
