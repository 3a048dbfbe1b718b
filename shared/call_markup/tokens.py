"""Elements written with special tokens: Kimi K3 (`<|open|>call tool="NAME"<|sep|>…<|close|>call<|sep|>`) and MiniMax M3
(`]<]minimax[>[<invoke name="NAME">]<]minimax[>[<KEY>VALUE]<]minimax[>[</KEY>…`)."""

from __future__ import annotations

import re
from typing import Any

from ..loose_json import CutOff
from .objects import Calls
from .source import Problem, Source
from .types import kinds, properties_of, typed

JSON = Any

KIMI = "<|open|>call"
_KIMI_CALL = re.compile(r"<\|open\|>call\s([^<>\n]{0,400})<\|sep\|>")
_KIMI_ARGUMENT = re.compile(r"<\|open\|>argument\s([^<>\n]{0,400})<\|sep\|>")
_KIMI_CALL_END, _KIMI_ARGUMENT_END = "<|close|>call<|sep|>", "<|close|>argument<|sep|>"
_ATTRIBUTE = re.compile(r"(\w{1,40})=\"([^\"]{0,300})\"")

MINIMAX = "]<]minimax[>["
_MINIMAX_INVOKE = re.compile(r"\]<\]minimax\[>\[\s{0,20}<invoke\s{1,20}name=\"([^\"\n]{1,200})\"\s{0,20}>")
_MINIMAX_TAG = re.compile(r"\]<\]minimax\[>\[\s{0,20}<(/?)([^<>/\s]{1,200})>")
_DEEPEST = 20


def read_kimi(source: Source, start: int) -> tuple[Calls, int]:
    """Raises CutOff, Problem."""
    text = source.text
    opening = _KIMI_CALL.match(text, start)
    if opening is None:
        raise _cut_or(source, start, "it has no name")
    name = source.names.resolved(_attributes(opening[1]).get("tool", ""))
    if not name:
        raise Problem("a call has no name")
    at = opening.end()
    arguments: dict[str, JSON] = {}
    raw: set[str] = set()
    while not text.startswith(_KIMI_CALL_END, at := source.blanks(at)):
        argument = _KIMI_ARGUMENT.match(text, at)
        if argument is None:
            raise _cut_or(source, at, f"the call of {name} has no {_KIMI_CALL_END}")
        end = source.find(_KIMI_ARGUMENT_END, argument.end())
        if end < 0:
            raise CutOff(f"it has no {_KIMI_ARGUMENT_END}", len(text))
        given = _attributes(argument[1])
        key = given.get("key", "")
        if not key or key in arguments:
            raise Problem(f"an argument of {name} {'is there twice' if key else 'has no key'}")
        arguments[key] = text[argument.end() : end]
        if given.get("type", "string") != "string":
            raw.add(key)
        at = end + len(_KIMI_ARGUMENT_END)
    return ((name, typed(arguments, source.tools.get(name, {}), frozenset(raw))),), at + len(_KIMI_CALL_END)


def starts_minimax(source: Source, start: int) -> bool:
    return _MINIMAX_INVOKE.match(source.text, start) is not None


def read_minimax(source: Source, start: int) -> tuple[Calls, int]:
    """Raises CutOff, Problem."""
    opening = _MINIMAX_INVOKE.match(source.text, start)
    if opening is None:
        raise _cut_or(source, start, "there is no invoke in it")
    name = source.names.resolved(opening[1])
    parameters = source.tools.get(name, {})
    # Of each open element: its name, and what stands in it so far.
    open_elements: list[tuple[str, dict[str, JSON] | list[JSON] | None]] = [("invoke", {})]
    at = opening.end()
    while True:
        mark = source.find(MINIMAX, at)
        if mark < 0:
            raise CutOff("it ends before its end mark", len(source.text))
        tag = _MINIMAX_TAG.match(source.text, mark)
        if tag is None:
            raise _cut_or(source, mark, f"the call of {name} has a mark without a tag")
        between, at = source.text[at:mark], tag.end()
        element, inner = open_elements[-1]
        if not tag[1]:
            if between.strip() or len(open_elements) > _DEEPEST:
                raise Problem(f"{element} in the call of {name} has both text and elements, or is too deep")
            if inner is None:
                inner = [] if tag[2] == "item" else {}
                open_elements[-1] = element, inner
            open_elements.append((tag[2], None))
            continue
        if tag[2] != element:
            raise Problem(f"{element} in the call of {name} is not closed")
        open_elements.pop()
        if not open_elements:
            arguments: Any = inner
            return ((name, typed(arguments, parameters, frozenset(arguments))),), at
        _put(open_elements, element, between if inner is None else inner, name, parameters)


def _put(open_elements: list[tuple[str, Any]], element: str, value: JSON, name: str, parameters: Any) -> None:
    container = open_elements[-1][1]
    if isinstance(container, list):
        container.append(value)
    elif element in container:
        raise Problem(f"{element} in the call of {name} is there twice")
    else:
        if isinstance(value, str) and len(open_elements) == 1:
            allowed = kinds(properties_of(parameters).get(element), parameters)
            value = {} if not value.strip() and allowed == {"object"} else value
        container[element] = value


def _attributes(text: str) -> dict[str, str]:
    return {key: value.replace("&quot;", '"').replace("&amp;", "&") for key, value in _ATTRIBUTE.findall(text)}


def _cut_or(source: Source, at: int, problem: str) -> Exception:
    """CutOff where so little of the text is left that it may be the beginning of a mark."""
    if len(source.text) - at < 60 and "\n" not in source.text[at:].strip():
        return CutOff("it ends within a mark", len(source.text))
    return Problem(problem)
