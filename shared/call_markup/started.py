"""The beginning of a mark at the end of a text: whoever shows a text while it is written holds that back."""

from __future__ import annotations

import re

from . import reasoning, tokens

# What calls begin with; ends and other marks begin with `</`, `<|` or one of the others below.
_CALLS = (
    "<tool_call>", "<tool_calls>", "<toolcall>", "<TOOLCALL>", "<function_call>", "<function_calls>", "<functioncall>",
    "<function=", "<function name=", "<invoke name=", "<tool_use>", "<tools>", "<longcat_tool_call>", "<action>",
    "<minimax:tool_call>", "<seed:tool_call>", "<ifm|tool_call>", "<steptml:toolcall>", "<start_function_call>",
    "<|tool_call>", "<|tool_call_begin|>", "<|tool_calls_section_begin|>", "<|tool_call_start|>", "<|python_tag|>",
    "<|python_start|>", "<|action_start|>", "<|START_ACTION|>", "<|tools_prefix|>", "<|open|>call",
    "<|open|>tools<|sep|>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜DSML｜tool_calls>",
    "<｜DSML｜function_calls>", "[TOOL_CALLS]", "functools[", "[unused11]", tokens.MINIMAX,
)  # fmt: skip
_OTHERS = (
    *reasoning.BEGIN_MARKS, *reasoning.END_MARKS, "</tool_call>", "</tool_calls>", "</function_calls>", "</function>",
    "</invoke>", "</parameter>", "</action>", "<tool_call|>", "<end_function_call>", "<end_of_turn>", "<tool_response>",
)  # fmt: skip
_SPECIAL = re.compile(r"(?:</?[|｜][^<>\n]{0,40}|</?tool_calls?:[\w-]{0,40})\Z")
_FIRST = re.compile(r"[<\[\]f◁]")
LONGEST = max(len(mark) for mark in (*_CALLS, *_OTHERS))
_LEAST_OF_CALL = 5  # characters of a mark that are taken for a call that was cut off


def started(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a mark.

    >>> started("I look. <tool_ca"), started("3 < 4"), started("a <")
    (8, 0, 1)
    """
    tail = text[-LONGEST:]
    if special := _SPECIAL.search(tail):
        return len(special[0])
    for first in _FIRST.finditer(tail):
        rest = tail[first.start() :]
        if any(mark.startswith(rest) for mark in _CALLS) or any(mark.startswith(rest) for mark in _OTHERS):
            return len(rest)
    return 0


def is_call(beginning: str) -> bool:
    """Whether it can hardly be anything else than the beginning of a call."""
    return len(beginning) >= _LEAST_OF_CALL and any(mark.startswith(beginning) for mark in _CALLS)


_BEGUN = re.compile("|".join(map(re.escape, _CALLS)))


def begun(text: str) -> int:
    """Where the first mark of a call begins in `text`; -1 where there is none.

    >>> begun("I look. <tool_call>{"), begun("3 < 4")
    (8, -1)
    """
    found = _BEGUN.search(text)
    return found.start() if found else -1
