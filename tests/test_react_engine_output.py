"""The engine of reasoning_react and what models write: what cannot be read, what they can and cannot take."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from plugins.reasoning_react.engine.chat import Abilities, Finish, ToolCall, Turn, TurnRequest
from plugins.reasoning_react.engine.engine import AnswerDelta, Event
from plugins.reasoning_react.engine.ports import LLMFailed
from plugins.reasoning_react.engine.run import Mode, StopReason
from shared.errors import Code, InvalidArgument
from tests.loops import in_loop
from tests.react_fakes import (
    TEXT_ONLY,
    USAGE,
    FakeLLM,
    FakeTools,
    begin,
    calls,
    echo,
    engine,
    opened,
    says,
    to_end,
)

ACTION = 'Thought: I look it up.\nAction: look\nAction Input: {"text": "weather"}'
BROKEN = 'Thought: I look it up.\nAction: look\nAction Input: {"text": "weather", "text": "sun"'
NO_TOOLS = LLMFailed("the endpoint takes no tools", code=Code.INVALID_ARGUMENT, tools_refused=True)
TOO_LONG = LLMFailed("too many tokens", code=Code.INVALID_ARGUMENT, reason="CONTEXT_LENGTH_EXCEEDED", too_long=True)
DOWN = LLMFailed("the LLM provider does not answer")


# ---------------------------------------------------------------- output that cannot be read


@in_loop
async def test_malformed_output_is_repaired() -> None:
    """What cannot be read is told to the model within the step, with the reason; the repair is no iteration, its usage
    counts, and the failed attempt is not in the run."""
    llm = FakeLLM(says(BROKEN), says(ACTION), says("Final Answer: Rain."), abilities=TEXT_ONLY)
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    first, last = await to_end(made, await begin(made))
    assert llm.requests[1].messages[-2].content == BROKEN
    assert "could not be read, and nothing was run" in llm.requests[1].messages[-1].content
    assert (first.iteration, last.iteration, len(tools.executed)) == (1, 2, 1)
    assert first.usage == USAGE + USAGE
    assert opened(first.state).repairs == 1
    assert "could not be read" not in llm.told(2)
    assert '"sun"' not in llm.told(2)


@in_loop
async def test_repairs_are_bounded_over_the_run() -> None:
    """Repairs are counted over the whole run; past the bound the model is asked for its answer, without tools, and that
    ends the run."""
    turns = [says(BROKEN), says(ACTION), says(BROKEN), says(BROKEN), says("Final Answer: Perhaps rain.")]
    llm = FakeLLM(*turns, abilities=TEXT_ONLY)
    made = engine(llm, FakeTools(look=echo), max_repairs=2)
    _, last = await to_end(made, await begin(made))
    assert (last.text, last.stop_reason) == ("Perhaps rain.", StopReason.MALFORMED_OUTPUT)
    assert len(llm.requests) == 5
    assert "No more actions can be taken" in llm.contents[-1]


@in_loop
async def test_a_model_that_writes_nothing_but_malformed_output() -> None:
    """Then its last thought is the answer; never an error's text, nor markup."""
    llm = FakeLLM(says(BROKEN), abilities=TEXT_ONLY)
    made = engine(llm, FakeTools(look=echo))
    last = (await to_end(made, await begin(made)))[-1]
    assert (last.text, last.stop_reason) == ("I look it up.", StopReason.MALFORMED_OUTPUT)
    assert len(llm.requests) == 5  # once, three repairs, the last answer


@pytest.mark.parametrize(
    "turn", [says(""), says(" \n"), Turn(finish=Finish.CONTENT_FILTER, usage=USAGE)], ids=["empty", "blank", "withheld"]
)
@in_loop
async def test_no_output_at_all(turn: Turn) -> None:
    """An empty turn is no answer: the model is told, and in the end a sentence says that there is none."""
    made = engine(FakeLLM(turn), max_repairs=1)
    last = await made.step(await begin(made))
    assert last.stop_reason is StopReason.MALFORMED_OUTPUT
    assert last.text.startswith("There is no answer")
    made = engine(FakeLLM(turn, says("an answer")))
    assert (await made.step(await begin(made))).stop_reason is StopReason.ANSWERED


@in_loop
async def test_what_a_content_filter_left() -> None:
    """Of a turn that a content filter cut short what there is counts; where that is nothing, the model is told why."""
    made = engine(FakeLLM(says("as far as this", finish=Finish.CONTENT_FILTER)))
    assert (await made.step(await begin(made))).text == "as far as this"
    for turn, is_withheld in ((says("", finish=Finish.CONTENT_FILTER), True), (says(""), False)):
        llm = FakeLLM(turn, says("an answer"))
        made = engine(llm)
        await made.step(await begin(made))
        assert ("content filter withheld it" in llm.told(1)) is is_withheld


@in_loop
async def test_a_thought_alone() -> None:
    """A turn that is a thought and nothing else is asked on once, and no repair."""
    llm = FakeLLM(says("Thought: I should look."), says(ACTION), says("Final Answer: Rain."), abilities=TEXT_ONLY)
    made = engine(llm, FakeTools(look=echo), max_repairs=0)
    first, last = await to_end(made, await begin(made))
    assert "You have written a thought, but neither" in llm.told(1)
    assert (first.step.actions[0].tool, last.text) == ("look", "Rain.")
    assert opened(last.state).repairs == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (says("", reasoning="It is 42."), says("", reasoning="It is still 42.")),
        (says("<think>It is 42.</think>"), says("<think>It is still 42.</think>")),
        (says("Thought: It is 42."), says("Thought: It is still 42.")),
    ],
)
@in_loop
async def test_a_thought_alone_twice(first: Turn, second: Turn) -> None:
    """The second time the thought is the answer, reasoning too."""
    llm = FakeLLM(first, second)
    made = engine(llm, FakeTools(look=echo))
    result = await made.step(await begin(made))
    assert (result.text, result.stop_reason) == ("It is still 42.", StopReason.ANSWERED)
    assert len(llm.requests) == 2


@in_loop
async def test_a_refusal_is_the_answer() -> None:
    """What the model says when it refuses is the answer."""
    made = engine(FakeLLM(Turn(refusal="I cannot help with that.", usage=USAGE)))
    result = await made.step(await begin(made))
    assert (result.text, result.stop_reason) == ("I cannot help with that.", StopReason.ANSWERED)


@in_loop
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("refusal", "shown"),
    [
        ("I will not.<|im_end|>", "I will not."),
        ('I will not. <tool_call>{"name": "look", "arguments": {}}</tool_call>', "I will not."),
        ("<think>He wants it.</think>I will not.", "I will not."),
        ("Thought: no.\nFinal Answer: I will not.", "I will not."),
        ('[TOOL_CALLS][{"name": "look", "arguments": {}}]', "The model refuses to answer."),
    ],
)
async def test_a_refusal_is_shown_without_markup(refusal: str, shown: str, last: bool) -> None:
    """Markup in a refusal is no more shown than in an answer, also in the last answer of a run, and runs nothing."""
    tools = FakeTools(look=echo)
    made = engine(FakeLLM(Turn(refusal=refusal, usage=USAGE)), tools)
    state = await begin(made)
    text = (await made.finalize(state)).answer if last else (await made.step(state)).text
    assert (text, tools.executed) == (shown, [])


@in_loop
async def test_output_that_repeats_itself() -> None:
    """Output that repeats itself is ended while it streams, and is a repair; in the reasoning too."""
    rambling = "Thought: " + "I must look at it again. " * 2_000
    for turn in (says(rambling), says("", reasoning=rambling)):
        llm = FakeLLM(turn, says("an answer"))
        if not turn.text:
            llm = FakeLLM(turn, says("an answer"), piece=10)
        made = engine(llm, FakeTools(look=echo))
        result = await made.step(await begin(made))
        assert result.text == "an answer"
        assert "repeated itself" in llm.told(1)
        assert opened(result.state).repairs == 1
        assert len(llm.told(1)) < len(rambling) / 2
        if turn.text:
            assert llm.ended_early == 1
            assert result.usage is None


# ---------------------------------------------------------------- calls through the API


@in_loop
async def test_arguments_that_were_cut_off() -> None:
    """Arguments that were cut off at a length limit are not run, and are asked for again."""
    cut = calls(("look", '{"text": "wea'), finish=Finish.LENGTH)
    llm = FakeLLM(cut, calls(("look", {"text": "weather"})), says("an answer"))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    await to_end(made, await begin(made))
    assert [arguments for _, arguments, *_ in tools.executed] == ['{"text":"weather"}']
    assert "cut off" in llm.told(1)


@pytest.mark.parametrize("arguments", ["", '{"text": "wea'])
@in_loop
async def test_the_last_of_several_was_cut_off(arguments: str) -> None:
    """Of several calls the whole ones run; the one that was cut off brings an observation that says so."""
    llm = FakeLLM(calls(("look", {"text": "1"}), ("look", arguments), finish=Finish.LENGTH), says("an answer"))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    first, _ = await to_end(made, await begin(made))
    assert [given for _, given, *_ in tools.executed] == ['{"text":"1"}']
    ran, refused = first.step.observations
    assert (ran.is_error, refused.is_error) == (False, True)
    assert "cut off" in refused.content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{'text': 'weather',}", ""),  # read all the same
        ("", ""),
        ("null", ""),
        ('["weather"]', "must be one JSON object, and are a list"),
        ('{"text": 5}', "text must be a string, it is 5"),
        ('{"text": "a"} {"text": "b"}', "no JSON"),
    ],
)
@in_loop
async def test_arguments_of_calls(arguments: str, words: str) -> None:
    """Arguments are read as models write them, and checked before anything runs; the model is told what is wrong."""
    llm = FakeLLM(calls(("look", arguments), ("other", {})), says("an answer"))
    tools = FakeTools(look=echo, other=echo)
    made = engine(llm, tools)
    first, _ = await to_end(made, await begin(made))
    assert [name for name, *_ in tools.executed] == (["other"] if words else ["look", "other"])
    assert words in first.step.observations[0].content
    assert first.step.observations[0].is_error == bool(words)
    # What goes back to the endpoint is JSON in any case.
    assert all(call.arguments.startswith("{") for call in llm.requests[1].messages[-3].tool_calls)


@in_loop
async def test_an_unknown_tool() -> None:
    """An unknown tool is an observation with the nearest names and all there are, and the others run."""
    llm = FakeLLM(calls(("loook", {}), ("look", {"text": "x"})), says("an answer"))
    made = engine(llm, FakeTools(look=echo, other=echo))
    first, _ = await to_end(made, await begin(made))
    unknown, ran = first.step.observations
    assert unknown.content == "Unknown tool: loook; the tools are: look, other; did you mean look?"
    assert ran.content == "echo x"


@in_loop
async def test_very_many_calls_in_a_turn() -> None:
    """A turn is good for so many calls and no more."""
    llm = FakeLLM(calls(*[("look", {"text": str(number)}) for number in range(500)]), says("an answer"))
    tools = FakeTools(look=echo)
    made = engine(llm, tools, max_tool_calls=0)
    first, _ = await to_end(made, await begin(made))
    assert len(first.step.actions) == len(first.step.observations) == len(tools.executed) == 32


@in_loop
async def test_calls_whose_ids_are_no_use() -> None:
    """Ids of calls that are empty, or not unique, are not sent back: each result has one of its own to answer."""
    turn = Turn(tool_calls=(ToolCall("", "look", "{}"), ToolCall("x", "look", "{}"), ToolCall("x", "look", "{}")))
    llm = FakeLLM(turn, says("an answer"))
    made = engine(llm, FakeTools(look=echo))
    await to_end(made, await begin(made))
    assistant, *results = llm.requests[1].messages[-4:]
    ids = [call.id for call in assistant.tool_calls]
    assert len(set(ids)) == 3 and all(ids)  # noqa: PT018
    assert [result.tool_call_id for result in results] == ids


# ---------------------------------------------------------------- calls in the text


@in_loop
async def test_markup_that_an_endpoint_left_in_the_text() -> None:
    """NATIVE: a call that stands in the text is run, is never shown as an answer, and goes back as a call."""
    shown: list[Event] = []
    text = 'I look it up.\n<tool_call>\n{"name": "look", "arguments": {"text": "weather"}}\n</tool_call>'
    llm = FakeLLM(says(text), says("Rain."))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    first = await made.step(await begin(made), show=shown.append)
    assert [arguments for _, arguments, *_ in tools.executed] == ['{"text":"weather"}']
    assert "tool_call" not in "".join(event.text for event in shown if isinstance(event, AnswerDelta))
    assert (await made.step(first.state)).text == "Rain."
    assert [call.name for call in llm.requests[1].messages[-2].tool_calls] == ["look"]
    assert "<tool_call>" not in llm.told(1)


@in_loop
async def test_react_in_the_text_of_a_native_model() -> None:
    """NATIVE: a model that writes Thought and Action instead is understood."""
    llm = FakeLLM(says(ACTION), says("Final Answer: Rain."))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    _, last = await to_end(made, await begin(made))
    assert len(tools.executed) == 1
    assert last.text == "Rain."


@in_loop
async def test_a_call_that_is_all_in_the_reasoning() -> None:
    """A whole call that an endpoint took for reasoning, with nothing beside it, is run."""
    reasoning = 'Let me look.\n<tool_call>{"name": "look", "arguments": {"text": "weather"}}</tool_call>'
    llm = FakeLLM(says("", reasoning=reasoning), says("Rain."))
    tools = FakeTools(look=echo)
    made = engine(llm, tools)
    await to_end(made, await begin(made))
    assert [arguments for _, arguments, *_ in tools.executed] == ['{"text":"weather"}']


# ---------------------------------------------------------------- what the endpoint takes


@in_loop
async def test_stepping_down_to_text() -> None:
    """An endpoint that refuses tools is asked in TEXT within the same step, and from then on; what was done with tool
    calls is told in the format asked for."""

    def second(request: TurnRequest) -> Turn:
        if request.tools:
            raise NO_TOOLS
        return says(ACTION if "echo weather" not in request.messages[-1].content else "Final Answer: Rain.")

    llm = FakeLLM(calls(("look", {"text": "sun"})), second)
    made = engine(llm, FakeTools(look=echo))
    first, stepped, last = await to_end(made, await begin(made))
    assert opened(first.state).mode is Mode.NATIVE
    assert opened(stepped.state).mode is Mode.TEXT
    assert (stepped.iteration, last.text) == (2, "Rain.")
    assert [bool(request.tools) for request in llm.requests] == [True, True, False, False]
    told = llm.told(2)
    assert 'Action: look\nAction Input: {"text":"sun"}' in told
    assert "echo sun" in told
    assert {message.role for message in llm.requests[2].messages} == {"system", "user", "assistant"}


@in_loop
async def test_an_endpoint_that_drops_tools() -> None:
    """Tools that were left out without a refusal are no tools either: the step goes on in TEXT."""
    llm = FakeLLM(says("As I cannot look, 42.", dropped=("tools",)), says(ACTION), says("Final Answer: Rain."))
    made = engine(llm, FakeTools(look=echo))
    first, last = await to_end(made, await begin(made))
    assert (opened(first.state).mode, last.text) == (Mode.TEXT, "Rain.")
    assert first.usage == USAGE + USAGE


@pytest.mark.parametrize("fixed_by", ["caller", "setting"])
@in_loop
async def test_a_mode_that_is_fixed(fixed_by: str) -> None:
    """Where NATIVE was asked for, an endpoint that refuses tools is an error, and the state stays usable."""
    llm = FakeLLM(NO_TOOLS, says("an answer"))
    made = engine(llm, FakeTools(look=echo), mode=Mode.NATIVE if fixed_by == "setting" else None)
    state = await begin(made, mode=Mode.NATIVE if fixed_by == "caller" else None)
    with pytest.raises(LLMFailed) as raised:
        await made.step(state)
    assert raised.value.tools_refused
    assert (await made.step(state)).text == "an answer"


@in_loop
async def test_text_that_was_asked_for() -> None:
    """TEXT, where it was asked for, is what a model that takes tools gets."""
    llm = FakeLLM(says("Final Answer: Rain."))
    made = engine(llm, FakeTools(look=echo))
    await made.step(await begin(made, mode=Mode.TEXT))
    assert llm.requests[0].tools == ()


@in_loop
async def test_a_context_that_is_too_long() -> None:
    """Where the messages are too long for the endpoint, it is asked once more with about half of them: the oldest steps
    are left out as wholes, a single large result is cut, and the run says so."""
    numbers = itertools.count()

    def turn(request: TurnRequest) -> Turn:
        if sum(len(message.content) for message in request.messages) > 12_000:
            raise TOO_LONG
        return calls(("look", {"text": f"page {next(numbers)} "}))

    llm = FakeLLM(turn)
    made = engine(llm, FakeTools(look=lambda arguments: arguments["text"] * 300), kept_chars=3_000)
    state = await begin(made)
    for _ in range(7):
        state = (await made.step(state)).state
    run = opened(state)
    assert 0 < run.left_out < 6
    assert f"The first {run.left_out} steps are left out" in llm.told()
    assert "page 5 page 5" in llm.told()
    assert len(run.steps) == 7
    for request in llm.requests:
        asked = [call.id for message in request.messages for call in message.tool_calls]
        assert len(asked) == sum(message.role == "tool" for message in request.messages)

    llm = FakeLLM(turn)
    made = engine(llm, FakeTools(look=lambda arguments: arguments["text"] * 9_000), kept_chars=30_000)
    first = await made.step(await begin(made))
    assert not (await made.step(first.state)).done
    assert len(llm.requests) == 3
    assert "characters are left out" in llm.told()


@in_loop
async def test_a_context_that_stays_too_long() -> None:
    """It is tried once more, not for ever: then the error is the caller's, and the state stays usable."""
    llm = FakeLLM(*[calls(("look", {"text": str(number)})) for number in range(4)], TOO_LONG, TOO_LONG, TOO_LONG)
    made = engine(llm, FakeTools(look=echo))
    state = await begin(made)
    for _ in range(4):
        state = (await made.step(state)).state
    with pytest.raises(LLMFailed) as raised:
        await made.step(state)
    assert raised.value.too_long
    assert len(llm.requests) == 6


@in_loop
async def test_the_window_of_the_model() -> None:
    """What is known of the model's window bounds what it is sent; a setting wins."""
    for abilities, settings in (
        (Abilities(4_000, tools=True), {}),
        (Abilities(10**6, tools=True), {"context_length": 4_000}),
    ):
        llm = FakeLLM(lambda request: calls(("look", {"text": str(len(request.messages))})), abilities=abilities)
        made = engine(llm, FakeTools(look=lambda arguments: f"{arguments['text']} word " * 500), **settings)
        state = await begin(made)
        for _ in range(6):
            state = (await made.step(state)).state
        left_out = opened(state).left_out
        assert left_out > 0
        llm.turns[:] = [says("an answer")]
        assert (await made.finalize(state)).left_out >= left_out
        assert len(llm.told()) < 16_000


@in_loop
async def test_an_llm_that_is_down() -> None:
    """An LLM that fails is an error with its own code and reason, and the same state can be stepped again."""
    llm = FakeLLM(DOWN, says("an answer"))
    made = engine(llm)
    state = await begin(made)
    with pytest.raises(LLMFailed, match="does not answer") as raised:
        await made.step(state)
    assert raised.value.code is Code.UNAVAILABLE
    assert (await made.step(state)).text == "an answer"


@in_loop
async def test_an_llm_that_fails_amid_a_step() -> None:
    """What a step had of the model before it failed is not asked for again when it is taken again, and is paid for."""
    llm = FakeLLM(says(BROKEN), DOWN, says("an answer"))
    made = engine(llm, FakeTools(look=echo))
    state = await begin(made)
    with pytest.raises(LLMFailed):
        await made.step(state)
    result = await made.step(state)
    assert (result.text, result.usage, opened(result.state).usage) == ("an answer", USAGE + USAGE, USAGE + USAGE)
    assert len(llm.requests) == 3
    assert "could not be read" in llm.told()


@in_loop
async def test_a_reply_without_an_end() -> None:
    """A stream that ends without a turn is a failure of the LLM's."""

    class Endless(FakeLLM):
        async def turn(self, request: TurnRequest) -> Any:
            async for piece in super().turn(request):
                if not isinstance(piece, Turn):
                    yield piece

    made = engine(Endless(says("half an answer")))
    state = await begin(made)
    with pytest.raises(LLMFailed) as raised:
        await made.step(state)
    assert raised.value.reason == "STREAM_TRUNCATED"


@in_loop
async def test_a_state_that_is_no_state() -> None:
    """A state that was changed is refused, in a step and in Finalize, and nobody is asked."""
    llm = FakeLLM(says("an answer"))
    made = engine(llm)
    state = bytearray(await begin(made))
    state[-40] ^= 1
    for call in (made.step(bytes(state)), made.finalize(bytes(state))):
        with pytest.raises(InvalidArgument) as raised:
            await call
        assert raised.value.reason == "STATE_TAMPERED"
    assert not llm.requests
