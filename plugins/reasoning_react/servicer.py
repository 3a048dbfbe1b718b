"""ReasoningStrategy over the engine: messages in, messages out, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence, Sized
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyServicer

from shared.errors import CallerError, InvalidArgument
from shared.json_schema import as_object_schema
from shared.off_loop import in_thread
from shared.status import failure
from shared.structs import dump, read_object, whole_numbers

from .engine.chat import Message, Tool, ToolCall, Usage
from .engine.engine import (
    ActionAsked,
    AnswerDelta,
    Engine,
    Event,
    NewRun,
    Observed,
    StepResult,
    ThoughtDelta,
)
from .engine.run import Action, Budget, Mode, Observation, Step, StopReason

Context = grpc.aio.ServicerContext[Any, Any]

TOO_LARGE_HINTS = {
    "Initialize": "have a larger max_reply_bytes, or send less",
    "ProcessIteration": "have a smaller observation_chars, or a larger max_reply_bytes",
    "StreamIteration": "have a smaller observation_chars, or a larger max_reply_bytes",
    "Finalize": "have a smaller kept_chars, or a larger max_reply_bytes",
}
_MOST = {"history": 1_000, "tools": 128, "observations": 1_000}  # no model's API takes more tools
_LARGEST_SCHEMA = 2**17  # bytes of a tool's parameters, and of a call's arguments: more take long to be read

_LARGE = 2**13  # bytes of a request or characters of a reply: more take milliseconds
_MOST_TOKENS = 2**31 - 1  # an int32 holds no more
_LEAST_SHOWN = 500  # characters of a result in a reply that would be too large otherwise
_MARGIN = 0.05  # of the time that a caller has, at most a second: so that the reply arrives while it waits

_MODES = {
    pb.REASONING_MODE_UNSPECIFIED: None,
    pb.REASONING_MODE_NATIVE: Mode.NATIVE,
    pb.REASONING_MODE_TEXT: Mode.TEXT,
}
_STOP_REASONS = {reason: pb.StopReason.Value(f"STOP_REASON_{reason.value}") for reason in StopReason}


def most_items(max_state_bytes: int) -> Mapping[str, Mapping[str, int]]:
    """For `serve`. All that a state is made of has to find room in it."""
    step = {"state": max_state_bytes, "input": max_state_bytes, "observations": _MOST["observations"]}
    texts = dict.fromkeys(("query", "context", "model", "llm"), max_state_bytes)
    new = texts | {"history": _MOST["history"], "tools": _MOST["tools"]}
    return {
        "Initialize": new,
        "ProcessIteration": step,
        "StreamIteration": step,
        "Finalize": {"state": max_state_bytes},
    }


class Servicer(ReasoningStrategyServicer):
    def __init__(self, engine: Engine, *, timeout: float, max_reply_bytes: int) -> None:
        """`timeout` is the server's own bound on a call in seconds, 0 for none."""
        self._engine = engine
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes

    async def Initialize(self, request: pb.InitializeRequest, context: Context) -> pb.InitializeResponse:
        try:
            new = await in_thread(_new_run, request) if request.ByteSize() > _LARGE else _new_run(request)
            return pb.InitializeResponse(success=True, state=await self._engine.initialize(new))
        except CallerError as error:
            return failure(pb.InitializeResponse(), error)

    async def ProcessIteration(
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> pb.ProcessIterationResponse:
        try:
            result = await self._engine.step(
                request.state, request.input, _observations(request.observations), self._left(context)
            )
        except CallerError as error:
            return failure(pb.ProcessIterationResponse(), error)
        return await self._stepped(result)

    async def StreamIteration(
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> AsyncIterator[pb.IterationEvent]:
        events = _Events()
        try:
            observations = _observations(request.observations)
        except CallerError as error:
            yield pb.IterationEvent(response=failure(pb.ProcessIterationResponse(), error))
            return
        step = asyncio.ensure_future(
            self._engine.step(request.state, request.input, observations, self._left(context), events.put)
        )
        step.add_done_callback(lambda _: events.end())
        try:
            async for event in events:
                yield event
            try:
                response = await self._stepped(await step)
            except CallerError as error:
                response = failure(pb.ProcessIterationResponse(), error)
            yield pb.IterationEvent(response=response)
        finally:
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await step

    async def Finalize(self, request: pb.FinalizeRequest, context: Context) -> pb.FinalizeResponse:
        try:
            result = await self._engine.finalize(request.state, self._left(context))
        except CallerError as error:
            return failure(pb.FinalizeResponse(), error)
        reply = pb.FinalizeResponse(
            success=True, result=_sound(result.answer), stop_reason=_STOP_REASONS[result.stop_reason]
        )
        if result.usage is not None:
            reply.usage.CopyFrom(_usage(result.usage))
        for step in result.steps:
            reply.trace.add().CopyFrom(_step(step))
        return reply

    def _left(self, context: Context) -> float | None:
        bounds = [bound for bound in (context.time_remaining(), self._timeout or None) if bound is not None]
        left = min(bounds, default=None)
        return None if left is None else max(0.0, left - min(1.0, left * _MARGIN))

    async def _stepped(self, result: StepResult) -> pb.ProcessIterationResponse:
        size = len(result.text) + sum(len(observation.content) for observation in result.step.observations)
        return await in_thread(self._reply, result) if size > 2**18 else self._reply(result)

    def _reply(self, result: StepResult) -> pb.ProcessIterationResponse:
        reply = pb.ProcessIterationResponse(
            success=True,
            result=_sound(result.text),
            done=result.done,
            state=result.state,
            step=_step(result.step),
            pending_actions=map(_action, result.pending),
            iteration=result.iteration,
        )
        if result.stop_reason is not None:
            reply.stop_reason = _STOP_REASONS[result.stop_reason]
        if result.usage is not None:
            reply.usage.CopyFrom(_usage(result.usage))
        self._shorten(reply)
        return reply

    def _shorten(self, reply: pb.ProcessIterationResponse) -> None:
        """Cuts results, where the reply would be refused otherwise and the step with all that it did be lost."""
        observations = reply.step.observations
        most = max((len(one.content) for one in observations), default=0)
        while reply.ByteSize() > self._max_reply_bytes and most > _LEAST_SHOWN:
            most = max(_LEAST_SHOWN, most // 2)
            for one in observations:
                if len(one.content) > most:
                    one.content = f"{one.content[:most]}\n[The reply had no room for the rest.]"


class _Events:
    """What happened in a step, on the way to a caller. Pieces of text join while the caller is busy, so that one who
    reads slowly holds no more messages than there are actions."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()
        self._has_ended = False

    def put(self, event: Event) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(event, ThoughtDelta) and isinstance(last, ThoughtDelta):
            self._waiting[-1] = ThoughtDelta(last.text + event.text)
        elif isinstance(event, AnswerDelta) and isinstance(last, AnswerDelta):
            self._waiting[-1] = AnswerDelta(last.text + event.text)
        else:
            self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        self._has_ended = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[pb.IterationEvent]:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                yield _event(self._waiting.popleft())
            if self._has_ended:
                return


def _event(event: Event) -> pb.IterationEvent:
    match event:
        case ThoughtDelta(text):
            return pb.IterationEvent(thought_delta=_sound(text))
        case AnswerDelta(text):
            return pb.IterationEvent(answer_delta=_sound(text))
        case ActionAsked(action):
            return pb.IterationEvent(action=_action(action))
        case Observed(observation):
            return pb.IterationEvent(observation=_observation(observation))


# ---------------------------------------------------------------- requests


def _new_run(request: pb.InitializeRequest) -> NewRun:
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
    most = _MOST[field]
    if len(items) > most:
        raise InvalidArgument(
            f"{field} has more than {most:,} items; send at most {most:,} in a request",
            reason="TOO_MANY_ITEMS",
            field=field,
        )


def _observations(messages: Sequence[pb.Observation]) -> Sequence[Observation]:
    _count(messages, "observations")
    return [Observation(one.action_id, one.content, one.is_error, one.denied) for one in messages]


# ---------------------------------------------------------------- replies


def _step(step: Step) -> pb.ReasoningStep:
    return pb.ReasoningStep(
        thought=_sound(step.thought),
        actions=map(_action, step.actions),
        observations=map(_observation, step.observations),
    )


def _action(action: Action) -> pb.Action:
    return pb.Action(id=action.id, tool=_sound(action.tool), parameters_json=_sound(action.arguments))


def _observation(observation: Observation) -> pb.Observation:
    return pb.Observation(
        action_id=observation.action_id,
        content=_sound(observation.content),
        is_error=observation.is_error,
        denied=observation.denied,
    )


def _usage(usage: Usage) -> pb.TokenUsage:
    return pb.TokenUsage(
        prompt_tokens=min(usage.prompt, _MOST_TOKENS),
        completion_tokens=min(usage.completion, _MOST_TOKENS),
        total_tokens=min(usage.total, _MOST_TOKENS),
        reasoning_tokens=min(usage.reasoning, _MOST_TOKENS),
        cached_tokens=min(usage.cached, _MOST_TOKENS),
        source=pb.USAGE_SOURCE_PROVIDER,
    )


def _sound(text: str) -> str:
    """`text` as protobuf can hold it: half of a surrogate pair, as JSON can spell it, has no UTF-8."""
    return text.encode("utf-8", "replace").decode()
