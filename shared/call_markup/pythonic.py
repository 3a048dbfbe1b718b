"""Calls written as Python has them: `fetch(url="…")`, alone or in a list. Llama 4, LFM2, Olmo 3, Gemma 3, Granite."""

from __future__ import annotations

import re
from typing import Any

from ..loose_json import CutOff, Unreadable
from .objects import Calls, call
from .source import Problem, Source

JSON = Any

CALL = re.compile(r"[^\W\d][\w.\-:]{0,199}\(")
_KEYWORD = re.compile(r"([^\W\d][\w\-]{0,199})\s{0,100}=(?!=)")
_MOST = 256  # calls in one list


class TooMany(Problem):
    """They are calls beyond doubt, but nobody means so many."""


def starts_call(source: Source, at: int) -> bool:
    return CALL.match(source.text, at) is not None


def starts_list(source: Source, at: int) -> bool:
    """Whether a list of calls begins at `at`."""
    return source.text.startswith("[", at) and starts_call(source, source.blanks(at + 1))


def read_call(source: Source, at: int) -> tuple[tuple[str, dict[str, JSON]], int]:
    """The call that begins at `at`, and where it ends. Raises CutOff, Unreadable, Problem."""
    opening = CALL.match(source.text, at)
    if opening is None:
        raise Unreadable("it is no call", at)
    name, at = opening[0][:-1], opening.end()
    arguments: dict[str, JSON] = {}
    positional: list[JSON] = []
    while True:
        at = _next(source, at)
        if source.text[at] == ")":
            break
        keyword = _KEYWORD.match(source.text, at)
        if keyword is not None:
            at = keyword.end()
        value, at = source.value(at)
        if keyword is None:
            positional.append(value)
        elif keyword[1] in arguments:
            raise Unreadable(f"the argument {keyword[1]} is there twice", at)
        else:
            arguments[keyword[1]] = value
        at = _next(source, at)
        if source.text[at] == ")":
            break
        if source.text[at] != ",":
            raise Unreadable(f"a comma or ) is missing behind an argument of {name}", at)
        at += 1
    if positional and (arguments or len(positional) > 1):
        raise Problem(f"the arguments of {name} have no names; write NAME(argument=value)")
    return call(name, positional[0] if positional else arguments, source), at + 1


def read_calls(source: Source, at: int, separators: str = ",") -> tuple[Calls, int]:
    """A list of calls in brackets, or calls one after the other. Raises CutOff, Unreadable, Problem."""
    calls: list[tuple[str, dict[str, JSON]]] = []
    in_brackets = source.text.startswith("[", at)
    if in_brackets:
        at = _next(source, at + 1)
    while True:
        read, at = read_call(source, at)
        calls.append(read)
        if len(calls) > _MOST:
            raise TooMany(f"there are more than {_MOST} calls; make a few at once")
        after = source.blanks(at)
        sign = source.text[after : after + 1]
        if in_brackets and not sign:
            raise CutOff("it ends before it is whole", after)
        if in_brackets and sign == "]":
            return tuple(calls), after + 1
        if sign and sign in separators:
            after = source.blanks(after + 1)
            if in_brackets and source.text.startswith("]", after):
                return tuple(calls), after + 1
        elif in_brackets:
            raise Unreadable("a comma or ] is missing", after)
        if not in_brackets and not starts_call(source, after):
            return tuple(calls), at
        at = after


def _next(source: Source, at: int) -> int:
    at = source.blanks(at)
    if at >= len(source.text):
        raise CutOff("it ends before it is whole", at)
    return at
