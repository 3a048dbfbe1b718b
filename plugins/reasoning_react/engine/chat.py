"""What the engine and a model say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

JSON = Any  # None, bool, int, float, str, lists and dicts of these


@dataclass(frozen=True)
class Tool:
    """A tool as models are told of it. `parameters`: a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asked for through its API. `arguments`: JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    opaque: bytes = b""  # of the LLM provider; goes back as it came


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `role`: system, user, assistant, tool."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""  # role tool: the ToolCall.id that it answers
    name: str = ""  # role tool: the tool's name
    reasoning: str = ""  # role assistant: its reasoning, as the reply gave it
    opaque: bytes = b""  # role assistant: of the LLM provider; goes back as it came


@dataclass(frozen=True)
class Usage:
    """Tokens."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    reasoning: int = 0  # of `completion`
    cached: int = 0  # of `prompt`

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.total + other.total,
            self.reasoning + other.reasoning,
            self.cached + other.cached,
        )


class Finish(Enum):
    """Why a model's turn ended."""

    STOP = "stop"
    LENGTH = "length"  # it was cut off
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True)
class TurnRequest:
    """One turn that a model is asked for."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()  # through its API; none in TEXT mode and for a last answer
    model: str = ""  # empty: the LLM provider's own
    temperature: float | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delta:
    """The next pieces of a turn."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Turn:
    """A whole turn."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = Finish.STOP
    usage: Usage | None = None  # None: unknown
    refusal: str = ""
    opaque: bytes = b""
    dropped: tuple[str, ...] = ()  # options that the endpoint did not take


@dataclass(frozen=True)
class Abilities:
    """What is known of a model."""

    context_length: int = 0  # tokens read and written together; 0: unknown
    tools: bool | None = None  # whether its API takes tools; None: unknown
