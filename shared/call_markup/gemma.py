"""Gemma's braces: `call:NAME{key:<|"|>text<|"|>,other:3}`, in FunctionGemma with `<escape>` around texts."""

from __future__ import annotations

import json
import re

from ..loose_json import CutOff, Unreadable, read_value
from .objects import Calls, call
from .source import Problem, Source

CALL = re.compile(r"call:\s{0,20}([^\s{}<>]{1,200})\s{0,20}\{")
_QUOTES = ('<|"|>', "<escape>")
_SIGN = re.compile(r'<\|"\|>|<escape>|"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
# A bracket, comma or key, and a value without quotes behind it: a number or a word of JSON stays one, all else is text.
_BARE = re.compile(r"((?:[{,]\s*[^\W\d][\w.-]*\s*:|[{,:\[])\s*)([^,{}\[\]\"\s][^,{}\[\]\"]*)?")
_SCALAR = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null|None|True|False")


def read(source: Source, at: int) -> tuple[Calls, int]:
    """The call at `at`, and where it ends. Raises CutOff, Unreadable, Problem."""
    text = source.text
    opening = CALL.match(text, at)
    if opening is None:
        raise Problem("there is no call:NAME{…} in it")
    parts: list[str] = []
    at, done = opening.end(), opening.end() - 1
    depth = 1
    while depth:
        sign = _SIGN.search(text, at)
        if sign is None:
            raise CutOff("it ends before it is whole", len(text))
        at = sign.end()
        if sign[0] in _QUOTES:
            end = source.find(sign[0], at)
            if end < 0:
                raise CutOff("it ends inside of a text", len(text))
            parts += [_quoted(text[done : sign.start()]), json.dumps(text[at:end])]
            at = done = end + len(sign[0])
        elif sign[0][0] == '"':
            parts += [_quoted(text[done : sign.start()]), sign[0]]
            done = at
        elif sign[0] in ("{", "["):
            depth += 1
        elif sign[0] in ("}", "]"):
            depth -= 1
    parts.append(_quoted(text[done:at]))
    try:
        arguments, _ = read_value("".join(parts))
    except (CutOff, Unreadable) as error:
        raise Unreadable(str(error), at) from None
    return (call(opening[1], arguments, source),), at


def _quoted(text: str) -> str:
    """JSON with its bare texts in quotes."""
    return _BARE.sub(_in_quotes, text)


def _in_quotes(bare: re.Match[str]) -> str:
    value = (bare[2] or "").rstrip()
    if not value or _SCALAR.fullmatch(value):
        return bare[0]
    return bare[1] + json.dumps(value)
