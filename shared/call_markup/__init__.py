"""Tool calls that a model wrote into its text, in the markup that it was trained on, where nobody took them out.

Hermes, Qwen, Mistral, Llama, Kimi, DeepSeek, GLM, Gemma, Granite, Phi, harmony, Claude's XML, OpenAI's JSON, pythonic:
`reading` goes through the marks, one module reads a family of formats. Whoever shows a text while it is written holds
back what `started.started` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import bare, harmony, reading, reasoning
from .source import Piece, Source, cut_off
from .started import is_call, started

JSON = Any

_LEAST_STARTED = 2  # characters of a mark at the end of a text that are not shown


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
    calls: tuple[MarkedCall, ...]  # the whole ones, also where another is not whole
    problem: str  # markup that is no whole call: what is wrong, in words for the model; empty: none


def read_marked(text: str, tools: Mapping[str, Mapping[str, Any]]) -> Marked:
    """`tools`: name → JSON Schema of the parameters; arguments get the types that it says. Linear, never raises.

    A call counts where its markup is unmistakable, whatever its name, or where a bare one has the name of a tool. One
    in the reasoning counts only if it is the last thing in there and nothing follows the reasoning.

    >>> read_marked('<tool_call>{"name": "now", "arguments": {}}</tool_call>', {"now": {}}).calls
    (MarkedCall(name='now', arguments={}, start=0, end=55),)
    """
    source = Source(text, tools)
    if first := harmony.IS_HARMONY.search(text):
        if not _is_within(first.start(), _calls_in(Source(text, tools))):
            return _of_harmony(source, harmony.read(source))
    elif harmony.COLLAPSED.match(text) and (collapsed := harmony.read_collapsed(source)):
        return _of_harmony(source, collapsed)
    split = reasoning.split(text)
    if split.reasoning and split.end_mark_alone:
        # In the arguments of a call it ends no reasoning.
        split = reasoning.split(text, _calls_in(Source(text, tools)))
    pieces = [piece for span in split.answer for piece in _pieces_in(source, *span)]
    if split.answer and split.answer[-1][1] == len(text):
        pieces += _started(text, pieces)
    shown = _outside(text, split.answer, pieces)
    if not shown and split.reasoning and not any(piece.calls or piece.problem for piece in pieces):
        pieces = _last_of(Source(text, tools), split.reasoning[-1])
    thought = _outside(text, split.reasoning, pieces, between="\n")
    return _marked(shown, thought, split.is_open, pieces)


def _pieces_in(source: Source, start: int, end: int) -> list[Piece]:
    """The marks between `start` and `end`, with bare calls where no marked one is."""
    marks = reading.read(source, start, end)
    if not any(piece.calls or piece.problem for piece in marks):
        # What belongs to another's turn does not make a call one in the middle.
        until = marks[-1].start if marks and marks[-1].end >= end else end
        calls = bare.read(source, start, until) or (bare.read(source, start, end) if until < end else [])
        spans = [(call.start, call.end) for call in calls]
        outside = [piece for piece in marks if not _is_within(piece.start, spans)]
        return sorted([*calls, *outside], key=lambda piece: piece.start)
    pieces: list[Piece] = []
    for call in bare.read(source, start, end) if bare.may_hold(source, start, marks[0].start) else []:
        # A bare call that has marks in its arguments.
        if call.calls and any(call.start < piece.start < call.end for piece in marks):
            pieces += [*reading.read(source, start, call.start), call]
            start = call.end
    return [*pieces, *reading.read(source, start, end)] if pieces else marks


def _calls_in(source: Source) -> tuple[tuple[int, int], ...]:
    return tuple((piece.start, piece.end) for piece in _pieces_in(source, 0, len(source.text)) if piece.calls)


def _is_within(at: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start < at < end for start, end in spans)


def _started(text: str, pieces: list[Piece]) -> list[Piece]:
    """The beginning of a mark at the end of the text."""
    at = len(text) - started(text)
    if len(text) - at < _LEAST_STARTED or (pieces and pieces[-1].end > at):
        return []
    return [Piece(at, len(text), problem=cut_off("your text") if is_call(text[at:]) else "")]


def _of_harmony(source: Source, read: harmony.Reading) -> Marked:
    pieces = list(read.pieces)
    if not pieces:
        for span in read.text:
            pieces += _pieces_in(source, *span)
    shown = _outside(source.text, read.text, pieces, between="\n")
    return _marked(shown, _outside(source.text, read.reasoning, (), between="\n"), read.is_open, pieces)


def _marked(shown: str, thought: str, is_open: bool, pieces: list[Piece]) -> Marked:
    calls = tuple(
        MarkedCall(name, arguments, piece.start, piece.end) for piece in pieces for name, arguments in piece.calls
    )
    problem = next((piece.problem for piece in pieces if piece.problem), "")
    return Marked(shown, thought, is_open, calls, problem)


def _last_of(source: Source, span: tuple[int, int]) -> list[Piece]:
    """The marked calls that reasoning ends with."""
    pieces = reading.read(source, *span)
    last: list[Piece] = []
    end = span[1]
    for piece in reversed(pieces):
        if source.text[piece.end : end].strip():
            break
        last.insert(0, piece)
        end = piece.start
    return last if any(piece.calls for piece in last) and not any(piece.problem for piece in last) else []


def _outside(text: str, spans: Sequence[tuple[int, int]], pieces: Sequence[Piece], between: str | None = None) -> str:
    """What of the spans no piece covers, stripped; with `between` each span by itself, and that between them."""
    parts: list[str] = []
    remaining = iter(pieces)
    piece = next(remaining, None)
    for start, end in spans:
        part: list[str] = []
        at = start
        while piece is not None and piece.start < end:
            if piece.start >= at:
                part.append(text[at : piece.start])
            at = max(at, min(piece.end, end))
            if piece.end > end:
                break
            piece = next(remaining, None)
        part.append(text[at:end])
        parts.append("".join(part))
    if between is None:
        return "".join(parts).strip()
    return between.join(stripped for part in parts if (stripped := part.strip()))
