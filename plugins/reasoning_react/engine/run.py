"""A run: everything that is known between two steps. `state.py` makes bytes of it and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .chat import Message, Tool, Usage


class Mode(Enum):
    """How the model asks for tools: through its API, or in its text."""

    NATIVE = "native"
    TEXT = "text"


class StopReason(Enum):
    """Why a run ended; the names are the contract's."""

    ANSWERED = "ANSWERED"
    MAX_ITERATIONS = "MAX_ITERATIONS"
    MAX_TOKENS = "MAX_TOKENS"
    MAX_TOOL_CALLS = "MAX_TOOL_CALLS"
    MAX_SECONDS = "MAX_SECONDS"
    REPEATED_ACTION = "REPEATED_ACTION"
    MALFORMED_OUTPUT = "MALFORMED_OUTPUT"
    FINALIZED_EARLY = "FINALIZED_EARLY"
    LLM_FAILED = "LLM_FAILED"
    DENIED = "DENIED"


@dataclass(frozen=True)
class Budget:
    """Limits on a whole run; 0 sets none."""

    max_tokens: int = 0
    max_tool_calls: int = 0
    max_seconds: float = 0.0


@dataclass(frozen=True)
class Action:
    """A tool call of a run. `arguments`: a JSON object as text."""

    id: str
    tool: str
    arguments: str
    call_id: str = ""  # NATIVE: the model's ToolCall.id, which its tool message answers
    opaque: bytes = b""  # NATIVE: of the model's ToolCall; goes back as it came


@dataclass(frozen=True)
class Observation:
    """What an action brought. `content` is bare: it is fenced where it goes to a model."""

    action_id: str
    content: str
    is_error: bool = False
    denied: bool = False


@dataclass
class Step:
    """One iteration: what the model wrote, what it asked for, and what that brought."""

    thought: str = ""
    actions: list[Action] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)  # in the order of `actions`, once all are there
    text: str = ""  # TEXT: the assistant's message as the model wrote it, up to its action
    reasoning: str = ""  # NATIVE: as the LLM provider gave it; goes back
    opaque: bytes = b""  # NATIVE: likewise
    note: str = ""  # what the strategy tells the model after this step, such as that it repeats itself


@dataclass
class Run:
    """All of a run. Times are Unix times in seconds."""

    id: str
    nonce: str  # of the fences around results
    began: float
    expires: float
    question: str = ""
    context: str = ""
    history: tuple[Message, ...] = ()
    llm: str = ""  # a name from the setting; empty: the first
    model: str = ""
    temperature: float | None = None
    mode: Mode | None = None  # None: not decided yet
    mode_is_fixed: bool = False  # the caller named it
    host_executes: bool = False
    max_iterations: int = 0
    budget: Budget = Budget()
    given_tools: tuple[Tool, ...] = ()  # of the caller, whole; else those of the providers, of which only
    tool_digests: dict[str, str] = field(default_factory=dict)  # name → digest is kept

    iteration: int = 0
    steps: list[Step] = field(default_factory=list)
    pending: bool = False  # the last step waits for the host's observations
    usage: Usage | None = None  # None: unknown so far
    usage_is_whole: bool = True  # False: a turn did not say what it took
    estimated_tokens: int = 0  # of the turns that did not; for the budget alone
    tool_calls: int = 0
    repairs: int = 0
    left_out: int = 0  # steps, the oldest, that are not shown to the model any more
    history_left_out: int = 0  # messages of `history`, the oldest, likewise
    summary: str = ""  # of those
    done: bool = False
    answer: str = ""
    stop_reason: StopReason | None = None
