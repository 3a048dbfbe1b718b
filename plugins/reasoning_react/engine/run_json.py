"""A run as plain lists and dicts, and back. Each field is written out; what is read is taken for nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeVar, cast

from .chat import JSON, Message, Tool, ToolCall, Usage
from .run import Action, Budget, Mode, Observation, Run, Step, StopReason

T = TypeVar("T")


def packed(run: Run) -> dict[str, JSON]:
    """All of a run, as JSON has it if its tools' parameters are such."""
    return {
        "id": run.id,
        "nonce": run.nonce,
        "began": run.began,
        "expires": run.expires,
        "question": run.question,
        "context": run.context,
        "history": [_packed_message(message) for message in run.history],
        "llm": run.llm,
        "model": run.model,
        "temperature": run.temperature,
        "mode": run.mode.value if run.mode else None,
        "mode_is_fixed": run.mode_is_fixed,
        "host_executes": run.host_executes,
        "max_iterations": run.max_iterations,
        "budget": [run.budget.max_tokens, run.budget.max_tool_calls, run.budget.max_seconds],
        "given_tools": [packed_tool(tool) for tool in run.given_tools],
        "tool_digests": run.tool_digests,
        "iteration": run.iteration,
        "steps": [packed_step(step) for step in run.steps],
        "pending": run.pending,
        "usage": _packed_usage(run.usage),
        "usage_is_whole": run.usage_is_whole,
        "estimated_tokens": run.estimated_tokens,
        "tool_calls": run.tool_calls,
        "repairs": run.repairs,
        "left_out": run.left_out,
        "history_left_out": run.history_left_out,
        "summary": run.summary,
        "done": run.done,
        "answer": run.answer,
        "stop_reason": run.stop_reason.value if run.stop_reason else None,
    }


def unpacked(fields: JSON) -> Run:
    """The run that `packed` made `fields` of. Raises TypeError, ValueError and KeyError where it made none of them."""
    fields = dict(_of(dict, fields))
    take = fields.pop
    run = Run(
        id=_of(str, take("id")),
        nonce=_of(str, take("nonce")),
        began=_number(take("began")),
        expires=_number(take("expires")),
        question=_of(str, take("question")),
        context=_of(str, take("context")),
        history=tuple(_each(_message, take("history"))),
        llm=_of(str, take("llm")),
        model=_of(str, take("model")),
        temperature=_optional(_number, take("temperature")),
        mode=_optional(Mode, take("mode")),
        mode_is_fixed=_of(bool, take("mode_is_fixed")),
        host_executes=_of(bool, take("host_executes")),
        max_iterations=_of(int, take("max_iterations")),
        budget=_budget(take("budget")),
        given_tools=tuple(_each(_tool, take("given_tools"))),
        tool_digests={name: _of(str, digest) for name, digest in _of(dict, take("tool_digests")).items()},
        iteration=_of(int, take("iteration")),
        steps=_each(_step, take("steps")),
        pending=_of(bool, take("pending")),
        usage=_optional(_usage, take("usage")),
        usage_is_whole=_of(bool, take("usage_is_whole")),
        estimated_tokens=_of(int, take("estimated_tokens")),
        tool_calls=_of(int, take("tool_calls")),
        repairs=_of(int, take("repairs")),
        left_out=_of(int, take("left_out")),
        history_left_out=_of(int, take("history_left_out")),
        summary=_of(str, take("summary")),
        done=_of(bool, take("done")),
        answer=_of(str, take("answer")),
        stop_reason=_optional(StopReason, take("stop_reason")),
    )
    if fields:
        raise ValueError("fields that a run does not have")
    return run


def packed_step(step: Step) -> list[JSON]:
    return [
        step.thought,
        [[one.id, one.tool, one.arguments, one.call_id, _base64(one.opaque)] for one in step.actions],
        [[one.action_id, one.content, one.is_error, one.denied] for one in step.observations],
        step.text,
        step.reasoning,
        _base64(step.opaque),
        step.note,
    ]


def _step(value: JSON) -> Step:
    thought, actions, observations, text, reasoning, opaque, note = _of(list, value)
    return Step(
        _of(str, thought),
        _each(_action, actions),
        _each(_observation, observations),
        _of(str, text),
        _of(str, reasoning),
        _bytes(opaque),
        _of(str, note),
    )


def _action(value: JSON) -> Action:
    action_id, tool, arguments, call_id, opaque = _of(list, value)
    return Action(_of(str, action_id), _of(str, tool), _of(str, arguments), _of(str, call_id), _bytes(opaque))


def _observation(value: JSON) -> Observation:
    action_id, content, is_error, denied = _of(list, value)
    return Observation(_of(str, action_id), _of(str, content), _of(bool, is_error), _of(bool, denied))


def _packed_message(message: Message) -> list[JSON]:
    calls = [[call.id, call.name, call.arguments, _base64(call.opaque)] for call in message.tool_calls]
    return [message.role, message.content, calls, message.tool_call_id, message.name, message.reasoning,
            _base64(message.opaque)]  # fmt: skip


def _message(value: JSON) -> Message:
    role, content, calls, tool_call_id, name, reasoning, opaque = _of(list, value)
    return Message(
        _of(str, role),
        _of(str, content),
        tuple(_each(_call, calls)),
        _of(str, tool_call_id),
        _of(str, name),
        _of(str, reasoning),
        _bytes(opaque),
    )


def _call(value: JSON) -> ToolCall:
    call_id, name, arguments, opaque = _of(list, value)
    return ToolCall(_of(str, call_id), _of(str, name), _of(str, arguments), _bytes(opaque))


def packed_tool(tool: Tool) -> list[JSON]:
    return [tool.name, tool.description, dict(tool.parameters), tool.read_only, tool.destructive, tool.idempotent]


def _tool(value: JSON) -> Tool:
    name, description, parameters, read_only, destructive, idempotent = _of(list, value)
    return Tool(
        _of(str, name),
        _of(str, description),
        _of(dict, parameters),
        _of(bool, read_only),
        _of(bool, destructive),
        _of(bool, idempotent),
    )


def _packed_usage(usage: Usage | None) -> list[JSON] | None:
    return None if usage is None else [usage.prompt, usage.completion, usage.total, usage.reasoning, usage.cached]


def _usage(value: JSON) -> Usage:
    prompt, completion, total, reasoning, cached = _each(lambda one: _of(int, one), value)
    return Usage(prompt, completion, total, reasoning, cached)


def _budget(value: JSON) -> Budget:
    max_tokens, max_tool_calls, max_seconds = _of(list, value)
    return Budget(_of(int, max_tokens), _of(int, max_tool_calls), _number(max_seconds))


def _of(kind: type[T], value: JSON) -> T:
    if type(value) is not kind:  # a bool is no int here
        raise TypeError(f"no {kind.__name__}")
    return value


def _number(value: JSON) -> float:
    if type(value) not in (int, float):
        raise TypeError("no number")
    return cast(float, value)


def _optional(read: Callable[[JSON], T], value: JSON) -> T | None:
    return None if value is None else read(value)


def _each(read: Callable[[JSON], T], value: JSON) -> list[T]:
    return [read(one) for one in _of(list, value)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(value: JSON) -> bytes:
    return base64.b64decode(_of(str, value), validate=True)
