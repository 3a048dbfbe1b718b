"""What a caller brings to a run between two steps: its question, and what the host's actions brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shared.errors import InvalidArgument, quoted

from .run import Observation, Run


def take(run: Run, input: str, observations: Sequence[Observation]) -> list[Observation]:
    """Whole observations of the run's pending actions, in their order; none where none are pending. The run gets its
    question where it has none yet. Raises InvalidArgument."""
    if run.pending:
        return _observations(run, input, observations)
    if observations:
        raise InvalidArgument(
            f"no action waits for an observation, so that of {quoted(observations[0].action_id)} answers none; send "
            "each with the state of the reply that had its action in pending_actions",
            reason="UNKNOWN_ACTION",
            field="observations",
        )
    if not run.steps and not run.question:
        ask(run, input)
    elif input.strip() and input.strip() != run.question:
        raise InvalidArgument(
            "input is for the question in the first step, where Initialize had no query, and for the result of a "
            "single pending action; leave it empty here",
            field="input",
        )
    return []


def ask(run: Run, input: str) -> None:
    """Gives the run its question: what there is first of its own, the input, its context."""
    if run.question:
        return
    run.question = input.strip() or run.context
    if not run.question:
        raise InvalidArgument(
            "there is no question; send it as Initialize's query, or as the first step's input",
            reason="NO_QUESTION",
            field="input",
        )
    if not input.strip():
        run.context = ""


def _observations(run: Run, input: str, observations: Sequence[Observation]) -> list[Observation]:
    step = run.steps[-1]
    there = {one.action_id for one in step.observations}
    waiting = [action.id for action in step.actions if action.id not in there]
    if input.strip() and not observations:
        if len(waiting) > 1:
            raise InvalidArgument(
                f"{len(waiting)} actions are pending, and input answers only a single one; send observations, each "
                "with its action_id",
                field="input",
            )
        observations = [Observation(waiting[0], input)]
    elif input.strip():
        raise InvalidArgument("both input and observations are set; send the observations alone", field="input")
    by_id: dict[str, Observation] = {}
    for place, one in enumerate(observations):
        field = f"observations[{place}].action_id"
        if one.action_id not in waiting:
            raise InvalidArgument(
                f"no pending action has the id {quoted(one.action_id, 100)}; those of this state are "
                f"{', '.join(waiting)}",
                reason="UNKNOWN_ACTION",
                field=field,
            )
        if one.action_id in by_id:
            raise InvalidArgument(
                f"there are two observations of the action {one.action_id}; send one for each pending action",
                reason="DUPLICATE_OBSERVATION",
                field=field,
            )
        by_id[one.action_id] = one
    if missing := [action_id for action_id in waiting if action_id not in by_id]:
        raise InvalidArgument(
            f"the observation of the pending action {' and of '.join(missing)} is missing; send one for each, with "
            "is_error or denied where there is no result",
            reason="MISSING_OBSERVATION",
            field="observations",
        )
    tools = {action.id: action.tool for action in step.actions}
    return [_told(by_id[action_id], tools[action_id]) for action_id in waiting]


def _told(one: Observation, tool: str) -> Observation:
    """A denial says that it is one."""
    if not one.denied:
        return one
    return replace(one, content=one.content if one.content.strip() else f"{tool} was denied", is_error=True)
