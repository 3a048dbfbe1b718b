"""What is shown of a text while it is being written, and when the rest of it need not be waited for."""

from __future__ import annotations

import time
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from plugins.reasoning_react.engine.reader import Piece, Watcher, read
from plugins.reasoning_react.engine.reading import Act, Final
from shared.call_markup.marks import SPECIAL_ENDS, TAGS
from tests.react_texts import CORPUS, TOOLS, any_text

U = "https://a.example/p"


def watched(text: str, sizes: list[int], *, labelled: bool = False) -> tuple[Watcher, list[Piece], str]:
    """The watcher at the end, what it showed, and how much of the text it was given."""
    watcher = Watcher(TOOLS, labelled=labelled)
    pieces: list[Piece] = []
    at = turn = 0
    while at < len(text) and not watcher.enough:
        size = sizes[turn % len(sizes)]
        pieces += watcher.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    return watcher, pieces, text[:at]


def shown(pieces: list[Piece], kind: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


def test_a_thought_is_shown_while_it_is_written() -> None:
    """Words of a thought are shown before their line is whole, the action never."""
    watcher = Watcher(TOOLS)
    first = watcher.feed("Thought: I open the page and")
    assert shown(first, "thought").startswith("I open the page")
    rest = watcher.feed(f" read it.\nAction: fetch\nAction Input: {U}")
    assert shown(first + rest, "thought") == "I open the page and read it."
    assert watcher.close() == []


@pytest.mark.parametrize("sign", [".", "?", "…", '."', ""])
def test_the_last_sign_of_a_thought_is_shown(sign: str) -> None:
    """A thought that nothing follows is shown whole, also the sign that a label could have stood behind."""
    watcher, pieces, _ = watched(f"Thought: Let me think{sign}", [3])
    assert shown(pieces + watcher.close(), "thought") == f"Let me think{sign}"


def test_an_answer_is_shown_as_it_comes() -> None:
    """Words of a labelled answer are shown before it is whole, also behind a table or code."""
    watcher = Watcher(TOOLS, labelled=True)
    pieces = watcher.feed("Thought: done\nFinal Answer: The capital is")
    assert shown(pieces, "answer") == "The capital is"
    pieces += watcher.feed(" Berlin.\n\n```python\nprint(1)\n```\nThat is")
    assert shown(pieces, "answer") == "The capital is Berlin.\n\n```python\nprint(1)\n```\nThat is"


def test_an_answer_without_a_label_is_shown_as_it_comes() -> None:
    """So is one without a label, unless labels were asked for: then it is a thought until none came."""
    assert shown(Watcher(TOOLS).feed("The leader is 65 years old. "), "answer").startswith("The leader is 65")
    watcher = Watcher(TOOLS, labelled=True)
    pieces = watcher.feed("The leader is 65 years old. ")
    assert shown(pieces, "thought").startswith("The leader is 65")
    assert shown(watcher.close(), "answer") == "The leader is 65 years old."


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["name"])
@pytest.mark.parametrize("sizes", [[1], [7, 3, 20], [10_000]], ids=["letters", "pieces", "whole"])
def test_the_corpus_is_shown_right(case: dict[str, Any], sizes: list[int]) -> None:
    """The answer's pieces are the answer, no piece has markup of a call, and thoughts are what was thought."""
    text = case["text"]
    reading = read(text, TOOLS)
    watcher, pieces, given = watched(text, sizes, labelled=True)
    assert read(given, TOOLS) == reading or not watcher.enough
    pieces += watcher.close()
    answer, thought = shown(pieces, "answer"), shown(pieces, "thought")
    reading_text = getattr(reading, "thought", "") + getattr(reading, "text", "")  # quotations stay in
    if isinstance(reading, Final):
        assert answer == reading.text
        if thought != answer:  # else it was a thought until no label came
            assert " ".join(thought.split()) in " ".join(f"{reading.thought} {reading.text}".split())
    for mark in ("Action Input", "<tool_call", "<invoke", "[TOOL_CALLS]", "<|", "<think", "</think", "action_input"):
        assert mark not in answer or (isinstance(reading, Final) and mark in reading.text), mark
        assert mark not in thought or mark in reading_text, mark


def test_a_made_up_observation_is_enough() -> None:
    """Once an action is whole and the model makes up what it brings, the stream may be ended."""
    watcher = Watcher(TOOLS)
    watcher.feed(f"Thought: open it\nAction: fetch\nAction Input: {U}\n")
    assert not watcher.enough
    watcher.feed("Observ")
    assert not watcher.enough
    watcher.feed("ation: 200 OK")
    assert watcher.enough
    assert watcher.feed("\nThought: fine\nFinal Answer: done") == []
    assert watcher.close() == []


@pytest.mark.parametrize(
    "goes_on", ["Observation: 1", "Thought: and", "Question: next", "Final Answer: x", "Action: now"]
)
def test_whatever_goes_on_behind_an_action_is_enough(goes_on: str) -> None:
    """Any label behind a whole action ends it."""
    watcher = Watcher(TOOLS)
    watcher.feed(f"Action: fetch\nAction Input: {U}\n{goes_on}")
    assert watcher.enough


@pytest.mark.parametrize(
    "text",
    [
        "Thought: a\nThought: b\nObservation: c",
        'Action: other\nAction Input: {"text": "a\nThought: b',
        "<think>\nAction: now\nAction Input: {}\nObservation: 9:00\n",
        "Thought: the form is\n```\nAction: now\nAction Input: {}\nObservation: 9:00\n",
        "Final Answer: 42\nObservation: x",
        "Action: None\nObservation: x",
        "Here is a plain answer.\nObservation: it is long.",
    ],
)
def test_what_is_no_whole_action_is_not_enough(text: str) -> None:
    """Labels without a whole action before them end nothing."""
    assert not watched(text, [3])[0].enough


@hypothesis.settings(max_examples=400)
@hypothesis.given(any_text(), any_text(), st.lists(st.integers(1, 30), min_size=1, max_size=8), st.booleans())
def test_pieces_do_not_matter(text: str, more: str, sizes: list[int], labelled: bool) -> None:
    """A text comes to the same in pieces; what was given when it was enough is read as the whole, whatever follows."""
    for whole in (text, f"{text}\nObservation: {more}"):
        reading = read(whole, TOOLS)
        watcher, pieces, given = watched(whole, sizes, labelled=labelled)
        if watcher.enough:
            assert isinstance(reading, Act)
            assert read(given, TOOLS) == reading
        pieces += watcher.close()
        is_undecided = "</think" in whole or "hannel" in whole or "assistant" in whole
        if isinstance(reading, Final) and not is_undecided:
            answer = shown(pieces, "answer")
            assert answer == reading.text if labelled else answer.endswith(reading.text)


def test_output_that_repeats_itself_is_rambling() -> None:
    """One line over and over is noticed while it is written; an answer of different lines is not."""
    watcher = Watcher(TOOLS)
    for _ in range(200):
        watcher.feed("I will check the page now.\n")
    assert watcher.rambling
    watcher = Watcher(TOOLS)
    for number in range(2_000):
        watcher.feed(f"{number}. step {number * 7919 % 1000} of the plan\n")
    assert not watcher.rambling


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["word ", "Thought: x\n", " ", "\n", "<", "```\n", "{", "a. Action", "**", "Action: None\n", "\0"]
)
def test_watching_is_linear(unit: str) -> None:
    """100 kB in pieces of seven characters take well under ten times what they take on an idle core (0.5 s)."""
    begin = time.process_time()
    text = unit * (100_000 // len(unit))
    watcher = Watcher(TOOLS)
    for at in range(0, len(text), 7):
        watcher.feed(text[at : at + 7])
    watcher.close()
    assert time.process_time() - begin < 5


@pytest.mark.parametrize("mark", [mark for mark in TAGS.values() if mark.startswith(SPECIAL_ENDS)])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It is 4. {}", "It is 4."),
        ("It is 4.\n{}", "It is 4."),
        ("{}It is 4.", "It is 4."),
        ("Thought: yes.\nFinal Answer: It is 4. {}", "It is 4."),
    ],
)
def test_an_end_mark_alone(mark: str, text: str, answer: str) -> None:
    """The end mark of a call that is not there is no part of an answer, nor shown while it is written."""
    written = text.replace("{}", mark)
    watcher = Watcher({})
    shown = [piece for letter in written for piece in watcher.feed(letter)] + watcher.close()
    assert read(written, {}) == Final("yes." if "Thought" in text else "", answer)
    assert "".join(piece.text for piece in shown if piece.kind == "answer") == answer
