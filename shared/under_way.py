"""Calls that are under way: what each waits for, and how it is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .errors import PluginError

REFUSAL_SECONDS = 5.0  # that a client which does not read is given to take an error


class Call:
    """One call from when it came until gRPC is done with it. Times are `time.monotonic()`, 0.0 for not now."""

    __slots__ = (
        "abandoned",
        "answer",
        "awaits_since",
        "dropped",
        "error",
        "first",
        "is_first",
        "patience",
        "reader",
        "replies_since",
        "reply_bytes",
        "reply_patience",
        "request_id",
        "task",
        "waits_as",
    )  # fmt: skip

    def __init__(self) -> None:
        self.request_id = ""
        self.awaits_since = 0.0  # since when the call waits for a message
        self.patience = 0.0  # how long it may, in seconds; 0 for any time
        self.waits_as = ""  # the setting that says so
        self.is_first = True  # of the call
        self.first: bytes | None = None  # the message that was waited for before the handler began
        self.replies_since = 0.0  # since when a reply waits for the client to read
        self.reply_patience = 0.0  # how long it may, in seconds
        self.reply_bytes = 0
        self.error: PluginError | None = None  # why it was ended
        self.reader: asyncio.Task[Any] | None = None  # what waits for a message
        self.abandoned: list[Callable[[], None]] = []  # what lets go of gRPC's part of waits that were broken off
        self.dropped = False
        self.answer: asyncio.Task[Any] | None = None  # what runs the handler and sends its reply
        self.task: asyncio.Task[None] | None = None  # what waits for gRPC to be done with the call

    def refuse(self, error: PluginError) -> None:
        """Ends the wait for a message with an error."""
        if self.reader is not None and self.error is None:
            self.error = error
            self.reader.cancel()

    def drop(self) -> None:
        """Ends the call at once, and lets go of what it holds; the client sees its stream reset."""
        # gRPC cancels the call when nothing refers to its state any more, and these do.
        self.dropped = True
        for let_go in self.abandoned:
            let_go()
        self.abandoned.clear()
        for task in (self.answer, self.task):
            if task is not None:
                task.cancel()


current: ContextVar[Call] = ContextVar("call")


class Calls(dict[Call, None]):
    """Those under way, the oldest first, and the bytes of their replies that wait for clients to read."""

    unread_bytes = 0
    taken = 0  # how many there have been
    large = False  # whether one that gRPC held much for has ended of late


def now() -> float:
    return time.monotonic()
