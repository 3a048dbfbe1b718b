"""Who is shown a step while it is taken: all that wait for it, from its first event on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .interface import Event, Show


class Audience:
    """Of one step."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._shows: list[Show] = []
        self.waiting = 0

    def begin(self) -> None:
        self._events = []

    def show(self, event: Event) -> None:
        self._events.append(event)
        for show in self._shows:
            show(event)

    def join(self, show: Show) -> None:
        for event in self._events:
            show(event)
        self._shows.append(show)

    def leave(self, show: Show) -> None:
        self._shows.remove(show)


class Audiences:
    """Of the steps under way."""

    def __init__(self) -> None:
        self._by_step: dict[bytes, Audience] = {}

    @contextmanager
    def joined(self, step: bytes, show: Show | None) -> Iterator[Audience]:
        audience = self._by_step.setdefault(step, Audience())
        audience.waiting += 1
        try:
            if show is not None:
                audience.join(show)
            yield audience
        finally:
            if show is not None:
                audience.leave(show)
            audience.waiting -= 1
            if not audience.waiting:
                self._by_step.pop(step, None)
