"""What goes into the engine and what comes out of it: plain values that know neither gRPC nor HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: text, or a file by `url` or as `data` of `mime_type`."""

    text: str = ""
    url: str = ""
    data: bytes = b""
    mime_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made. `arguments` is JSON as the model wrote it, `error` what is wrong with it,
    `opaque` what the endpoint wants back with it (`opaque.py`)."""

    id: str
    name: str
    arguments: str
    error: str = ""
    opaque: bytes = b""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str = ""
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    opaque: bytes = b""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]  # of type object


class Format(Enum):
    """What a reply is written in."""

    TEXT = "text"
    JSON = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class Options:
    """How to sample; None and empty leave it to the endpoint. `extra` goes into the request as it is."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    format: Format = Format.TEXT
    schema: Mapping[str, Any] | None = None
    reasoning_effort: str = ""
    tool_choice: str = ""
    parallel_tool_calls: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    messages: tuple[Message, ...]
    model: str = ""
    tools: tuple[Tool, ...] = ()
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them."""

    prompt: int
    completion: int
    total: int
    reasoning: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.total + other.total,
            self.reasoning + other.reasoning,
            self.cached + other.cached,
        )


class Finish(Enum):
    UNKNOWN = ""
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of the tool call at `index`: `id` and `name` once they are known, `arguments` to be appended."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a stream."""

    text: str = ""
    reasoning: str = ""
    call: CallDelta | None = None

    @property
    def length(self) -> int:
        """Characters, all in all."""
        return len(self.text) + len(self.reasoning) + (len(self.call.arguments) if self.call else 0)

    def split(self, longest: int) -> Iterator[Delta]:
        """The same in pieces of at most so many characters."""
        for start in range(0, len(self.reasoning), longest):
            yield Delta("", self.reasoning[start : start + longest])
        for start in range(0, len(self.text), longest):
            yield Delta(self.text[start : start + longest])
        if (call := self.call) is not None:
            yield Delta(call=CallDelta(call.index, call.id, call.name, call.arguments[:longest]))
            for start in range(longest, len(call.arguments), longest):
                yield Delta(call=CallDelta(call.index, "", "", call.arguments[start : start + longest]))


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `usage` is None where the endpoint did not say; `dropped` names the options it does not take;
    `opaque` is what it wants back with the next turn (`opaque.py`)."""

    text: str
    reasoning: str
    refusal: str
    tool_calls: tuple[ToolCall, ...]
    finish: Finish
    raw_finish: str
    usage: Usage | None
    model: str
    id: str
    dropped: tuple[str, ...] = ()
    opaque: bytes = b""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the endpoint; 0 for a length means unknown."""

    id: str
    owned_by: str = ""
    created: int = 0
    context_length: int = 0
    max_output_tokens: int = 0
    capabilities: tuple[str, ...] = ()
    is_default: bool = False
