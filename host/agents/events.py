"""What happens while an agent works, in the order in which it does: a run is a stream of these.

    StepBegan, (ThoughtDelta | AnswerDelta)*, (ActionAsked, …, Observed)*, StepEnded, … , Done

The terminal and the page show the same stream. A run that fails raises AgentFailed (`host/agents/failure.py`), which
whoever shows it shows as Failed, in place of Done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens, read and written."""

    prompt: int = 0
    completion: int = 0
    total: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion, self.total + other.total)


@dataclass(frozen=True)
class StepBegan:
    """The model is asked for its next step."""

    number: int  # from 1


@dataclass(frozen=True)
class ThoughtDelta:
    """The next piece of the thought."""

    text: str


@dataclass(frozen=True)
class AnswerDelta:
    """The next piece of what is the answer; of a thought after all, where an action of the same step follows."""

    text: str


@dataclass(frozen=True)
class ActionAsked:
    """The model asked for a tool; it may still be refused."""

    id: str
    tool: str
    arguments: str  # a JSON object


@dataclass(frozen=True)
class Observed:
    """An action has ended, or was refused; in the order in which they do."""

    id: str  # of the action
    tool: str
    content: str  # what the model is told
    is_error: bool
    denied: bool  # by a person or a policy
    seconds: float  # since it was asked for


@dataclass(frozen=True)
class Waiting:
    """A plugin is away, as while it restarts: the step is taken again. Text that it has shown so far comes anew."""

    reason: str


@dataclass(frozen=True)
class StepEnded:
    """The step is whole."""

    number: int
    thought: str
    note: str  # what the model is told after it, such as that it repeats itself; empty: nothing
    usage: Usage | None  # None: unknown
    seconds: float


@dataclass(frozen=True)
class Citation:
    """A passage that the answer cites by its number, and that the model was given."""

    number: int  # as in the answer: [2]
    path: str
    place: str  # FILE:LINE, as a terminal opens it, or "FILE, page 3"
    line: int  # of the passage's first line, from 1; of the page, row or the like of a file that has no lines
    end_line: int
    heading: str
    score: float
    text: str  # the passage, as the model was given it
    quotes: tuple[str, ...]  # of the answer, word for word in this passage


@dataclass(frozen=True)
class Done:
    """The run is over. `citations` are in the order of the answer."""

    answer: str
    stop_reason: str  # ANSWERED, or the limit that ended it, as in StopReason
    usage: Usage | None  # of the whole run; None: unknown
    steps: int
    tool_calls: int
    seconds: float
    citations: tuple[Citation, ...] = ()
    unknown_citations: tuple[int, ...] = ()  # numbers that no passage has
    unfound_quotes: tuple[str, ...] = ()  # of the answer, and word for word in no passage that it cites

    @property
    def is_answered(self) -> bool:
        return self.stop_reason == "ANSWERED"


@dataclass(frozen=True)
class Failed:
    """The run ended without Done, or never began."""

    message: str  # one sentence
    code: str  # the canonical one, as UNAVAILABLE
    reason: str  # of its ErrorInfo; empty: none


Event = StepBegan | ThoughtDelta | AnswerDelta | ActionAsked | Observed | Waiting | StepEnded | Done | Failed


def as_json(event: Event) -> Mapping[str, Any]:
    """
    >>> as_json(StepBegan(1))
    {'event': 'StepBegan', 'number': 1}
    """
    return {"event": type(event).__name__, **asdict(event)}
