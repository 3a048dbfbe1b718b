"""Calls that a model wrote into its text: `shared/call_markup`. The outputs and their readings stand in
tests/data/call_markup.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.call_markup import Marked, read_marked
from shared.call_markup.started import started


def _tool(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


TEXT = {"type": "string"}
TOOLS: dict[str, dict[str, Any]] = {
    "fetch": _tool(["url"], url=TEXT),
    "other": _tool(["text"], text=TEXT),
    "now": _tool([]),
    "search": _tool(
        ["query"],
        query=TEXT,
        k={"type": "integer"},
        deep={"type": "boolean"},
        tags={"type": "array", "items": TEXT},
        options={"type": "object"},
    ),
    "move": _tool(["to", "steps"], to=TEXT, steps={"type": "integer"}),
    "do": {"type": "object", "properties": {"a": {}, "b": {}, "c_d": {}}},
}
OUTPUTS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "call_markup.json").read_text("utf-8"))
# Whether a call was only spoken of shows in what follows it: up to there it is the last thing that the model wrote.
SPOKEN_OF = {
    "think_quoted_call",
    "think_call_not_last",
    "think_quoted_then_other",
    "think_lone_end_quoted_call",
    "pythonic_in_middle",
    "bare_json_in_middle",
    "hermes_example",
    "hermes_quoted",
}
MARKS = (
    "<tool_call <|tool [TOOL_CALLS <function= <invoke to=functions <|channel </parameter <｜ functools[ <arg_".split()
)


def _calls(marked: Marked) -> list[list[Any]]:
    return [[call.name, call.arguments] for call in marked.calls]


@pytest.mark.parametrize("output", OUTPUTS, ids=[output["name"] for output in OUTPUTS])
def test_an_output_is_read_as_it_is_meant(output: dict[str, Any]) -> None:
    """Calls with their arguments, the text that may be shown, reasoning and problem are those of the corpus."""
    marked = read_marked(output["text"], TOOLS)
    assert _calls(marked) == output["calls"], output["why"]
    assert (marked.text, marked.reasoning, marked.reasoning_is_open) == (
        output["shown"],
        output["reasoning"],
        output["open"],
    ), output["why"]
    assert bool(marked.problem) == bool(output["problem"])
    assert output["problem"] in marked.problem, output["why"]


def test_the_corpus_is_large_and_says_why() -> None:
    """At least 80 outputs, each with a name of its own and a reason."""
    assert len(OUTPUTS) >= 80
    assert len({output["name"] for output in OUTPUTS}) == len(OUTPUTS)
    assert all(output["why"] for output in OUTPUTS)


@pytest.mark.parametrize("output", OUTPUTS, ids=[output["name"] for output in OUTPUTS])
def test_no_beginning_of_an_output_has_a_call_that_the_whole_has_not(output: dict[str, Any]) -> None:
    """Cut off anywhere, an output has the first calls of the whole one, with the same arguments, or none; and no mark
    is ever shown."""
    text = output["text"]
    for end in range(len(text)):
        marked = read_marked(text[:end], TOOLS)
        calls = _calls(marked)
        if output["name"] not in SPOKEN_OF:
            assert calls == output["calls"][: len(calls)], text[:end]
        if output["shown"] != text:
            shown = [mark for mark in MARKS if mark in marked.text and mark not in output["shown"]]
            assert not shown, text[:end]


def test_where_the_markup_stands() -> None:
    """`start` and `end` take in the wrappers, so that cutting them out leaves the text."""
    text = 'I look. <tool_call>{"name": "now", "arguments": {}}</tool_call> So.'
    (call,) = read_marked(text, TOOLS).calls
    assert text[: call.start] + text[call.end :] == "I look.  So."
    text = "<|tool_calls_section_begin|><|tool_call_begin|>now:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    (call,) = read_marked(text, TOOLS).calls
    assert (call.start, call.end) == (0, len(text))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        [
            "a </tool_call> b",
            "x</think>y",
            "k\n<think>\nl",
            "\n</think>\n",
            "z <|call|> z",
            "m[TOOL_CALLS]n",
            "<|im_end|>",
            'q <tool_call>{"name": "now", "arguments": {}}</tool_call> w',
            "o <function=now></function> p",
            "}",
            "]",
            "```",
            "a<|channel|>final<|message|>b",
            '{"name": "now", "arguments": {}}',
            'a"b',
            "it's",
            "\\d",
            "\nnow()\n",
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "c_d"]), VALUES, max_size=3)


def _python(arguments: dict[str, Any]) -> str:
    return f"do({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "hermes": lambda a: f'<tool_call>\n{{"name": "do", "arguments": {json.dumps(a)}}}\n</tool_call>',
    "hermes, Python": lambda a: f"<tool_call>{{'name': 'do', 'arguments': {a!r}}}</tool_call>",
    "mistral": lambda a: f"[TOOL_CALLS]do[ARGS]{json.dumps(a)}",
    "mistral, list": lambda a: f'[TOOL_CALLS][{{"name": "do", "arguments": {json.dumps(a)}}}]',
    "kimi": lambda a: f"<|tool_call_begin|>functions.do:0<|tool_call_argument_begin|>{json.dumps(a)}<|tool_call_end|>",
    "deepseek": lambda a: (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>do\n```json\n{json.dumps(a)}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "llama": lambda a: f'{{"name": "do", "parameters": {json.dumps(a)}}}',
    "harmony": lambda a: f"<|channel|>commentary to=functions.do json<|message|>{json.dumps(a)}<|call|>",
    "openai": lambda a: json.dumps({"type": "function", "function": {"name": "do", "arguments": json.dumps(a)}}),
    "openai, Python": lambda a: repr({"type": "function", "function": {"name": "do", "arguments": a}}),
    "functools": lambda a: f'functools[{{"name": "do", "arguments": {json.dumps(a)}}}]',
    "function": lambda a: f"<function=do>{json.dumps(a)}</function>",
    "fence": lambda a: f'```json\n{{"name": "do", "arguments": {json.dumps(a)}}}\n```',
    "pythonic": lambda a: f"[{_python(a)}, now()]",
    "llama 4": lambda a: f"<|python_start|>[{_python(a)}]<|python_end|>",
    "name and JSON": lambda a: f"do({json.dumps(a)})",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@given(arguments=ARGUMENTS)
def test_any_arguments_are_read_as_they_were_written(form: str, arguments: dict[str, Any]) -> None:
    """Whatever the arguments hold, marks and calls included, comes out as it went in, and nothing of it is shown."""
    text = FORMATS[form](arguments)
    marked = read_marked(text, TOOLS)
    assert _calls(marked)[:1] == [["do", arguments]], text
    assert (marked.text, marked.reasoning, marked.problem) == ("", "", "")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "\r" not in text)
RAW = {
    "glm": "<tool_call>other<arg_key>text</arg_key><arg_value>{}</arg_value></tool_call>",
    "qwen": "<function=other>\n<parameter=text>\n{}\n</parameter>\n</function>",
    "gemma": '<|tool_call>call:other{{text:<|"|>{}<|"|>}}<tool_call|>',
    "dsml": '<｜DSML｜invoke name="other">\n<｜DSML｜parameter name="text" string="true">\n{}\n</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>",
}


# No format of elements has a way to write its own end mark; that such a call is not run is another test's.
_ENDS = ("</arg_value>", "</parameter>", '<|"|>', "</｜DSML｜parameter>")


@pytest.mark.parametrize("form", RAW)
@given(text=TEXTS.filter(lambda text: not text.startswith(("\n", "<![CDATA[")) and not any(e in text for e in _ENDS)))
def test_a_text_between_marks_stays_as_it_is(form: str, text: str) -> None:
    """A string parameter gets the text between its marks, whatever it looks like: a number, JSON, other marks."""
    for value in (text, f"{text}10001", f"{text}</tool_call>", f"{text}{{}}", f"{text}<think>"):
        marked = read_marked(RAW[form].format(value), TOOLS)
        assert _calls(marked) == [["other", {"text": value}]]


@pytest.mark.parametrize("end", _ENDS)
@pytest.mark.parametrize("form", RAW)
def test_a_text_with_an_end_mark_is_whole_or_not_run(form: str, end: str) -> None:
    """Of a string parameter that holds an end mark, its own or another format's, never a part is run."""
    for value in (end, f"a{end}", f"{end}a", f"a{end}\nb"):
        assert _calls(read_marked(RAW[form].format(value), TOOLS)) in ([], [["other", {"text": value}]])


TYPES: list[tuple[Any, str, Any]] = [
    ({"type": "string"}, "10001", "10001"),
    ({"type": "string"}, "null", "null"),
    ({"type": "integer"}, "10001", 10001),
    ({"type": "integer"}, " 7 ", 7),
    ({"type": "integer"}, "7.0", 7),
    ({"type": "integer"}, "7.5", "7.5"),
    ({"type": "integer"}, "seven", "seven"),
    ({"type": "number"}, "7.5", 7.5),
    ({"type": "number"}, "7", 7),
    ({"type": "number"}, "1e999", "1e999"),
    ({"type": "boolean"}, "true", True),
    ({"type": "boolean"}, "False", False),
    ({"type": "boolean"}, "yes", "yes"),
    ({"type": ["integer", "null"]}, "null", None),
    ({"type": ["string", "null"]}, "null", None),
    ({"type": ["string", "integer"]}, "5", "5"),
    ({"type": "array"}, '["a", 1]', ["a", 1]),
    ({"type": "array"}, '{"a": 1}', '{"a": 1}'),
    ({"type": "object"}, "{'a': 1}", {"a": 1}),
    ({"type": "object"}, '{"a": ', '{"a": '),
    ({"enum": ["1", "2"]}, "1", "1"),
    ({"enum": [1, 2]}, "1", 1),
    ({"const": 3}, "3", 3),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "4", 4),
    ({"anyOf": [{"type": "string"}, {"type": "object"}]}, '{"a": 1}', {"a": 1}),
    ({"oneOf": [{"type": "integer"}, {}]}, "4", "4"),
    ({"allOf": [{"type": "integer"}]}, "4", 4),
    ({"$ref": "#/$defs/count"}, "4", 4),
    ({"$ref": "#/$defs/endless"}, "4", "4"),
    ({"$ref": "https://elsewhere.example/x"}, "4", "4"),
    ({}, "4", "4"),
    ({}, "[4]", [4]),
    ("integer", "4", 4),
]


@pytest.mark.parametrize(("schema", "text", "value"), TYPES)
def test_arguments_get_the_types_of_the_schema(schema: Any, text: str, value: Any) -> None:
    """Text between tags becomes what the schema says, where it reads as that, and else stays text."""
    definitions = {"count": {"type": "integer"}, "endless": {"$ref": "#/$defs/endless"}}
    tool = {"x": schema} if isinstance(schema, str) else {"properties": {"x": schema}, "$defs": definitions}
    marked = read_marked(f"<function=t><parameter=x>{text}</parameter></function>", {"t": tool})
    assert repr(_calls(marked)) == repr([["t", {"x": value}]])


SPECIAL = [mark for output in OUTPUTS for mark in output["text"].replace(">", ">\0").replace("<", "\0<").split("\0")]


@given(st.lists(st.sampled_from(sorted({*SPECIAL, "\n", " ", '"', "{", "}", "[", "]", "(", ")", "`", "```\n", "x"}))))
def test_whatever_stands_there(pieces: list[str]) -> None:
    """No text whatever raises; what is a call lies within the text, one behind the other, with arguments of JSON."""
    text = "".join(pieces)
    marked = read_marked(text, TOOLS)
    ends = [(call.start, call.end) for call in marked.calls]
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(text) for start, end in ends)
    json.dumps([call.arguments for call in marked.calls], allow_nan=False, ensure_ascii=False).encode()


@given(st.sampled_from(OUTPUTS), st.data())
def test_a_changed_character(output: dict[str, Any], data: st.DataObject) -> None:
    """With a character changed, left out or put in, an output is still read; a call has the name that stands there."""
    text = output["text"]
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.sampled_from(["", "x", '"', "<", "}", "\n", "\0"])) + text[at + 1 :]
    for call in read_marked(changed, TOOLS).calls:
        assert call.name in changed


@given(st.text(), st.sampled_from(["<tool_call>", "<|channel|>", "[TOOL_CALLS]", "<think>", "</think>"]))
def test_the_beginning_of_a_mark(text: str, mark: str) -> None:
    """Of a mark that is not whole, all is held back that may belong to it."""
    for end in range(1, len(mark)):
        assert started(text + mark[:end]) >= end
    assert started(text + "\n") == 0


UNITS = [
    *"<[({`'\"\n ",
    "court ",
    "x" * 50 + "\n",
    "analysis",
    "assistantfinal",
    "assistantanalysis{",
    "to=functions.",
    "to=functions.fetch{",
    'to=functions.fetch<|channel|>commentary<|message|>{"url"',
    '\n{"name": "fetch"',
    '\n{"name":',
    '\n{"name":"fetch","arguments":{}}',
    '\n{"name":"fetch","arguments":{}} x',
    "\n```json\n{",
    "\n{'a':",
    '\n{"a":1,',
    "\nfetch(",
    "\nnow()",
    "now() ",
    "\n[fetch(",
    '\nfetch(url="x"',
    "\nfetch(a=[1,\n",
    "\n`fetch(`",
    "\n<think>",
    "\n</think>",
    '{"name":"now","arguments":{"a":"<tool_call>"}}\n',
]
HEADS = sorted({mark for mark in SPECIAL if mark.startswith(("<", "[")) and len(mark) < 40})


def _seconds(text: str) -> float:
    began = time.process_time()
    read_marked(text, TOOLS)
    return time.process_time() - began


def _repeated() -> list[str]:
    """Marks alone, and with what makes a reader look further."""
    return [*UNITS, *HEADS, *(head + tail for head in HEADS for tail in ('{"a":', '{"', "fetch", "now(", "a=", "[{"))]


@pytest.mark.slow
@pytest.mark.parametrize("group", range(8))
def test_reading_is_linear(group: int) -> None:
    """Sixteen times the text takes nowhere near the 256 times as long that it would if time grew with the square."""
    for unit in _repeated()[group::8]:
        small, large = (unit * (size // len(unit)) for size in (1_000, 16_000))
        # Once is enough: what is linear looks like the square by chance, never the other way round.
        assert any(_seconds(large) < 80 * _seconds(small) + 0.1 for _ in range(10)), unit


@pytest.mark.slow
@pytest.mark.parametrize("group", range(8))
def test_a_megabyte_is_read_within_a_second(group: int) -> None:
    """Ten times the second that 1 MB may take, as the machine may be busy."""
    for unit in [*UNITS, *HEADS][group::8]:
        assert _seconds(unit * (1_000_000 // len(unit))) < 10, unit


@pytest.mark.parametrize("text", ["now()\n" * 300, "I begin.\n" + "now()\n" * 300, "now(), " * 300])
def test_so_many_calls_that_nobody_means_them(text: str) -> None:
    """Hundreds of bare calls in a row are a mistake that is told, and not the last few of them run."""
    marked = read_marked(text.strip(" ,"), TOOLS)
    assert not marked.calls
    assert "more than 256 calls" in marked.problem
