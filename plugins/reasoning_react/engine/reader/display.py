"""What of a text may be shown while it is being written: thoughts and answers, never labels or markup of calls.

It shows what it is sure of, and keeps quiet from the first thing on that may turn out to be an action; what an answer
has beyond that is shown at its end.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared.call_markup.reasoning import BEGIN_MARKS, END_MARKS

from .labels import Kind, Label, line_labels, may_become_label
from .names import Tools


@dataclass(frozen=True)
class Piece:
    """Text to be shown."""

    kind: Literal["thought", "answer"]
    text: str


# What begins markup, or the end of a piece of text in mid-line. A `<` alone is text.
_MARKS = (
    *BEGIN_MARKS, *END_MARKS, "<|", "<｜", "<tool", "</tool", "<TOOLCALL", "</TOOLCALL", "<function", "</function",
    "<invoke", "</invoke", "<param", "</param", "<arg", "</arg", "<action", "</action", "<call", "<end", "<start",
    "<turn", "<eos", "</s>", "<final_answer>", "<answer>",
    "<minimax", "<seed", "<longcat", "<steptml", "<unused", "[unused", "[TOOL", "[ARGS", "[THINK", "✿", "functools[",
    "[END_TOOL", "]<]",
    "to=functions", "assistantfinal", "assistantcommentary", "assistantanalysis", "<antml", "</antml",
)  # fmt: skip


def _begun(word: str) -> str:
    """A pattern of a word's beginnings, whole or not."""
    return "".join(f"(?:{re.escape(letter)}" for letter in word) + ")?" * len(word)


_INLINE = re.compile(
    rf"[ \t]{{1,4}}(?:(?=F){_begun('Final Answer')}|{_begun('Action')})(?P<colon>(?<=[rn])[ \t]?[:：])?"
)
_BEGINNINGS = re.compile(r"[<\[\]◁✿]|functools|to=f|assistant[fca]|(?<=[.!?。！？…\"'])[ \t]{1,4}(?=[FA])")
_OF_A_VENDOR = re.compile(r"<[a-z]{2,20}[:|](?:tool|func|think)")  # `<minimax:tool_call>` and its like
_BEGUN_OF_A_VENDOR = re.compile(r"<[a-z]{1,20}(?:[:|][a-z]{0,4})?")
_SENTENCE_END = re.compile(r"[.!?。！？…\"'][ \t]{0,4}\Z")
_LONGEST_WORD = 24
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BLOCK = re.compile(r"[ \t]{0,40}(?:[{\[]|[`~]{3}|functools|to=|analysis|commentary)")
_WORDS = ("functools", "to=functions", "analysis", "commentary")  # that begin a block
_LATER = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "*_`"  # shown only if more follows
_MOST_HELD = 10_000
_LONGEST_WAIT = 150  # characters of a line that are kept back until it is clear what it begins with


class _Marks(NamedTuple):
    call: re.Pattern[str]  # of a tool by its name, at the start of a line
    whole: re.Pattern[str]
    pairs: frozenset[str]  # what they begin with
    beginnings: frozenset[str]  # any of them


@functools.lru_cache(maxsize=64)
def _marks_with(tools: tuple[str, ...]) -> _Marks:
    """Kept, since to make them takes as long as all else in a usual turn."""
    marks = [*_MARKS, *(f"<{name}" for name in tools)]
    return _Marks(
        re.compile(
            rf"[ \t]{{0,40}}[\[`.]{{0,3}}(?:functions?[.:/]|tools?\.)?(?:{'|'.join(map(re.escape, tools)) or '(?!)'})"
            r"(?::\d{1,3})?[ \t]{0,3}[(\[{<]"
        ),
        re.compile("|".join(map(re.escape, marks))),
        frozenset(mark[:2] for mark in marks if len(mark) > 1) | {f"<{letter}" for letter in _LETTERS},
        frozenset(mark[:length] for mark in marks for length in range(1, len(mark))),
    )


class Display:
    def __init__(self, tools: Tools, *, labelled: bool) -> None:
        self._tools = tools
        self._kind: Literal["thought", "answer"] = "thought" if labelled else "answer"
        self._unlabelled = self._kind
        self._is_final = False  # behind the label of the answer
        self._quiet = False
        self._in_reasoning = False
        self._is_thought = False  # behind the label of a thought
        self._at_line_start = True
        self._rest = ""  # what cannot be told yet
        self._held = ""  # marks and blanks that are shown only if more follows
        self._answer: list[str] = []  # as shown, from the last label on
        self._shown = False  # something of this kind, since the last label
        self._call, self._marks, self._pairs, self._beginnings = _marks_with(tuple(tools))

    def feed(self, delta: str) -> list[Piece]:
        if self._quiet:
            return []
        self._rest += delta
        pieces: list[Piece] = []
        while self._rest and not self._quiet:
            before = (len(self._rest), self._at_line_start)
            self._line_start(pieces) if self._at_line_start else self._in_line(pieces)
            if (len(self._rest), self._at_line_start) == before:
                break
        return _joined(pieces)

    def close(self, answer: str) -> list[Piece]:
        """`answer`: the whole of it, of which the rest is shown."""
        shown = "".join(self._answer)
        rest = answer[len(shown) :] if answer.startswith(shown) else answer
        self._quiet = True
        return [Piece("answer", rest)] if rest else []

    def close_thought(self) -> list[Piece]:
        """The end of the last sentence, which was kept back for the label that could have followed."""
        pieces: list[Piece] = []
        if not self._quiet and self._kind == "thought" and self._shown and _SENTENCE_END.fullmatch(self._rest):
            self._show(self._rest, pieces)
        self._quiet = True
        return pieces

    def _line_start(self, pieces: list[Piece]) -> None:
        line, newline, _ = self._rest.partition("\n")
        line += newline
        if self._in_reasoning:
            self._at_line_start = False
            return
        label = next(line_labels(line), None)
        if label is not None:
            if len(line) - label.end < 4 and not newline:
                return  # marks that belong to the label may follow
            self._label(label, line, pieces)
            return
        if not newline and (may_become_label(line) or len(line.strip()) < 3) and len(line) <= _LONGEST_WAIT:
            return
        if not self._is_final and self._opens_block(line, bool(newline)):
            return
        self._at_line_start = False

    def _opens_block(self, line: str, is_whole: bool) -> bool:
        """Whether the line may begin an action, so that no more is shown, or cannot be told yet."""
        if _BLOCK.match(line) or self._call.match(line):
            self._quiet = True
            return True
        word = line.strip()
        if is_whole or len(line) > _LONGEST_WAIT:
            return False
        begins = any(begun.startswith(word) for begun in _WORDS)
        return begins or any(name.startswith(word) or word.startswith(name) for name in self._tools)

    def _label(self, label: Label, line: str, pieces: list[Piece]) -> None:
        is_decorated = line.lstrip()[:1] in "*#_`[✿"
        if self._is_final:
            if (
                label.listed
                or label.weak
                or (is_decorated and label.kind is not Kind.FINAL)
                or label.kind is Kind.INPUT
            ):
                self._at_line_start = False
                return
            self._quiet = True
            return
        if label.weak and (label.kind is Kind.INPUT or not (label.kind is Kind.FINAL and self._is_thought)):
            self._quiet = label.kind is Kind.ACTION
            self._at_line_start = False
            return
        if label.kind is Kind.THOUGHT:
            self._begin("thought")
        elif label.kind is Kind.FINAL:
            self._begin("answer")
            self._is_final = True
        else:
            self._quiet = True
            return
        self._rest = self._rest[label.end :]
        self._at_line_start = False

    def _begin(self, kind: Literal["thought", "answer"]) -> None:
        self._is_thought = kind == "thought"
        if kind == "answer":
            self._answer = []
        if kind == self._kind == "thought" and self._shown:
            self._held = "\n"
        else:
            self._held = ""
            self._shown = False
        self._kind = kind

    def _in_line(self, pieces: list[Piece]) -> None:
        if self._is_final and not self._shown:
            begin = self._rest.lstrip()
            if begin.startswith(("{", "```")):
                self._quiet = True  # perhaps the shell of an answer
            if begin in ("", "`", "``") or self._quiet:
                return
        end = self._rest.find("\n") + 1 or len(self._rest)
        line = self._rest[:end]
        at = 0
        while (match := _BEGINNINGS.search(line, at)) is not None:
            start, is_inline = match.start(), match[0][:1] in (" ", "\t")
            if (is_inline and self._in_reasoning) or (
                not is_inline
                and start + 1 < len(line)
                and line[start] != "✿"
                and line[start : start + 2] not in self._pairs
            ):
                at = match.end()
                continue
            if is_inline:
                begun = _INLINE.match(line, start)
                is_whole = begun is not None and bool(begun["colon"])
                is_begun = begun is not None and begun.end() == len(line)
                start -= 1  # the end of the sentence, without which it is no label
            else:
                is_whole = (self._marks.match(line, start) or _OF_A_VENDOR.match(line, start)) is not None
                is_begun = line[start:] in self._beginnings or _BEGUN_OF_A_VENDOR.fullmatch(line, start) is not None
            if is_whole or is_begun:
                self._show(line[:start], pieces)
                if is_whole:
                    self._mark(start, line)
                else:
                    self._rest = self._rest[start:]
                return
            at = match.end()
        if not line.endswith("\n"):
            end = max(at, self._sure_end(line))
        self._show(line[:end], pieces)
        self._rest = self._rest[end:]
        self._at_line_start = line.endswith("\n")

    def _sure_end(self, line: str) -> int:
        """Up to where a line that goes on cannot be the beginning of a mark."""
        if (sentence_end := _SENTENCE_END.search(line, max(0, len(line) - 6))) is not None:
            return sentence_end.start()
        lengths = range(min(len(line), _LONGEST_WORD), 0, -1)
        return len(line) - next((length for length in lengths if line[-length:] in self._beginnings), 0)

    def _mark(self, start: int, line: str) -> None:
        rest = line[start:]
        begin = next((mark for mark in BEGIN_MARKS if rest.startswith(mark)), None)
        end = next((mark for mark in END_MARKS if rest.startswith(mark)), None)
        if begin is not None and not self._in_reasoning and not self._answer and not self._is_final:
            self._begin("thought")
            self._in_reasoning = True
            self._rest = self._rest[start + len(begin) :]
        elif end is not None and self._kind == "thought":
            self._begin(self._unlabelled)
            self._in_reasoning = False
            self._rest = self._rest[start + len(end) :]
            self._at_line_start = True
        else:
            self._quiet = True

    def _show(self, text: str, pieces: list[Piece]) -> None:
        text = self._held + text
        if not self._shown:
            text = text.lstrip()
        end = len(text.rstrip(_LATER))
        text, self._held = text[:end], text[end:]
        self._quiet = self._quiet or len(self._held) > _MOST_HELD
        if text:
            self._shown = True
            if self._kind == "answer":
                self._answer.append(text)
            pieces.append(Piece(self._kind, text))


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].kind == piece.kind:
            joined[-1] = Piece(piece.kind, joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined
