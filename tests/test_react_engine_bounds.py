"""The engine of reasoning_react at its bounds: iterations, tokens, calls, seconds, circles, an early Finalize."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from plugins.reasoning_react.engine import bounds, loops
from plugins.reasoning_react.engine.chat import Abilities, Delta, Finish, Turn, TurnRequest, Usage
from plugins.reasoning_react.engine.engine import Engine, StepResult
from plugins.reasoning_react.engine.ports import LLMFailed, Outcome
from plugins.reasoning_react.engine.run import Action, Budget, Observation, Step, StopReason
from shared.errors import Code, DeadlineExceeded
from tests.loops import in_loop
from tests.react_fakes import (
    USAGE,
    FakeLLM,
    FakeTools,
    begin,
    calls,
    echo,
    engine,
    never,
    opened,
    says,
    to_end,
    tool,
)

DOWN = LLMFailed("the LLM provider at its address does not answer")
BEST = says("The best answer.")


def looking_on(last: Turn | Exception = BEST, *, text: str = "I look on.") -> FakeLLM:
    """Looks something new up each time, for as long as it has tools."""
    numbers = itertools.count()

    def turn(request: TurnRequest) -> Turn:
        if request.tools:
            return calls(("look", {"text": str(next(numbers))}), text=text)
        if isinstance(last, Exception):
            raise last
        return last

    return FakeLLM(turn)


async def ended(llm: FakeLLM, tools: FakeTools | None = None, **settings: Any) -> tuple[Engine, list[StepResult]]:
    made = engine(llm, tools or FakeTools(look=echo), **settings)
    return made, await to_end(made, await begin(made))


# ---------------------------------------------------------------- each bound


@in_loop
async def test_iterations() -> None:
    """After so many steps the model is asked once more, without tools, within the last of them."""
    llm = looking_on()
    _, results = await ended(llm, max_iterations=3)
    last = results[-1]
    assert (len(results), last.iteration, last.stop_reason, last.text) == (
        3, 3, StopReason.MAX_ITERATIONS, "The best answer.",
    )  # fmt: skip
    assert [one.content for one in last.step.observations] == ["echo 2"]
    assert [bool(request.tools) for request in llm.requests] == [True, True, True, False]
    assert "No more tools can be called" in llm.contents[-1]
    assert "echo 2" in llm.contents[-1]
    assert last.usage == USAGE + USAGE


@in_loop
async def test_an_answer_in_the_last_iteration() -> None:
    """A model that answers in the last iteration has answered."""
    _, results = await ended(FakeLLM(calls(("look", {})), says("in time")), max_iterations=2)
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.ANSWERED, "in time")


@in_loop
async def test_tokens() -> None:
    """Once the tokens are spent, the model is asked for its answer and nothing more."""
    llm = looking_on()
    _, results = await ended(llm, max_tokens=250)
    assert results[-1].stop_reason is StopReason.MAX_TOKENS
    assert [bool(request.tools) for request in llm.requests] == [True, True, True, False]  # 110, 220, 330


@in_loop
async def test_tokens_that_nobody_counts() -> None:
    """The bound holds where the endpoint says nothing of its usage."""
    numbers = itertools.count()
    silent = FakeLLM(
        lambda request: Turn(tool_calls=calls(("look", {"text": str(next(numbers))})).tool_calls, text="word " * 50)
    )
    _, results = await ended(silent, max_tokens=2_000, max_iterations=100, max_repairs=0)
    assert results[-1].stop_reason is StopReason.MAX_TOKENS
    assert 1 < len(results) < 20


@in_loop
async def test_tool_calls() -> None:
    """Calls past the bound are not run, the model is told, and the run ends; a run that uses them up may answer."""
    llm = FakeLLM(calls(("look", {"text": "1"}), ("look", {"text": "2"}), ("look", {"text": "3"})), BEST)
    tools = FakeTools(look=echo)
    _, results = await ended(llm, tools, max_tool_calls=2)
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.MAX_TOOL_CALLS, "The best answer.")
    assert len(tools.executed) == 2
    assert "2 calls" in results[-1].step.observations[2].content
    assert llm.requests[-1].tools == ()
    _, results = await ended(FakeLLM(calls(("look", {})), says("an answer")), max_tool_calls=1)
    assert results[-1].stop_reason is StopReason.ANSWERED
    tools = FakeTools(look=echo)
    _, results = await ended(looking_on(), tools, max_tool_calls=3)
    assert (results[-1].stop_reason, len(results), len(tools.executed)) == (StopReason.MAX_TOOL_CALLS, 4, 3)


@pytest.mark.slow
@in_loop
async def test_seconds_are_over_in_the_model() -> None:
    """Once the run's seconds are over the turn under way is ended, and the answer asked for."""

    def turn(request: TurnRequest) -> Turn:
        if not request.tools:
            assert llm.gate is not None
            llm.gate.set()
        return BEST if not request.tools else says("I think and think")

    llm = FakeLLM(turn)
    llm.gate = asyncio.Event()
    _, results = await ended(llm, max_seconds=2)
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.MAX_SECONDS, "The best answer.")
    assert (len(llm.requests), llm.ended_early) == (2, 1)
    assert results[-1].usage is None


@pytest.mark.slow
@in_loop
async def test_seconds_are_over_in_a_tool() -> None:
    """A tool has what the run has left, no more; then the run ends."""
    tools = FakeTools(look=never)
    _, results = await ended(FakeLLM(calls(("look", {})), BEST), tools, max_seconds=2)
    assert tools.executed[0][3] <= 2
    assert tools.cancelled == ["look"]
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.MAX_SECONDS, "The best answer.")


@in_loop
async def test_seconds_are_over_before_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for with the run's last second is not run, and the model is told; then the run ends."""
    tools, later = FakeTools(look=echo), time.time() + 1_000

    def turn(request: TurnRequest) -> Turn:
        monkeypatch.setattr(time, "time", lambda: later)
        return calls(("look", {"text": "x"})) if request.tools else BEST

    _, results = await ended(FakeLLM(turn), tools, max_seconds=600)
    assert tools.executed == []
    (observation,) = results[0].step.observations
    assert observation.is_error
    assert "was not run: the 600 s of the run are over" in observation.content
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.MAX_SECONDS, "The best answer.")


@in_loop
async def test_no_seconds_at_all() -> None:
    """A run whose time is over before a step is asked for its answer in that."""
    llm = looking_on()
    made = engine(llm, FakeTools(look=echo))
    state = await begin(made, budget=Budget(max_seconds=1e-9))
    result = await made.step(state)
    assert (result.done, result.stop_reason, result.text) == (True, StopReason.MAX_SECONDS, "The best answer.")
    assert [bool(request.tools) for request in llm.requests] == [False]


@in_loop
async def test_no_bounds() -> None:
    """0 sets no limit."""
    llm = FakeLLM(
        calls(*[("look", {"text": str(number)}) for number in range(30)]),
        says("an answer", usage=Usage(10**9, 0, 10**9)),
    )
    _, results = await ended(llm, max_tokens=0, max_tool_calls=0, max_seconds=0)
    assert results[-1].stop_reason is StopReason.ANSWERED


# ---------------------------------------------------------------- the last answer


@in_loop
async def test_the_last_answer_fails() -> None:
    """It is tried once more in the next step; then the run ends all the same, for its own reason, in the model's last
    thought: never in the error's text."""
    _, results = await ended(llm := looking_on(DOWN, text="It might be 42."), max_iterations=2)
    assert (len(results), len(llm.requests)) == (3, 4)
    assert [result.iteration for result in results] == [1, 2, 2]
    assert (results[-1].done, results[-1].text, results[-1].stop_reason) == (
        True, "It might be 42.", StopReason.MAX_ITERATIONS,
    )  # fmt: skip
    _, results = await ended(looking_on(DOWN, text=""), max_iterations=2)
    assert results[-1].text == "There is no answer: the run ended before the model gave one."


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        (says('<tool_call>{"name": "look", "arguments": {"text": "x"}}</tool_call>'), "I look on."),
        (says('I see. <tool_call>{"name": "look", "argum'), "I see."),
        (says("", reasoning='I see. <tool_call>{"name": "look", "argum'), "I see."),
        (calls(("look", {"text": "x"})), "I look on."),
        (says("", reasoning="It must be 42."), "It must be 42."),
        (says("Thought: It must be 42."), "It must be 42."),
        (says("Thought: so.\nFinal Answer: 42"), "42"),
        (says("It is 42, and so", finish=Finish.LENGTH), "It is 42, and so"),
        (Turn(refusal="I will not say."), "I will not say."),
        (says(""), "I look on."),
    ],
)
@in_loop
async def test_what_the_last_answer_may_be(last: Turn, answer: str) -> None:
    """Whatever the model writes when asked for its last answer, the run's answer is text, and no markup of a call."""
    tools = FakeTools(look=echo)
    _, results = await ended(looking_on(last), tools, max_iterations=1)
    assert (results[-1].text, results[-1].done) == (answer, True)
    assert len(tools.executed) == 1


@in_loop
async def test_the_last_answer_breaks_off() -> None:
    """What was written of the last answer before the LLM failed is the answer."""

    class Breaking(FakeLLM):
        async def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
            async for piece in super().turn(request):
                if isinstance(piece, Turn) and not request.tools:
                    raise DOWN
                yield piece

    llm = Breaking(calls(("look", {})), says("It is 42, as far as"))
    _, results = await ended(llm, max_iterations=1)
    assert (results[-1].text, results[-1].usage) == ("It is 42, as far as", None)


@in_loop
async def test_an_endpoint_that_wants_the_tools_of_earlier_calls() -> None:
    """An endpoint that takes no earlier calls without the tools is asked for the last answer in TEXT."""

    def turn(request: TurnRequest) -> Turn:
        if request.tools:
            return calls(("look", {"text": "x"}))
        if any(message.role == "tool" for message in request.messages):
            raise LLMFailed("tools= must be set", code=Code.INVALID_ARGUMENT)
        return says("Final Answer: 42")

    _, results = await ended(FakeLLM(turn), max_iterations=1)
    assert results[-1].text == "42"


# ---------------------------------------------------------------- the time of calls


@in_loop
async def test_the_time_of_a_tool() -> None:
    """A tool that does not end in its time is ended and brings an observation; what it did may not be known."""
    tools = FakeTools(quick=echo)
    tools.add(tool("reads", read_only=True), never)
    tools.add(tool("writes"), never)
    llm = FakeLLM(calls(("reads", {}), ("quick", {"text": "x"}), ("writes", {})), says("an answer"))
    _, results = await ended(llm, tools, tool_timeout=0.2)
    reads, quick, writes = results[0].step.observations
    assert reads.content == "reads did not end in the 0.2 s that it had"
    assert quick.content == "echo x"
    assert "whether it took effect is not known" in writes.content
    assert (reads.is_error, quick.is_error, writes.is_error) == (True, False, True)
    assert sorted(tools.cancelled) == ["reads", "writes"]
    assert {seconds for *_, seconds in tools.executed} == {0.2}
    assert results[-1].stop_reason is StopReason.ANSWERED


@pytest.mark.slow
@in_loop
async def test_a_tool_has_less_than_its_caller() -> None:
    """The caller's deadline leaves the time in which the step's reply is made: a tool that does not end brings an
    observation, and the step its reply."""
    tools = FakeTools(look=never)
    llm = FakeLLM(calls(("look", {})), says("an answer"))
    made = engine(llm, tools)
    state = await begin(made)
    first = await made.step(state, seconds=2)
    assert first.step.observations[0].is_error
    assert tools.executed[0][3] <= 1.8
    assert (await made.step(first.state)).text == "an answer"


@in_loop
async def test_a_model_that_does_not_answer_in_time() -> None:
    """The caller's deadline ends the model's turn; the state stays usable."""
    llm = FakeLLM(says("an answer"))
    llm.gate = asyncio.Event()
    made = engine(llm)
    state = await begin(made)
    for seconds in (0, 1):
        with pytest.raises(DeadlineExceeded, match="same state"):
            await made.step(state, seconds=seconds)
    assert len(llm.requests) == 1
    assert llm.ended_early == 1
    llm.gate.set()
    assert (await made.step(state)).text == "an answer"


@pytest.mark.slow
@in_loop
async def test_a_provider_that_does_not_say_what_it_can() -> None:
    """A provider that is silent about its model takes a share of the caller's time; the model is asked."""

    class Silent(FakeLLM):
        async def abilities(self, model: str) -> Abilities:
            await asyncio.Event().wait()
            raise AssertionError

    made = engine(Silent(says("an answer")))
    # A quarter is waited; of the rest a machine that stands still may take some.
    assert (await made.step(await begin(made), seconds=12)).text == "an answer"


@pytest.mark.slow
@in_loop
async def test_no_time_for_the_last_answer() -> None:
    """Where the caller's time does not suffice for the last answer of a step, that is asked for in the next; where it
    does not suffice there either, the run ends with what there is."""
    llm = looking_on(says("The best answer."), text="It might be 42.")
    made = engine(llm, FakeTools(look=never), max_iterations=1)
    first = await made.step(await begin(made), seconds=2)
    assert (first.done, first.stop_reason, len(llm.requests)) == (False, None, 1)
    last = await made.step(first.state)
    assert (last.done, last.text, last.stop_reason) == (True, "The best answer.", StopReason.MAX_ITERATIONS)
    llm.gate = asyncio.Event()
    other = engine(llm, FakeTools(look=never), max_iterations=1)
    hurried = await other.step(first.state, seconds=2)
    assert (hurried.done, hurried.text) == (True, "The best answer.")  # as far as it was written
    assert (await engine(llm).finalize(first.state, seconds=2)).stop_reason is StopReason.MAX_ITERATIONS


def test_lower_budgets() -> None:
    """Of two limits the lower one holds; 0 is none."""
    assert bounds.lower(Budget(), Budget()) == Budget()
    assert bounds.lower(Budget(5, 0, 2.5), Budget(3, 7, 0)) == Budget(3, 7, 2.5)


# ---------------------------------------------------------------- circles


def steps(*brought: str) -> list[Step]:
    """`a:x`: the action `a` brought `x`."""
    return [
        Step(actions=[Action("", one.split(":")[0], "{}")], observations=[Observation("", one.split(":")[1])])
        for one in brought
    ]


@pytest.mark.parametrize(
    ("brought", "times"),
    [
        (["a:x"], 1),
        (["a:x", "a:x"], 2),
        (["a:x", "a:x", "a:x"], 3),
        (["a:x", "a:y", "a:z"], 1),
        (["a:x", "a:x", "a:y"], 1),
        (["a:x", "b:x"], 1),
        (["a:x", "b:y", "a:x", "b:y"], 2),
        (["a:x", "b:y", "a:x", "b:y", "a:x"], 3),
        (["a:x", "b:1", "a:x", "b:2", "a:x"], 2),
        (["a:x", "b:1", "a:x", "b:2", "a:x", "b:3", "a:x"], 2),
        (["a:x", "b:y", "c:z", "a:x", "b:y", "c:z", "a:x"], 3),
        (["z:z", *["a:x"] * 9], 3),
    ],
)
def test_circles(brought: list[str], times: int) -> None:
    """The same actions with the same results in a row are counted; whatever differs is progress."""
    assert loops.times(steps(*brought)) == times


def test_circles_of_several() -> None:
    """Steps of which one has an action more, or which have none, are not the same."""
    one, two = steps("a:x", "a:x")
    two.actions, two.observations = two.actions * 2, two.observations * 2
    assert loops.times([one, two]) == loops.times([two, one]) == 1
    assert loops.times([two, two]) == 2
    assert loops.times([Step(), Step()]) == 1


def test_circles_by_meaning() -> None:
    """Arguments are compared by what they mean: their order, spaces and the form of a number do not matter."""

    def step(arguments: str) -> Step:
        return Step(actions=[Action("", "a", arguments)], observations=[Observation("", "x")])

    same = [step('{"a": 1, "b": [2.0]}'), step('{"b":[2],"a":1.0}')]
    assert loops.times(same) == 2
    assert loops.times([step('{"a": 1}'), step('{"a": "1"}')]) == 1
    assert loops.times([step('{"a": 1}'), step('{"a": true}')]) == 1


@in_loop
async def test_the_same_again() -> None:
    """The same action with the same result is pointed out at the second time, and ends the run at the third."""
    llm = FakeLLM(lambda request: calls(("look", {"text": "x"})) if request.tools else BEST)
    tools = FakeTools(look=echo)
    _, results = await ended(llm, tools)
    assert (len(results), len(tools.executed)) == (3, 3)
    assert (results[-1].stop_reason, results[-1].text) == (StopReason.REPEATED_ACTION, "The best answer.")
    assert "You have made this call before" not in llm.told(1)
    assert 'the same result: look {"text":"x"}' in llm.told(2)
    assert [bool(result.step.note) for result in results] == [False, True, False]
    assert results[1].step.note in llm.told(2)


@in_loop
async def test_polling_is_no_circle() -> None:
    """The same action whose results differ goes on."""
    numbers = itertools.count()
    llm = FakeLLM(*[calls(("look", {}))] * 6, says("done"))
    _, results = await ended(llm, FakeTools(look=lambda _: f"{next(numbers)} %"))
    assert (results[-1].stop_reason, len(results)) == (StopReason.ANSWERED, 7)


@in_loop
async def test_the_same_mistake_again() -> None:
    """A mistake that is made again and again is a circle too."""
    llm = FakeLLM(lambda request: calls(("lok", {})) if request.tools else BEST)
    _, results = await ended(llm)
    assert (results[-1].stop_reason, len(results)) == (StopReason.REPEATED_ACTION, 3)


@in_loop
async def test_a_policy_that_denies() -> None:
    """A policy may allow the next thing that the model tries; the same action, denied three times, ends the run."""
    denied = Outcome("the policy does not allow it", is_error=True, denied=True)
    llm = FakeLLM(*[calls(("look", {"text": str(number)})) for number in range(5)], says("an answer"))
    _, results = await ended(llm, FakeTools(look=lambda _: denied))
    assert results[-1].stop_reason is StopReason.ANSWERED
    assert all(one.denied and one.is_error for result in results for one in result.step.observations)
    llm = FakeLLM(lambda request: calls(("look", {})) if request.tools else BEST)
    _, results = await ended(llm, FakeTools(look=lambda _: denied))
    assert (results[-1].stop_reason, results[-1].text, len(results)) == (StopReason.DENIED, "The best answer.", 3)


# ---------------------------------------------------------------- Finalize before the end


@in_loop
async def test_finalize_early() -> None:
    """Finalize of a run that is not done asks for the answer without tools; once, however often it is called."""
    llm = FakeLLM(calls(("look", {"text": "x"})), BEST, says("another answer"))
    made = engine(llm, FakeTools(look=echo))
    first = await made.step(await begin(made))
    result = await made.finalize(first.state)
    assert (result.answer, result.stop_reason) == ("The best answer.", StopReason.FINALIZED_EARLY)
    assert result.usage == USAGE + USAGE
    assert [len(step.actions) for step in result.steps] == [1, 0]
    assert llm.requests[-1].tools == ()
    assert await made.finalize(first.state) == result
    assert await asyncio.gather(*(made.finalize(first.state) for _ in range(5))) == [result] * 5
    assert len(llm.requests) == 2
    assert not (await made.step(first.state)).step.actions  # the state is still that of a run that goes on


@in_loop
async def test_finalize_at_once() -> None:
    """Finalize of a run without a step answers the question."""
    made = engine(FakeLLM(BEST))
    assert (await made.finalize(await begin(made))).answer == "The best answer."


@in_loop
async def test_finalize_without_the_llm() -> None:
    """With the LLM down Finalize still gives a result: the last thought, LLM_FAILED."""
    llm = FakeLLM(calls(("look", {}), text="It might be 42."), DOWN)
    made = engine(llm, FakeTools(look=echo))
    first = await made.step(await begin(made))
    result = await made.finalize(first.state)
    assert (result.answer, result.stop_reason) == ("It might be 42.", StopReason.LLM_FAILED)
    assert DOWN.message not in result.answer


@pytest.mark.slow
@in_loop
async def test_finalize_in_no_time() -> None:
    """Finalize keeps within its caller's time, and gives as much of the answer as was written."""
    llm = FakeLLM(says("The best answer."))
    llm.gate = asyncio.Event()
    made = engine(llm)
    state = await begin(made)
    result = await made.finalize(state, seconds=2)
    assert (result.answer, result.stop_reason) == ("The best answer.", StopReason.FINALIZED_EARLY)
    assert result.usage is None
    assert llm.ended_early == 1
    assert opened(state).done is False
