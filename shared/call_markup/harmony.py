"""The harmony format of gpt-oss: messages in channels, whole, or with marks lost on the way.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json
<|message|>{…}<|call|>`
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from ..loose_json import CutOff, Unreadable
from .objects import call
from .reading import read as reading_of
from .source import Piece, Problem, Source, cut_off, not_read

JSON = Any

_MARK = re.compile(r"<\|(?:start|end|message|channel|constrain|return|call)\|>")
IS_HARMONY = re.compile(
    r"(?<![`\"'])(?:<\|channel\|>\s{0,9}(?:analysis|commentary|final|[a-z]{0,10}\Z)|<\|start\|>\s{0,9}(?:assistant|functions)"
    r"|<\|message\|>|<\|constrain\|>|<\|call\|>)"
)
_HEADER_ONLY = re.compile(r"(?:<\|(?:start|channel|constrain)\|>[\w .=]{0,100}){1,4}<?\|?[a-z]{0,9}\|?>?\Z")
_RECIPIENT = re.compile(r"to\s{0,4}=\s{0,4}([^\s<{]{1,200})")
_HEADER_START = re.compile(
    r"(?:assistant)?\s{0,4}(?:analysis|commentary|final)?\s{0,4}to\s{0,4}=\s{0,4}[^\s<{]{1,200}(?=\s{0,9}\Z)"
)
# Without its marks: `analysis…assistantfinal…`, `…assistantcommentary to=functions.NAME json{…}`.
COLLAPSED = re.compile(
    r"\s{0,100}(?:assistant)?(?:analysis|commentary(?=\s{0,9}to=)|final(?=[A-Z])|to=functions(?:\.|\Z))"
)
_COLLAPSED_NEXT = re.compile(r"assistant(?=final|analysis|commentary)")
_COLLAPSED_HEAD = re.compile(
    r"\s{0,100}(?:assistant)?(?P<channel>analysis|commentary|final|(?=to=functions))"
    r"(?:\s{0,9}to=(?P<to>[^\s{<]{1,200}?)(?:\s{1,9}[a-z]{1,8})?\s{0,9}(?=\{|<?\|?[a-z]{0,9}\|?>?\Z))?"
)


@dataclass
class Reading:
    """Spans of the reasoning and of the text, calls and problems."""

    reasoning: list[tuple[int, int]] = field(default_factory=list)
    text: list[tuple[int, int]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    is_open: bool = False


def read(source: Source) -> Reading:
    """All of a text that has harmony's marks."""
    text = source.text
    reading = Reading()
    at = 0
    first = IS_HARMONY.search(text)
    header_from = _header_start(text, first.start() if first else 0)
    if header_from > 0:
        reading.text.append((0, header_from))
    at = header_from
    while at < len(text):
        if reading.pieces and text.startswith("<|start|>functions", at):
            break  # the model makes up the result
        at = _message(source, at, reading)
    return reading


def _header_start(text: str, first: int) -> int:
    """The header may begin with a recipient before the first mark."""
    recipient = _HEADER_START.search(text, max(0, first - 260), first)
    return recipient.start() if recipient and not text[recipient.end() : first].strip() else first


def _message(source: Source, start: int, reading: Reading) -> int:
    """Takes the message that begins at `start`, and says where the next one does."""
    text = source.text
    header: list[str] = []
    at = start
    body = None
    while body is None:
        mark = _MARK.search(text, at)
        if mark is None:
            header.append(text[at:])
            at = len(text)
            break
        header.append(text[at : mark.start()])
        at = mark.end()
        if mark[0] == "<|message|>":
            body = at
        elif mark[0] in ("<|end|>", "<|return|>", "<|call|>"):
            if len(header) == 1 and header[0].strip() and not reading.pieces:
                reading.text.append((start, mark.start()))  # a text without a header
            return at
        elif mark[0] == "<|constrain|>" or mark[0] == "<|channel|>":
            header.append(" ")
    head = " ".join(header)
    recipient = _RECIPIENT.search(head)
    channel = next((name for name in ("analysis", "commentary", "final") if name in head), "")
    if body is None:
        if recipient and source.names.known(recipient[1]):
            reading.pieces.append(Piece(start, len(text), problem=cut_off("a commentary message")))
        elif not reading.pieces and not _HEADER_ONLY.match(text, start):
            reading.text.append((start, len(text)))  # it writes about marks
        return len(text)
    if recipient and recipient[1] not in ("assistant", "user", "all"):
        return _call(source, start, body, recipient[1], reading)
    end = _MARK.search(text, body)
    stop = end.start() if end else len(text)
    if head.strip().startswith(("functions", "tool")) or reading.pieces:
        return len(text) if reading.pieces else stop  # the model makes up a result, or goes on behind a call
    if channel == "analysis":
        reading.reasoning.append((body, stop))
        reading.is_open = end is None
    else:
        reading.text.append((body, stop))
    if end is None:
        return len(text)
    return end.start() if end[0] in ("<|start|>", "<|channel|>") else end.end()


def _call(source: Source, start: int, body: int, name: str, reading: Reading) -> int:
    text = source.text
    what = f"the message to {source.names.resolved(name)}"
    end = _MARK.search(text, body)
    stop = end.start() if end else len(text)
    try:
        value: JSON = {}
        after = stop
        if not text[body:stop].strip() and end is None:
            raise CutOff("it ends before its arguments", stop)
        if text.startswith("<", source.blanks(body)) and text[body:stop].strip():
            reading.pieces += reading_of(source, body, stop)
            return stop
        if text[body:stop].strip():
            value, after = source.value(body)
            after = source.behind(after)
        piece = Piece(start, after, (call(name, value, source),))
    except CutOff:
        reading.pieces.append(Piece(start, len(text), problem=cut_off(what)))
        return len(text)
    except (Unreadable, Problem) as error:
        reading.pieces.append(Piece(start, stop, problem=not_read(what, error)))
        after = stop
    else:
        reading.pieces.append(piece)
    end = _MARK.search(text, after)
    if end is None:
        return len(text)
    return end.start() if end[0] in ("<|start|>", "<|channel|>") else end.end()


def read_collapsed(source: Source) -> Reading | None:
    """A text whose marks were lost, the words of its headers left. None: it is none."""
    text = source.text
    head = _COLLAPSED_HEAD.match(text)
    nexts = list(_COLLAPSED_NEXT.finditer(text))
    if head is None or (not nexts and not head["to"]):
        return None
    reading = Reading()
    starts = [0, *(mark.start() for mark in nexts), len(text)]
    for start, stop in itertools.pairwise(starts):
        head = _COLLAPSED_HEAD.match(text, start, stop)
        if head is None:
            continue
        if head["to"]:
            name = head["to"]
            if not source.names.known(name) and source.names.known(name.removesuffix("json")):
                name = name.removesuffix("json")  # `<|constrain|>json`, which stood behind it
            _call(source, start, head.end(), name, reading)
        elif head["channel"] == "analysis":
            reading.reasoning.append((head.end(), stop))
        else:
            reading.text.append((head.end(), stop))
    return reading
