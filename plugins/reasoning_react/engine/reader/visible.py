"""Which parts of a text are reasoning. They are blanked out, so that every other place stays where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.call_markup import Marked
from shared.call_markup.harmony import IS_HARMONY
from shared.call_markup.reasoning import split

_NO_BLANK = re.compile(r"[^\s]")


@dataclass(frozen=True)
class Seen:
    """`text`: as long as the model's, with blanks where its reasoning stands."""

    text: str
    reasoning: str
    is_open: bool  # the reasoning has no end
    in_channels: bool = False  # the text is cut up into channels, of which only the last is for the user


def without_reasoning(text: str, marked: Marked) -> Seen:
    """`marked`: what `read_marked` made of the text."""
    parts = split(text, tuple((call.start, call.end) for call in marked.calls))
    if IS_HARMONY.search(text) or (not parts.reasoning and marked.reasoning):
        return Seen(_located(text, marked.text), marked.reasoning, marked.reasoning_is_open, in_channels=True)
    pieces: list[str] = []
    at = 0
    for start, end in parts.answer:
        pieces += [_blank(text[at:start]), text[start:end]]
        at = end
    pieces.append(_blank(text[at:]))
    reasoning = "\n".join(filter(None, (text[start:end].strip() for start, end in parts.reasoning)))
    return Seen("".join(pieces), reasoning, parts.is_open)


def _located(text: str, shown: str) -> str:
    at = text.rfind(shown) if shown else -1
    if at < 0:
        return shown
    return _blank(text[:at]) + shown + _blank(text[at + len(shown) :])


def _blank(text: str) -> str:
    return _NO_BLANK.sub(" ", text)
