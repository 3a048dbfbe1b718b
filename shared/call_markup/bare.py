"""Calls without any markup: JSON as APIs have it, Python's calls, alone or in a fence.

They count for known tools only, at the start of the text or at its end, each on lines of its own: in the middle of an
answer they are an example.
"""

from __future__ import annotations

import re

from ..loose_json import CutOff, Unreadable, after_closers
from . import pythonic
from .objects import calls_in
from .source import Piece, Problem, Source, cut_off, not_read

_LINE = re.compile(
    r"^[ \t]{0,40}(?:`{1,3}[a-z_]{0,12}[ \t]{0,10}\n?[ \t]{0,40})?(?:print\()?(?=[\[{]|[^\W\d][\w.\-:]{0,199}\()",
    re.MULTILINE,
)
_CLOSERS = re.compile(r"[\s`,;]*(?:</?[a-z_|｜▁]{1,20}>[\s`,;]*)*", re.IGNORECASE)
_NAMED = re.compile(
    r"[\"'“](?:name|function|tool|tool_name|function_name|recipient_name|action)[\"'”]\s{0,20}:\s{0,20}[\"'“]([^\"'“”]{1,200})[\"'”]"
)
_MOST = 1_000  # calls in a row
_LOOKED = 160  # characters in which the name of a call must stand


def read(source: Source, start: int, end: int) -> list[Piece]:
    """The bare calls between `start` and `end` of the text."""
    text = source.text
    groups: list[list[Piece]] = []
    first = source.blanks(start)
    at = behind = counted = start  # `behind` the last piece
    in_fence = False
    while sum(map(len, groups[-1:])) < _MOST and (line := _LINE.search(text, at, end)) is not None:
        in_fence ^= text.count("```", counted, line.start()) % 2 == 1
        counted = line.start()
        follows = bool(groups) and not text[behind : line.start()].strip()
        # The last line of a piece of code is no call.
        is_code = in_fence and not follows and text[line.end()] not in "[{"
        piece, at = (None, line.end()) if is_code else _piece(source, line.start(), line.end(), end, first)
        if piece is None:
            at = max(at, line.end() + 1)
            if source.give_up():
                break
            continue
        if follows:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        behind = at = piece.end
    return [
        piece for group in groups if group[0].start <= first or source.blanks(group[-1].end) >= end for piece in group
    ]


def may_hold(source: Source, start: int, at: int) -> bool:
    """Whether a bare call that begins at `start` or later may go on at `at`."""
    return _LINE.search(source.text, start, at) is not None


def _piece(source: Source, start: int, at: int, stop: int, first: int) -> tuple[Piece | None, int]:
    """The calls at `at`, and up to where the text was looked at."""
    text = source.text
    is_python = text[at] not in "[{" or pythonic.starts_list(source, at)
    try:
        if is_python:
            opening = pythonic.CALL.match(text, source.blanks(at + 1) if text[at] == "[" else at)
            if opening is None or not source.names.known(opening[0][:-1]):
                return None, at
            calls, end = pythonic.read_calls(source, at)
            if not all(source.names.known(name) for name, _ in calls):
                return None, end
        else:
            value, end = source.value(at)
            read = calls_in(value, source, marked=False)
            if read is None:
                return None, end
            calls = read
    except CutOff:
        if is_python or _names_tool(source, at):
            return Piece(start, stop, problem=cut_off("your text")), stop
        return None, at
    except (Unreadable, Problem) as error:
        in_brackets = text[at] in "[{"
        is_call = isinstance(error, Problem) or (in_brackets and (is_python or _names_tool(source, at)))
        if is_call and (start <= first or in_brackets or isinstance(error, pythonic.TooMany)):
            return Piece(start, stop, problem=not_read("your text", error)), stop
        # The calls before the fault are not read again, each as the first of the rest.
        return None, error.at if is_python and isinstance(error, Unreadable) else at
    if end > stop:
        return None, at  # it goes on in what is no answer
    end = _CLOSERS.match(text, min(after_closers(text, end), stop), stop).end()  # type: ignore[union-attr]
    line_end = text.find("\n", end, stop)
    rest = text[end : line_end if line_end >= 0 else stop]
    if rest.strip() and text[end - 1 : end] not in ("\n", "`", ">"):
        return None, end  # the line goes on
    return Piece(start, end, calls), end


def _names_tool(source: Source, at: int) -> bool:
    """Whether JSON that cannot be read was meant as a call of a known tool."""
    brace = source.blanks(at + 1) if source.text[at] == "[" else at
    if not source.text.startswith("{", brace):
        return False
    named = _NAMED.search(source.text, at, at + _LOOKED)
    return named is not None and bool(source.names.known(named[1]))
