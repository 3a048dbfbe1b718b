"""Reasoning that a model wrote into its text, told from the answer.

Between marks at the start of a line, or up to an end mark alone, where the prompt's template has swallowed the begin
mark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PAIRS = {
    "<think>": "</think>",
    "<thought>": "</thought>",
    "<thoughts>": "</thoughts>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "<longcat_think>": "</longcat_think>",
    "<ifm|think>": "</ifm|think>",
    "<ifm|think_fast>": "</ifm|think_fast>",
    "<ifm|think_faster>": "</ifm|think_faster>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
    "[unused16]": "[unused17]",
}
BEGIN_MARKS, END_MARKS = tuple(_PAIRS), tuple(_PAIRS.values())
# Sentences in place of marks, at the start of a text: Granite 3.2 and Apriel.
_SENTENCES = (
    re.compile(r"\s{0,100}Here(?:'s| is) my thought process:"),
    re.compile(r"Here(?:'s| is) my response:"),
    re.compile(r"\s{0,100}Here are my reasoning steps:"),
    re.compile(r"\[BEGIN FINAL RESPONSE\]"),
)
_MARKS = sorted((*BEGIN_MARKS, *END_MARKS), key=len, reverse=True)
# The look ahead is for speed: without it every `<` would be tried with forty alternatives.
_ANY = re.compile(rf"(?=[<◁]/?\|?[a-zA-Z]|\[/?[Tu])(?:{'|'.join(map(re.escape, _MARKS))})")
_LONGEST_INDENT = 40


@dataclass(frozen=True)
class Split:
    """Spans (start, end) of a text, in order; the marks are in none of them."""

    reasoning: tuple[tuple[int, int], ...]
    answer: tuple[tuple[int, int], ...]
    is_open: bool  # the last reasoning has no end mark
    end_mark_alone: bool  # an end mark without a begin mark was taken for one


def split(text: str, skip: tuple[tuple[int, int], ...] = ()) -> Split:
    """`skip`: spans in which a mark alone is none, as it stands in the arguments of a call."""
    for begins, ends in zip(_SENTENCES[::2], _SENTENCES[1::2], strict=True):
        if sentence := begins.match(text):
            end = ends.search(text, sentence.end())
            thought = (sentence.end(), end.start() if end else len(text))
            return Split((thought,), ((end.end(), len(text)),) if end else (), end is None, False)
    reasoning: list[tuple[int, int]] = []
    answer: list[tuple[int, int]] = []
    done = 0  # where the text begins that is neither yet
    begin = None  # the begin mark that is open
    spoken_of = None  # a begin mark that is none, as it stands within a line
    spans = _Spans(skip)
    is_alone = False
    for mark in _ANY.finditer(text):
        if begin is not None:
            if mark[0] == _PAIRS[begin[0]]:
                reasoning.append((begin.end(), mark.start()))
                begin, done = None, mark.end()
        elif mark[0] in _PAIRS:
            if _begins_line(text, mark.start(), done) and not _is_quoted(text, mark):
                answer.append((done, mark.start()))
                begin = mark
            else:
                spoken_of = mark
        elif spoken_of is not None and "\n" not in text[spoken_of.end() : mark.start()]:
            spoken_of = None  # a sentence about both marks
        elif _is_lone_end(text, mark) and not spans.hold(mark.start()):
            # All before it is reasoning, what was taken for an answer too.
            is_alone = True
            reasoning += [*answer, (done, mark.start())]
            answer, done = [], mark.end()
    if begin is not None:
        reasoning.append((begin.end(), len(text)))
    else:
        answer.append((done, len(text)))
    return Split(
        tuple(span for span in sorted(reasoning) if span[0] < span[1]),
        tuple(span for span in answer if span[0] < span[1]),
        begin is not None,
        is_alone,
    )


def _begins_line(text: str, at: int, done: int) -> bool:
    before = text[max(done, at - _LONGEST_INDENT) : at]
    return not before.rpartition("\n")[2].strip() and (len(before) < _LONGEST_INDENT or "\n" in before)


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1]
    return before in ("`", '"', "'", "“", "«") or after in ("`", '"', "'", "”", "»")


def _is_lone_end(text: str, mark: re.Match[str]) -> bool:
    """Not one that a sentence goes on behind, as where it writes about marks."""
    after = text[mark.end() : mark.end() + 2]
    goes_on = after[:1] == " " and after[1:].islower() and text[max(0, mark.start() - 1) : mark.start()] == " "
    return not goes_on and not _is_quoted(text, mark)


class _Spans:
    """Asked from left to right."""

    def __init__(self, spans: tuple[tuple[int, int], ...]) -> None:
        self._spans, self._next = spans, 0

    def hold(self, at: int) -> bool:
        while self._next < len(self._spans) and self._spans[self._next][1] <= at:
            self._next += 1
        return self._next < len(self._spans) and self._spans[self._next][0] < at
