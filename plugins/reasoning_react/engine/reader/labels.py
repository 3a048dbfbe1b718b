"""The labels that ReAct is written with, and where they stand: `Thought:`, `## Action`, `**Answer:**`, `Action 2：`."""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    THOUGHT = "thought"
    ACTION = "action"
    INPUT = "input"
    OBSERVATION = "observation"
    FINAL = "final"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Label:
    """`start`: where its line (or, in mid-line, the label) begins. `end`: where what it names begins."""

    kind: Kind
    start: int
    end: int
    weak: bool = False  # a word that says it only beside an action, such as `Tool:`
    listed: bool = False  # after `-`, `1.` or an emoji, where notes have such words too
    inline: bool = False  # in the middle of a line
    fenced: bool = False  # inside of a code fence that was opened before it and is open at the end


_MOST_INDENTED = 3  # blanks before a label in small letters
MOST_LABELS = 2_000  # that are looked at; nothing is run behind so many

# Every repetition is bounded or of a class that what follows it does not share, so that matching is linear. What is
# possessive gives nothing back that could match, and most lines end at the look at their word's first letter.
_NUMBER = r"[ \t\xa0]{0,3}(?:\#?\d{1,3})?[ \t\xa0]{0,3}"
_BLANK = r" \t\r\xa0\ufeff\u200b\u2060\u3000"  # some of them unseen
_PICTURE = r"\u2190-\u273e\u2740-\u2bff\ufe0f\U0001f000-\U0001faff"  # arrows, dingbats, emoji; not ✿, which is a mark
_ITEM = rf"(?:[-+•][ \t]|\d{{1,3}}[.)][ \t]|[{_PICTURE}]{{1,4}})[ \t]{{0,3}}"
_WORDS = {
    "input": rf"(?:action{_NUMBER}[_-]?)?(?:inputs?|arguments?|args|parameters|params)|tool[ _]input"
    r"|行动输入|动作输入|操作输入|next_tool_args",
    "action": r"(?:next[ ]?)?action|行动|动作|操作|next_tool_name|tool(?:[ _]name)?|function",
    "thought": r"thoughts?|thinking|next_thought|思考|想法",
    "observation": r"observations?|观察结果|观察|tool[ _](?:results?|responses?|outputs?)|(?<=✿)results?",
    "final": r"final[ \xa0_]?answer|answer|final[ _]response|ai|最终答案|最终回答|答案|(?<=✿)return",
    "question": r"question|human|问题",
}
_WEAK = re.compile(r"(?:ai\Z|tool|function|inputs?|arguments?|args|param)", re.IGNORECASE)
_LINE_LABEL = re.compile(
    rf"^(?P<indent>[{_BLANK}]{{0,40}}+)(?P<item>{_ITEM})?+"
    rf"(?P<before>[*_`\[\#✿][*_`\[\#✿ {_PICTURE}]{{0,7}}+)?+"
    rf"(?=[afhinopqrt动思想操最答行观问])(?P<word>{'|'.join(_WORDS.values())}){_NUMBER}"
    r"(?P<after>[*_`\]\#✿][*_`\]\#✿ ]{0,7})?(?:(?P<colon>[:：])|(?=\r?\n))",
    re.IGNORECASE | re.MULTILINE,
)
_KINDS = [(Kind(kind), re.compile(words.replace("(?<=✿)", ""), re.IGNORECASE)) for kind, words in _WORDS.items()]
_INLINE_LABEL = re.compile(r"(?<=[.!?。！？…\"'])[ \t]{1,4}(?:(?P<final>Final Answer)|(?P<action>Action))[ \t]?[:：]")
_BEHIND = {Kind.INPUT: Kind.ACTION, Kind.FINAL: Kind.THOUGHT}  # where a weak label counts
_FENCE = re.compile(r"^[ \t]{0,3}(?:`{3,}|~{3,})(?P<info>[^`\n]*)$", re.MULTILINE)


def line_labels(text: str, start: int = 0) -> Iterator[Label]:
    """The labels at line starts from `start` on, wherever they stand. `start` is the beginning of a line.

    What is given of a text is given of every longer text that begins with it.
    """
    given = 0
    for match in _LINE_LABEL.finditer(text, start):
        label = _label(match, text)
        if label is not None:
            given += 1
            yield label
            if given == MOST_LABELS:
                break


def _label(match: re.Match[str], text: str) -> Label | None:
    indent, item, before, word, after, colon = match.groups(default="")
    if len(indent) > _MOST_INDENTED and word.islower():
        return None  # a line of code, such as `answer: str`
    is_heading = before.strip() and (after or "#" in before)
    if not colon and not is_heading and word.casefold() != "final answer":
        return None  # a heading needs marks, a plain word a colon
    kind, is_weak = _kind(word)
    end = match.end()
    marks = {*before} & {*"*_`"}
    if marks and colon and len(after.strip()) < len(before.strip()):
        while end < len(text) and text[end] in marks and end < match.end() + 3:
            end += 1
    return Label(kind, match.start(), end, weak=is_weak and "✿" not in before, listed=bool(item))


@functools.lru_cache(maxsize=1_000)
def _kind(word: str) -> tuple[Kind, bool]:
    """What a label's word says, and whether it is a weak one."""
    kind = next(kind for kind, words in _KINDS if words.fullmatch(word))
    return kind, _WEAK.match(word) is not None


def find_labels(text: str) -> list[Label]:
    """The labels that divide a text, in order. Those in a code fence are quoted, except where the fence is around the
    whole text or the action is its last thing, or where it never ends; an Observation ends a fence that is an input."""
    labels: list[Label] = []
    every = _all_labels(text)
    if not every:
        return []
    fences = list(_FENCE.finditer(text))
    closing = _closing_fences(fences)
    in_fence: int | None = None  # the fence's index while one is open
    quoted_until = -1
    input_until = -1
    fence = 0
    observations = [label.start for label in every if label.kind is Kind.OBSERVATION]
    begin = len(text) - len(text.lstrip())
    solid = functools.cache(lambda stop: _solid_end(text, stop))
    for label in every:
        while fence < len(fences) and fences[fence].start() <= label.start:
            mark = fences[fence]
            if in_fence is not None:
                in_fence = None if not mark["info"].strip() else in_fence
            elif mark.start() >= max(quoted_until, input_until):
                end = closing[fence]
                if mark.start() <= begin:
                    pass  # around the whole text
                elif end is None:
                    in_fence = fence
                elif labels and labels[-1].kind in (Kind.ACTION, Kind.INPUT):
                    input_until = end
                elif solid(_next(observations, end, len(text))) > end:
                    quoted_until = end
            fence += 1
        if label.start < quoted_until:
            continue
        if label.start < input_until:
            if label.kind is not Kind.OBSERVATION:
                continue
            input_until = -1
        if in_fence is not None:
            label = Label(label.kind, label.start, label.end, label.weak, label.listed, label.inline, fenced=True)
        if label.weak and label.kind in _BEHIND and not (labels and labels[-1].kind is _BEHIND[label.kind]):
            continue
        labels.append(label)
    return labels


def _solid_end(text: str, stop: int) -> int:
    """Where, before `stop`, something else ends than blanks and marks of fences."""
    while stop and text[stop - 1] in " \t\r\n`~":
        stop -= 1
    return stop


def _next(places: list[int], at: int, default: int) -> int:
    index = bisect.bisect_left(places, at)
    return places[index] if index < len(places) else default


def _closing_fences(fences: list[re.Match[str]]) -> list[int | None]:
    """For each fence line the end of the next one without an info string, which would close it."""
    closing: list[int | None] = []
    end: int | None = None
    for mark in reversed(fences):
        closing.append(end)
        if not mark["info"].strip():
            end = mark.end()
    return closing[::-1]


def _all_labels(text: str) -> list[Label]:
    labels = list(line_labels(text))
    for match in itertools.islice(_INLINE_LABEL.finditer(text), MOST_LABELS):
        start = match.start()
        labels.append(Label(_kind_inline(match), start, match.end(), inline=True))
    labels.sort(key=lambda label: label.start)
    return labels


def _kind_inline(match: re.Match[str]) -> Kind:
    return Kind.FINAL if match["final"] else Kind.ACTION


def first_observation(text: str) -> int:
    """Where the first Observation begins that a text has (or what is not looked at), or where it ends."""
    for number, label in enumerate(line_labels(text), 1):
        if label.kind is Kind.OBSERVATION or number == MOST_LABELS:
            return label.start
    return len(text)


_BEGUN = re.compile(
    rf"[{_BLANK}]{{0,40}}(?:(?:[-+•]|\d{{1,3}}[.)]?|[{_PICTURE}]{{1,4}})[ \t]{{0,4}})?"
    rf"(?:[*_`\[\#✿][*_`\[\#✿ {_PICTURE}]{{0,7}})?"
    r"(?P<word>[^\s*_`\[\#✿:：](?:[^\n*`\[\]\#✿:：]{0,29}))?[*_`\]\#✿ \t\r\d]{0,12}"
)
_WRITTEN = (
    "action input", "action arguments", "action args", "action parameters", "action params",
    "tool input", "tool name", "tool result", "tool response", "tool output",
    "next action", "next_tool_name", "next_tool_args", "next_thought", "final answer", "final response", "observations",
    "thoughts", "thinking", "question", "human", "inputs", "arguments", "parameters", "function", "return", "results",
    "answer", "行动输入", "动作输入", "操作输入", "观察结果", "最终答案", "最终回答", "思考", "想法", "答案", "问题",
)  # fmt: skip
_PLAIN = tuple(re.sub(r"[\s_]+", "", written) for written in _WRITTEN)


def may_become_label(line: str) -> bool:
    """Whether a line that is not whole yet may turn out to begin with a label."""
    match = _BEGUN.fullmatch(line[:80]) if len(line) <= 80 else None
    if match is None:
        return False
    word = re.sub(r"[\s_\-#\d]+", "", match["word"] or "").casefold()
    return any(written.startswith(word) or word.startswith(written) for written in _PLAIN)
