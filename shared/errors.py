"""Every error a plugin answers with, as one tree. Engines raise these; no transport is known here.

    PluginError
    ├── CallerError            the caller (or the model behind it) can act on it → `success=false`
    │   ├── InvalidArgument    INVALID_ARGUMENT     the request is wrong, whatever the state
    │   ├── NotFound           NOT_FOUND
    │   ├── AlreadyExists      ALREADY_EXISTS
    │   ├── FailedPrecondition FAILED_PRECONDITION  the request is fine, the state is not
    │   ├── PermissionDenied   PERMISSION_DENIED    known who asks, and it may not
    │   ├── LimitReached       RESOURCE_EXHAUSTED   a limit or budget that the caller or operator set
    │   └── Unsupported        UNIMPLEMENTED        an option this plugin does not have
    └── ServiceError           nobody asked for it → a gRPC status
        ├── Overloaded         RESOURCE_EXHAUSTED   try again later
        ├── TooLarge           RESOURCE_EXHAUSTED   the message is past a limit
        ├── Malformed          INVALID_ARGUMENT     bytes that are no message, or no message at all
        ├── StorageFull        RESOURCE_EXHAUSTED   the disk is full
        ├── DeadlineExceeded   DEADLINE_EXCEEDED
        ├── Unavailable        UNAVAILABLE          loading, or shutting down
        ├── Unauthenticated    UNAUTHENTICATED      no credential, or a wrong one
        ├── Unimplemented      UNIMPLEMENTED        an RPC this plugin does not have
        ├── DataLoss           DATA_LOSS            what was stored cannot be read
        └── Internal           INTERNAL             a bug: the caller sees a request id and nothing else
    StartError                 the process cannot start: one line on stderr, exit status 2

How they travel is `shared/status.py`'s. A message is one sentence that names the thing and the remedy, and it never
holds a secret, a path of the server or a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Self


class Code(IntEnum):
    """The canonical codes of google.rpc.Code, the same numbers as gRPC's."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StartError(Exception):
    """The process cannot start as it was told to. The message is one line for the operator, remedy included."""


class PluginError(Exception):
    """An answer other than the wanted one.

    `reason` is UPPER_SNAKE and stable: programs branch on it. `field` names the request field at fault, in the form
    `vectors[3].vector`; more than one goes into `violations`, as (field, description). `metadata` rides in ErrorInfo.
    `retry_after` is in seconds and says that the same call can succeed then.
    """

    code: Code = Code.UNKNOWN
    reason: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.violations = tuple(violations) or (((field, message),) if field else ())
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after

    def let_go(self) -> Self:
        """Itself, once caught, without what it holds of those that raised it, the request above all.

        A traceback has its frames, and these the frames around them. Where one of all these has the error in a list of
        results or a future, only a collection of garbage frees them, perhaps after hundreds of calls.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class CallerError(PluginError):
    """The caller or the model can act on it; where the reply has `success`, it goes there."""


class InvalidArgument(CallerError):
    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"


class NotFound(CallerError):
    code = Code.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(CallerError):
    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class FailedPrecondition(CallerError):
    code = Code.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class PermissionDenied(CallerError):
    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class LimitReached(CallerError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "LIMIT_REACHED"


class Unsupported(CallerError):
    code = Code.UNIMPLEMENTED
    reason = "UNSUPPORTED"


class ServiceError(PluginError):
    """Nobody asked for it; always a gRPC status."""


class Overloaded(ServiceError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class TooLarge(ServiceError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "MESSAGE_TOO_LARGE"


class Malformed(ServiceError):
    code = Code.INVALID_ARGUMENT
    reason = "MALFORMED_MESSAGE"


class StorageFull(ServiceError):
    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


class DeadlineExceeded(ServiceError):
    code = Code.DEADLINE_EXCEEDED
    reason = "TIMEOUT"


class Unavailable(ServiceError):
    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class Unauthenticated(ServiceError):
    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Unimplemented(ServiceError):
    code = Code.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class DataLoss(ServiceError):
    code = Code.DATA_LOSS
    reason = "DATA_LOSS"


class Internal(ServiceError):
    code = Code.INTERNAL
    reason = "INTERNAL"


def quoted(text: str, limit: int = 60) -> str:
    """`text` as it may stand in a message: in quotes, on one line, cut to `limit` characters.

    >>> quoted("a" * 100, 5)
    "'aaaaa…'"
    """
    return repr(text if len(text) <= limit else text[:limit] + "…")
