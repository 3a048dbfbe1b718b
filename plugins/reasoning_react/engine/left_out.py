"""What a run can do without: its oldest steps, as wholes, first in what the model is shown, then in the state; and,
where that is not enough, most of its last step."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from .observations import cut, kept
from .prompts import Prompts
from .run import Action, Run, Step
from .run_json import packed_step

_LINE = 240  # characters of the summary for a step
_SUMMARY = 4_000  # characters of all of it; the oldest lines go first
# Characters of what is kept for the trace alone.
_OLD_CONTENT = 400  # of an observation
_OLD_THOUGHT = 2_000
_OLD_ARGUMENTS = 2_000


def leave_out(run: Run, count: int) -> None:
    """The oldest `count` steps are not shown to the model any more, but for a line each in `run.summary`."""
    lines = run.summary.splitlines()
    for number in range(run.left_out, min(count, len(run.steps))):
        lines.append(f"{number + 1}. {_in_short(run.steps[number])}"[:_LINE])
        run.left_out = number + 1
    while sum(map(len, lines)) + len(lines) > _SUMMARY:
        del lines[0]
    run.summary = "\n".join(lines)


def _in_short(step: Step) -> str:
    if not step.actions:
        return "no action"
    room = _LINE // len(step.actions)
    return "; ".join(_with_result(action, step, max(20, room // 2)) for action in step.actions)


def _with_result(action: Action, step: Step, room: int) -> str:
    result = next((one for one in step.observations if one.action_id == action.id), None)
    call = _start(f"{action.tool}({action.arguments})", room)
    if result is None:
        return f"{call} -> no result"
    return f"{call} -> {'failed: ' if result.is_error or result.denied else ''}{_start(result.content, room)}"


def _start(text: str, most: int) -> str:
    line = " ".join(text[: 2 * most].split())
    return line if len(line) <= most and len(text) <= 2 * most else line[:most] + "..."


def lighten(run: Run, bytes_to_save: int) -> bool:
    """Takes from the oldest steps, which the model is then not shown any more, what nobody but it needs, and most of
    what they hold; then, where that was done with all but the last, the actions too. Ends once `bytes_to_save` are
    saved. False: nothing was left to take."""
    saved = 0
    for made_lighter in (_lighter, _bare):
        for number, step in enumerate(run.steps[:-1]):
            if saved >= bytes_to_save:
                return True
            lighter = made_lighter(step)
            gain = _size(step) - _size(lighter)
            if gain > 0:
                leave_out(run, number + 1)
                run.steps[number] = lighter
                saved += gain
    return saved > 0


def _lighter(step: Step) -> Step:
    return replace(
        step,
        # The reasoning for a model that thinks nowhere else.
        thought=_without_most(step.thought, _OLD_THOUGHT) or _without_most(step.reasoning),
        actions=[_lighter_action(action) for action in step.actions],
        observations=[replace(one, content=_without_most(one.content)) for one in step.observations],
        text="",
        reasoning="",
        opaque=b"",
    )


def _lighter_action(action: Action) -> Action:
    size = len(action.arguments)
    arguments = action.arguments if size <= _OLD_ARGUMENTS else json.dumps({"left_out": f"{size:,} characters"})
    return replace(action, arguments=arguments, opaque=b"")


def _bare(step: Step) -> Step:
    return Step(_without_most(step.thought))


def _without_most(content: str, most: int = _OLD_CONTENT) -> str:
    if len(content) <= most:
        return content
    return content[: most - 80] + " [... not kept, the state would have become too large]"


def _size(step: Step) -> int:
    return len(json.dumps(packed_step(step), ensure_ascii=False).encode("utf-8", "surrogatepass"))


def cut_down(run: Run, most: int, prompts: Prompts) -> None:
    """Cuts the last step, the answer and the summary to `most` characters each, about; what was told of them is
    whole. The arguments of actions that the host is still to run are not touched: what it is asked for is what it
    runs."""
    step = run.steps[-1]
    each = most // (1 + len(step.actions) + len(step.observations))
    run.answer = cut(run.answer, most, prompts)
    if len(run.summary) > most:
        run.summary = run.summary[-most:].partition("\n")[2]
    answered = {one.action_id for one in step.observations}
    run.steps[-1] = replace(
        step,
        thought=cut(step.thought, each, prompts),
        actions=[
            _cut_action(action, math.inf if run.pending and action.id not in answered else each)
            for action in step.actions
        ],
        observations=kept(step.observations, each, prompts),
        text="",
        reasoning="",
        opaque=b"",
    )


def _cut_action(action: Action, most: float) -> Action:
    if len(action.arguments) > most:
        left_out = json.dumps({"left_out": f"{len(action.arguments):,} characters of arguments"})
        return replace(action, arguments=left_out, opaque=b"")
    return replace(action, opaque=b"")
