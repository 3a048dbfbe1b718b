"""Actions written as a JSON object: `{"action": …, "action_input": …}` and its relatives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.call_markup.types import properties_of, typed
from shared.loose_json import CutOff, NotRead, read_value

from ..chat import JSON
from ..reading import Call
from . import answers, inputs, names
from .names import Tools
from .schemas import CannotRead

_NAMES = (
    "action",
    "tool",
    "toolname",
    "name",
    "actionname",
    "function",
    "functionname",
    "nexttoolname",
    "recipientname",
)
_INPUTS = ("actioninput", "input", "toolinput", "arguments", "args", "parameters", "params", "actionargs", "toolargs",
           "actionarguments", "toolarguments", "nexttoolargs", "toolparameters", "kwargs", "actionoutput")  # fmt: skip
_WRAPPERS = (
    "toolcall",
    "toolcalls",
    "functioncall",
    "function",
    "action",
    "actions",
    "command",
    "tool",
    "call",
    "tooluses",
)
_THOUGHTS = ("thought", "thoughts", "nextthought", "reasoning", "thinking")
_ANSWERS = ("finalanswer", "answer")
_DEEPEST = 4
FORM = '{"action": "NAME", "action_input": {…}}'
CUT_OFF = "The JSON of the action was cut off, so it was not run. Write it again, whole, and shorter if need be."
_MOST = 64  # calls in one list
_LOOKS_LIKE = re.compile(
    r"[{\[\s]{1,40}[\"'“](?:action|tool|tool_name|name|function|tool_call|tool_calls|command|action_input|thought|arguments)"
    r"[\"'”]\s{0,20}:",
    re.IGNORECASE,
)
_START = re.compile(
    r"(?:(?:`{3,}|~{3,})[\w+-]{0,20}\s{0,20})?(?:\$\w{1,30}\s{1,20}|json\s{1,20})?(?=[{\[])", re.IGNORECASE
)


@dataclass(frozen=True)
class Blob:
    """What a JSON object asks for: calls, or an answer. `explicit`: its keys say action, so an unknown name counts."""

    calls: tuple[Call, ...] = ()
    answer: str | None = None
    thought: str = ""
    explicit: bool = False
    nothing: bool = False  # it says that no tool is wanted


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name[:60]).casefold()


def of_value(
    value: JSON, tools: Tools, *, given: tuple[str, dict[str, JSON]] | None = None, depth: int = 0
) -> Blob | None:
    """None: it asks for nothing. Raises CannotRead."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        blobs = [of_value(item, tools, depth=depth + 1) for item in value[:_MOST]]
        whole = [blob for blob in blobs if blob is not None]
        if not whole or len(whole) != len(value):
            return None
        if whole[0].calls:
            calls = tuple(call for blob in whole for call in blob.calls)
            return Blob(calls, thought=whole[0].thought, explicit=all(blob.explicit for blob in whole if blob.calls))
        return whole[0]
    if not isinstance(value, dict) or not value:
        return None
    keys = {_key(key): key for key in reversed(value)}
    thought = _thought(value, keys)
    named = next((keys[key] for key in _NAMES if key in keys and isinstance(value[keys[key]], str)), None)
    given_input = next((keys[key] for key in _INPUTS if key in keys and keys[key] != named), None)
    if named is None or (given_input is None and _key(named) in ("function", "name", "tool")):
        wrapped = _wrapped(value, keys, tools, depth)
        if wrapped is not None:
            return Blob(wrapped.calls, wrapped.answer, wrapped.thought or thought, wrapped.explicit, wrapped.nothing)
    if named is None:
        answer = next((keys[key] for key in _ANSWERS if key in keys), None)
        others = {key for key in keys if key not in _THOUGHTS}
        if answer is not None and len(others) == 1 and (thought or _key(answer) == "finalanswer"):
            return Blob(answer=answers.of_value(value[answer]), thought=thought, explicit=True)
        return None
    return _call(value, named, given_input, tools, thought)


def _call(value: dict[str, JSON], named: str, given_input: str | None, tools: Tools, thought: str) -> Blob | None:
    written = value[named]
    keys = {_key(named), _key(given_input or "")}
    explicit = bool(keys & {"action", "actionname", "nexttoolname", "actioninput", "toolinput", "actionargs"})
    known = names.known_name(written, tools)
    if known is None and explicit and names.is_finish(written, tools):
        rest = value[given_input] if given_input is not None else _only_rest(value, named)
        return Blob(answer=answers.of_value(rest), thought=thought, explicit=True)
    if known is None and explicit and names.is_none(written, tools):
        return Blob(thought=thought, explicit=True, nothing=True)
    if given_input is None and not explicit and known is None:
        return None
    name = known or names.clean(written)
    if not name:
        return None
    schema = tools[known] if known is not None else None
    if given_input is not None:
        arguments = inputs.of_value(value[given_input], name, schema)
    else:
        properties = properties_of(schema or {})
        arguments = typed(
            {key: item for key, item in value.items() if key in properties and key != named}, schema or {}
        )
        if schema is not None and not arguments:
            arguments = inputs.of_value(None, name, schema)
    _refuse_nested(name, arguments, schema, tools)
    return Blob((Call(name, arguments),), thought=thought, explicit=explicit)


def whole_call(arguments: dict[str, JSON], name: str, tools: Tools) -> tuple[Call, ...] | None:
    """The call that an input repeats whole, name and all; None: it is just arguments. Raises CannotRead where it is a
    call of another tool."""
    if name not in tools or set(arguments) <= set(properties_of(tools[name])):
        return None
    keys = {_key(key): key for key in arguments}
    named = next((keys[key] for key in _NAMES if key in keys and isinstance(arguments[keys[key]], str)), None)
    if named is None or not set(keys) & set(_INPUTS) or names.known_name(arguments[named], tools) is None:
        return None
    if names.known_name(arguments[named], tools) != name:
        raise CannotRead(
            f"The input of {name} is a call of {arguments[named]}. Write one action: its name after `Action:`, its "
            "arguments after `Action Input:`."
        )
    blob = of_value(arguments, tools)
    return blob.calls if blob is not None else None


def _only_rest(value: dict[str, JSON], named: str) -> JSON:
    rest = {key: item for key, item in value.items() if key != named and _key(key) not in _THOUGHTS}
    return next(iter(rest.values())) if len(rest) == 1 else rest or None


def _refuse_nested(name: str, arguments: dict[str, JSON], schema: Mapping[str, Any] | None, tools: Tools) -> None:
    for key, item in arguments.items():
        if isinstance(item, dict):
            keys = {_key(inner): inner for inner in item}
            named = next((keys[inner] for inner in _NAMES if inner in keys), None)
            if named is not None and isinstance(item[named], str) and item[named] in tools and set(keys) & set(_INPUTS):
                raise CannotRead(
                    f"The argument {key} of {name} is a call itself. Call {item[named]} first, and then write {name} "
                    "with its result."
                )


def _wrapped(value: dict[str, JSON], keys: dict[str, str], tools: Tools, depth: int) -> Blob | None:
    for key in _WRAPPERS:
        if key in keys and isinstance(value[keys[key]], dict | list):
            return of_value(value[keys[key]], tools, depth=depth + 1)
    if len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in tools and isinstance(inner, dict | str | None):
            return Blob((Call(key, inputs.of_value(inner, key, tools[key])),))
    return None


def _thought(value: dict[str, JSON], keys: dict[str, str]) -> str:
    for key in _THOUGHTS:
        written = value.get(keys.get(key, ""))
        if isinstance(written, dict):
            written = written.get("text", written.get("reasoning"))
        if isinstance(written, str):
            return written.strip()
    return ""


def starts_at(text: str, place: int) -> int | None:
    """Where the JSON begins that stands at `place`, a fence or the prompt's placeholder before it aside."""
    match = _START.match(text, place)
    return match.end() if match else None


def looks_like_call(text: str, start: int) -> bool:
    return _LOOKS_LIKE.match(text, start) is not None


def read_at(text: str, start: int, tools: Tools) -> tuple[Blob | None, int]:
    """The JSON at `start` and where it ends. Raises CannotRead where it is a call that is not whole."""
    try:
        value, end = read_value(text, start)
    except NotRead as error:
        if not looks_like_call(text, start):
            return None, start
        if isinstance(error, CutOff):
            raise CannotRead(CUT_OFF) from None
        raise CannotRead(f"The JSON of the action cannot be read: {error}. Write it again as {FORM}.") from None
    return of_value(value, tools), end
