"""The engine's calls to a plugin that runs elsewhere, over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyStub

from shared.client import Address, channel
from shared.config import variable
from shared.errors import Code, PluginError

from .. import PACKAGE
from ..engine.chat import Usage
from ..engine.engine import ActionAsked, AnswerDelta, NewRun, Observed, Show, StepResult, ThoughtDelta
from ..engine.run import Action, Mode, Observation, Step, StopReason
from ..providers.failure import of_call

_MODES = {Mode.NATIVE: pb.REASONING_MODE_NATIVE, Mode.TEXT: pb.REASONING_MODE_TEXT}


class RemoteEngine:
    """initialize and step of `engine/engine.py`. What goes wrong is a PluginError in the plugin's words."""

    def __init__(self, address: Address) -> None:
        """Made where the event loop runs. Raises StartError where a TLS file cannot be used."""
        self._metadata = address.metadata
        self._channel = channel(address, aio=True)
        self._stub: Any = ReasoningStrategyStub(self._channel)

    async def initialize(self, new: NewRun) -> bytes:
        request = pb.InitializeRequest(
            query=new.query,
            context=new.context,
            llm=new.llm,
            model=new.model,
            max_iterations=new.max_iterations,
            budget=pb.Budget(
                max_tokens=new.budget.max_tokens,
                max_tool_calls=new.budget.max_tool_calls,
                max_seconds=new.budget.max_seconds,
            ),
        )
        if new.temperature is not None:
            request.sampling_temperature = new.temperature
        if new.mode is not None:
            request.mode = _MODES[new.mode]
        try:
            reply = await self._stub.Initialize(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        _check(reply)
        return bytes(reply.state)

    async def step(self, state: bytes, *, show: Show) -> StepResult:
        reply: pb.ProcessIterationResponse | None = None
        request = pb.ProcessIterationRequest(state=state)
        call = self._stub.StreamIteration(request, metadata=self._metadata)
        try:
            async for event in call:
                match event.WhichOneof("event"):
                    case "thought_delta":
                        show(ThoughtDelta(event.thought_delta))
                    case "answer_delta":
                        show(AnswerDelta(event.answer_delta))
                    case "action":
                        show(ActionAsked(_action(event.action)))
                    case "observation":
                        show(Observed(_observation(event.observation)))
                    case "response":
                        reply = event.response
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        finally:
            call.cancel()
        if reply is None:
            raise PluginError("the plugin ended the step without its result; take it again")
        _check(reply)
        return StepResult(
            state=reply.state,
            text=reply.result,
            done=reply.done,
            step=_step(reply.step),
            pending=tuple(map(_action, reply.pending_actions)),
            stop_reason=_stop_reason(reply.stop_reason) if reply.done else None,
            usage=_usage(reply),
            iteration=reply.iteration,
        )

    async def close(self) -> None:
        await self._channel.close()


def _failed(error: grpc.aio.AioRpcError) -> PluginError:
    failure = of_call(error)
    words = failure.message
    match failure.code:
        case Code.UNAVAILABLE if not failure.reason:  # gRPC's own
            words = (
                f"no plugin can be reached at --address; start it with `python -m {PACKAGE}`, or correct "
                "--address, and --tls-ca where it speaks TLS"
            )
        case Code.UNIMPLEMENTED:
            words = "the plugin at --address is no reasoning strategy; give the address of one"
        case Code.UNAUTHENTICATED:
            words = f"the plugin at --address wants its token; set {variable(PACKAGE, 'token')} to it"
    return PluginError(f"{failure.code.name}: {words}")


def _check(reply: Any) -> None:
    if not reply.success:
        raise PluginError(reply.error or "the plugin failed and does not say why; its log may")


def _step(step: pb.ReasoningStep) -> Step:
    return Step(
        thought=step.thought,
        actions=list(map(_action, step.actions)),
        observations=list(map(_observation, step.observations)),
        note=step.note,
    )


def _action(action: pb.Action) -> Action:
    return Action(action.id, action.tool, action.parameters_json)


def _observation(seen: pb.Observation) -> Observation:
    return Observation(seen.action_id, seen.content, seen.is_error, seen.denied)


def _usage(reply: Any) -> Usage | None:
    if not reply.HasField("usage"):
        return None
    return Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens)


def _stop_reason(value: pb.StopReason.ValueType) -> StopReason:
    name = pb.StopReason.Name(value).removeprefix("STOP_REASON_") if value in pb.StopReason.values() else ""
    return StopReason(name) if name in StopReason.__members__ else StopReason.ANSWERED
