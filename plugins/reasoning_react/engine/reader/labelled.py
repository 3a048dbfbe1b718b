"""A text with labels → Reading: the first action or answer counts, and nothing behind a made-up Observation is run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..reading import Act, Final, Malformed, Reading, ThoughtOnly
from . import answers, blobs, names
from .actions import Place, read_action
from .labels import Kind, Label, find_labels, first_observation
from .names import Tools
from .schemas import CannotRead

MADE_UP = (
    "You wrote an Observation yourself. Observations come only from tools: write `Action:` and `Action Input:` and "
    "stop, or write `Final Answer:` and the answer."
)
_NO_ACTION = (
    "There is an Action Input without an Action. Write `Action:` with the tool's name, and then `Action Input:`."
)
_HEAD_END = re.compile(r"[(\[{<|]|[ \t,;]{1,4}Action[ _]?Input[ \t]?[:：]", re.IGNORECASE)  # behind an action's name
_NO_ANSWER = "There is nothing after `Final Answer:`. Write the answer itself after it, in full."


@dataclass(frozen=True)
class Labelled:
    """`is_settled`: whatever the text goes on with changes nothing. `has_action`: something was asked for."""

    reading: Reading
    is_settled: bool = False
    has_action: bool = False


def read_labelled(text: str, tools: Tools, cut: bool) -> Labelled | None:
    """None: the text has no labels."""
    labels = _dividing(text, find_labels(text), tools)
    if not labels:
        return None
    return _Labels(text, labels, tools, cut).read()


def _dividing(text: str, labels: list[Label], tools: Tools) -> list[Label]:
    """Without those that are a plain text's own words: notes have `Action:` and `Observation:` too."""
    kept: list[Label] = []
    for index, label in enumerate(labels):
        following = labels[index + 1] if index + 1 < len(labels) else None
        if label.kind is Kind.ACTION and not _is_action(text, label, following, kept, tools):
            continue
        kept.append(label)
    if not any(label.kind in (Kind.THOUGHT, Kind.ACTION, Kind.INPUT, Kind.FINAL) for label in kept):
        return []
    return kept


def _is_action(text: str, label: Label, following: Label | None, before: list[Label], tools: Tools) -> bool:
    line_end = text.find("\n", label.end)
    line = text[label.end : line_end if line_end >= 0 else len(text)][:400]
    has_input = following is not None and following.kind is Kind.INPUT
    if label.inline:
        first = re.match(
            r"[ \t]{0,5}[`*\"']{0,3}([^\s`*\"'(\[{:]{1,100})[`*\"']{0,3}[ \t]{0,3}($|[(\[{]|Action Input)", line
        )
        return first is not None and names.known_name(first[1], tools) is not None
    head = _HEAD_END.split(line, maxsplit=1)[0]
    known = names.known_name(head, tools) is not None or names.known_name(line.strip(" []"), tools) is not None
    if label.weak:
        return known
    if label.listed:
        return known or has_input
    if has_input or known or any(one.kind in (Kind.THOUGHT, Kind.ACTION) for one in before):
        return True
    words = head.split()
    if names.is_none(line, tools) or names.is_finish(head, tools):
        return True
    return len(words) <= 3 and not (before and before[-1].kind is Kind.FINAL)


class _Labels:
    def __init__(self, text: str, labels: list[Label], tools: Tools, cut: bool) -> None:
        self._text = text
        self._labels = labels
        self._tools = tools
        self._cut = cut
        self._thoughts = [self._strip(text[: labels[0].start])]
        self._observed = False
        self._first_observation = first_observation(text)  # a quoted one counts: nothing behind it is run
        self._hard_stops = self._next_observations()

    def read(self) -> Labelled:
        index = 0
        while index < len(self._labels):
            label = self._labels[index]
            match label.kind:
                case Kind.THOUGHT:
                    self._thoughts.append(self._strip(self._content(index)))
                case Kind.OBSERVATION:
                    if self._thought() or self._observed:
                        return Labelled(Malformed(self._thought(), MADE_UP))
                    self._observed = True  # perhaps it says again what a tool brought: an answer may follow, no action
                case Kind.QUESTION:
                    if index and self._thought():
                        break
                case Kind.FINAL:
                    reading = self._final(index)
                    if reading is not None:
                        return Labelled(reading, has_action=True)
                case Kind.ACTION | Kind.INPUT:
                    labelled, index = self._action(index)
                    if labelled is not None:
                        return labelled
                    continue
            index += 1
        thought = self._thought()
        if self._observed:
            return Labelled(Malformed(thought, MADE_UP))
        if any(label.kind is Kind.FINAL for label in self._labels):
            return Labelled(Malformed(thought, _NO_ANSWER), has_action=True)
        return Labelled(ThoughtOnly(thought)) if thought else Labelled(Malformed("", _NOTHING))

    def _action(self, index: int) -> tuple[Labelled | None, int]:
        """What the action at `index` comes to; None where it says that none is wanted, and where to go on."""
        label = self._labels[index]
        thought = self._thought()
        if self._observed or label.start > self._first_observation:
            return Labelled(Malformed(thought, MADE_UP), has_action=True), index
        following = index + 1
        while (
            label.kind is Kind.ACTION
            and following < len(self._labels)
            and self._labels[following].kind is Kind.ACTION
            and (not self._content(following - 1).strip())
        ):
            label, index, following = self._labels[following], following, following + 1
        given = self._labels[following] if following < len(self._labels) else None
        has_input = label.kind is Kind.ACTION and given is not None and given.kind is Kind.INPUT
        last = following if has_input else index
        place = Place(
            start=label.end,
            name_stop=given.start if given is not None else len(self._text),
            input_start=given.end if has_input and given is not None else None,
            stop=self._stop(last),
            ends=last + 1 >= len(self._labels),
            hard_stop=self._hard_stops[last],
        )
        try:
            if label.kind is Kind.INPUT:
                return self._input_alone(label, thought), index
            asked = read_action(self._text, place, self._tools, self._cut)
        except CannotRead as error:
            return Labelled(Malformed(thought, str(error)), has_action=True), index
        thought = "\n".join(part for part in (thought, asked.thought) if part)
        if asked.answer is not None:
            return Labelled(Final(thought, asked.answer), has_action=True), index
        if asked.calls:
            return Labelled(Act(thought, asked.calls, asked.end), not label.fenced, has_action=True), index
        return self._none(asked.end, has_input, given, last, thought)

    def _none(
        self, end: int, has_input: bool, given: Label | None, last: int, thought: str
    ) -> tuple[Labelled | None, int]:
        """No tool is wanted: what else is written is the answer, under its label or without one."""
        rest = self._text[given.end if has_input and given is not None else end : self._stop(last)].strip()
        if has_input:
            first, _, more = rest.partition("\n")
            rest = (
                more.strip() if names.is_none(first, {}) or not first.strip() or first.strip() in ("{}", '""') else rest
            )
        if rest and not (last + 1 < len(self._labels) and self._labels[last + 1].kind is Kind.FINAL):
            return Labelled(Final(thought, answers.cleaned(rest)), has_action=True), last
        return None, last + 1

    def _input_alone(self, label: Label, thought: str) -> Labelled:
        start = blobs.starts_at(self._text, len(self._text) - len(self._text[label.end :].lstrip()))
        if start is not None:
            blob, end = blobs.read_at(self._text[: self._hard_stops[self._labels.index(label)]], start, self._tools)
            if blob is not None and blob.calls:
                return Labelled(Act(thought, blob.calls, end), not label.fenced, has_action=True)
            if blob is not None and blob.answer is not None:
                return Labelled(Final(thought, blob.answer), has_action=True)
        return Labelled(Malformed(thought, _NO_ACTION), has_action=True)

    def _final(self, index: int) -> Reading | None:
        label = self._labels[index]
        stop = len(self._text)
        question: int | None = None
        for later in self._labels[index + 1 :]:
            if later.listed or later.inline or later.weak or _is_decorated(self._text, later):
                continue
            if later.kind is Kind.QUESTION:
                question = later.start if question is None else question
            elif (
                later.kind in (Kind.THOUGHT, Kind.OBSERVATION)
                or later.kind is Kind.ACTION
                or (later.kind is Kind.FINAL and "inal" in self._text[later.start : later.end])
            ):
                stop = later.start if question is None else question
                break
        written = self._text[label.end : stop]
        answer = answers.cleaned(written)
        if not answer:
            return None
        if answers.is_placeholder(written):
            return Malformed(self._thought(), answers.PLACEHOLDER)
        return Final(self._thought(), answer)

    def _content(self, index: int) -> str:
        return self._text[self._labels[index].end : self._stop(index)]

    def _stop(self, index: int) -> int:
        return self._labels[index + 1].start if index + 1 < len(self._labels) else len(self._text)

    def _next_observations(self) -> list[int]:
        """For each label where the next Observation begins."""
        stops: list[int] = []
        stop = len(self._text)
        for label in reversed(self._labels):
            stops.append(stop)
            if label.kind is Kind.OBSERVATION:
                stop = label.start
        return stops[::-1]

    def _thought(self) -> str:
        return "\n".join(thought for thought in self._thoughts if thought)

    @staticmethod
    def _strip(text: str) -> str:
        text = text.strip()
        return (
            text[:-3].rstrip() if text.endswith("```") and text.count("```") % 2 else text.removeprefix("```").strip()
        )


_NOTHING = (
    "There is neither an action nor an answer. Write `Action:` and `Action Input:`, or `Final Answer:` and the answer."
)


def _is_decorated(text: str, label: Label) -> bool:
    return text[label.start : label.end].lstrip()[:1] in "*#_`[✿"
