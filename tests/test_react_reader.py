"""The reader knows what a model's text is: every output of the corpus, and every other text without an exception.

The corpus' figures: 1 MB of anything within a second on an idle core, twice the text within 2.5 times the time. Times
are asserted at ten times the figure, and of processor time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from plugins.reasoning_react.engine.reader import read
from plugins.reasoning_react.engine.reading import Act, Call, Final, Malformed, ThoughtOnly
from tests.react_texts import CORPUS, TOOLS, any_text, short

U = "https://a.example/p"


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["name"])
def test_the_corpus_is_read_as_it_says(case: dict[str, Any]) -> None:
    """Each output of the corpus is read as wanted, for the reason that stands with it."""
    assert short(read(case["text"], TOOLS, cut=case.get("cut", False))) == case["reading"], case["why"]


def test_the_corpus_is_large_and_says_why() -> None:
    """There are at least 120 outputs of different names, all four readings among them, with a reason each."""
    assert len({case["name"] for case in CORPUS}) == len(CORPUS) >= 120
    assert all(len(case["why"]) > 5 for case in CORPUS)
    assert {case["reading"][0] for case in CORPUS} == {"act", "final", "thought", "malformed"}


MALFORMED = [case for case in CORPUS if case["reading"] == ["malformed"]]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case["name"])
def test_what_is_malformed_says_what_to_write(case: dict[str, Any]) -> None:
    """A problem is a sentence or two that tells the model what to do instead."""
    reading = read(case["text"], TOOLS, cut=case.get("cut", False))
    assert isinstance(reading, Malformed)
    assert 20 < len(reading.problem) < 600
    assert reading.problem[0].isupper() or reading.problem.startswith(tuple(TOOLS))
    assert reading.problem.endswith((".", "}", "!"))
    assert any(word in reading.problem.lower() for word in ("write", "call", "answer", "name a tool")), reading.problem


def test_markup_that_lists_several_calls_gives_all_of_them() -> None:
    """Several calls at once are read where the markup lists several, in their order; elsewhere the first alone."""
    both = (Call("now", {}), Call("fetch", {"url": U}))
    by_name = {case["name"]: case["text"] for case in CORPUS}
    for name in ("hermes_two", "blob_list"):
        reading = read(by_name[name], TOOLS)
        assert isinstance(reading, Act), name
        assert reading.calls == both, name
    twice = f'Action: now\nAction Input: {{}}\n\nAction: fetch\nAction Input: {{"url": "{U}"}}'
    reading = read(twice, TOOLS)
    assert isinstance(reading, Act)
    assert reading.calls == both[:1]


def test_an_action_says_where_it_ends() -> None:
    """`end` is behind the action and before what was made up; the text up to there is read alike."""
    for case in CORPUS:
        reading = read(case["text"], TOOLS, cut=case.get("cut", False))
        if isinstance(reading, Act):
            kept = case["text"][: reading.end]
            assert 0 < reading.end <= len(case["text"]), case["name"]
            assert "Observation" not in kept, case["name"]
            again = read(kept, TOOLS)
            assert isinstance(again, Act), case["name"]
            assert again.calls == reading.calls, case["name"]


def test_thoughts_are_kept_without_their_labels() -> None:
    """The thought is what the model wrote before its action or answer, reasoning included, labels not."""
    reading = read(
        f"<think>Hm.</think>\nThought: open it\n\n**Thought 2:** yes\nAction: fetch\nAction Input: {U}", TOOLS
    )
    assert isinstance(reading, Act)
    assert reading.thought == "Hm.\nopen it\nyes"
    reading = read("I see.\nThought: easy\nFinal Answer: 42", TOOLS)
    assert reading == Final("I see.\neasy", "42")
    assert read("Thought: hm", TOOLS) == ThoughtOnly("hm")


def test_arguments_get_the_types_of_the_schema() -> None:
    """Numbers, booleans, lists and objects that came as text have the schema's type; text stays text."""
    tools = {
        "set": {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "x": {"type": "number"},
                "on": {"type": "boolean"},
                "tags": {"type": "array"},
                "name": {"type": "string"},
            },
        }
    }
    wanted = {"n": 3, "x": 1.5, "on": True, "tags": ["a"], "name": "007"}
    for written in (
        '{"n": "3", "x": "1.5", "on": "true", "tags": "[\\"a\\"]", "name": "007"}',
        "n=3, x=1.5, on=true, tags=['a'], name=007",
        'n: 3\nx: 1.5\non: True\ntags: ["a"]\nname: 007',
    ):
        reading = read(f"Action: set\nAction Input: {written}", tools)
        assert isinstance(reading, Act), written
        assert reading.calls == (Call("set", wanted),), written


def test_a_name_is_put_right_only_where_one_tool_remains() -> None:
    """Case, marks and words around a name do not matter; where two tools could be meant the name stays as it was."""
    tools: dict[str, dict[str, Any]] = {"web_search": {}, "webSearch": {}, "page-reader": {}}
    for written, wanted in {
        "Page_Reader": "page-reader",
        "the page-reader tool": "page-reader",
        "`page-reader`": "page-reader",
        "WEB SEARCH": "WEB SEARCH",
        "web_search": "web_search",
        "page-reader or web_search": "page-reader or web_search",
        "pagereaders": "pagereaders",
    }.items():
        reading = read(f'Action: {written}\nAction Input: {{"q": "x"}}', tools)
        assert isinstance(reading, Act), written
        assert reading.calls[0].name == wanted, written


def test_code_and_text_of_people_are_answers() -> None:
    """Of Python's own modules 99 in 100, read as what a model wrote, are an answer, whole; none is an action."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    readings = {text: read(text, TOOLS) for text in texts if text.strip()}
    assert len(readings) > 100
    assert not [reading for reading in readings.values() if isinstance(reading, Act)]
    whole = [text for text, reading in readings.items() if isinstance(reading, Final) and reading.text == text.strip()]
    assert len(whole) >= 0.99 * len(readings)


NOT_CUT = {  # what ends here is whole in itself
    "input_quotes_inside": "a quoted text",
    "missing_braces": "a quoted text, too, before its colon",
    "json_quoted_in_answer": "an object with nothing behind it",
}
WHOLE = [case for case in CORPUS if len(case["text"]) < 1_000 and case["name"] not in NOT_CUT]


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case["name"])
def test_what_a_length_limit_cut_off_is_not_run(case: dict[str, Any]) -> None:
    """Wherever a text is cut off at the limit, it gives the calls of the whole text or none."""
    whole = read(case["text"], TOOLS, cut=case.get("cut", False))
    calls = whole.calls if isinstance(whole, Act) else ()
    for length in range(len(case["text"])):
        reading = read(case["text"][:length], TOOLS, cut=True)
        if isinstance(reading, Act):
            assert reading.calls == calls[: len(reading.calls)], case["text"][:length]


@hypothesis.settings(max_examples=300)
@hypothesis.given(any_text(), st.booleans())
def test_any_text_is_read(text: str, cut: bool) -> None:
    """Whatever a text is, it is read as one of the four, the same each time."""
    reading = read(text, TOOLS, cut=cut)
    assert isinstance(reading, Act | Final | ThoughtOnly | Malformed)
    assert read(text, TOOLS, cut=cut) == reading
    if isinstance(reading, Act):
        assert reading.calls
        assert all(call.name for call in reading.calls)
    if isinstance(reading, Final):
        assert reading.text.strip()


@hypothesis.settings(max_examples=300)
@hypothesis.given(any_text())
def test_any_text_is_read_without_tools(text: str) -> None:
    """Nor does it take tools for that."""
    assert isinstance(read(text, {}), Act | Final | ThoughtOnly | Malformed)


SECRET = "ZZZ"  # stands only behind a made-up Observation
BEHIND = [
    "\nAction: fetch\nAction Input: ZZZ",
    '<tool_call>{"name": "fetch", "arguments": {"url": "ZZZ"}}</tool_call>',
    '\nother(text="ZZZ")',
    '"}\nAction: other[ZZZ]',
    "\n```\nAction: other[ZZZ]",
    '\n{"action": "other", "action_input": "ZZZ"}',
    "\n## Action\nother\n## Action Input\nZZZ",
    "<fetch>ZZZ</fetch>",
]
# Marks that make reasoning of what stands before or behind them, and markup whose arguments may be any text.
_UNDECIDED = (
    "think",
    "channel",
    "assistant",
    "analysis",
    "<invoke",
    "<fetch",
    "arg_value",
    "<url",
    "DSML",
    "<tool",
    "<｜",
)


@hypothesis.settings(max_examples=500)
@hypothesis.given(any_text(), any_text(), st.sampled_from(BEHIND))
def test_nothing_behind_a_made_up_observation_is_run(before: str, between: str, behind: str) -> None:
    """An action that stands behind an Observation in the model's own text is no part of any call."""
    hypothesis.assume(not any(mark in before + between for mark in _UNDECIDED))
    reading = read(f"{before}\nObservation: made up{between}{behind}", TOOLS)
    assert not isinstance(reading, Act) or SECRET not in str(reading.calls)


SHAPES: dict[str, Callable[[int], str]] = {
    "words": lambda n: "word and more words. " * (n // 21),
    "thoughts": lambda n: "Thought: x\n" * (n // 11),
    "actions": lambda n: "Action: none of these\n" * (n // 22),
    "no_actions": lambda n: "Action: None\n" * (n // 13),
    "open_inputs": lambda n: 'Action: fetch\nAction Input: {"url\n' * (n // 35),
    "observations": lambda n: "Observation: x\n" * (n // 15),
    "headings": lambda n: "## Action\n" * (n // 10),
    "fences": lambda n: "```\n" * (n // 4),
    "fenced": lambda n: "```json\n{\n" * (n // 10),
    "braces": lambda n: "{" * n,
    "lines_of_braces": lambda n: "{\n" * (n // 2),
    "objects": lambda n: '{"action": "fetch", "action_input": "x"} y\n' * (n // 43),
    "quotes": lambda n: 'Action: other\nAction Input: {"text": "' + '"' * n,
    "backslashes": lambda n: 'Action: other\nAction Input: "' + "\\" * n,
    "commas": lambda n: "Action: other\nAction Input: text=" + "," * n,
    "brackets": lambda n: "Action: other[" + "[" * n,
    "closers": lambda n: "Action: other[" + "]" * n,
    "blanks": lambda n: "Action: other\nAction Input:" + " " * n,
    "lines": lambda n: "Final Answer:" + "\n" * n,
    "stops": lambda n: "Action: other\nAction Input: a" + "\nObs      " * (n // 10),
    "stars": lambda n: "*" * n,
    "less_than": lambda n: "<" * n,
    "reasoning": lambda n: "<think>x</think>" * (n // 16),
    "nulls": lambda n: "\0" * n,
    "pairs": lambda n: "Action: other\nAction Input: " + "text=x, " * (n // 8),
    "mid_line": lambda n: "x. Action: fetch x. Final Answer:" * (n // 33),
}


def seconds(text: str, cut: bool) -> float:
    begin = time.process_time()
    read(text, TOOLS, cut=cut)
    return time.process_time() - begin


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_time_is_linear(shape: str) -> None:
    """Eight times the text takes at most twenty times the time, 200 kB at most ten times their share of a second."""
    least = min(seconds(SHAPES[shape](25_000), cut) for cut in (True, False))
    most = min(seconds(SHAPES[shape](200_000), cut) for cut in (True, False))
    assert most < max(20 * least, 0.2), (least, most)
    assert most < 2


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_megabyte_is_read_in_time(shape: str) -> None:
    """1 MB of any shape takes at most ten seconds, ten times what it may take on an idle core."""
    assert seconds(SHAPES[shape](1_000_000), False) < 10
