"""Tool calls that a model wrote into its text and the endpoint did not take out: held back from where they begin.

What turns out to be no call of a tool that was offered comes out as the text that it is, at the end. A text in harmony
(gpt-oss) is held as a whole: channels tell its reasoning, its calls and its answer apart.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .messages import Tool

_HARMONY = ("<|channel|>", "<|start|>assistant")
_MOST_BLANKS = 1_000  # before them
_SIGN = re.compile(r"[<\[\]f\u25c1]")  # every mark of a call begins with one of these


def load() -> None:
    """Imports the reader of call markup, which takes a tenth of a second: not at the start, since few need it."""
    importlib.import_module("shared.call_markup")


def is_loaded() -> bool:
    return "shared.call_markup" in sys.modules


class Written(NamedTuple):
    reasoning: str
    text: str
    calls: list[dict[str, Any]]  # as they would stand in a message


class WrittenCalls:
    def __init__(self, tools: Sequence[Tool]) -> None:
        self._schemas: Mapping[str, Mapping[str, Any]] = {tool.name: tool.schema for tool in tools}
        self.passes = False  # all that follows is let through: no need to ask
        self._at_start = True
        self._held: list[str] = []
        self._tail = ""  # of the text, which may be the beginning of a mark
        self._holds = False  # a mark came, so all that follows is held

    @property
    def held(self) -> int:
        """Characters."""
        return sum(map(len, self._held)) + len(self._tail)

    def feed(self, text: str) -> str:
        """What of the text is certainly none of a call."""
        if self._holds:
            self._held.append(text)
            return ""
        if not self._tail and not self._at_start and _SIGN.search(text) is None:
            return text
        text, self._tail = self._tail + text, ""
        if self._at_start:
            bare = text.lstrip()
            if any(mark.startswith(bare) for mark in _HARMONY) and len(text) <= _MOST_BLANKS:
                self._tail = text
                return ""
            self._at_start = False
            if bare.startswith(_HARMONY):
                self._holds = True
                self._held.append(text)
                return ""
        if not self._schemas:
            self.passes = True
            return text
        from shared.call_markup.started import begun, started

        place = begun(text)
        if place >= 0:
            self._holds = True
            self._held.append(text[place:])
            return text[:place]
        kept = len(text) - started(text)
        self._tail = text[kept:]
        return text[:kept]

    def close(self, *, take: bool) -> Written:
        """What was held. Calls are taken out where `take`, and where each is of a tool that was offered."""
        text = "".join([*self._held, self._tail])
        if not self._holds:
            return Written("", text, [])
        from shared.call_markup import read_marked

        marked = read_marked(text, self._schemas)
        known = all(call.name in self._schemas for call in marked.calls)
        if text.lstrip().startswith(_HARMONY):
            if not marked.calls or (known and take):
                return Written(marked.reasoning, marked.text, _as_pieces(marked.calls))
        elif marked.calls and known and take:
            return Written(marked.reasoning, marked.text, _as_pieces(marked.calls))
        return Written("", text, [])


def _as_pieces(calls: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}} for call in calls
    ]
