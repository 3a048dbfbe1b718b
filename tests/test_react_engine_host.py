"""The engine of reasoning_react where the host runs the tools: pending actions, their observations, approval."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.reasoning_react.engine.engine import ActionAsked, Engine, Event, Observed, StepResult
from plugins.reasoning_react.engine.run import Budget, Observation, StopReason
from plugins.reasoning_react.engine.state import seal
from shared.errors import InvalidArgument
from tests.loops import in_loop
from tests.react_fakes import KEYS, FakeLLM, FakeTools, begin, calls, echo, engine, opened, says, tool

TWO = (("look", {"text": "1"}), ("look", {"text": "2"}))


async def pending(*asked: tuple[str, Any], llm: FakeLLM | None = None, **fields: Any) -> tuple[Engine, StepResult]:
    """A run of the host's, after its first step."""
    made = engine(llm or FakeLLM(calls(*asked), says("an answer")), FakeTools(look=echo, other=echo))
    fields.setdefault("host_executes", True)
    return made, await made.step(await begin(made, **fields))


@in_loop
async def test_the_host_runs_the_actions() -> None:
    """Calls come back as pending actions and nothing is run; their observations go to the model, in call order."""
    llm = FakeLLM(calls(*TWO), says("an answer"))
    made, first = await pending(llm=llm)
    assert [(action.tool, action.arguments) for action in first.pending] == [
        ("look", '{"text":"1"}'),
        ("look", '{"text":"2"}'),
    ]
    assert (first.step.observations, first.done) == ([], False)
    one, two = first.pending
    last = await made.step(first.state, "", [Observation(two.id, "second"), Observation(one.id, "first")])
    assert (last.done, last.text, last.pending, last.iteration) == (True, "an answer", (), 2)
    assert ["first" in llm.contents[-2], "second" in llm.contents[-1]] == [True, True]
    result = await made.finalize(last.state)
    assert [one.content for one in result.steps[0].observations] == ["first", "second"]


@in_loop
async def test_nobody_else_is_asked_for_the_hosts_tools() -> None:
    """Where the host offers its own tools, a plugin without any tool provider will do."""

    class NoTools(FakeTools):
        async def tools(self) -> Any:
            raise AssertionError("nobody needs them")

    made = engine(FakeLLM(calls(("mine", {"text": "x"})), says("an answer")), NoTools())
    first = await made.step(await begin(made, host_executes=True, tools=(tool("mine"),)))
    assert [action.tool for action in first.pending] == ["mine"]
    assert (await made.step(first.state, "a result")).done


@in_loop
async def test_plain_input_for_a_single_action() -> None:
    """The result of a single pending action may come as plain input."""
    llm = FakeLLM(calls(("look", {})), says("an answer"))
    made, first = await pending(llm=llm)
    assert (await made.step(first.state, "42 degrees")).done
    assert "42 degrees" in llm.contents[-1]


@pytest.mark.parametrize(
    ("observations", "input", "reason", "words"),
    [
        ([("0", "a")], "", "MISSING_OBSERVATION", "{1}"),
        ([], "", "MISSING_OBSERVATION", "{0} and of {1}"),
        ([("0", "a"), ("1", "b"), ("0", "c")], "", "DUPLICATE_OBSERVATION", "{0}"),
        ([("0", "a"), ("act_1_7_abc", "b")], "", "UNKNOWN_ACTION", "'act_1_7_abc'"),
        ([("", "a"), ("1", "b")], "", "UNKNOWN_ACTION", "''"),
        ([], "a result", "INVALID_ARGUMENT", "2 actions are pending"),
        ([("0", "a"), ("1", "b")], "a result", "INVALID_ARGUMENT", "both input and observations"),
    ],
)
@in_loop
async def test_observations_that_do_not_fit(
    observations: list[tuple[str, str]], input: str, reason: str, words: str
) -> None:
    """Each pending action gets one observation; any other set is refused by the action's id, and nothing is lost."""
    llm = FakeLLM(calls(*TWO), says("an answer"))
    made, first = await pending(llm=llm)
    ids = [action.id for action in first.pending]
    sent = [Observation(ids[int(key)] if key.isdigit() else key, content) for key, content in observations]
    with pytest.raises(InvalidArgument) as raised:
        await made.step(first.state, input, sent)
    assert raised.value.reason == reason
    assert words.format(*ids) in raised.value.message
    assert len(llm.requests) == 1
    assert (await made.step(first.state, "", [Observation(one, "fine") for one in ids])).done


@in_loop
async def test_observations_where_none_are_pending() -> None:
    """An observation where no action waits for one is refused, by its id."""
    made = engine(FakeLLM(says("an answer")))
    with pytest.raises(InvalidArgument, match="'act_1_0_x' answers none") as raised:
        await made.step(await begin(made), "", [Observation("act_1_0_x", "approved")])
    assert raised.value.reason == "UNKNOWN_ACTION"


@in_loop
async def test_an_observation_is_of_one_state_alone() -> None:
    """What a host approved and ran for one run, or one step, answers for no other, whose arguments may differ."""
    made, first = await pending(("look", {"text": "harmless"}))
    other_made, other = await pending(("look", {"text": "harmful"}))
    with pytest.raises(InvalidArgument, match="no pending action"):
        await other_made.step(other.state, "", [Observation(first.pending[0].id, "approved")])
    llm = FakeLLM(calls(("look", {"text": "1"})), calls(("look", {"text": "2"})), says("an answer"))
    made, first = await pending(llm=llm)
    second = await made.step(first.state, "a result")
    assert second.pending[0].id != first.pending[0].id
    with pytest.raises(InvalidArgument, match="no pending action"):
        await made.step(second.state, "", [Observation(first.pending[0].id, "approved")])


@in_loop
async def test_the_id_of_an_action() -> None:
    """It follows from run, iteration and position alone, has at most 64 safe characters, and no two are alike."""
    llm = FakeLLM(calls(*TWO), calls(*TWO))
    made, first = await pending(llm=llm)
    # Another server, whose model asks for something else.
    again = await engine(FakeLLM(calls(("other", {}), ("other", {}))), FakeTools(look=echo, other=echo)).step(
        await same_run(first)
    )
    assert [action.id for action in again.pending] == [action.id for action in first.pending]
    second = await made.step(first.state, "", [Observation(action.id, "x") for action in first.pending])
    ids = [action.id for action in (*first.pending, *second.pending)]
    assert len(set(ids)) == 4
    assert all(len(one) <= 64 and one.replace("_", "").isalnum() and one.isascii() for one in ids)


async def same_run(result: StepResult) -> bytes:
    """The state before a run's first step, made again."""
    run = opened(result.state)
    run.steps, run.iteration, run.pending, run.tool_calls = [], 0, False, 0
    return seal(run, KEYS, most_bytes=2**20)


@in_loop
async def test_only_calls_that_can_be_run_are_pending() -> None:
    """An unknown tool, or arguments that do not hold, are answered here; the host gets the others."""
    shown: list[Event] = []
    llm = FakeLLM(calls(("lok", {}), ("look", {"text": "1"}), ("look", {"text": 5})), says("an answer"))
    made = engine(llm, FakeTools(look=echo))
    first = await made.step(await begin(made, host_executes=True), show=shown.append)
    assert [action.arguments for action in first.pending] == ['{"text":"1"}']
    unknown, wrong = first.step.observations
    assert (unknown.is_error, unknown.content.endswith("; did you mean look?")) == (True, True)
    assert "text must be a string" in wrong.content
    assert [type(event) for event in shown[-5:]] == [ActionAsked] * 3 + [Observed] * 2
    refused = unknown.action_id
    with pytest.raises(InvalidArgument, match=refused):
        await made.step(first.state, "", [Observation(refused, "x"), Observation(first.pending[0].id, "y")])
    last = await made.step(first.state, "", [Observation(first.pending[0].id, "fine")])
    steps = (await made.finalize(last.state)).steps
    assert [one.content for one in steps[0].observations] == [unknown.content, "fine", wrong.content]


@in_loop
async def test_nothing_is_pending_where_nothing_can_be_run() -> None:
    """Where no call can be run, the run goes on without the host."""
    made, first = await pending(("nothing", {}))
    assert first.pending == ()
    assert len(first.step.observations) == 1
    assert (await made.step(first.state)).done


# ---------------------------------------------------------------- denial


@in_loop
async def test_a_denied_action() -> None:
    """The model is told that its action was denied, also without a word of why, and can answer all the same."""
    llm = FakeLLM(calls(("look", {})), says("I could not look."))
    made, first = await pending(llm=llm)
    last = await made.step(first.state, "", [Observation(first.pending[0].id, "", denied=True)])
    assert (last.text, last.stop_reason) == ("I could not look.", StopReason.ANSWERED)
    assert 'status="denied"' in llm.contents[-1]
    assert "look was denied" in llm.contents[-1]
    assert opened(last.state).steps[0].observations == [
        Observation(first.pending[0].id, "look was denied", is_error=True, denied=True)
    ]


@in_loop
async def test_nothing_but_denials() -> None:
    """A run whose actions are denied three steps in a row ends in an answer, DENIED, the model asked without tools."""

    def turn(request: Any) -> Any:
        return calls(("look", {"text": str(len(request.messages))})) if request.tools else says("It was not allowed.")

    made, result = await pending(llm=FakeLLM(turn))
    for _ in range(3):
        assert not result.done
        result = await made.step(result.state, "", [Observation(result.pending[0].id, "no", denied=True)])
    assert (result.done, result.text, result.stop_reason) == (True, "It was not allowed.", StopReason.DENIED)


@in_loop
async def test_a_denial_now_and_then() -> None:
    """Denials with something else between them do not end a run."""
    turns = [calls(("look", {"text": str(number)})) for number in range(5)]
    made, result = await pending(llm=FakeLLM(*turns, says("an answer")))
    for number in range(5):
        denied = number % 2 == 0
        result = await made.step(result.state, "", [Observation(result.pending[0].id, "x", denied=denied)])
    assert (result.text, result.stop_reason) == ("an answer", StopReason.ANSWERED)


# ---------------------------------------------------------------- bounds


@in_loop
async def test_bounds_hold_for_the_host_too() -> None:
    """Calls past the run's bound are not handed out; once the others are answered, the run ends."""
    llm = FakeLLM(calls(*TWO), says("the best answer"))
    made, first = await pending(llm=llm, budget=Budget(max_tool_calls=1))
    assert [action.arguments for action in first.pending] == ['{"text":"1"}']
    assert "1 calls" in first.step.observations[0].content
    last = await made.step(first.state, "", [Observation(first.pending[0].id, "fine")])
    assert (last.text, last.stop_reason) == ("the best answer", StopReason.MAX_TOOL_CALLS)
    assert llm.requests[-1].tools == ()


@in_loop
async def test_the_host_goes_round_in_circles() -> None:
    """The same action with the same result is pointed out at the second time and ends the run at the third."""

    def turn(request: Any) -> Any:
        return calls(("look", {"text": "again"})) if request.tools else says("the best answer")

    llm = FakeLLM(turn)
    made, result = await pending(llm=llm)
    result = await made.step(result.state, "the same")
    assert "You have made this call before" not in llm.contents[-1]
    result = await made.step(result.state, "the same")
    assert "You have made this call before" in llm.contents[-1]
    result = await made.step(result.state, "the same")
    assert (result.text, result.stop_reason, result.iteration) == ("the best answer", StopReason.REPEATED_ACTION, 3)


@in_loop
async def test_the_last_iteration_of_the_host() -> None:
    """The observations of the last iteration's actions still count: the answer is asked for after them."""
    llm = FakeLLM(calls(("look", {})), says("the best answer"))
    made, first = await pending(llm=llm, max_iterations=1)
    last = await made.step(first.state, "the result")
    assert (last.text, last.stop_reason, last.iteration) == ("the best answer", StopReason.MAX_ITERATIONS, 1)
    assert "the result" in llm.told()


@in_loop
async def test_finalize_while_actions_are_pending() -> None:
    """Finalize of a run that waits for its host answers without the results, and says so to the model."""
    llm = FakeLLM(calls(*TWO), says("the best answer"))
    made, first = await pending(llm=llm)
    result = await made.finalize(first.state)
    assert (result.answer, result.stop_reason) == ("the best answer", StopReason.FINALIZED_EARLY)
    assert llm.told().count("no result: the run was ended") == 2
