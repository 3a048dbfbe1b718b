"""reasoning_react before models, tools and their providers that hand over far more than anybody could want."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import tracemalloc
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.reasoning_react.engine.audience import Audience
from plugins.reasoning_react.engine.bounded import LONGEST, LONGEST_ARGUMENTS
from plugins.reasoning_react.engine.chat import Delta, Finish, Tool, ToolCall, Turn, TurnRequest
from plugins.reasoning_react.engine.engine import StepResult, ThoughtDelta
from plugins.reasoning_react.engine.ports import LLMFailed
from plugins.reasoning_react.engine.run import Action, Mode, Observation, Step, StopReason
from plugins.reasoning_react.providers.llm import GrpcLLM
from plugins.reasoning_react.providers.provider import Provider
from plugins.reasoning_react.servicer import Servicer, _Events
from shared.client import Address
from shared.errors import Unavailable
from tests import react_peers
from tests.loops import in_loop
from tests.react_fakes import USAGE, FakeLLM, FakeTools, begin, calls, echo, engine, opened, says, to_end
from tests.react_peers import peer, said
from tests.servers import SECONDS, start_plugin

MILLION = 1_000_000


def asks(*made: ToolCall, **fields: Any) -> Turn:
    return Turn(tool_calls=made, finish=Finish.TOOL_CALLS, usage=USAGE, **fields)


# ---------------------------------------------------------------- a turn


@in_loop
@pytest.mark.parametrize("host_executes", [False, True])
@pytest.mark.parametrize(
    "turn",
    [
        asks(ToolCall("i" * 3 * MILLION, "look", '{"text": "x"}')),
        asks(ToolCall("c", "look", '{"text": "x"}', b"x" * 3 * MILLION)),
        asks(ToolCall("c", "look", '{"text": "x"}'), opaque=b"x" * 3 * MILLION),
        asks(ToolCall("c", "look", '{"text": "x"}'), reasoning="x y" * MILLION),
        asks(*[ToolCall(f"c{n}", "look", json.dumps({"text": "é\n" * 60_000})) for n in range(40)]),
        asks(*[ToolCall("c", "l" * 100_000 + str(n), "{}") for n in range(10)], ToolCall("d", "look", '{"text": "x"}')),
    ],
    ids=["id", "opaque of a call", "opaque", "reasoning", "arguments", "names"],
)
async def test_a_turn_that_no_state_could_hold(turn: Turn, host_executes: bool) -> None:
    """Whatever the size of what a model hands over, the step has a reply and a state, and the run goes on to an
    answer."""
    made = engine(FakeLLM(turn, says("Done.")), FakeTools(look=echo))
    first = await made.step(await begin(made, host_executes=host_executes))
    assert len(first.state) <= 2**20
    observations = [Observation(action.id, "brought") for action in first.pending]
    last = await made.step(first.state, observations=observations)
    assert (last.done, last.text) == (True, "Done.")


@in_loop
async def test_what_a_host_is_to_run_fits_its_state() -> None:
    """Calls whose arguments together take more of the state than there is are not handed out cut: the model is told."""
    turn = asks(*[ToolCall(f"c{n}", "look", json.dumps({"text": str(n) * 60_000})) for n in range(8)])
    made = engine(FakeLLM(turn), FakeTools(look=echo))
    step = await made.step(await begin(made, host_executes=True))
    whole = [action.arguments for action in step.pending]
    assert 1 <= len(whole) < 8
    assert all(len(json.loads(one)["text"]) == 60_000 for one in whole)
    assert {one.content for one in step.step.observations} == {
        "look was not run: its arguments are too large here; call it with shorter ones"
    }
    assert [action.arguments for action in opened(step.state).steps[-1].actions][: len(whole)] == whole


@in_loop
async def test_arguments_past_all_measure_are_not_read() -> None:
    """Arguments of 60 MB are told to the model as too long, and nothing is run."""
    arguments = json.dumps({"text": "x" * 60 * MILLION})
    tools = FakeTools(look=echo)
    llm = FakeLLM(asks(ToolCall("c", "look", arguments)), says("Done."))
    made = engine(llm, tools)
    async with asyncio.timeout(SECONDS):
        step = await made.step(await begin(made))
    assert (step.text, tools.executed) == ("Done.", [])
    assert f"the arguments of look have more than {LONGEST_ARGUMENTS:,} characters" in llm.told()


@pytest.mark.slow
@in_loop
@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.TEXT])
@pytest.mark.parametrize("field", ["text", "reasoning", "refusal"])
async def test_a_turn_in_one_huge_piece(field: str, mode: Mode) -> None:
    """A turn of 20 MB in one piece is taken up to a bound, and the run ends with an answer no longer than that."""
    words = "".join(f"{n} words. " for n in range(1_500_000))
    fields: dict[str, Any] = {field: words}
    made = engine(FakeLLM(Turn(usage=USAGE, **fields), piece=10**9))
    async with asyncio.timeout(SECONDS):
        last = (await to_end(made, await begin(made, mode=mode)))[-1]
    assert 0 < len(last.text) <= LONGEST
    assert words.startswith(last.text[:1000].strip())


class Dripping(FakeLLM):
    """Writes a text character by character, and lets others run now and then."""

    async def turn(self, request: TurnRequest) -> AsyncGenerator[Delta | Turn, None]:
        for number in range(30_000):
            yield Delta(reasoning=chr(0x4E00 + number % 20_011))
            if not number % 100:
                await asyncio.sleep(0)
        self.asked.set()
        await asyncio.Event().wait()


@in_loop
async def test_a_drip_takes_little_memory() -> None:
    """What a model writes in pieces of a character takes some bytes for each while the step goes on, and not a hundred,
    whether anybody is shown it or not."""
    llm = Dripping()
    made = engine(llm)
    state = await begin(made)
    tracemalloc.start()
    try:
        step = asyncio.create_task(made.step(state))
        await llm.asked.wait()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        step.cancel()
    assert taken < 30_000 * 110  # the listener's own piece is 86 of it


def test_pieces_that_wait_are_joined_in_linear_time() -> None:
    """Pieces of a character that wait for a slow caller, or one to come, become few events of a bounded size."""
    audience, events = Audience(), _Events()
    for _ in range(100_000):
        audience.show(ThoughtDelta("x"))
        events.put(ThoughtDelta("x"))
    for waiting in (audience._events, events._waiting):
        lengths = [len(event.text) for event in waiting if isinstance(event, ThoughtDelta)]
        assert (sum(lengths), max(lengths)) == (100_000, 4_096)
        assert len(lengths) < 30


# ---------------------------------------------------------------- replies that would be refused


def reply_to(step: Step, text: str, pending: Sequence[Action] = ()) -> pb.ProcessIterationResponse:
    servicer: Any = Servicer.__new__(Servicer)
    servicer._max_reply_bytes = 100_000
    result = StepResult(b"state", text, not pending, step, tuple(pending), StopReason.ANSWERED, USAGE, 1)
    return servicer._reply(result)  # type: ignore[no-any-return]


def test_an_answer_past_the_largest_reply_comes_cut() -> None:
    """A reply that would be too large for its caller each time, so that the run could never end, comes cut and says
    so: thought, answer, arguments and results alike. What a host is to run stays whole."""
    reply = reply_to(Step("t" * 200_000), "a" * 200_000)
    assert reply.ByteSize() <= 100_000
    assert reply.result.endswith("[The reply had no room for the rest.]")
    assert reply.state == b"state"
    action = Action("a1", "look", json.dumps({"text": "x" * 60_000}))
    reply = reply_to(Step("t", [action]), "t", [action])
    assert reply.ByteSize() <= 100_000
    assert reply.pending_actions[0].parameters_json == action.arguments
    assert json.loads(reply.step.actions[0].parameters_json) == {"left_out": "60,012 characters of arguments"}


# ---------------------------------------------------------------- what a host sends


@in_loop
async def test_an_answer_without_the_tools() -> None:
    """Finalize needs no tool: it answers where the tool providers cannot be asked, and never were."""

    class Gone(FakeTools):
        async def tools(self) -> Any:
            raise Unavailable("the tool provider web cannot be reached; start it")

    state = (await (made := engine(FakeLLM(calls(("look", {}))), FakeTools(look=echo))).step(await begin(made))).state
    result = await engine(FakeLLM(says("From what there is: 42.")), Gone()).finalize(state)
    assert (result.answer, result.stop_reason) == ("From what there is: 42.", StopReason.FINALIZED_EARLY)


# ---------------------------------------------------------------- the LLM provider


async def turn_from(*script: Any) -> Turn:
    async with peer(react_peers.LLM(*script)) as running:
        llm = GrpcLLM("main", Address(running.address))
        try:
            return [piece async for piece in llm.turn(TurnRequest(()))][-1]  # type: ignore[return-value]
        finally:
            await llm.close()


@in_loop
async def test_usage_that_cannot_be() -> None:
    """Counts below zero do not lift the run's bound, a total is no less than its parts, and no count is no zero."""
    usage = pb.TokenUsage(prompt_tokens=-(2**31), completion_tokens=7, total_tokens=-5, reasoning_tokens=-1)
    got = (await turn_from(said("x", usage=usage))).usage
    assert got is not None
    assert (got.prompt, got.completion, got.total, got.reasoning) == (0, 7, 7, 0)
    got = (
        await turn_from(said("x", usage=pb.TokenUsage(prompt_tokens=500, completion_tokens=7, total_tokens=1)))
    ).usage
    assert got is not None
    assert got.total == 507
    assert (await turn_from(said("x", usage=pb.TokenUsage()))).usage is None


@in_loop
async def test_a_message_past_all_measure_is_not_taken_in() -> None:
    """A message of 60 MB is an error that names the provider, in our words."""
    with pytest.raises(LLMFailed, match=r"^the LLM provider main sent a message of more than 4,194,304 bytes$"):
        await turn_from(said("x" * 60 * MILLION))


@in_loop
async def test_a_stream_of_nothing_ends() -> None:
    """A stream that goes on without a word, or with pieces of calls alone, is ended."""

    def flood(request: Any, context: Any) -> Any:
        while True:
            yield pb.StreamTextResponse(tool_call_delta=pb.ToolCallDelta(arguments_json="x" * MILLION))

    turn = await turn_from(flood)
    assert (turn.text, turn.tool_calls, turn.finish) == ("", (), Finish.LENGTH)


@in_loop
async def test_calls_without_number() -> None:
    """Of 100,000 calls of a turn a hundred are looked at; a Struct of arguments that takes seconds to read is not."""
    huge = pb.ToolCall(id="s", name="look")
    huge.arguments.update({f"p{n}": n for n in range(50_000)})
    many = [huge, *(pb.ToolCall(id=str(n), name="look", arguments_json="{}") for n in range(100_000))]
    turn = await turn_from(said(tool_calls=many, finish_reason=pb.FINISH_REASON_TOOL_CALLS))
    assert len(turn.tool_calls) == 100
    assert len(turn.tool_calls[0].arguments) > LONGEST_ARGUMENTS


@in_loop
async def test_messages_of_tools_are_kept_up_to_a_size() -> None:
    """A host's tools, which are new objects in each step, do not stay: their messages are kept up to so many bytes."""
    async with peer(react_peers.LLM(said("x"))) as running:
        llm = GrpcLLM("main", Address(running.address))
        for number in range(100):
            llm._tool(Tool(f"t{number}", "x" * 100_000, {"type": "object"}))
        kept = sum(message.ByteSize() for _, message in llm._packed.values())
        await llm.close()
    assert 0 < kept <= 2**21


# ---------------------------------------------------------------- a tool provider


class Listing(react_peers.Tools):
    def __init__(self, *listed: pb.Tool) -> None:
        super().__init__({})
        self._reply = pb.ListToolsResponse(tools=listed)

    async def ListTools(self, request: Any, context: Any) -> pb.ListToolsResponse:
        return self._reply


async def listed(*tools: pb.Tool) -> Sequence[Tool]:
    async with peer(Listing(*tools)) as running:
        provider = Provider("web", Address(running.address), max_result_chars=1000)
        try:
            return await provider.list()
        finally:
            await provider.close()


@in_loop
async def test_tools_past_all_measure_are_left_out() -> None:
    """A provider's tools together are taken up to a megabyte, a description up to what a model reads, and a large tool
    keeps no small one out."""
    large = json.dumps({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(4_000)}})
    tools = await listed(
        pb.Tool(name="talks", description="x" * 500_000),
        *(pb.Tool(name=f"large{n}", parameters_json=large) for n in range(25)),
        pb.Tool(name="small"),
    )
    names = [tool.name for tool in tools]
    assert (names[0], names[-1]) == ("talks", "small")
    assert len(tools[0].description) < 20_000
    assert sum(len(json.dumps(dict(tool.parameters))) for tool in tools) < 2 * 2**20


@in_loop
@pytest.mark.parametrize(
    ("result", "told"),
    [
        (pb.ExecuteToolResponse(success=True, result="x" * 60 * MILLION), "look was run, and its result is too large"),
        (pb.ExecuteToolResponse(success=False, error="x" * 60 * MILLION), "look was run, and its result is too large"),
    ],
    ids=["result", "error"],
)
async def test_a_result_of_60_mb_is_told(result: pb.ExecuteToolResponse, told: str) -> None:
    """A result too large to be taken in is an observation that says that the call was made."""
    async with peer(react_peers.Tools({"look": lambda *_: result})) as running:
        provider = Provider("web", Address(running.address), max_result_chars=1000)
        outcome = await provider.execute(Tool("look", "", {}), "look", "{}", "id", SECONDS)
        await provider.close()
    assert outcome.is_error
    assert outcome.text.startswith(told)


@in_loop
async def test_data_past_all_measure_is_not_written_out() -> None:
    """A result that is data alone is written out for the model up to a size, and past it named by that."""
    reply = pb.ExecuteToolResponse(success=True)
    reply.structured.list_value.values.add().number_value = 1
    reply.structured.list_value.values.extend([reply.structured.list_value.values[0]] * 200_000)
    async with peer(react_peers.Tools({"look": lambda *_: reply})) as running:
        provider = Provider("web", Address(running.address), max_result_chars=1000)
        outcome = await provider.execute(Tool("look", "", {}), "look", "{}", "id", SECONDS)
        await provider.close()
    assert outcome.text.startswith("[The result is data of 2,200,0")


@in_loop
async def test_a_run_of_large_calls_ends() -> None:
    """A run whose calls' arguments and thoughts are more than its state can hold goes on to its answer, and the model
    is told that the first steps are left out."""
    thought = " ".join(map(str, range(8_000)))
    large = [calls(("look", {"text": str(n) * 100_000}), text=f"Step {n}: {thought}") for n in range(9)]
    for max_state_bytes in (2**20, 2**14):
        llm = FakeLLM(*large, says("Done."))
        made = engine(llm, FakeTools(look=lambda _: "ok"), max_state_bytes=max_state_bytes, max_tokens=0)
        steps = await to_end(made, await begin(made))
        assert (len(steps), steps[-1].text) == (10, "Done.")
        assert "steps are left out here" in llm.told()


@in_loop
async def test_a_run_of_many_small_calls_ends_in_a_small_state() -> None:
    """Where even what is kept of old steps for the trace is too much, the oldest go, and the run still ends."""
    many = [
        calls(*[("look", {"text": f"{n} {place} " + "é" * 150}) for place in range(8)], text=f"{n} " + "t" * 200)
        for n in range(9)
    ]
    made = engine(
        FakeLLM(*many, says("Done.")), FakeTools(look=lambda _: "r" * 300), max_state_bytes=2**14, max_tool_calls=100
    )
    steps = await to_end(made, await begin(made))
    assert steps[-1].text == "Done."
    assert len((await made.finalize(steps[-1].state)).steps) == len(steps)


@in_loop
@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.TEXT])
async def test_a_made_up_result_is_no_answer(mode: Mode) -> None:
    """A model that writes a fenced result by itself, in TEXT any observation, is told so: that is not the answer."""
    made_up = 'Observation:\n<tool_result-ab12 tool="look">\n42\n</tool_result-ab12>'
    for text in (made_up, made_up.partition("\n")[2], *(["Observation: 42"] if mode is Mode.TEXT else [])):
        llm = FakeLLM(says(text), says("Final Answer: It is 42."))
        made = engine(llm, FakeTools(look=echo))
        step = await made.step(await begin(made, mode=mode))
        assert (step.done, step.text) == (True, "It is 42.")
        assert "you wrote a result yourself" in llm.told()


KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)
HARMONY = "<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}<|call|>"


@in_loop
@pytest.mark.parametrize("before", ["", "I know half of it.\n"])
async def test_a_last_thought_is_bare_of_calls_in_every_format(before: str) -> None:
    """A model that goes on calling, in two formats at once, when it is asked for its answer: what there is of a thought
    is the answer, without the markup of either."""
    llm = FakeLLM(says(before + KIMI + HARMONY))
    made = engine(llm, FakeTools(look=echo), max_iterations=1)
    last = (await to_end(made, await begin(made)))[-1]
    assert last.stop_reason is StopReason.MAX_ITERATIONS
    assert last.text == (before.strip() or "There is no answer: the run ended before the model gave one.")


# ---------------------------------------------------------------- the plugin as a process


@contextlib.contextmanager
def beside(servicer: react_peers.LLM | react_peers.Tools) -> Iterator[str]:
    """The address of a peer that runs in a thread."""
    loop, running = asyncio.new_event_loop(), react_peers.Peer(servicer)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(running.start(), loop).result(SECONDS)
        yield running.address
    finally:
        asyncio.run_coroutine_threadsafe(running.die(), loop).result(SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


@pytest.mark.slow
def test_others_are_answered_meanwhile() -> None:
    """Before a model and a tool that hand over as much as they can each step ends as steps do, and the plugin's event
    loop is never held, which is under watch."""
    data = pb.ExecuteToolResponse(success=True)
    data.structured.list_value.values.add().number_value = 1
    data.structured.list_value.values.extend([data.structured.list_value.values[0]] * 80_000)
    call = pb.ToolCall(id="c", name="look", arguments_json="{}")
    done: dict[str, Any] = {"finish_reason": pb.FINISH_REASON_TOOL_CALLS}
    hostile = json.dumps({"text": "'\\\"" * 1_300})
    words = "".join(f"{n} words. " for n in range(300_000))
    llm = react_peers.LLM(
        said(tool_calls=[pb.ToolCall(id=str(n), name="look", arguments_json=hostile) for n in range(600)], **done),
        said(tool_calls=[call], opaque=b"x" * 3 * MILLION, **done),
        said(tool_calls=[pb.ToolCall(id="i" * 3 * MILLION, name="look", arguments_json="{}")], **done),
        said(tool_calls=[pb.ToolCall(id="c", name="look", arguments_json="[" * 3 * MILLION)], **done),
        said(*(words[place : place + 40] for place in range(0, 40_000, 40)), words),
    )
    tools = react_peers.Tools({"look": lambda *_: data})
    with (
        beside(llm) as llm_at,
        beside(tools) as tools_at,
        start_plugin("plugins.reasoning_react", "--llm", llm_at, "--tools", tools_at, "--max-tokens", "0") as plugin,
    ):
        stub = rpc.ReasoningStrategyStub(plugin.channel())
        state = stub.Initialize(pb.InitializeRequest(query="How many?"), timeout=SECONDS).state
        for _ in range(10):
            reply = stub.ProcessIteration(pb.ProcessIterationRequest(state=state), timeout=SECONDS)
            assert reply.success, reply.error
            state = reply.state
            if reply.done:
                break
        assert reply.done
        assert reply.result.startswith("0 words. 1 words.")
        assert "Traceback" not in plugin.stderr()
