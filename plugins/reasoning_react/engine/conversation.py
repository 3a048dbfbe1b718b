"""What a model is sent for its next turn, kept within its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import tokens
from .chat import Message, Tool
from .left_out import leave_out
from .prompts import Prompts
from .run import Mode, Run
from .transcript import Limits, Transcript, shown_from

_LEAST_CONTENT = 200  # characters that are left of a text when nothing else helps
_MOST_FOR_THE_REPLY = 8_192  # tokens; or a quarter of the window, if that is less


def messages(
    run: Run, tools: Sequence[Tool], prompts: Prompts, *, window: int, final: bool = False
) -> tuple[Message, ...]:
    """What the model is sent. `window`: tokens that it reads and writes together; 0: not known, all is sent. `final`:
    the answer is asked for now, without tools.

    What is too much for the window is left out as wholes, and more at once than must be, so that the beginning stays
    the same for some turns: the oldest of the conversation before the question, then the oldest steps. `run.left_out`,
    `run.history_left_out` and `run.summary` say so from then on. If the last step alone is too much, its observations
    and the background are cut. The question never is.
    """
    everything = Transcript(run, tools, prompts).messages(final)
    if not window:
        return everything
    room = window - min(window // 4, _MOST_FOR_THE_REPLY)
    if run.mode is not Mode.TEXT and not final:
        room -= tokens.of_tools(tools)
    total = tokens.of_messages(everything)
    if total <= room:
        return everything
    _leave_out(run, Transcript(run, tools, prompts), total - max(0, room * 2 // 3))
    return _cut_to(run, tools, prompts, room, final)


def _leave_out(run: Run, transcript: Transcript, excess: int) -> None:
    """At least so many tokens, if there is as much before the last results and what came after them."""
    for start, end in _turns(run):
        if excess <= 0:
            return
        excess -= tokens.of_messages(run.history[start:end])
        run.history_left_out = end
    count = run.left_out
    last = next((place for place in reversed(range(len(run.steps))) if run.steps[place].actions), len(run.steps) - 1)
    while excess > 0 and count < last:
        excess -= tokens.of_messages(transcript.step(run.steps[count]))
        count += 1
    leave_out(run, count)


def _turns(run: Run) -> Iterator[tuple[int, int]]:
    """Where the turns of the history that are still shown begin and end: each begins with the user."""
    start = shown_from(run)
    for place in range(start + 1, len(run.history) + 1):
        if place == len(run.history) or run.history[place].role == "user":
            yield start, place
            start = place


def _cut_to(run: Run, tools: Sequence[Tool], prompts: Prompts, room: int, final: bool) -> tuple[Message, ...]:
    contents = [run.context, *(one.content for step in run.steps[run.left_out :] for one in step.observations)]
    most = max(map(len, contents))
    while True:
        limits = Limits(content=most, summary=max(0, room // 2))
        shown = Transcript(run, tools, prompts, limits).messages(final)
        total = tokens.of_messages(shown)
        if most <= _LEAST_CONTENT or total <= room:
            return shown
        most = max(_LEAST_CONTENT, min(most * 2 // 3, most * room // total))
