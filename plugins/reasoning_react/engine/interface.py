"""What callers of the engine give it and get from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .chat import Message, Tool, Usage
from .run import Action, Budget, Mode, Observation, Step, StopReason


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the operator. 0 sets no limit, but for `max_iterations` and `tool_timeout`."""

    model: str = ""  # empty: the LLM provider's own
    temperature: float | None = None  # None: the LLM provider's own
    mode: Mode | None = None  # None: what the model can
    max_iterations: int = 10  # of a run that does not say
    max_tokens: int = 200_000  # of a run
    max_tool_calls: int = 50  # of a run
    max_seconds: float = 600.0  # of a run, from Initialize on; its last answer may take a minute more
    tool_timeout: float = 60.0  # seconds of a tool call
    max_repairs: int = 3  # times in a run that the model is told that its output cannot be read
    kept_chars: int = 8_000  # of an observation in the state
    context_length: int = 0  # tokens that the model reads and writes together; 0: as its provider says
    max_state_bytes: int = 2**20
    state_ttl: float = 86_400.0  # seconds that a state stays usable, from Initialize on
    kept_replies: int = 256  # which a repeated call is answered with
    kept_bytes: int = 32 * 2**20  # of those together
    kept_for: float = 900.0  # seconds


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run to begin. What is empty, 0 or None is as the settings say."""

    query: str = ""  # the question; empty: the first step's input, else `context`
    context: str = ""  # background; the question where there is no other
    history: tuple[Message, ...] = ()  # the conversation before the question
    tools: tuple[Tool, ...] = ()  # offered to the model; none: all of the tool providers
    llm: str = ""  # a name of one of the engine's
    model: str = ""
    temperature: float | None = None
    mode: Mode | None = None
    host_executes: bool = False  # tool calls come back as StepResult.pending
    max_iterations: int = 0  # steps; wins over the setting
    budget: Budget = Budget()  # the lower of it and the settings holds


@dataclass(frozen=True)
class ThoughtDelta:
    """The next piece of the thought."""

    text: str


@dataclass(frozen=True)
class AnswerDelta:
    """The next piece of the answer. Shown early: the step's reply says what it turned out to be."""

    text: str


@dataclass(frozen=True)
class ActionAsked:
    """The model asked for an action, which is going to be run, refused, or handed to the host."""

    action: Action


@dataclass(frozen=True)
class Observed:
    """An action of this step has ended; in the order in which they do."""

    observation: Observation


Event = ThoughtDelta | AnswerDelta | ActionAsked | Observed
Show = Callable[[Event], None]


@dataclass(frozen=True)
class StepResult:
    """What a step brought."""

    state: bytes  # for the next call
    text: str  # the answer once `done`; before, the thought
    done: bool
    step: Step  # its observations are whole; they are missing for actions in `pending`
    pending: tuple[Action, ...]  # for the host to run before the next step
    stop_reason: StopReason | None  # None until `done`
    usage: Usage | None  # of this step; None: unknown
    iteration: int  # the number of this step, from 1


@dataclass(frozen=True)
class Result:
    """What a run brought."""

    answer: str
    stop_reason: StopReason
    usage: Usage | None  # of the whole run; None: unknown
    steps: tuple[Step, ...]  # their observations are cut to Settings.kept_chars
    left_out: int = 0  # of `steps`, the oldest, which for want of room the model was shown no more than a line of
