"""Which parts of a text are reasoning. They are blanked out, so that every other place stays where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.call_markup import Marked
from shared.call_markup.harmony import IS_HARMONY
from shared.call_markup.marks import SPECIAL_ENDS, TAGS
from shared.call_markup.reasoning import split

# Marks of the end of a turn, or of a call alone, behind which a model makes up the next one.
_TURN_END = re.compile(
    r"(?:<\|(?:im_end|eot_id|eom_id|eot|endoftext|end_of_text)\|>|<end_of_turn>|<[｜|]end[▁_ ]of[▁_ ]sentence[｜|]>)"
    r"(?=\s{0,20}(?:\Z|<[|s]))|</s>\s*\Z|<\|(?:im_start|start_header_id)\|>(?:user|system|tool)\b|<start_of_turn>user\b"
    rf"|(?:{'|'.join(re.escape(mark) for mark in TAGS.values() if mark.startswith(SPECIAL_ENDS))})\s*\Z"
)
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
    seen = "".join(pieces)
    turn_end = _TURN_END.search(seen)
    if turn_end is not None and seen[: turn_end.start()].strip():
        seen = seen[: turn_end.start()] + _blank(seen[turn_end.start() :])
    reasoning = "\n".join(filter(None, (text[start:end].strip() for start, end in parts.reasoning)))
    return Seen(seen, reasoning, parts.is_open)


def _located(text: str, shown: str) -> str:
    at = text.rfind(shown) if shown else -1
    if at < 0:
        return shown
    return _blank(text[:at]) + shown + _blank(text[at + len(shown) :])


def _blank(text: str) -> str:
    return _NO_BLANK.sub(" ", text)
