"""ReasoningStrategy over the engine: messages in, messages out. What is raised here becomes the reply's error."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyServicer

from shared.errors import InvalidArgument
from shared.fields import take_only
from shared.sealed import Sealed

from .engine import Engine, Run

Context = grpc.aio.ServicerContext[Any, Any]

# Counted before a request is converted, which takes time. In bytes.
_MOST = 2**18
MOST_ITEMS = {
    "Initialize": {"query": _MOST, "context": _MOST},
    "ProcessIteration": {"state": 4 * _MOST, "input": _MOST},
    "Finalize": {"state": 4 * _MOST},
}


class Servicer(ReasoningStrategyServicer):
    def __init__(self, engine: Engine, sealed: Sealed) -> None:
        self._engine = engine
        self._sealed = sealed

    async def Initialize(self, request: pb.InitializeRequest, context: Context) -> pb.InitializeResponse:
        take_only(request, "max_iterations", "temperature", "sampling_temperature", "context", "query")
        run = Run(question=request.query, background=request.context, temperature=_temperature(request))
        if request.max_iterations > 0:
            run.max_iterations = request.max_iterations
        return pb.InitializeResponse(success=True, state=self._sealed.seal(asdict(run)))

    async def ProcessIteration(
        self, request: pb.ProcessIterationRequest, context: Context
    ) -> pb.ProcessIterationResponse:
        take_only(request, "state", "input")
        run = self._run(request.state)
        if not run.question:
            # What there is of it: the first input, else the background.
            run.question, run.background = (request.input, run.background) if request.input else (run.background, "")
        if not run.question:
            raise InvalidArgument("there is no question; send one as `query` or `input`", reason="NO_QUESTION")
        if not run.done:
            await self._engine.step(run)
            run.iteration += 1
            if run.done:
                run.stop_reason = "ANSWERED"
            elif run.iteration >= run.max_iterations:
                run.answer, run.done, run.stop_reason = await self._engine.finish(run), True, "MAX_ITERATIONS"
        return pb.ProcessIterationResponse(
            success=True,
            result=run.answer,
            done=run.done,
            state=self._sealed.seal(asdict(run)),
            step=pb.ReasoningStep(thought=run.thought),
            iteration=run.iteration,
            stop_reason=_reason(run.stop_reason),
        )

    async def Finalize(self, request: pb.FinalizeRequest, context: Context) -> pb.FinalizeResponse:
        run = self._run(request.state)
        if not run.question and not run.background:
            raise InvalidArgument("there is no question; send one as `query` or `input`", reason="NO_QUESTION")
        return pb.FinalizeResponse(
            success=True,
            result=await self._engine.finish(run),
            stop_reason=_reason(run.stop_reason or "FINALIZED_EARLY"),
        )

    def _run(self, state: bytes) -> Run:
        try:
            return Run(**self._sealed.open(state))
        except TypeError:
            message = "the state is of another version of this plugin; begin anew with Initialize"
            raise InvalidArgument(message, reason="STATE_VERSION", field="state") from None


def _temperature(request: pb.InitializeRequest) -> float | None:
    """None: the LLM's own. Only `sampling_temperature` can say 0."""
    if request.HasField("sampling_temperature"):
        return request.sampling_temperature
    return request.temperature or None


def _reason(name: str) -> pb.StopReason.ValueType:
    return pb.StopReason.Value(f"STOP_REASON_{name or 'UNSPECIFIED'}")
