"""GLM's form: `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>`."""

from __future__ import annotations

import re

from shared.call_markup.objects import Calls
from shared.call_markup.source import Problem, Source
from shared.call_markup.types import typed
from shared.loose_json import CutOff

_NAME = re.compile(r"[^\s<>{}()\[\]\"',;=]{1,200}")
_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"


def starts(source: Source, at: int, closer: str) -> bool:
    """Whether a name stands at `at`, and behind it arguments, the end mark or nothing."""
    name = _NAME.match(source.text, at)
    if name is None:
        return False
    after = source.blanks(name.end())
    return after >= len(source.text) or source.text.startswith((_KEY, closer), after)


def read(source: Source, at: int, closer: str) -> tuple[Calls, int]:
    """The call, and where its end mark begins. Raises CutOff, Problem."""
    text = source.text
    written = _NAME.match(text, at)
    if written is None:
        raise Problem("a call has no name")
    at = written.end()
    arguments: dict[str, str] = {}
    while True:
        at = source.blanks(at)
        if text.startswith(closer, at):
            break
        if not text.startswith(_KEY, at):
            if len(text) - at < max(len(_KEY), len(closer)):
                raise CutOff("it ends before its end mark", len(text))
            raise Problem(f"the call of {written[0]} has something else than {_KEY} or {closer} where one must stand")
        key, at = _until(source, at + len(_KEY), _KEY_END)
        key = key.strip()
        at = source.blanks(at)
        if text.startswith(_VALUE, at):
            at += len(_VALUE)
        value, end = _until(source, at, _VALUE_END)
        if _KEY in value:
            raise Problem(f"the argument {key} has no {_VALUE_END}")
        if key in arguments:
            raise Problem(f"the argument {key} is there twice")
        arguments[key], at = value, end
    name = source.names.resolved(written[0])
    return ((name, typed(dict(arguments), source.tools.get(name, {}), frozenset(arguments))),), at


def _until(source: Source, at: int, literal: str) -> tuple[str, int]:
    end = source.find(literal, at)
    if end < 0:
        raise CutOff(f"it has no {literal}", len(source.text))
    return source.text[at:end], end + len(literal)
