"""A whole text → Reading: its reasoning taken off, then whichever comes first, markup of a call or a label."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shared.call_markup import Marked, MarkedCall, read_marked

from .. import repetition
from ..reading import Act, Call, Final, Malformed, Reading, ThoughtOnly
from . import answers, blobs
from .labelled import MADE_UP, Labelled, read_labelled
from .labels import Kind, find_labels, first_observation, line_labels
from .named import named_calls
from .names import Tools
from .reasoning import without_reasoning
from .schemas import CannotRead


@dataclass(frozen=True)
class Whole:
    """`is_settled`: whatever the text goes on with changes nothing."""

    reading: Reading
    is_settled: bool = False


_EMPTY = (
    "The reply was empty. Write `Thought:` and then either `Action:` and `Action Input:`, "
    "or `Final Answer:` and the answer."
)
_REPEATS = "The reply repeated itself over and over. Write one short thought and then one action, or the final answer."


def read_whole_text(text: str, tools: Tools, *, cut: bool) -> Whole:
    whole = _read(text, tools, cut)
    if not isinstance(whole.reading, Act | Malformed) and repetition.repeats(text):
        return Whole(Malformed("", _REPEATS))
    return whole


def _read(text: str, tools: Tools, cut: bool) -> Whole:
    if not text.strip():
        return Whole(Malformed("", _EMPTY))
    marked = read_marked(text, tools)
    visible = without_reasoning(text, marked)
    seen, reasoning, is_open = visible.text, visible.reasoning, visible.is_open
    call = next((call for call in marked.calls if visible.in_channels or not _is_bare(text, call)), None)
    if call is not None and visible.in_channels:
        if first_observation(seen) < len(seen):
            return Whole(Malformed(_joined(reasoning, seen.strip()), MADE_UP))
        thought = _joined(reasoning, marked.text)
        return Whole(Act(thought, _calls(marked.calls), marked.calls[-1].end), is_settled=True)
    if call is not None:
        whole = _with_markup(text, seen, reasoning, marked, call, tools)
        if whole is not None:
            return replace(whole, is_settled=whole.is_settled and not is_open)
    labelled = read_labelled(seen, tools, cut)
    if labelled is not None and not (
        isinstance(labelled.reading, ThoughtOnly) and _thought_is_markup(marked, labelled)
    ):
        reading = labelled.reading
        if (
            isinstance(reading, ThoughtOnly)
            and (acted := _bare_action(seen, marked, tools, reading.thought)) is not None
        ):
            return Whole(_with_reasoning(acted, reasoning), not is_open)
        return Whole(_with_reasoning(reading, reasoning), labelled.is_settled and not is_open)
    if marked.problem:
        return Whole(Malformed(_joined(reasoning, _thought_of(seen)), _sentence(marked.problem)))
    if not seen.strip():
        return Whole(ThoughtOnly(reasoning) if reasoning else Malformed("", _EMPTY))
    acted = _bare_action(seen, marked, tools, "")
    if acted is not None:
        return Whole(_with_reasoning(acted, reasoning), not is_open)
    shown = seen.strip() if marked.calls or not marked.text else marked.text
    thought, shown = answers.tagged(shown)
    answer = answers.cleaned(shown)
    if answers.is_placeholder(answer):
        return Whole(Malformed(reasoning, answers.PLACEHOLDER))
    return Whole(Final(_joined(reasoning, thought), answer))


def _thought_is_markup(marked: Marked, labelled: Labelled) -> bool:
    return bool(marked.problem) and not labelled.has_action


def _is_bare(text: str, call: MarkedCall) -> bool:
    """Whether it is JSON or Python, not markup that stands for nothing but calls."""
    start = text[call.start : call.start + 40].lstrip()
    if start.startswith(("<", "[TOOL", "functools", "to=", "✿", "｜", "|")):
        return False
    return start.startswith(("{", "[", "`", "~")) or re.match(r"[\w.\- ]{1,40}[({]?", start) is not None


def _with_markup(text: str, seen: str, reasoning: str, marked: Marked, call: MarkedCall, tools: Tools) -> Whole | None:
    """What a text comes to that has a whole call in markup; None: that call is only talked about."""
    before = seen[: call.start]
    calls = _run_of_calls(text, marked, call)
    end = calls[-1].end
    act = Act(_joined(reasoning, _thought_of(before)), _calls(calls), end)
    in_reasoning = not seen[call.start : call.end].strip()
    if in_reasoning:
        outside = marked.text if not seen.strip() else seen
        return None if outside.strip() else Whole(replace(act, thought=marked.reasoning))
    labels = find_labels(before)
    last = labels[-1] if labels else None
    stopped = first_observation(before) < len(before) or _is_split(seen, call)
    is_awaited = last is not None and last.kind in (Kind.ACTION, Kind.INPUT)
    if is_awaited and not stopped and last is not None and not before[last.end :].strip(" \t\r\n`*"):
        return Whole(act, is_settled=True)
    earlier = read_labelled(before, tools, cut=False)
    if earlier is None:
        return Whole(Malformed(_joined(reasoning, before.strip()), MADE_UP) if stopped else act, is_settled=not stopped)
    if stopped or isinstance(earlier.reading, Act):
        return Whole(_with_reasoning(earlier.reading, reasoning), earlier.is_settled)
    if isinstance(earlier.reading, Final):
        return Whole(_with_reasoning(earlier.reading, reasoning))
    return Whole(act, is_settled=True)


def _is_split(seen: str, call: MarkedCall) -> bool:
    """Whether an Observation was made up within the call's markup, and not as the text of an argument."""
    span = seen[call.start : call.end]
    observation = next((label for label in line_labels(span) if label.kind is Kind.OBSERVATION), None)
    return observation is not None and span[observation.start : observation.end].strip() not in str(call.arguments)


def _calls(marked: Iterable[MarkedCall]) -> tuple[Call, ...]:
    return tuple(Call(call.name, call.arguments) for call in marked)


def _run_of_calls(text: str, marked: Marked, first: MarkedCall) -> list[MarkedCall]:
    """The call and those that follow it with nothing said between."""
    calls: list[MarkedCall] = []
    for call in marked.calls:
        if call.start < first.start:
            continue
        if calls and (call.start > calls[-1].end and re.search(r"\w", text[calls[-1].end : call.start])):
            break
        calls.append(call)
    return calls


def _thought_of(text: str) -> str:
    labelled = read_labelled(text, {}, cut=False)
    if labelled is not None and isinstance(labelled.reading, ThoughtOnly | Malformed | Final):
        return labelled.reading.thought or text.strip()
    return text.strip()


def _bare_action(seen: str, marked: Marked, tools: Tools, thought: str) -> Reading | None:
    acted = _bare(seen, marked, tools, thought)
    if isinstance(acted, Act) and acted.end > first_observation(seen):
        return Malformed(thought or seen.strip(), MADE_UP)
    return acted


def _bare(seen: str, marked: Marked, tools: Tools, thought: str) -> Reading | None:
    """A call as JSON or Python on a line of its own, first or last in the text. One that has text on both sides is
    quoted."""
    stripped_end = len(seen.rstrip().rstrip("`~").rstrip())
    for call in marked.calls:
        if not _is_bare(seen, call) or not seen[call.start : call.end].strip():
            continue
        is_first, is_last = not seen[: call.start].strip(" \t\r\n`"), call.end >= stripped_end
        if is_first or (is_last and _starts_line(seen, call.start)):
            calls = _run_of_calls(seen, marked, call)
            before = thought or seen[: call.start].strip().removesuffix("```").strip()
            return Act(before, _calls(calls), calls[-1].end)
    try:
        for one, start, end in named_calls(seen, tools):
            if not seen[:start].strip() or end >= stripped_end:
                return Act(thought or _thought_of(seen[:start]), (one,), end)
        found = _bare_blob(seen, tools, stripped_end)
    except CannotRead as error:
        return Malformed(thought, str(error))
    if found is None:
        return None
    blob, start, end = found
    if blob.nothing:
        return None
    before = "\n".join(part for part in (_before_blob(seen, start, thought), blob.thought) if part)
    if blob.answer is not None:
        if answers.is_placeholder(blob.answer, argument=True):
            return Malformed(before, answers.PLACEHOLDER)
        return Final(before, blob.answer)
    return Act(before, blob.calls, end)


def _before_blob(seen: str, start: int, thought: str) -> str:
    before = re.sub(r"(?:[`~]{3,}[\w+-]{0,20})?\s*\Z", "", seen[max(0, start - 100) : start])
    return _thought_of(seen[: max(0, start - 100)] + before)


_BLOB_LINE = re.compile(r"^[ \t]{0,3}(?:[`~]{3,}[\w+-]{0,20}\s{0,20})?(?:\$\w{1,30}\s{1,20})?(?=[{\[])", re.MULTILINE)
_MOST_BLOBS = 8  # that are begun and turn out to be none


def _bare_blob(seen: str, tools: Tools, stripped_end: int) -> tuple[blobs.Blob, int, int] | None:
    """Raises CannotRead."""
    place = len(seen) - len(seen.lstrip())
    first = True
    tried = 0
    while tried < _MOST_BLOBS and (match := _BLOB_LINE.search(seen, place)):
        start = match.end()
        is_first = first and not seen[: match.start()].strip()
        first = False
        try:
            blob, end = blobs.read_at(seen, start, tools)
        except CannotRead:
            if is_first or _is_whole_rest(seen, start):
                raise
            blob, end = None, start
        if blob is not None and (is_first or end >= stripped_end or not seen[end:].strip(" \t\r\n`~}")):
            known = all(call.name in tools for call in blob.calls)
            if blob.explicit or (known and (blob.calls or is_first)):
                return blob, start, end
        tried += end == start
        place = max(end, start + 1)
    return None


def _is_whole_rest(seen: str, start: int) -> bool:
    return not re.search(r"^[A-Z][a-z]+ [a-z]+ ", seen[start:], re.MULTILINE)


def _starts_line(text: str, place: int) -> bool:
    begin = text.rfind("\n", 0, place) + 1
    before = text[begin:place]
    return not before.strip(" \t`") or before.rstrip().endswith((":", "："))


def _with_reasoning(reading: Reading, reasoning: str) -> Reading:
    return replace(reading, thought=_joined(reasoning, reading.thought)) if reasoning else reading


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _sentence(problem: str) -> str:
    problem = problem.strip()
    problem = problem[:1].upper() + problem[1:]
    return problem if problem.endswith((".", "!", "?")) else problem + "."
