"""A run that has become too large for its state by its last step alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from .observations import cut, kept
from .prompts import Prompts
from .run import Action, Run


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
