"""Whatever models write, and however often they fail: a run of reasoning_react ends in an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.reasoning_react.engine.chat import Abilities, Finish, Tool, Turn
from plugins.reasoning_react.engine.ports import LLMFailed, Outcome
from plugins.reasoning_react.engine.run import Observation
from shared.errors import Code
from tests.react_fakes import WITHIN, FakeLLM, FakeTools, begin, calls, engine, says, tool

OUTPUTS = [
    'Thought: I look.\nAction: fetch\nAction Input: {"url": "https://a.example/p"}\nObservation: 3\nFinal Answer: 3',
    'Thought: I look.\nAction: fetch\nAction Input: {"url": "https://a.exa',
    "Action: nothing\nAction Input: {}",
    "Action: None\nAction Input: None",
    "Thought: Do I need to use a tool? No",
    "Thought: so.\nFinal Answer: 42",
    "Final Answer:",
    "<think>6 times 7. Final Answer: 42</think>",
    "<think>never closed",
    '<tool_call>{"name": "other", "arguments": {"text": "x"}}</tool_call>',
    '<tool_call>{"name": "other", "arguments": {"text": "x',
    "<|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
    '```json\n{"action": "other", "action_input": "x"}\n```',
    '{"action": "Final Answer", "action_input": "42"}',
    "[now()]",
    "functools[]",
    "\n\n",
    "court " * 2_000,
    "It is 42, as everybody knows.",
]
TOOLS = [tool("fetch", {"url": {"type": "string"}}), tool("other"), tool("now", {})]
MOST_ITERATIONS, MOST_CALLS = 4, 6

names = st.sampled_from(["fetch", "other", "now", "nothing", "functions.now", ""])
arguments = st.sampled_from(
    ['{"url": "https://a.example/p"}', '{"text": "x"}', "{}", "", '{"text": "', "[1]", "nonsense"]
)
texts = st.sampled_from(["", "I think.", "<tool_call>", "Final Answer: 42", *OUTPUTS])
finishes = st.sampled_from(list(Finish))
turns = st.one_of(
    st.builds(says, texts, finish=finishes, reasoning=st.sampled_from(["", "Let me see.", *OUTPUTS])),
    st.builds(
        lambda asked, text, finish: calls(*asked, text=text, finish=finish),
        st.lists(st.tuples(names, arguments), min_size=1, max_size=4),
        texts,
        finishes,
    ),
    st.builds(Turn, refusal=st.just("I will not."), usage=st.none()),
)
failures = st.sampled_from(
    [
        LLMFailed("down"),
        LLMFailed("no tools", code=Code.INVALID_ARGUMENT, tools_refused=True),
        LLMFailed("too long", code=Code.INVALID_ARGUMENT, too_long=True),
        LLMFailed("bad request", code=Code.INVALID_ARGUMENT),
    ]
)
outcomes = st.builds(Outcome, st.sampled_from(["", "a page", "x" * 30_000]), st.booleans(), st.booleans())


class OnceTools(FakeTools):
    """Tools that bring what they are told, and refuse to run the same call twice."""

    def __init__(self, brought: list[Outcome]) -> None:
        super().__init__()
        for offered in TOOLS:
            self.add(offered, lambda _: brought[len(self.executed) % len(brought)])

    async def execute(self, name: str, arguments_json: str, call_id: str, seconds: float) -> Outcome:
        assert call_id not in {done for _, _, done, _ in self.executed}
        assert isinstance(json.loads(arguments_json), dict)
        return await super().execute(name, arguments_json, call_id, seconds)


@given(
    script=st.lists(st.one_of(turns, turns, turns, failures), min_size=1, max_size=12),
    brought=st.lists(outcomes, min_size=1, max_size=3),
    takes_tools=st.sampled_from([True, False, None]),
    host=st.booleans(),
)
@settings(max_examples=100)
def test_a_run_always_ends(script: list[Any], brought: list[Outcome], takes_tools: bool | None, host: bool) -> None:
    """It ends within its bounds, in an answer that is text; each action has its observation, in order; nothing runs
    twice; and a step that failed is taken again from the same state."""

    async def run() -> None:
        llm, tools = FakeLLM(*script, abilities=Abilities(tools=takes_tools)), OnceTools(brought)
        made = engine(llm, tools, max_iterations=MOST_ITERATIONS, max_tool_calls=MOST_CALLS)
        state = await begin(made, host_executes=host)
        observations: list[Observation] = []
        is_done = False
        steps = 0
        for _ in range(len(script) + 2 * MOST_ITERATIONS + 2):
            try:
                result = await made.step(state, "", observations)
            except LLMFailed:
                if isinstance(script[-1], LLMFailed) and len(llm.requests) >= len(script) + 3:
                    break  # it is down for good
                continue
            steps += 1
            state, is_done = result.state, result.done
            observations = [Observation(action.id, brought[0].text, is_error=True) for action in result.pending]
            assert [one.action_id for one in result.step.observations] == [
                action.id for action in result.step.actions if action not in result.pending
            ]
            if is_done:
                break
        ended = await made.finalize(state)
        assert ended.answer.strip()
        assert ended.stop_reason is not None
        assert is_done or isinstance(script[-1], LLMFailed)
        assert steps <= 2 * MOST_ITERATIONS + 2
        assert len(tools.executed) <= MOST_CALLS
        assert not host or not tools.executed
        assert "<tool_call>" not in ended.answer

    asyncio.run(asyncio.wait_for(run(), WITHIN))


@given(
    text=st.text(max_size=200), reasoning=st.text(max_size=50), called=st.text(max_size=30), given_=st.text(max_size=60)
)
@settings(max_examples=100)
def test_any_text_at_all(text: str, reasoning: str, called: str, given_: str) -> None:
    """Any text, any reasoning, any name and any arguments: the run ends in an answer."""

    async def run() -> None:
        offered = Tool("fetch", "", {"type": "object", "properties": {"url": {"type": "string"}}})
        for turn in (says(text, reasoning=reasoning), calls((called, given_), text=text)):
            tools = FakeTools()
            tools.add(offered, lambda _: text)
            made = engine(FakeLLM(turn), tools, max_iterations=3)
            state = await begin(made, "why?")
            for _ in range(5):
                result = await made.step(state)
                state = result.state
                if result.done:
                    break
            assert result.done
            assert result.text.strip()

    asyncio.run(asyncio.wait_for(run(), WITHIN))
