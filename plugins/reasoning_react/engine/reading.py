"""What a model's text turned out to be. `reader/` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from .chat import JSON


@dataclass(frozen=True)
class Call:
    """One tool call that was read. The name may be unknown: that is the model's mistake, not the text's."""

    name: str
    arguments: dict[str, JSON]


@dataclass(frozen=True)
class Act:
    """The model wants tools run. `end`: where in the text its last action ends; what follows was made up."""

    thought: str
    calls: tuple[Call, ...]
    end: int


@dataclass(frozen=True)
class Final:
    """The model has answered."""

    thought: str
    text: str


@dataclass(frozen=True)
class ThoughtOnly:
    """The model has thought, and neither acted nor answered."""

    thought: str


@dataclass(frozen=True)
class Malformed:
    """The model tried something that cannot be read. `problem` tells it what, and what to write instead."""

    thought: str
    problem: str


Reading = Act | Final | ThoughtOnly | Malformed
