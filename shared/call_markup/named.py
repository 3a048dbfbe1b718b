"""A name, a mark, and the arguments as JSON: Kimi K2, DeepSeek V3 and V3.1, Mistral, Functionary, Qwen-Agent."""

from __future__ import annotations

import re
from typing import Any

from ..loose_json import CutOff
from .objects import Calls, call, calls_in
from .source import NotMarkup, Problem, Source

JSON = Any

_KIMI_ARGUMENTS, _KIMI_END = "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_DEEPSEEK_SEPARATOR = re.compile(r"<[｜|]tool[▁_ ]sep[｜|]>")
_DEEPSEEK_END = re.compile(r"\s{0,100}(?:```)?\s{0,100}<[｜|]tool[▁_ ]call[▁_ ]end[｜|]>")
_FENCE_END = re.compile(r"\s{0,100}```")
_FENCE = re.compile(r"```[a-z]{0,10}\s{0,20}")
_NAME_LINE = re.compile(r"[^\n{`<]{1,200}")
_MISTRAL_NAME = re.compile(r"\s{0,100}([^\s\[\]{}\"]{1,200})\s{0,100}")
_NAME_AND_OBJECT = re.compile(r"([\w.:/-]{1,200})\s{0,20}(?=\{)")
_MISTRAL_MARK = re.compile(r"\[(?:ARGS|CALL_ID)\]")
_FUNCTIONARY = re.compile(r">>>([\w.-]{1,100})\n\s{0,100}")
_QWEN_NAME = re.compile(r"\s{0,20}([^\s✿]{1,200})\s{1,20}")
_QWEN_ARGUMENTS = "✿ARGS✿:"
_LONGEST = 300  # characters of an id or a name


def read_kimi(source: Source, at: int) -> tuple[Calls | None, int]:
    """From behind `<|tool_call_begin|>`, which DeepSeek's mark looks like where its characters are lost. Raises CutOff,
    Unreadable, Problem."""
    if _DEEPSEEK_SEPARATOR.search(source.text, at, at + _LONGEST):
        return read_deepseek(source, at)
    mark = source.find(_KIMI_ARGUMENTS, at)
    if mark < 0 or mark - at > _LONGEST:
        if source.is_end(at) or (mark < 0 and len(source.text) - at < _LONGEST):
            raise CutOff("it ends before its arguments", len(source.text))
        raise Problem(f"there is no {_KIMI_ARGUMENTS} behind its name")
    written = source.text[at:mark].strip()
    value, end = source.value(mark + len(_KIMI_ARGUMENTS), _KIMI_END)
    end = source.behind(end)
    if not source.names.known(written) and isinstance(value, dict):
        # An id as OpenAI has them; the name is in the arguments.
        inside = value.get("name")
        if isinstance(inside, str) and source.names.known(inside):
            rest = {key: item for key, item in value.items() if key != "name"}
            calls = calls_in(value, source, marked=True) if set(rest) & {"arguments", "parameters"} else None
            return calls or (call(inside, rest, source),), _after(source, end, _KIMI_END)
    return (call(written, value, source),), _after(source, end, _KIMI_END)


def read_deepseek(source: Source, at: int) -> tuple[Calls | None, int]:
    """From behind `<｜tool▁call▁begin｜>`; None where elements follow, as in Step 3. Raises CutOff, Unreadable,
    Problem."""
    text = source.text
    separator = _DEEPSEEK_SEPARATOR.search(text, at, at + _LONGEST)
    if separator is None:
        if len(text) - at < _LONGEST:
            raise CutOff("it ends before its arguments", len(text))
        raise Problem("there is no <｜tool▁sep｜> in it")
    written, at = text[at : separator.start()].strip(), separator.end()
    if text.startswith("<", source.blanks(at)):
        return None, at
    if not text.startswith("{", source.blanks(at)) and (line := _NAME_LINE.match(text, source.blanks(at))):
        # V3 has the type before the mark, and the name behind it.
        written, at = line[0].strip(), line.end()
    at = source.blanks(at)
    fence = _FENCE.match(text, at)
    value, at = source.value(fence.end() if fence else at)
    at = source.behind(at)
    end = _DEEPSEEK_END.match(text, at) or (_FENCE_END.match(text, at) if fence else None)
    return (call(written, value, source),), end.end() if end else at


def read_mistral(source: Source, at: int) -> tuple[Calls, int]:
    """From behind `[TOOL_CALLS]`, where no JSON follows: `NAME[CALL_ID]ID[ARGS]{…}`. Raises CutOff, Unreadable,
    Problem."""
    text = source.text
    written = _MISTRAL_NAME.match(text, at)
    if written is None:
        if source.is_end(at):
            raise CutOff("it ends before its name", len(text))
        raise Problem("there is no call behind it")
    at = written.end()
    for _ in range(2):
        mark = _MISTRAL_MARK.match(text, at)
        if mark is None:
            break
        at = mark.end()
        if mark[0] == "[CALL_ID]" and (given := _MISTRAL_NAME.match(text, at)):
            at = given.end()
    if at < len(text) and text[at] not in "{[":
        raise Problem("there is no call behind it")
    if text[at : at + 1] == "[" and "[ARGS]".startswith(text[at : at + 6]):
        raise CutOff("it ends before its arguments", len(text))
    value, at = source.value(at)
    return (call(written[1], value, source),), source.behind(at)


def read_named(source: Source, at: int) -> tuple[Calls, int] | None:
    """A known tool's name alone, and the object behind it; None: there is no such thing. Raises CutOff, Unreadable,
    Problem."""
    written = _NAME_AND_OBJECT.match(source.text, at)
    if written is None or not source.names.known(written[1]):
        return None
    value, at = source.value(written.end())
    return (call(written[1], value, source),), source.behind(at)


def read_functionary(source: Source, start: int) -> tuple[Calls, int]:
    """`>>>NAME` on a line of its own, and the object below it. Raises CutOff, NotMarkup, Unreadable, Problem."""
    line = _FUNCTIONARY.match(source.text, start)
    if line is None or not source.names.known(line[1]) or not source.starts_line(start):
        raise NotMarkup
    if source.text[line.end() : line.end() + 1] not in ("{", ""):
        raise NotMarkup
    value, at = source.value(line.end())
    return (call(line[1], value, source),), source.behind(at)


def read_qwen_agent(source: Source, at: int) -> tuple[Calls, int]:
    """From behind `✿FUNCTION✿:`. Raises CutOff, Unreadable, Problem."""
    written = _QWEN_NAME.match(source.text, at)
    if written is None or not source.text.startswith(_QWEN_ARGUMENTS, written.end()):
        if len(source.text) - at < _LONGEST:
            raise CutOff("it ends before its arguments", len(source.text))
        raise Problem(f"there is no {_QWEN_ARGUMENTS} behind its name")
    value, at = source.value(written.end() + len(_QWEN_ARGUMENTS))
    return (call(written[1], value, source),), source.behind(at)


def _after(source: Source, at: int, mark: str) -> int:
    at = source.blanks(at)
    return at + len(mark) if source.text.startswith(mark, at) else at
