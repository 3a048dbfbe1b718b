"""Leaves out what grpc.aio logs, with a traceback, for what any client can do: go before its answer, or send metadata
that is no text. Of metadata it would log each entry, and making 400 records took 4 ms of the event loop.

It leans on grpcio's inside: `shared/accept.py` names the versions. With others a filter does the same, later.
"""

from __future__ import annotations

import logging
from typing import Any

from grpc._cython import cygrpc

_NO_NEWS = ("ExecuteBatchError raised in core", "Failed sending error", "Invalid encoding")

_logger = logging.getLogger("grpc._cython.cygrpc")
_logger.addFilter(lambda record: not str(record.msg).startswith(_NO_NEWS))


class _Quiet:
    def exception(self, message: Any, *args: Any) -> None:
        if not str(message).startswith(_NO_NEWS):
            _logger.exception(message, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger, name)


def be_quiet() -> None:
    """From here on, for all of grpc.aio in this process, before a record is made."""
    cygrpc._LOGGER = _Quiet()
