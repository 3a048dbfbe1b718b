"""Texts that are hard to read fast: each family gives one of about as many characters as it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.react_servers import PARAMETERS

TOOLS: dict[str, Any] = {"lookup": json.loads(PARAMETERS), "search": {"type": "object", "properties": {}}}
_ACTION = "Thought: one more.\nAction: lookup\nAction Input: "


def _of(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    def family(size: int) -> str:
        return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

    return family


FAMILIES: dict[str, Callable[[int], str]] = {
    "prose": _of("The quick brown fox jumps over the lazy dog, and nobody has ever said why it did so.\n"),
    "one word": _of("a"),
    "spaces": _of(" "),
    "line breaks": _of("\n"),
    "an answer": _of("It is so. ", "Thought: I know.\nFinal Answer: "),
    "an action with a long argument": _of("x", _ACTION + '{"n": "', '"}'),
    "arguments that never end": _of("x", _ACTION + '{"n": "'),
    "many members": _of('"n": 1, ', _ACTION + "{", '"n": 1}'),
    "members without quotes": _of("n: a, ", _ACTION + "{", "n: a}"),
    "Python literals": _of("'n': None, ", _ACTION + "{", "'n': True}"),
    "open braces": _of("{"),
    "open brackets": _of("["),
    "open braces and brackets": _of('[{"a":'),
    "open braces in arguments": _of("{", _ACTION),
    "braces in pairs": _of("{}"),
    "closed braces": _of("}", _ACTION + '{"n": 1'),
    "commas": _of(",", _ACTION + '{"n": 1'),
    "quotation marks": _of('"', _ACTION + "{"),
    "apostrophes": _of("'", _ACTION + "{"),
    "typographic quotation marks": _of("“a”, ", _ACTION + "{"),
    "backslashes": _of("\\", _ACTION + '{"n": "'),
    "line breaks in a text": _of("a\n", _ACTION + '{"n": "', '"}'),
    "digits": _of("9", _ACTION + '{"n": ', "}"),
    "fences": _of("```\n"),
    "fences of JSON": _of('```json\n{"n": 1}\n```\n'),
    "open fences in arguments": _of("```json\n", _ACTION),
    "backticks": _of("`"),
    "asterisks": _of("*"),
    "Action:": _of("Action:"),
    "Action: on lines": _of("Action:\n"),
    "unknown actions": _of("Action: none_of_these\nAction Input: {}\n"),
    "Action Input: on lines": _of("Action Input:\n"),
    "Observation: on lines": _of("Observation:\n"),
    "Thought: on lines": _of("Thought: hm\n"),
    "Final Answer: on lines": _of("Final Answer:\n"),
    "calls in parentheses": _of("lookup(", "Action: "),
    "calls in parentheses, closed": _of("none_of_these(n=1) "),
    "lists of calls": _of("[lookup(n=1), ", "", ""),
    "open <think>": _of("<think>"),
    "<think> and </think>": _of("<think></think>"),
    "</think>": _of("</think>"),
    "open <tool_call>": _of("<tool_call>"),
    "<tool_call> with nothing in it": _of("<tool_call></tool_call>"),
    "<tool_call> of an unknown tool": _of('<tool_call>{"name": "no", "arguments": {}}</tool_call>'),
    "<function=": _of("<function=lookup>"),
    "<parameter=": _of("<parameter=n>", "<tool_call><function=lookup>"),
    "angle brackets": _of("<"),
    "[TOOL_CALLS]": _of("[TOOL_CALLS]"),
    "<|python_tag|>": _of("<|python_tag|>"),
    "<|channel|>": _of("<|channel|>commentary to=functions.no <|message|>"),
    "<|tool_call_begin|>": _of("<|tool_calls_section_begin|><|tool_call_begin|>"),
    "bars": _of("<|"),
    "objects of an unknown tool": _of('{"name": "no", "arguments": {}} '),
    "nested arguments": _of('{"name": "no", "arguments": '),
    "words that are the same": _of("search "),
    "CR": _of("\r"),
    "NUL": _of("\x00"),
    "emoji": _of("\U0001f600"),
}
