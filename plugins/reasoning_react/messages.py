"""What the servicer reads and packs: the contract's messages and the engine's dataclasses."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import hector_plugins_pb2 as pb

from shared.errors import InvalidArgument
from shared.json_schema import as_object_schema
from shared.structs import dump, read_object, whole_numbers

from .engine.chat import Message, Tool, ToolCall, Usage
from .engine.engine import ActionAsked, AnswerDelta, Event, NewRun, Observed, ThoughtDelta
from .engine.run import Action, Budget, Mode, Observation, Step, StopReason

MOST = {"history": 1_000, "tools": 128, "observations": 1_000}  # no model's API takes more tools
_LARGEST_SCHEMA = 2**17  # bytes of a tool's parameters, and of a call's arguments: more take long to be read
_MOST_TOKENS = 2**31 - 1  # an int32 holds no more

_MODES = {
    pb.REASONING_MODE_UNSPECIFIED: None,
    pb.REASONING_MODE_NATIVE: Mode.NATIVE,
    pb.REASONING_MODE_TEXT: Mode.TEXT,
}
STOP_REASONS = {reason: pb.StopReason.Value(f"STOP_REASON_{reason.value}") for reason in StopReason}


# ---------------------------------------------------------------- requests


def new_run(request: pb.InitializeRequest) -> NewRun:
    if request.mode not in _MODES:
        raise InvalidArgument(f"mode {request.mode} is not one of the contract's", field="mode")
    _count(request.history, "history")
    _count(request.tools, "tools")
    sampling = request.HasField("sampling_temperature")
    return NewRun(
        query=request.query,
        context=request.context,
        history=tuple(_message(message, f"history[{n}]") for n, message in enumerate(request.history)),
        tools=tuple(_tool(tool, f"tools[{n}]") for n, tool in enumerate(request.tools)),
        llm=request.llm,
        model=request.model,
        temperature=request.sampling_temperature if sampling else request.temperature or None,
        mode=_MODES[request.mode],
        host_executes=request.host_executes,
        max_iterations=request.max_iterations,
        budget=Budget(request.budget.max_tokens, request.budget.max_tool_calls, request.budget.max_seconds),
    )


def _message(message: pb.ChatMessage, field: str) -> Message:
    texts = [message.content] if message.content else []
    for number, part in enumerate(message.parts):
        if part.WhichOneof("part") != "text":
            raise InvalidArgument(
                f"{field}.parts[{number}] is no text, and a state keeps text only; leave it out or describe it",
                field=f"{field}.parts[{number}]",
            )
        texts.append(part.text)
    return Message(
        message.role,
        "\n".join(texts),
        tuple(_call(call, f"{field}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls)),
        message.tool_call_id,
        message.name,
        message.reasoning,
        message.opaque,
    )


def _call(call: pb.ToolCall, field: str) -> ToolCall:
    # Text goes back as the model wrote it, also where it is no JSON.
    arguments = call.arguments_json
    if not arguments:
        _bounded(call.arguments.ByteSize(), f"{field}.arguments")
        arguments = dump(whole_numbers(read_object(call.arguments, "", f"{field}.arguments")))
    return ToolCall(call.id, call.name, arguments, call.opaque)


def _tool(tool: pb.Tool, field: str) -> Tool:
    _bounded(len(tool.parameters_json) or tool.parameters.ByteSize(), f"{field}.parameters")
    parameters = read_object(tool.parameters, tool.parameters_json, f"{field}.parameters")
    return Tool(
        tool.name,
        tool.description,
        as_object_schema(whole_numbers(parameters)),
        read_only=tool.read_only,
        destructive=tool.destructive,
        idempotent=tool.idempotent,
    )


def _bounded(size: int, field: str) -> None:
    """Refuses what would take seconds to read, in which nothing else runs."""
    if size > _LARGEST_SCHEMA:
        raise InvalidArgument(f"{field} has more than {_LARGEST_SCHEMA:,} bytes; send less", field=field)


def _count(items: Sized, field: str) -> None:
    """As `most_items`, which is held against large requests alone."""
    most = MOST[field]
    if len(items) > most:
        raise InvalidArgument(
            f"{field} has more than {most:,} items; send at most {most:,} in a request",
            reason="TOO_MANY_ITEMS",
            field=field,
        )


def observations_of(messages: Sequence[pb.Observation]) -> Sequence[Observation]:
    _count(messages, "observations")
    return [Observation(one.action_id, one.content, one.is_error, one.denied) for one in messages]


# ---------------------------------------------------------------- replies


def event_message(event: Event) -> pb.IterationEvent:
    match event:
        case ThoughtDelta(text):
            return pb.IterationEvent(thought_delta=sound(text))
        case AnswerDelta(text):
            return pb.IterationEvent(answer_delta=sound(text))
        case ActionAsked(action):
            return pb.IterationEvent(action=action_message(action))
        case Observed(observation):
            return pb.IterationEvent(observation=observation_message(observation))


def step_message(step: Step) -> pb.ReasoningStep:
    return pb.ReasoningStep(
        thought=sound(step.thought),
        actions=map(action_message, step.actions),
        observations=map(observation_message, step.observations),
    )


def action_message(action: Action) -> pb.Action:
    return pb.Action(id=action.id, tool=sound(action.tool), parameters_json=sound(action.arguments))


def observation_message(observation: Observation) -> pb.Observation:
    return pb.Observation(
        action_id=observation.action_id,
        content=sound(observation.content),
        is_error=observation.is_error,
        denied=observation.denied,
    )


def usage_message(usage: Usage) -> pb.TokenUsage:
    return pb.TokenUsage(
        prompt_tokens=min(usage.prompt, _MOST_TOKENS),
        completion_tokens=min(usage.completion, _MOST_TOKENS),
        total_tokens=min(usage.total, _MOST_TOKENS),
        reasoning_tokens=min(usage.reasoning, _MOST_TOKENS),
        cached_tokens=min(usage.cached, _MOST_TOKENS),
        source=pb.USAGE_SOURCE_PROVIDER,
    )


def sound(text: str) -> str:
    """`text` as protobuf can hold it: half of a surrogate pair, as JSON can spell it, has no UTF-8."""
    return text.encode("utf-8", "replace").decode()
