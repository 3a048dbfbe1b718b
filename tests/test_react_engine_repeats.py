"""The engine of reasoning_react when calls come again, side by side, or are cancelled: nothing runs twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugins.reasoning_react.engine.audience import add_joined
from plugins.reasoning_react.engine.chat import Turn, TurnRequest
from plugins.reasoning_react.engine.engine import Event, ThoughtDelta
from plugins.reasoning_react.engine.hearing import Heard
from plugins.reasoning_react.engine.ports import LLMFailed
from plugins.reasoning_react.engine.run import Mode, Observation
from plugins.reasoning_react.engine.turns import Turns
from tests.loops import in_loop
from tests.react_fakes import USAGE, FakeLLM, FakeTools, begin, calls, echo, engine, never, opened, says


@in_loop
async def test_a_step_that_comes_again() -> None:
    """A step that was taken before gets the same reply, byte for byte; model and tools are not asked again."""
    llm = FakeLLM(calls(("look", {"text": "x"})), says("an answer"), says("another answer"))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    state = await begin(made)
    first = await made.step(state)
    assert await made.step(state) == first
    last = await made.step(first.state)
    assert await made.step(first.state) == last
    assert await made.step(state) == first
    assert (len(llm.requests), len(tools.executed)) == (2, 1)


@in_loop
async def test_steps_side_by_side() -> None:
    """The same step, called while it is under way, is taken once, and everybody sees all that happens."""
    llm = FakeLLM(says("Thought: I think about it.\nFinal Answer: 42"))
    llm.gate = asyncio.Event()
    made = engine(llm, FakeTools(look=echo))
    state = await begin(made)
    shown: list[list[Event]] = [[] for _ in range(8)]
    waiting = [asyncio.create_task(made.step(state, show=shown[0].append))]
    await llm.asked.wait()
    assert shown[0]
    waiting += [asyncio.create_task(made.step(state, show=events.append)) for events in shown[1:]]
    await asyncio.sleep(0)
    llm.gate.set()
    results = await asyncio.gather(*waiting)
    assert results == [results[0]] * 8
    assert len(llm.requests) == 1
    assert all(joined(events) == joined(shown[0]) for events in shown)
    assert any(isinstance(event, ThoughtDelta) for event in shown[0])


@in_loop
async def test_a_failure_side_by_side() -> None:
    """Where the LLM fails, all who wait for the same step are told, and it was asked once; nothing of it is kept."""
    llm = FakeLLM(LLMFailed("the LLM provider does not answer"), says("an answer"))
    made = engine(llm)
    state = await begin(made)
    results = await asyncio.gather(*(made.step(state) for _ in range(8)), return_exceptions=True)
    assert [type(result) for result in results] == [LLMFailed] * 8
    assert len(llm.requests) == 1
    assert (await made.step(state)).text == "an answer"


@in_loop
async def test_other_observations_are_another_step() -> None:
    """What a host sends belongs to the call: with other observations it is another step."""
    llm = FakeLLM(calls(("look", {})), says("one answer"), says("another answer"))
    made = engine(llm, FakeTools(look=echo))
    first = await made.step(await begin(made, host_executes=True))
    action = first.pending[0].id
    assert (await made.step(first.state, "", [Observation(action, "1")])).text == "one answer"
    assert (await made.step(first.state, "", [Observation(action, "2")])).text == "another answer"
    assert (await made.step(first.state, "", [Observation(action, "1")])).text == "one answer"
    assert len(llm.requests) == 3


@in_loop
async def test_the_memory_is_bounded() -> None:
    """Replies are kept up to a number, the newest; nothing else of a run stays, and nothing of a result that a state
    has."""
    llm = FakeLLM(says("an answer"))
    made = engine(llm, kept_replies=5)
    states = [await begin(made, f"question {number}") for number in range(20)]
    for state in states:
        await made.finalize((await made.step(state)).state)
    assert (len(made._steps), len(made._results)) == (5, 0)
    for state in states:
        await made.finalize(state)
    assert (len(made._steps), len(made._results), len(made._turns), len(made._audiences._by_step)) == (5, 5, 0, 0)
    asked = len(llm.requests)
    await made.step(states[-1])
    assert len(llm.requests) == asked
    await made.step(states[0])
    assert len(llm.requests) == asked + 1


def test_turns_are_bounded() -> None:
    """Turns of steps without a reply are kept up to a number, and up to so many bytes."""
    turns = Turns(3, 100_000, 60)
    for number in range(10):
        turns.put(bytes([number]), "turn 1", Heard(Turn(text="x"), Mode.TEXT))
    assert len(turns) == 3
    for number in range(10):
        turns.put(bytes([number]), "turn 1", Heard(Turn(text="x" * 10_000), Mode.TEXT))
    assert len(turns) == 2
    assert turns.get(bytes([9]), "turn 1") is not None
    turns.put(b"big", "turn 1", Heard(Turn(text="x" * 1_000_000), Mode.TEXT))
    assert len(turns) == 0


def test_turns_are_forgotten() -> None:
    """They are kept for so many seconds."""
    turns = Turns(3, 100_000, 0)
    turns.put(b"step", "turn 1", Heard(Turn(text="x"), Mode.TEXT))
    assert turns.get(b"step", "turn 1") is None
    assert len(turns) == 0


# ---------------------------------------------------------------- cancelled


@in_loop
async def test_cancelled_in_the_model() -> None:
    """A cancel ends the model's turn under way, nothing starts after it, and the state stays usable."""
    llm = FakeLLM(calls(("look", {})), says("an answer"))
    llm.gate = asyncio.Event()
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    state = await begin(made)
    step = asyncio.create_task(made.step(state))
    await llm.asked.wait()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await until(lambda: llm.ended_early == 1)
    llm.gate.set()
    await settled()
    assert (len(llm.requests), tools.executed) == (1, [])
    assert (await made.step(state)).text == "an answer"


@in_loop
async def test_cancelled_in_a_tool() -> None:
    """A cancel ends every tool under way, and nothing starts after it. Taken again, the step asks the model nothing
    that it has answered: the same actions go out under the same ids, and the usage counts once."""
    llm = FakeLLM(calls(("slow", {"text": "1"}), ("slow", {"text": "2"})), says("an answer"))
    tools = FakeTools(slow=never)
    made = engine(llm, tools)
    state = await begin(made)
    step = asyncio.create_task(made.step(state))
    await until(lambda: tools.under_way == 2)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await until(lambda: tools.cancelled == ["slow", "slow"])
    await settled()
    assert (len(llm.requests), len(tools.executed), tools.under_way) == (1, 2, 0)
    tools.add(tools.offered["slow"], echo)
    shown: list[Event] = []
    first = await made.step(state, show=shown.append)
    assert [one.content for one in first.step.observations] == ["echo 1", "echo 2"]
    assert tools.executed[2][:3] == tools.executed[0][:3]
    assert tools.executed[3][:3] == tools.executed[1][:3]
    assert (len(llm.requests), first.usage, opened(first.state).usage) == (1, USAGE, USAGE)
    assert shown


@in_loop
async def test_cancelled_by_one_of_two() -> None:
    """A caller who goes takes nothing from another who waits for the same step; the last one who goes ends it."""
    llm = FakeLLM(says("an answer"))
    llm.gate = asyncio.Event()
    made = engine(llm)
    state = await begin(made)
    first, second = (asyncio.create_task(made.step(state)) for _ in range(2))
    await llm.asked.wait()
    first.cancel()
    await settled()
    assert llm.ended_early == 0
    llm.gate.set()
    assert (await second).text == "an answer"
    assert first.cancelled()
    llm.gate.clear()
    state = await begin(made, "another question")
    both = [asyncio.create_task(made.step(state)) for _ in range(2)]
    await until(lambda: len(llm.requests) == 2)
    for task in both:
        task.cancel()
    await until(lambda: llm.ended_early == 1)


@in_loop
async def test_finalize_cancelled() -> None:
    """A cancel of Finalize ends the model's turn, and it can be called again."""
    llm = FakeLLM(says("an answer"))
    llm.gate = asyncio.Event()
    made = engine(llm)
    state = await begin(made)
    result = asyncio.create_task(made.finalize(state))
    await llm.asked.wait()
    result.cancel()
    await until(lambda: llm.ended_early == 1)
    llm.gate.set()
    assert (await made.finalize(state)).answer == "an answer"


@in_loop
async def test_close_ends_what_is_under_way() -> None:
    """Closing the engine ends the steps under way, tools included."""
    tools = FakeTools(slow=never)
    made = engine(FakeLLM(calls(("slow", {}))), tools)
    step = asyncio.create_task(made.step(await begin(made)))
    await tools.begun.wait()
    await made.close()
    await until(lambda: tools.cancelled == ["slow"])
    await asyncio.gather(step, return_exceptions=True)


@in_loop
async def test_a_bug_of_a_tools_provider_is_no_observation() -> None:
    """Our own bugs do not go to the model: the step fails, the other tools are ended, and the same step asks the model
    anew, so that it need not come to the same."""
    tools = FakeTools(slow=never, broken=echo)

    def bug(arguments: dict[str, Any]) -> str:
        raise RuntimeError("a bug")

    tools.add(tools.offered["broken"], bug)
    llm = FakeLLM(calls(("slow", {}), ("broken", {})), says("an answer"))
    made = engine(llm, tools)
    state = await begin(made)
    with pytest.raises(RuntimeError, match="a bug"):
        await made.step(state)
    assert tools.cancelled == ["slow"]
    assert len(llm.requests) == 1
    assert (await made.step(state)).text == "an answer"


@in_loop
async def test_another_server_goes_on() -> None:
    """A server that knows nothing but the state goes on from it; a step that was lost is taken with the same ids."""

    def turn(request: TurnRequest) -> Turn:
        return calls(("look", {"text": "x"})) if len(request.messages) == 2 else says("an answer")

    tools = FakeTools(look=echo)
    one, other = engine(FakeLLM(turn), tools), engine(FakeLLM(turn), tools)
    state = await begin(one)
    lost, first = await one.step(state), await other.step(state)
    assert first.state == lost.state
    assert tools.executed[0][:3] == tools.executed[1][:3]
    assert (await other.step(first.state)).text == "an answer"


async def until(holds: Any) -> None:
    """The test itself is bounded in time."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def settled() -> None:
    """Whatever was going to start has started."""
    for _ in range(20):
        await asyncio.sleep(0.002)


def joined(events: list[Event]) -> list[Event]:
    """Whoever comes later is shown in longer pieces what was before."""
    whole: list[Event] = []
    for event in events:
        add_joined(whole, event)
    return whole
