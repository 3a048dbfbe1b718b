"""A run as people look at it: what happened in each step, what it took, and the state to go on from. And its file.

The file is JSON: the fields of Trace below. It holds the question, everything that tools brought, and the run's state,
which is signed and not encrypted, so that it is for its owner's eyes alone.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import tempfile
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.bounded_file import read_bounded
from shared.errors import StartError

FORMAT = "reasoning_react trace 1"
_LARGEST = 256 * 2**20  # bytes


@dataclass(frozen=True)
class Tokens:
    """As the LLM provider counted them."""

    prompt: int = 0
    completion: int = 0
    total: int = 0


@dataclass(frozen=True)
class Said:
    """A message as the model was given it. `calls`: tool calls as `name(arguments)`."""

    role: str
    content: str = ""
    name: str = ""
    calls: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """One time that the model was asked."""

    repeated: int  # messages that it was given before these, all of which the turn before was given too
    messages: list[Said]
    tools: list[str] = field(default_factory=list)  # names of those that it could call through its API
    reasoning: str = ""
    text: str = ""
    calls: list[str] = field(default_factory=list)
    finish: str = ""
    tokens: Tokens | None = None
    seconds: float = 0.0
    error: str = ""  # why there is no whole turn


@dataclass
class Call:
    """An action, and what it brought: `result` is None where that is not known."""

    id: str
    tool: str
    arguments: str
    result: str | None = None
    is_error: bool = False
    denied: bool = False
    seconds: float | None = None


@dataclass
class Step:
    """One iteration. `tool_seconds`: from the first action that was asked for to the last that was answered."""

    number: int
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    note: str = ""  # what the strategy told the model after it
    seconds: float = 0.0
    tool_seconds: float = 0.0
    tokens: Tokens | None = None
    turns: list[Turn] = field(default_factory=list)  # empty where the run is another process's
    is_whole: bool = False  # False: it was cut short, and is taken again where the run goes on


@dataclass
class Trace:
    """A run, over or not. `began`: Unix time in seconds."""

    question: str
    context: str = ""
    began: float = 0.0
    state: bytes = b""
    steps: list[Step] = field(default_factory=list)
    done: bool = False  # no further step
    answer: str = ""
    stop_reason: str = ""

    @property
    def calls(self) -> int:
        return sum(len(step.calls) for step in self.steps)

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def tokens(self) -> Tokens | None:
        """None where some step does not say."""
        known = [step.tokens for step in self.steps if step.tokens is not None]
        if len(known) < len(self.steps):
            return None
        return Tokens(*(sum(part) for part in zip((0, 0, 0), *map(dataclasses.astuple, known), strict=True)))


def write(path: Path, trace: Trace) -> None:
    """Raises OSError. The file appears whole or not at all."""
    content = {"format": FORMAT} | dataclasses.asdict(trace) | {"state": base64.b64encode(trace.state).decode()}
    write_private(path, json.dumps(content, indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """A file that only its owner can read, and that is there whole or not at all. Raises OSError."""
    target = Path(os.path.realpath(path))  # a link stays one
    if target.exists() and not target.is_file():
        raise OSError(0, "it is not a regular file")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:80]}-", dir=target.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def read(path: Path) -> Trace:
    """Raises StartError."""
    try:
        content = json.loads(read_bounded(path, _LARGEST))
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise StartError(f"{path} is no trace that --save wrote; give the file of an earlier --save")
    try:
        content["state"] = base64.b64decode(content["state"], validate=True)
        trace: Trace = _read(Trace, content)
        return trace
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise StartError(f"{path} was changed since --save wrote it; give the file as it was written") from None


def _read(kind: Any, value: Any) -> Any:
    """`value` as a `kind`: a dataclass, a list, an optional or a plain type. Raises TypeError."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{key: _read(hints.get(key, types.NoneType), item) for key, item in dict(value).items()})
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise TypeError
        return [_read(typing.get_args(kind)[0], item) for item in value]
    if isinstance(kind, types.UnionType):
        return None if value is None else _read(typing.get_args(kind)[0], value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value
