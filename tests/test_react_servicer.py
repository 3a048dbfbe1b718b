"""The reasoning strategy through a socket, before an engine of a test's own: what goes in, what comes out, errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import hector_plugins_pb2 as pb
import hector_plugins_pb2_grpc as rpc
import pytest

from plugins.reasoning_react.config import Config
from plugins.reasoning_react.engine.chat import Message, Tool, ToolCall, Usage
from plugins.reasoning_react.engine.engine import (
    ActionAsked,
    AnswerDelta,
    Engine,
    NewRun,
    Observed,
    Result,
    StepResult,
    ThoughtDelta,
)
from plugins.reasoning_react.engine.ports import LLMFailed
from plugins.reasoning_react.engine.run import Action, Budget, Mode, Observation, Step, StopReason
from plugins.reasoning_react.servicer import TOO_LARGE_HINTS, Servicer, most_items
from shared.errors import Code, DeadlineExceeded, InvalidArgument, LimitReached, PluginError, StartError, Unavailable
from shared.units import Secret
from tests.llm_tools import refused
from tests.servers import SECONDS, Served, details, health, run_plugin, served

SERVICE = "hector.plugins.v1.ReasoningStrategy"
ACTION = Action("a-1-0", "price", '{"item":"lamp"}')
OBSERVATION = Observation("a-1-0", "19.5 dollars")
STEP = StepResult(
    state=b"after",
    text="Let me look.",
    done=False,
    step=Step("Let me look.", [ACTION], [OBSERVATION], note="Go on."),
    pending=(),
    stop_reason=None,
    usage=Usage(5, 3, 8, 2, 1),
    iteration=1,
)
RESULT = Result("19.5 dollars", StopReason.ANSWERED, Usage(7, 5, 12), (STEP.step, Step("I know.")), left_out=1)


@dataclass
class Fake:
    """Stands in for the engine: `answers` what a test says, and keeps what it was given."""

    answer: Any = None
    events: Sequence[Any] = ()

    def __post_init__(self) -> None:
        self.given: list[Any] = []
        self.begun, self.cancelled, self.go = threading.Event(), threading.Event(), threading.Event()
        self.go.set()

    async def initialize(self, new: NewRun) -> bytes:
        return await self._take(new)  # type: ignore[no-any-return]

    async def step(
        self, state: bytes, input: str, observations: Sequence[Observation], seconds: float | None, show: Any = None
    ) -> StepResult:
        for event in self.events if show else ():
            show(event)
        return await self._take((state, input, list(observations), seconds))  # type: ignore[no-any-return]

    async def finalize(self, state: bytes, seconds: float | None) -> Result:
        return await self._take((state, seconds))  # type: ignore[no-any-return]

    async def _take(self, given: Any) -> Any:
        self.given.append(given)
        self.begun.set()
        try:
            while not self.go.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@dataclass
class Strategy:
    served: Served
    engine: Fake

    def __post_init__(self) -> None:
        self.stub = rpc.ReasoningStrategyStub(self.served.channel())

    def answers(self, answer: Any, *events: Any) -> None:
        self.engine.answer, self.engine.events = answer, events
        self.engine.given.clear()

    def initialize(self, **fields: Any) -> pb.InitializeResponse:
        return self.stub.Initialize(pb.InitializeRequest(**fields), timeout=SECONDS)

    def step(self, **fields: Any) -> pb.ProcessIterationResponse:
        return self.stub.ProcessIteration(pb.ProcessIterationRequest(**fields), timeout=SECONDS)

    def stream(self, **fields: Any) -> list[pb.IterationEvent]:
        return list(self.stub.StreamIteration(pb.ProcessIterationRequest(**fields), timeout=SECONDS))

    def finalize(self, **fields: Any) -> pb.FinalizeResponse:
        return self.stub.Finalize(pb.FinalizeRequest(**fields), timeout=SECONDS)


@contextlib.contextmanager
def strategy(**settings: Any) -> Iterator[Strategy]:
    config = Config(port=0, **settings)
    engine: Any = Fake()
    servicer = Servicer(engine, timeout=config.timeout, max_reply_bytes=config.max_reply_bytes)
    with served(
        config,
        SERVICE,
        lambda server: rpc.add_ReasoningStrategyServicer_to_server(servicer, server),
        too_large_hints=TOO_LARGE_HINTS,
        most_items=most_items(config.max_state_bytes),
    ) as running:
        yield Strategy(running, engine)


@pytest.fixture(scope="module")
def shared_strategy() -> Iterator[Strategy]:
    with strategy() as running:
        yield running


@pytest.fixture
def react(shared_strategy: Strategy) -> Strategy:
    shared_strategy.answers(None)
    for event in (shared_strategy.engine.begun, shared_strategy.engine.cancelled):
        event.clear()
    shared_strategy.engine.go.set()
    return shared_strategy


def test_the_fake_is_an_engine() -> None:
    """What stands in for the engine here has its methods."""
    assert all(callable(getattr(Engine, name)) for name in ("initialize", "step", "finalize", "close"))


# ---------------------------------------------------------------- Initialize


def test_initialize(react: Strategy) -> None:
    """Each field of Initialize arrives: Structs and JSON alike, opaque bytes as they are, options that are unset as
    such."""
    react.answers(b"state")
    struct_call = pb.ToolCall(id="c2", name="price")
    struct_call.arguments.update({"n": 3})
    flat = pb.Tool(name="flat")
    flat.parameters.update({"city": "string"})
    reply = react.initialize(
        max_iterations=7,
        context="Background.",
        query="What is a lamp?",
        history=[
            pb.ChatMessage(role="user", content="Hi", parts=[pb.ContentPart(text="there")]),
            pb.ChatMessage(
                role="assistant",
                reasoning="Hm.",
                opaque=b"\x00t",
                tool_calls=[pb.ToolCall(id="c1", name="price", arguments_json="{bad", opaque=b"\xff"), struct_call],
            ),
            pb.ChatMessage(role="tool", content="5", tool_call_id="c1", name="price"),
        ],
        tools=[
            pb.Tool(name="price", description="A price.", parameters_json='{"type":"object"}', read_only=True),
            flat,
        ],
        model="big",
        mode=pb.REASONING_MODE_TEXT,
        host_executes=True,
        budget=pb.Budget(max_tokens=1_000, max_tool_calls=5, max_seconds=2.5),
        sampling_temperature=0.0,
        temperature=0.9,
        llm="fast",
    )
    assert (reply.success, reply.state) == (True, b"state")
    (new,) = react.engine.given
    assert new == NewRun(
        query="What is a lamp?",
        context="Background.",
        history=(
            Message("user", "Hi\nthere"),
            Message(
                "assistant",
                "",
                (ToolCall("c1", "price", "{bad", b"\xff"), ToolCall("c2", "price", '{"n":3}')),
                reasoning="Hm.",
                opaque=b"\x00t",
            ),
            Message("tool", "5", tool_call_id="c1", name="price"),
        ),
        tools=(
            Tool("price", "A price.", {"type": "object"}, read_only=True),
            Tool("flat", "", {"type": "object", "properties": {"city": {"type": "string"}}}),
        ),
        llm="fast",
        model="big",
        temperature=0.0,
        mode=Mode.TEXT,
        host_executes=True,
        max_iterations=7,
        budget=Budget(1_000, 5, 2.5),
    )


def test_what_is_not_set_is_the_settings(react: Strategy) -> None:
    """A field of the guide that is zero is not set."""
    react.answers(b"state")
    react.initialize(query="?", temperature=0.0)
    react.initialize(query="?", temperature=0.5)
    first, second = react.engine.given
    assert first == NewRun(query="?")
    assert second.temperature == 0.5


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mode": 9}, "mode"),
        (
            {"history": [pb.ChatMessage(role="user", parts=[pb.ContentPart(url="http://a.test/x.png")])]},
            "history[0].parts[0]",
        ),
        ({"tools": [pb.Tool(name="a", parameters_json="{")]}, "tools[0].parameters_json"),
        ({"tools": [pb.Tool(name="a", parameters_json='{"a":"' + "x" * 2**17 + '"}')]}, "tools[0].parameters"),
    ],
)
def test_what_initialize_refuses(react: Strategy, fields: dict[str, Any], field: str) -> None:
    """What cannot be kept or read is refused by its field, and the engine is not asked."""
    reply = react.initialize(query="?", **fields)
    told = details(reply.status)
    assert (reply.success, told.status.code, told.violations[0][0]) == (False, Code.INVALID_ARGUMENT, field)
    assert reply.error == told.status.message
    assert react.engine.given == []


@pytest.mark.parametrize(
    "request_",
    [
        pb.InitializeRequest(history=[pb.ChatMessage(role="user")] * 1_001),
        pb.InitializeRequest(tools=[pb.Tool(name="a")] * 129),
        pb.InitializeRequest(query="x" * (2**20 + 1)),
        pb.ProcessIterationRequest(observations=[pb.Observation()] * 1_001),
        pb.ProcessIterationRequest(input="x" * (2**20 + 1)),
        pb.ProcessIterationRequest(state=b"x" * (2**20 + 1)),
    ],
    ids=lambda request: request.ListFields()[0][0].name,
)
def test_what_is_too_much(react: Strategy, request_: Any) -> None:
    """More than there can be sense in is refused by its field before it is converted."""
    replies: list[Any]
    if isinstance(request_, pb.InitializeRequest):
        replies = [react.stub.Initialize(request_, timeout=SECONDS)]
    else:
        replies = [react.stub.ProcessIteration(request_, timeout=SECONDS)]
        with contextlib.suppress(grpc.RpcError):
            replies += [event.response for event in react.stub.StreamIteration(request_, timeout=SECONDS)]
    for reply in replies:
        told = details(reply.status)
        assert (reply.success, told.status.code) == (False, Code.INVALID_ARGUMENT)
        assert (told.reason[:9], told.violations[0][0]) == ("TOO_MANY_", request_.ListFields()[0][0].name)
    assert react.engine.given == []


# ---------------------------------------------------------------- a step


def test_a_step(react: Strategy) -> None:
    """A step's reply has all that the engine says, and the engine all that the request does."""
    react.answers(STEP)
    reply = react.step(
        state=b"before",
        input="in",
        observations=[pb.Observation(action_id="a", content="c", is_error=True, denied=True)],
    )
    ((state, text, observations, seconds),) = react.engine.given
    assert (state, text, observations) == (b"before", "in", [Observation("a", "c", True, True)])
    assert 0 < seconds < SECONDS
    action = pb.Action(id="a-1-0", tool="price", parameters_json='{"item":"lamp"}')
    assert reply == pb.ProcessIterationResponse(
        success=True,
        result="Let me look.",
        state=b"after",
        step=pb.ReasoningStep(
            thought="Let me look.",
            actions=[action],
            observations=[pb.Observation(action_id="a-1-0", content="19.5 dollars")],
            note="Go on.",
        ),
        usage=pb.TokenUsage(
            prompt_tokens=5,
            completion_tokens=3,
            total_tokens=8,
            reasoning_tokens=2,
            cached_tokens=1,
            source=pb.USAGE_SOURCE_PROVIDER,
        ),
        iteration=1,
    )


def test_a_step_of_the_host(react: Strategy) -> None:
    """Pending actions come back; usage that is unknown is absent."""
    react.answers(replace(STEP, pending=(ACTION,), usage=None, step=Step("", [ACTION])))
    reply = react.step(state=b"before")
    assert [one.id for one in reply.pending_actions] == ["a-1-0"]
    assert not reply.HasField("usage")
    assert not reply.step.observations


@pytest.mark.parametrize("reason", list(StopReason))
def test_every_stop_reason(react: Strategy, reason: StopReason) -> None:
    """Each reason of the engine is the contract's of that name, in a step's reply and in Finalize's."""
    react.answers(replace(STEP, done=True, stop_reason=reason))
    assert pb.StopReason.Name(react.step(state=b"s").stop_reason) == f"STOP_REASON_{reason.value}"
    react.answers(replace(RESULT, stop_reason=reason))
    assert pb.StopReason.Name(react.finalize(state=b"s").stop_reason) == f"STOP_REASON_{reason.value}"


def test_the_contract_has_no_other_stop_reason() -> None:
    """The engine knows every reason of the contract."""
    assert {f"STOP_REASON_{reason.value}" for reason in StopReason} == set(pb.StopReason.keys()) - {
        "STOP_REASON_UNSPECIFIED"
    }


def test_finalize(react: Strategy) -> None:
    """The answer, why the run ended, what it took, and every step: also which of them the model was not shown any
    more."""
    react.answers(RESULT)
    reply = react.finalize(state=b"last")
    assert react.engine.given[0][0] == b"last"
    assert (reply.success, reply.result, reply.usage.total_tokens) == (True, "19.5 dollars", 12)
    assert [step.thought for step in reply.trace] == ["Let me look.", "I know."]
    assert reply.trace[0].observations[0].content == "19.5 dollars"
    assert [(step.note, step.left_out) for step in reply.trace] == [("Go on.", True), ("", False)]


def test_numbers_that_an_int32_does_not_hold(react: Strategy) -> None:
    """Usage past what the message holds is the most that it holds, not a bug."""
    react.answers(replace(STEP, usage=Usage(2**40, 1, 2**40)))
    assert react.step(state=b"s").usage.total_tokens == 2**31 - 1


def test_text_that_utf8_does_not_have(react: Strategy) -> None:
    """Half of a surrogate pair, as JSON can spell it, costs that character and not the reply."""
    step = Step("a\ud800", [Action("i", "t\udfff", '{"a":"\ud800"}')], [Observation("i", "o\ud800")])
    react.answers(replace(STEP, text="x\ud800", step=step), ThoughtDelta("t\ud800"), AnswerDelta("a\udfff"))
    assert react.step(state=b"s").result == "x?"
    assert [event.thought_delta + event.answer_delta for event in react.stream(state=b"s")][:2] == ["t?", "a?"]


def test_results_that_a_reply_has_no_room_for() -> None:
    """Where a step's results would make the reply too large, they are shortened: what was done is not lost."""
    many = [Observation(f"a-1-{n}", "é" * 50_000) for n in range(60)]
    with strategy() as react:
        react.answers(replace(STEP, step=Step("", [replace(ACTION, id=one.action_id) for one in many], many)))
        reply = react.step(state=b"s")
        assert reply.success
        assert reply.ByteSize() <= 4 * 2**20
        assert [one.action_id for one in reply.step.observations] == [one.action_id for one in many]
        assert all(one.content.endswith("é\n[The reply had no room for the rest.]") for one in reply.step.observations)
        assert len(reply.step.observations[0].content) > 10_000
        assert react.stream(state=b"s")[-1].response == reply


# ---------------------------------------------------------------- as it happens


def test_a_step_as_it_happens(react: Strategy) -> None:
    """What happens comes in its order, pieces that came together as one, and last what ProcessIteration would have
    said."""
    react.answers(
        STEP,
        ThoughtDelta("Let me "),
        ThoughtDelta("look."),
        ActionAsked(ACTION),
        Observed(OBSERVATION),
        AnswerDelta("It is "),
        AnswerDelta("19.5."),
    )
    events = react.stream(state=b"before")
    assert [event.WhichOneof("event") for event in events] == [
        *("thought_delta", "action", "observation", "answer_delta", "response"),
    ]
    assert (events[0].thought_delta, events[3].answer_delta) == ("Let me look.", "It is 19.5.")
    assert events[1].action.parameters_json == '{"item":"lamp"}'
    assert events[2].observation.content == "19.5 dollars"
    assert events[-1].response == react.step(state=b"before")


def test_events_come_before_the_step_ends(react: Strategy) -> None:
    """A thought is there while the step goes on."""
    react.answers(STEP, ThoughtDelta("Hm"))
    react.engine.go.clear()
    stream = react.stub.StreamIteration(pb.ProcessIterationRequest(state=b"s"), timeout=SECONDS)
    assert next(stream).thought_delta == "Hm"
    react.engine.go.set()
    assert next(stream).response.success


@pytest.mark.parametrize("streams", [False, True])
def test_a_cancel_ends_the_step(react: Strategy, streams: bool) -> None:
    """A caller that goes ends the step."""
    react.answers(STEP)
    react.engine.go.clear()
    call: Any
    if streams:
        call = react.stub.StreamIteration(pb.ProcessIterationRequest(state=b"s"), timeout=SECONDS)
    else:
        call = react.stub.ProcessIteration.future(pb.ProcessIterationRequest(state=b"s"), timeout=SECONDS)
    assert react.engine.begun.wait(SECONDS)
    call.cancel()
    assert react.engine.cancelled.wait(SECONDS)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("the state is none", reason="STATE_TAMPERED", field="state"),
        LimitReached("the state is too large", reason="STATE_TOO_LARGE"),
        LLMFailed("the LLM provider main cannot be reached", reason="LLM_UNAVAILABLE", retry_after=1),
        LLMFailed("no key", code=Code.UNAUTHENTICATED, reason="UPSTREAM_UNAUTHENTICATED"),
    ],
)
def test_what_the_caller_can_act_on(react: Strategy, error: PluginError) -> None:
    """success=false with one sentence, code, reason and delay, in all four calls; a stream has it as its last event."""
    react.answers(error)
    replies: list[Any] = [
        react.initialize(query="?"),
        react.step(state=b"s"),
        react.stream(state=b"s")[-1].response,
        react.finalize(state=b"s"),
    ]
    for reply in replies:
        told = details(reply.status)
        assert (reply.success, reply.error) == (False, error.message)
        assert (told.status.code, told.reason, told.retry_after) == (error.code, error.reason, error.retry_after)


@pytest.mark.parametrize("error", [Unavailable("no tools", retry_after=1), DeadlineExceeded("late")])
@pytest.mark.parametrize("method", ["initialize", "step", "stream", "finalize"])
def test_what_nobody_asked_for(react: Strategy, error: PluginError, method: str) -> None:
    """Other errors are a gRPC status with the same details."""
    react.answers(error)
    arguments: dict[str, Any] = {"query": "?"} if method == "initialize" else {"state": b"s"}
    caught = refused(getattr(react, method), **arguments)
    assert (details(caught).reason, caught.code().value[0]) == (error.reason, error.code)


def test_a_bug_is_internal(react: Strategy) -> None:
    """A bug shows a request id, never what it was."""
    react.answers(RuntimeError("a secret path"))
    for call in (react.step, react.stream):
        caught = refused(call, state=b"s")
        assert caught.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught)


def test_health_and_token() -> None:
    """Health is answered for all three names, without the token that calls need."""
    with strategy(token=Secret("open-sesame")) as react:
        react.answers(STEP)
        channel = react.served.channel()
        assert [health(channel, name) for name in ("", "plugin", SERVICE)] == [1, 1, 1]
        assert refused(react.step, state=b"s").code() is grpc.StatusCode.UNAUTHENTICATED
        stub = rpc.ReasoningStrategyStub(react.served.channel(token="open-sesame"))
        assert stub.ProcessIteration(pb.ProcessIterationRequest(state=b"s"), timeout=SECONDS).success


def test_the_time_that_a_step_has() -> None:
    """A step has a little less than its caller waits, or than the server allows, whichever is less."""
    with strategy(timeout="30s") as react:
        react.answers(STEP)
        react.stub.ProcessIteration(pb.ProcessIterationRequest(state=b"s"), timeout=15.0)
        react.stub.ProcessIteration(pb.ProcessIterationRequest(state=b"s"))
    short, long = (given[3] for given in react.engine.given)
    # A twentieth less, a second at most; the rest is for a machine that stands still meanwhile.
    assert 8 < short < 14.6  # gRPC rounds the deadline up a little
    assert 22 < long <= 29


# ---------------------------------------------------------------- settings


def configured(**settings: Any) -> Config:
    """As written in a file."""
    return Config(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"llm": ""}, "llm: has no address"),
        ({"state_key": "short"}, "state_key: a key needs at least 32 characters"),
        ({"older_state_keys": f"{'x' * 32},short"}, "older_state_keys: a key needs at least 32"),
        ({"max_state_bytes": "3MiB"}, "max_state_bytes: must be at most half of max_reply_bytes"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], words: str) -> None:
    """Settings that would fail later are refused at the start, by name and with the remedy; a key is not shown."""
    with pytest.raises(StartError) as raised:
        configured(**settings)
    assert words in str(raised.value)
    assert "short" not in str(raised.value)


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("LLM", '{"address": "a.test:1", "tls_ca": "/nowhere.pem"}', "address a.test:1: cannot read /nowhere.pem"),
        ("TOOLS", '{"address": "a.test:1", "tls_cert": "/nowhere.pem"}', "tls_cert and tls_key go together"),
        ("PROMPTS", "/nowhere", "cannot read the folder of `prompts`"),
        ("STATE_KEY", "short-s3cr3t", "setting state_key: a key needs at least 32 characters"),
    ],
)
def test_a_start_that_cannot_be(setting: str, value: str, words: str, check: list[str]) -> None:
    """What cannot be used is one line on stderr and status 2, at a start and with --check, and no secret."""
    done = run_plugin("plugins.reasoning_react", "--port", "0", *check, env={f"REASONING_REACT__{setting}": value})
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert "Traceback" not in done.stderr
    assert "s3cr3t" not in done.stderr + done.stdout


def test_addresses_in_every_form() -> None:
    """One address, several, named ones, as text, JSON or YAML's values; a token is masked."""
    assert dict(configured().tools) == {"server_1": {"address": "127.0.0.1:8084"}}
    assert list(configured(tools="a.test:1, unix:/run/b").tools) == ["server_1", "server_2"]
    assert dict(configured(tools="").tools) == {}
    named = {"web": "a.test:1", "files": {"address": "[::1]:2", "token": "open-sesame"}}
    for written in (named, json.dumps(named)):
        config = configured(tools=written)
        assert config.tools["files"]["token"] == "open-sesame"
        assert "sesame" not in repr(config)
        assert "[::1]:2" in repr(config)
    assert configured(llm={"address": "a.test:1", "token": "x"}).llm["server_1"]["token"] == "x"
