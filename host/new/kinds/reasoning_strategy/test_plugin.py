"""What the plugin promises: the engine by itself, and over gRPC."""

from __future__ import annotations

import asyncio

import hector_plugins_pb2 as pb
from hector_plugins_pb2_grpc import ReasoningStrategyStub

from host.new.kinds.reasoning_strategy.engine import Engine, Run
from shared.testing import Plugin


def test_the_engine() -> None:
    """The engine works without a server, with any LLM that it can ask."""

    async def llm(prompt: str, run: Run) -> str:
        return f"You said at {run.temperature}: {prompt}"

    run = Run(question="Why?", background="Because.", temperature=0.5)
    asyncio.run(Engine(llm).step(run))
    assert (run.done, run.answer) == (True, "You said at 0.5: Because.\n\nWhy?")


def test_a_run(plugin: Plugin) -> None:
    """A host that knows only the guide's fields comes to an answer: steps until one is done, then the result."""
    client = ReasoningStrategyStub(plugin.channel)
    state, question = client.Initialize(pb.InitializeRequest(max_iterations=3)).state, "What is new?"
    for _ in range(3):
        step = client.ProcessIteration(pb.ProcessIterationRequest(state=state, input=question))
        assert step.success, step.error
        state, question = step.state, ""
        if step.done:
            break
    for _ in range(2):
        final = client.Finalize(pb.FinalizeRequest(state=state))
        assert (final.success, final.result, final.stop_reason) == (True, "What is new?", pb.STOP_REASON_ANSWERED)


def test_finalized_early(plugin: Plugin) -> None:
    """A run that is ended before it is done has a result, and says that."""
    client = ReasoningStrategyStub(plugin.channel)
    state = client.Initialize(pb.InitializeRequest(query="What is new?")).state
    final = client.Finalize(pb.FinalizeRequest(state=state))
    assert (final.result, final.stop_reason) == ("What is new?", pb.STOP_REASON_FINALIZED_EARLY)


def test_errors(plugin: Plugin) -> None:
    """A state that is not as it was sent out is refused, and so is a run without a question."""
    client = ReasoningStrategyStub(plugin.channel)
    state = client.Initialize(pb.InitializeRequest()).state
    changed = bytes([state[0] ^ 1]) + state[1:]
    reply = client.ProcessIteration(pb.ProcessIterationRequest(state=changed, input="Why?"))
    assert not reply.success
    assert "begin anew" in reply.error
    assert "no question" in client.ProcessIteration(pb.ProcessIterationRequest(state=state)).error
