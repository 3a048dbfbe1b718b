"""ReasoningStrategy over the engine: messages in, messages out. What is raised here becomes the reply's error."""

from __future__ import annotations

import time
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

# Counted before a request is converted, which takes time.
_MOST = 2**18  # bytes
MOST_ITEMS = {
    "Initialize": {"history": 1000},
    "ProcessIteration": {"state": 8 * _MOST, "input": _MOST},
    "Finalize": {"state": 8 * _MOST},
}


class Servicer(ReasoningStrategyServicer):
    def __init__(self, engine: Engine, sealed: Sealed) -> None:
        self._engine = engine
        self._sealed = sealed

    async def Initialize(self, request: pb.InitializeRequest, context: Context) -> pb.InitializeResponse:
        take_only(request, "max_iterations", "temperature", "context", "query", "history", "llm", "model",
                  "sampling_temperature", "budget")  # fmt: skip
        if request.ByteSize() > _MOST:
            raise InvalidArgument(f"the request has more than {_MOST} bytes; send a shorter question and `history`")
        history = "\n\n".join(f"{message.role}: {message.content}" for message in request.history)
        run = Run(request.query, request.context, history, request.llm, request.model, request.temperature or None)
        if request.HasField("sampling_temperature"):  # which alone can say 0
            run.temperature = request.sampling_temperature
        run.max_tokens = request.budget.max_tokens
        run.ends = time.time() + request.budget.max_seconds if request.budget.max_seconds > 0 else 0.0
        run.max_iterations = max(0, request.max_iterations) or run.max_iterations
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
            elif spent := _spent(run):
                run.answer, run.done, run.stop_reason = await self._engine.finish(run), True, spent
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


def _spent(run: Run) -> str:
    """The limit that the run has come to; empty: none."""
    if run.iteration >= run.max_iterations:
        return "MAX_ITERATIONS"
    if 0 < run.max_tokens <= run.tokens:
        return "MAX_TOKENS"
    return "MAX_SECONDS" if 0 < run.ends <= time.time() else ""


def _reason(name: str) -> pb.StopReason.ValueType:
    return pb.StopReason.Value(f"STOP_REASON_{name or 'UNSPECIFIED'}")
