"""Tool calls that a model wrote into its text, in the markup that it was trained on, where nobody took them out.

Hermes, Qwen, Mistral, Llama, Kimi, DeepSeek, GLM, Gemma, Granite, Phi, harmony, Claude's XML, OpenAI's JSON, pythonic:
a call counts where its name is one of the tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

JSON = Any


@dataclass(frozen=True)
class MarkedCall:
    """A whole call. `start` and `end`: its markup in the text, wrappers around it included."""

    name: str
    arguments: dict[str, JSON]
    start: int
    end: int


@dataclass(frozen=True)
class Marked:
    """What is in a text. `text`: what stands outside of markup and reasoning, stripped; it may be shown."""

    text: str
    reasoning: str
    reasoning_is_open: bool  # its end mark never came
    calls: tuple[MarkedCall, ...]
    problem: str  # markup that is no whole call: what is wrong, in words for the model; empty: none


def read_marked(text: str, tools: Mapping[str, Mapping[str, Any]]) -> Marked:
    """`tools`: name → JSON Schema of the parameters; arguments get the types that it says. Linear, never raises."""
    raise NotImplementedError
