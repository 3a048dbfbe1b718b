"""Agents whose plugins lie: strategies without measure, with wrong ids, without an end; stores that make up scores."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hector_plugins_pb2 as pb
import pytest

from host.agents import strategy
from host.agents.events import ActionAsked, Done, Event, Observed
from host.agents.failure import AgentFailed
from host.agents.retrieval import Retrieval
from host.clients import Hit
from host.config import ToolBlock
from host.gate import PluginAwayError
from shared.errors import StartError
from tests.agent_fakes import FakeLLM, FakeTools, GuideStrategy, Turn, world

Step = Callable[[Any, int], Iterator[pb.IterationEvent]]


class Liar(GuideStrategy):
    """Each step is what `step` gives for the request and its number, from 1."""

    def __init__(self, step: Step, result: str = "the end") -> None:
        super().__init__()
        self.steps: list[Any] = []
        self._step, self._result = step, result

    def StreamIteration(self, request: Any, context: Any) -> Iterator[Any]:
        self.steps.append(request)
        for event in self._step(request, len(self.steps)):
            if not context.is_active():
                return
            yield event

    def Finalize(self, request: Any, context: Any) -> Any:
        return pb.FinalizeResponse(success=True, result=self._result, usage=pb.TokenUsage(total_tokens=-3))


def echo(action_id: str, text: str) -> pb.Action:
    return pb.Action(id=action_id, tool="echo", parameters_json=json.dumps({"text": text}))


def response(*pending: pb.Action, done: bool = False) -> pb.IterationEvent:
    reply = pb.ProcessIterationResponse(success=True, state=b"s", pending_actions=pending, done=done)
    return pb.IterationEvent(response=reply)


def run(folder: Path, liar: Liar, tools: FakeTools | None = None, **agent: Any) -> list[Event]:
    with world(folder, llm=FakeLLM(lambda request, nth: "?"), tools=tools, strategy=liar) as here:
        return here.run(here.agent(reasoning=True, **agent), "?")


def test_calls_past_the_limit_are_refused(tmp_path: Path) -> None:
    """However many calls a strategy asks for, the host makes max_tool_calls of them in a run and refuses the others."""

    def step(request: Any, number: int) -> Iterator[pb.IterationEvent]:
        yield response(*(echo(f"{number}.{each}", "x") for each in range(4)), done=number == 3)

    tools, liar = FakeTools(), Liar(step)
    events = run(tmp_path, liar, tools, max_tool_calls=5)
    assert len(tools.requests) == 5
    assert isinstance(events[-1], Done)
    assert events[-1].tool_calls == 5
    told = [observation for request in liar.steps for observation in request.observations]
    refused = [each.content for each in told if each.is_error]
    assert refused == ["echo was not run: the run has made all the calls it may"] * 3  # of the last step nobody is told


@pytest.mark.parametrize("action_id", ["", "a"])
def test_two_actions_with_one_id(tmp_path: Path, action_id: str) -> None:
    """Where two actions have one id nobody could tell whose result is whose: neither is run, and the run fails."""
    tools = FakeTools()
    liar = Liar(lambda request, number: iter([response(echo(action_id, "one"), echo(action_id, "two"))]))
    with pytest.raises(AgentFailed, match="plugin strategy gave two actions of a step one id"):
        run(tmp_path, liar, tools)
    assert not tools.requests


def test_what_is_run_is_what_was_last_asked_for(tmp_path: Path) -> None:
    """An action that comes with other arguments than before, as in a step taken again, is shown and run as it is."""

    def step(request: Any, number: int) -> Iterator[pb.IterationEvent]:
        yield pb.IterationEvent(action=echo("a", "before"))
        yield pb.IterationEvent(action=echo("a", "before"))
        yield response(echo("a", "now")) if number == 1 else response(done=True)

    events = run(tmp_path, Liar(step))
    asked = [json.loads(event.arguments)["text"] for event in events if isinstance(event, ActionAsked)]
    assert asked[:2] == ["before", "now"]
    assert [event.content for event in events if isinstance(event, Observed)] == ["now"]


@pytest.mark.parametrize("what", ["thoughts", "actions", "nothing"])
def test_a_step_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A stream of events that never ends, large, many or empty, is ended by its size, long before its time."""
    monkeypatch.setattr(strategy, "_LARGEST_STEP", 2**19)

    def step(request: Any, number: int) -> Iterator[pb.IterationEvent]:
        count = 0
        while True:
            count += 1
            match what:
                case "thoughts":
                    yield pb.IterationEvent(thought_delta="x" * 1000)
                case "actions":
                    yield pb.IterationEvent(action=echo(str(count), "x"))
                case _:
                    yield pb.IterationEvent()

    with pytest.raises(AgentFailed, match="plugin strategy has no end of events in one step"):
        run(tmp_path, Liar(step))


def test_a_stream_that_stays_open(tmp_path: Path) -> None:
    """The response is a step's last event, whatever comes after it, or does not."""

    def step(request: Any, number: int) -> Iterator[pb.IterationEvent]:
        yield response(done=True)
        while True:
            yield response(echo("late", "x"))

    events = run(tmp_path, Liar(step))
    assert not [event for event in events if isinstance(event, ActionAsked)]
    assert isinstance(events[-1], Done)
    assert (events[-1].answer, events[-1].stop_reason) == ("the end", "ANSWERED")
    assert events[-1].usage
    assert events[-1].usage.total == 0


def test_time_bounds_a_strategy_that_is_never_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the time of the run is over it ends after the step under way, however many steps it could have."""
    monkeypatch.setattr(strategy, "_LAST_SECONDS", 100.0)  # so the minute beyond the run's own time is over at once
    liar = Liar(lambda request, number: iter([response()]))
    events = run(tmp_path, liar, max_seconds=0.1, max_iterations=500)
    assert isinstance(events[-1], Done)
    assert len(liar.steps) <= 1


@pytest.mark.parametrize("kind", ["plain", "strategy"])
def test_no_answer_is_no_success(tmp_path: Path, kind: str) -> None:
    """A run that ends with an empty answer says so, and does not count as answered."""
    liar = Liar(lambda request, number: iter([response(done=True)]), result=" \n")
    with world(tmp_path, llm=FakeLLM(lambda request, nth: ""), strategy=liar) as here:
        events = here.run(here.agent(reasoning=kind == "strategy"), "?")
    assert isinstance(events[-1], Done)
    assert events[-1].answer == "There is no answer: the model gave none."
    assert events[-1].stop_reason == "LLM_FAILED"
    assert not events[-1].is_answered


def test_a_description_of_the_files(tmp_path: Path) -> None:
    """The description in a block under `tools:` is what the model reads of the tool; without one, the plugin's own."""

    def script(request: Any, nth: int) -> Turn:
        return "Fine."

    llm = FakeLLM(script)
    with world(tmp_path, llm=llm) as here:
        plugin = here.plugin("tools", "tool_provider")
        only = [ToolBlock("add", plugin, "add", description="Adds whole numbers."), ToolBlock("again", plugin, "echo")]
        here.run(here.agent(only=only), "?")
    told = {tool.name: tool.description for tool in llm.requests[0].tools}
    assert told == {"add": "Adds whole numbers.", "again": "Says it again."}


class Documents:
    """An embedder and a collection in one: `search` gives hits, or raises."""

    name = "docs"

    def __init__(self, found: list[Hit] | StartError) -> None:
        self._found = found

    def query(self, text: str) -> list[float]:
        return [1.0]

    def search(self, vector: Any, limit: int) -> list[Hit]:
        if isinstance(self._found, StartError):
            raise self._found
        return self._found


@pytest.mark.parametrize(
    ("found", "content", "is_error"),
    [
        (PluginAwayError("plugin vectors was not back"), "search_documents failed: plugin vectors was not back", True),
        (StartError("it gave 2 vectors for 1 texts"), "search_documents failed: it gave 2 vectors for 1 texts", True),
        ([Hit("a", math.nan, {"text": "made up"})], 'No passage of the documents is near to "x".', False),
        (
            [Hit("a", math.inf, {"text": "made up"}), Hit("b", 0.5, {"text": "true"})],
            "[1] b, lines 0 to 0\ntrue",
            False,
        ),
    ],
    ids=["away", "another number of vectors", "no score", "an endless score"],
)
def test_documents_that_cannot_be_searched(found: Any, content: str, is_error: bool) -> None:
    """Whatever a store or an embedder does is a result for the model, and ends no run; a score is a number."""
    documents: Any = Documents(found)
    retrieval = Retrieval(documents, documents, 5, None)

    async def search() -> Any:
        (tool,) = await retrieval.list()
        return await retrieval.execute(tool, '{"query": "x"}', "1", 100)

    outcome = asyncio.run(search())
    assert (outcome.content, outcome.is_error) == (content, is_error)


class CutOff(FakeLLM):
    """Asks for two calls, the second of which was cut off at its length limit; then answers."""

    def StreamText(self, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append(request)
        if len(self.requests) > 1:
            yield pb.StreamTextResponse(text="Fine.")
            yield pb.StreamTextResponse(done=True)
            return
        calls = [pb.ToolCall(id=text, name="echo", arguments_json=f'{{"text": "{text}"}}') for text in ("whole", "cut")]
        yield pb.StreamTextResponse(done=True, tool_calls=calls, finish_reason=pb.FINISH_REASON_LENGTH)


def test_the_call_that_was_cut_off_is_the_last(tmp_path: Path) -> None:
    """Where a turn was cut off, its last call is the one that is not run, also where the run has one call left."""
    with world(tmp_path, llm=CutOff(lambda request, nth: "")) as here:
        events = here.run(here.agent(max_tool_calls=1), "?")
    told = [event.content for event in events if isinstance(event, Observed)]
    assert told[0].startswith("echo was not run: its arguments were cut off")
    assert told[1:] == ["whole"]


def test_two_runs_side_by_side_share_nothing(tmp_path: Path) -> None:
    """Of one agent two runs at a time each have their own question, calls, results and count."""

    def script(request: Any, nth: int) -> Turn:
        texts = [message.content for message in request.messages if message.role == "user"]
        question = str(request.prompt or texts[0])
        results = [message.content for message in request.messages if message.role == "tool"]
        if len(results) < 3:
            return [("echo", {"text": f"{question} {len(results)}"})]
        assert all(question in result for result in results)
        return question

    with world(tmp_path, llm=FakeLLM(script)) as here:
        agent = here.agent()

        async def both() -> list[list[Event]]:
            return await asyncio.gather(*(here.collect(agent, question) for question in ("left", "right")))

        runs = asyncio.run(asyncio.wait_for(both(), 120))
    for question, events in zip(("left", "right"), runs, strict=True):
        assert [event.content for event in events if isinstance(event, Observed)] == [
            f"{question} {n}" for n in range(3)
        ]
        assert isinstance(events[-1], Done)
        assert (events[-1].answer.strip(), events[-1].tool_calls) == (question, 3)
