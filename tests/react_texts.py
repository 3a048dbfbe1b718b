"""What models write, for tests of how it is read: the corpus, and texts that Hypothesis puts together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st

from plugins.reasoning_react.engine.reading import Act, Final, Malformed, Reading, ThoughtOnly

CORPUS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "react_outputs.json").read_text(encoding="utf-8")
)
TOOLS: dict[str, dict[str, Any]] = {
    "fetch": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]},
    "other": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "k": {"type": "integer"}},
        "required": ["text"],
    },
    "now": {"type": "object", "properties": {}},
}
_FRAGMENTS = [
    "Thought:", "Thought: x", "\nAction:", "\nAction: fetch", "\nAction Input:", '{"url": "https://a"}', '{"text": "a',
    "\nObservation:", "\nObservation: b", "\nFinal Answer:", "Final Answer: 42", "\nAnswer: 1", "\nQuestion: q", "```",
    "\n```json\n", "\n```\n", "<think>", "</think>", "\n<think>", "<tool_call>", "</tool_call>", "functools[",
    '{"name": "now", "arguments": {}}', '{"action": "fetch", "action_input": "u"}', 'fetch(url="u")', "now()",
    "other[x]", "\n", "\r\n", " ",
    "\x00", "“", "：", "**", "## ", "- ", "[", "]", "{", "}", "(", ")", '"', "'", "\\", "None",
    "fetch",
    "<|channel|>final<|message|>", "assistantfinal", "analysis", "other", "Use ", "$JSON_BLOB", "<fetch>", "</fetch>",
    "<url>", "</url>", "<", "✿FUNCTION✿: ", "\ufeff", "é", "中", "[TOOL_CALLS]", '<invoke name="fetch">', "</invoke>",
    "word ", "A sentence. ", "[[ ## next_tool_name ## ]]\n", "Action 1: ", "Finish[", "finish(answer=", "|",
    "to=functions.fetch", "Final Answer", "\ud800",
]  # fmt: skip
_SHORT: list[str] = [case["text"] for case in CORPUS if len(case["text"]) < 900]


def fragments() -> st.SearchStrategy[str]:
    """Pieces of labels and markup, in any order."""
    return st.lists(st.sampled_from(_FRAGMENTS), max_size=14).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """An output of the corpus, cut, or with something put in, or with another one behind it."""
    text = draw(st.sampled_from(_SHORT))
    begin = draw(st.integers(0, len(text)))
    middle = draw(st.sampled_from(["", *_FRAGMENTS, *_SHORT]))
    return text[:begin] + middle + text[draw(st.integers(begin, len(text))) :]


def any_text() -> st.SearchStrategy[str]:
    return fragments() | damaged() | st.text(max_size=200)


def short(reading: Reading) -> list[Any]:
    """A reading as the corpus writes it: of an action its first call."""
    match reading:
        case Act():
            return ["act", reading.calls[0].name, reading.calls[0].arguments]
        case Final():
            return ["final", reading.text]
        case ThoughtOnly():
            return ["thought"]
        case Malformed():
            return ["malformed"]
