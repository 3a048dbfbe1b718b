"""What the model decides on in a step: actions, or its answer. Output that cannot be read is told to it, and it is
asked again, so often and no more."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.call_markup import read_marked
from shared.errors import DeadlineExceeded
from shared.off_loop import in_thread

from . import actions, bounds
from .actions import Asked
from .asker import Asker
from .bounds import Clock
from .chat import Finish, Turn
from .hearing import Heard, OutOfTime
from .names import Names
from .prompts import Prompts
from .reader import read
from .reading import Act, Final, Malformed, Reading, ThoughtOnly
from .run import Mode, Run, Step, StopReason

_LONGEST_ATTEMPT = 2_000  # characters of an output that could not be read, as the model is shown it once more
_RAMBLED = "it repeated itself, and was ended. Write the next step alone, or the answer."
_WITHHELD = "the endpoint's content filter withheld it. Say it in another way."
_MOST_FORMATS = 4  # of calls, in one text
_REFUSED = "The model refuses to answer."
_MADE_UP = "you wrote a result yourself. Results come from tools alone: call one, or write the answer."
_LARGE = 2**14  # characters of text: to read more may take milliseconds


@dataclass(frozen=True)
class Acts:
    """The model asked for actions. `text`: TEXT: what it wrote, up to the last of them."""

    thought: str
    asked: Sequence[Asked]
    text: str = ""
    reasoning: str = ""
    opaque: bytes = b""


class Thinker:
    """For one step."""

    def __init__(self, run: Run, asker: Asker, names: Names, prompts: Prompts, max_repairs: int, clock: Clock) -> None:
        self._run, self._asker, self._names, self._prompts = run, asker, names, prompts
        self._max_repairs, self._clock = max_repairs, clock
        self.thought = ""  # the last that could be read

    async def think(self) -> Acts | Final | StopReason:
        """What the model decides on. What cannot be read it is told, and asked again."""
        run, attempt, is_nudged = self._run, None, False
        while True:
            if reason := bounds.spent(run, time.time()):
                return reason
            left = self._clock.left()
            try:
                heard = await self._asker.ask(attempt, min(left, bounds.seconds_left(run, time.time())))
            except OutOfTime:
                if self._clock.left() > 0:
                    return StopReason.MAX_SECONDS
                raise too_late("the model did not answer") from None
            reading = await self._reading(heard)
            self.thought = reading.thought.strip() or self.thought
            match reading:
                case Acts():
                    return reading
                case Final():
                    return Final(reading.thought or heard.turn.reasoning, reading.text)
                case ThoughtOnly():
                    if is_nudged:
                        return Final("", self.thought)
                    is_nudged = True
                    note = self._prompts.thought_only(heard.mode)
                case Malformed():
                    if run.repairs >= self._max_repairs:
                        return StopReason.MALFORMED_OUTPUT
                    run.repairs += 1
                    note = self._prompts.malformed(reading.problem)
            attempt = _attempt(heard.turn, reading.thought, note)

    async def _reading(self, heard: Heard) -> Acts | Final | ThoughtOnly | Malformed:
        turn = heard.turn
        if turn.tool_calls:
            asked = await actions.of_api(turn, self._names.meant)
            reading = await self._read(turn) if turn.text.strip() else ThoughtOnly("")
            thought = reading.text if isinstance(reading, Final) else reading.thought
            if all(one.arguments is None for one in asked):
                return Malformed(thought, "; ".join(one.problem for one in asked))
            return Acts(thought, asked, "", turn.reasoning, turn.opaque)
        if turn.refusal:
            return Final("", await self._refused(turn))
        if heard.rambled:
            return Malformed("", _RAMBLED)
        if turn.finish is Finish.CONTENT_FILTER and not (turn.text.strip() or turn.reasoning.strip()):
            return Malformed("", _WITHHELD)
        reading = await self._read(turn)
        if isinstance(reading, Final) and _is_made_up(reading.text, heard.mode):
            return Malformed(reading.thought, _MADE_UP)
        if not isinstance(reading, Act):
            return reading
        text = turn.text[: reading.end] if heard.mode is Mode.TEXT and turn.text.strip() else ""
        asked = actions.of_text(reading.calls, self._names.meant)
        if heard.mode is Mode.TEXT:
            return Acts(reading.thought, asked, text)
        return Acts(reading.thought, asked, "", turn.reasoning, turn.opaque)

    async def last_words(self, heard: Heard) -> tuple[str, str]:
        """Thought and answer of a turn that was to be the last answer."""
        turn = heard.turn
        if turn.refusal:
            return "", await self._refused(turn)
        reading = await self._read(turn)
        if isinstance(reading, Final):
            return reading.thought, reading.text
        return "", await self.without_calls(reading.thought)

    async def _refused(self, turn: Turn) -> str:
        """A refusal is shown as any answer is."""
        reading = await self._read(replace(turn, text=turn.refusal))
        shown = reading.text if isinstance(reading, Final) else await self.without_calls(turn.refusal)
        return shown or _REFUSED

    async def without_calls(self, thought: str) -> str:
        """A thought that is to be the answer, bare of calls' markup: what stands before a call may hold others."""
        schemas = self._names.schemas()
        if len(thought) > _LARGE:
            return await in_thread(_without_calls, thought, schemas)
        return _without_calls(thought, schemas)

    async def _read(self, turn: Turn) -> Reading:
        text = turn.text
        if not text.strip() and turn.reasoning.strip():
            # Some endpoints take all of a turn for reasoning, calls included.
            text = f"<think>{turn.reasoning}</think>"
        schemas, is_cut = self._names.schemas(), turn.finish is Finish.LENGTH
        return await in_thread(_read, text, schemas, is_cut) if len(text) > _LARGE else _read(text, schemas, is_cut)


def _read(text: str, tools: Mapping[str, Mapping[str, Any]], is_cut: bool) -> Reading:
    reading = read(text, tools, cut=is_cut)
    if isinstance(reading, Malformed | ThoughtOnly):
        # It may become the answer, where no better one comes.
        return replace(reading, thought=read_marked(reading.thought, tools).text)
    return reading


def _without_calls(text: str, tools: Mapping[str, Mapping[str, Any]]) -> str:
    for _ in range(_MOST_FORMATS):
        bare = read_marked(text, tools).text
        if bare == text:
            break
        text = bare
    return text.strip()


def _is_made_up(answer: str, mode: Mode) -> bool:
    """Whether an answer is what a model imagines that a tool brings."""
    start = answer[:100].strip().casefold()
    bare = start.removeprefix("observation:")
    return bare.lstrip().startswith("<tool_result-") or (mode is Mode.TEXT and bare != start)


def too_late(what: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"{what} in the time that the call had; call again with the same state, and more time")


def _attempt(turn: Turn, thought: str, note: str) -> Step:
    text = turn.text if len(turn.text) <= _LONGEST_ATTEMPT else turn.text[:_LONGEST_ATTEMPT] + "…"
    return Step(thought=thought[:_LONGEST_ATTEMPT], text=text, note=note)
