"""ReasoningStrategy over the engine: messages in, messages out, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyServicer

from shared.errors import CallerError
from shared.off_loop import in_thread
from shared.status import failure
from shared.structs import dump

from .engine.audience import add_joined
from .engine.engine import Engine, Event, StepResult
from .messages import (
    MOST,
    STOP_REASONS,
    action_message,
    event_message,
    new_run,
    observations_of,
    sound,
    step_message,
    usage_message,
)

Context = grpc.aio.ServicerContext[Any, Any]

TOO_LARGE_HINTS = {
    "Initialize": "have a larger max_reply_bytes, or send less",
    "ProcessIteration": "have a smaller observation_chars, or a larger max_reply_bytes",
    "StreamIteration": "have a smaller observation_chars, or a larger max_reply_bytes",
    "Finalize": "have a smaller kept_chars, or a larger max_reply_bytes",
}

_LARGE = 2**13  # bytes of a request or characters of a reply: more take milliseconds
_LEAST_SHOWN = 500  # characters of a result in a reply that would be too large otherwise
_MARGIN = 0.05  # of the time that a caller has, at most a second: so that the reply arrives while it waits


def most_items(max_state_bytes: int) -> Mapping[str, Mapping[str, int]]:
    """For `serve`. All that a state is made of has to find room in it."""
    step = {"state": max_state_bytes, "input": max_state_bytes, "observations": MOST["observations"]}
    texts = dict.fromkeys(("query", "context", "model", "llm"), max_state_bytes)
    new = texts | {"history": MOST["history"], "tools": MOST["tools"]}
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
            new = await in_thread(new_run, request) if request.ByteSize() > _LARGE else new_run(request)
            return pb.InitializeResponse(success=True, state=await self._engine.initialize(new))
        except CallerError as error:
            return failure(pb.InitializeResponse(), error)

    async def ProcessIteration(
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> pb.ProcessIterationResponse:
        try:
            result = await self._engine.step(
                request.state, request.input, observations_of(request.observations), self._left(context)
            )
        except CallerError as error:
            return failure(pb.ProcessIterationResponse(), error)
        return await self._stepped(result)

    async def StreamIteration(
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> AsyncIterator[pb.IterationEvent]:
        events = _Events()
        try:
            observations = observations_of(request.observations)
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
            success=True,
            result=sound(result.answer),
            stop_reason=STOP_REASONS[result.stop_reason],
        )
        if result.usage is not None:
            reply.usage.CopyFrom(usage_message(result.usage))
        for place, step in enumerate(result.steps):
            reply.trace.add().CopyFrom(step_message(step, left_out=place < result.left_out))
        return reply

    def _left(self, context: Context) -> float | None:
        bounds = [bound for bound in (context.time_remaining(), self._timeout or None) if bound is not None]
        left = min(bounds, default=None)
        return None if left is None else max(0.0, left - min(1.0, left * _MARGIN))

    async def _stepped(self, result: StepResult) -> pb.ProcessIterationResponse:
        step = result.step
        size = len(result.text) + len(step.thought) + sum(len(one.content) for one in step.observations)
        size += sum(len(one.arguments) for one in step.actions)
        return await in_thread(self._reply, result) if size > 2**18 else self._reply(result)

    def _reply(self, result: StepResult) -> pb.ProcessIterationResponse:
        reply = pb.ProcessIterationResponse(
            success=True,
            result=sound(result.text),
            done=result.done,
            state=result.state,
            step=step_message(result.step),
            pending_actions=map(action_message, result.pending),
            iteration=result.iteration,
        )
        if result.stop_reason is not None:
            reply.stop_reason = STOP_REASONS[result.stop_reason]
        if result.usage is not None:
            reply.usage.CopyFrom(usage_message(result.usage))
        self._shorten(reply)
        return reply

    def _shorten(self, reply: pb.ProcessIterationResponse) -> None:
        """Cuts the step's texts, and last the result, where the reply would be refused otherwise and the step with all
        that it did be lost. What the host is to run stays whole."""
        step = reply.step
        for fields in ([(one, "content") for one in step.observations], [(step, "thought")], [(reply, "result")]):
            most = max((len(getattr(*field)) for field in fields), default=0)
            while reply.ByteSize() > self._max_reply_bytes and most > _LEAST_SHOWN:
                most = max(_LEAST_SHOWN, most // 2)
                for message, name in fields:
                    if len(text := getattr(message, name)) > most:
                        setattr(message, name, f"{text[:most]}\n[The reply had no room for the rest.]")
        for action in step.actions if reply.ByteSize() > self._max_reply_bytes else ():
            if len(action.parameters_json) > _LEAST_SHOWN:
                action.parameters_json = dump({"left_out": f"{len(action.parameters_json):,} characters of arguments"})


class _Events:
    """What happened in a step, on the way to a caller. Pieces of text join while the caller is busy."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()
        self._has_ended = False

    def put(self, event: Event) -> None:
        add_joined(self._waiting, event)
        self._news.set()

    def end(self) -> None:
        self._has_ended = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[pb.IterationEvent]:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                yield event_message(self._waiting.popleft())
            if self._has_ended:
                return
