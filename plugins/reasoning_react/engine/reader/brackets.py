"""Where a bracket closes."""

from __future__ import annotations

import re

_CLOSERS = {"[": "]", "(": ")"}
_MARKS = {"[": re.compile(r"[\\\[\]]"), "(": re.compile(r"[\\\"'()]")}
_AT_LINE_END = {
    "[": re.compile(r"\][ \t\r`*.]{0,5}(?:\n|\Z)"),
    "(": re.compile(r"\)[ \t\r`*.]{0,5}(?:\n|\Z)"),
}


def closing_bracket(text: str, opening: int, stop: int) -> int | None:
    """Behind the bracket that closes the one at `opening`: the one that fits or else the first at a line's end."""
    opener = text[opening]
    depth = 0
    quote = ""
    at = opening
    while (match := _MARKS[opener].search(text, at, stop)) is not None:
        mark, at = match[0], match.end()
        if mark == "\\":
            at += 1
        elif quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark if text[match.start() - 1] in "([{=,: " else ""  # else it is an apostrophe
        elif mark == opener:
            depth += 1
        elif mark == _CLOSERS[opener]:
            depth -= 1
            if not depth:
                return at
    at_line_end = _AT_LINE_END[opener].search(text, opening, stop)
    return at_line_end.start() + 1 if at_line_end else None
