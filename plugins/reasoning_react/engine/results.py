"""What callers are told of a run, and how much memory that takes."""

from __future__ import annotations

from dataclasses import replace

from .chat import Usage
from .interface import Result, StepResult
from .run import Run, Step

_SIZE = 2_000  # bytes of a reply, beside what is in it


def of_run(run: Run) -> Result:
    """Of one that is done."""
    assert run.stop_reason is not None
    usage = (run.usage or Usage()) if run.usage_is_whole else None
    return Result(run.answer, run.stop_reason, usage, tuple(map(_shown, run.steps)), run.left_out)


def of_step(run: Run, state: bytes, step: Step, answer: str, usage: Usage | None) -> StepResult:
    there = {one.action_id for one in step.observations}
    return StepResult(
        state=state,
        text=answer if run.done else _thought(step),
        done=run.done,
        step=_shown(step),
        pending=tuple(action for action in step.actions if action.id not in there) if run.pending else (),
        stop_reason=run.stop_reason if run.done else None,
        usage=usage,
        iteration=run.iteration,
    )


def _shown(step: Step) -> Step:
    return replace(step, thought=_thought(step))


def _thought(step: Step) -> str:
    """Where a model says nothing beside its calls, its reasoning."""
    return step.thought or step.reasoning


def size_of_step(result: StepResult) -> int:
    return _SIZE + len(result.state) + 4 * len(result.text) + size_of(result.step)


def size_of_result(result: Result) -> int:
    return _SIZE + 4 * len(result.answer) + sum(map(size_of, result.steps))


def size_of(step: Step) -> int:
    """Bytes, rather too many."""
    texts = (step.thought, step.text, step.reasoning, step.note)
    size = sum(map(len, texts)) + sum(len(one.content) + 50 for one in step.observations)
    size += sum(len(one.arguments) + len(one.opaque) + 100 for one in step.actions) + len(step.opaque)
    return 4 * size
