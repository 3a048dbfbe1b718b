"""Who is shown a step while it is taken: all that wait for it, from its first event on."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager

from .interface import AnswerDelta, Event, Show, ThoughtDelta

_LONGEST_PIECE = 4_096  # characters: pieces of text are joined so far, and no further, since each joint copies them


class Audience:
    """Of one step."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._shows: list[Show] = []
        self.waiting = 0

    def begin(self) -> None:
        self._events = []

    def show(self, event: Event) -> None:
        add_joined(self._events, event)
        for show in self._shows:
            show(event)

    def join(self, show: Show) -> None:
        for event in self._events:
            show(event)
        self._shows.append(show)

    def leave(self, show: Show) -> None:
        self._shows.remove(show)


def add_joined(events: MutableSequence[Event], event: Event) -> None:
    """Puts `event` at the end, as one with the last where both are pieces of the same text: a model may write its text
    in pieces of one character."""
    last = events[-1] if events else None
    if not isinstance(event, ThoughtDelta | AnswerDelta) or type(last) is not type(event):
        events.append(event)
        return
    assert isinstance(last, ThoughtDelta | AnswerDelta)
    if len(last.text) + len(event.text) > _LONGEST_PIECE:
        events.append(event)
    else:
        events[-1] = type(event)(last.text + event.text)


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
