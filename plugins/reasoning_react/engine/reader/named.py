"""Calls that begin with a tool's name and nothing else: `fetch {"url": …}`, `<fetch><url>…</url></fetch>`."""

from __future__ import annotations

import re

from shared.call_markup.types import properties_of
from shared.loose_json import CutOff, NotRead, read_value

from ..chat import JSON
from ..reading import Call
from . import inputs
from .names import Tools
from .schemas import cut_off, raw_typed

_LINE = re.compile(
    r"^[ \t]{0,3}[`.]{0,4}(?:functions?[.:/]|tools?\.|default_api\.)?"
    r"(?:(?P<name>[^\s<>{}()\[\]\"'`:=,]{1,100})(?::\d{1,3})?[ \t]{0,3}(?=\{)|<(?P<tag>[^\s<>/]{1,100})>)",
    re.MULTILINE,
)
_TOOL = re.compile(r"\s{0,20}(?P<name>[^\s<>]{1,100})\s{0,20}</tool>\s{0,20}(?P<opened><tool_input>)?")
_MOST_FAILURES = 8  # of JSON behind a name, each of which is read to its end


def named_calls(text: str, tools: Tools) -> list[tuple[Call, int, int]]:
    """(call, where it starts, where it ends) of those that name a tool. Raises CannotRead where one is cut off."""
    found: list[tuple[Call, int, int]] = []
    failures = 0
    at = 0
    while failures < _MOST_FAILURES and (match := _LINE.search(text, at)) is not None:
        at = match.end()
        name = match["name"] or match["tag"]
        if name == "tool" and (inner := _TOOL.match(text, at)) and inner["name"] in tools:
            name = inner["name"]
            closing = text.find("</tool_input>", inner.end()) if inner["opened"] else inner.end()
            if closing < 0:
                raise cut_off(name)
            arguments = inputs.of_text(text[inner.end() : closing].strip(), name, tools[name])
            found.append(
                (Call(name, arguments), match.start(), closing + (len("</tool_input>") if inner["opened"] else 0))
            )
            at = found[-1][2]
            continue
        if name not in tools:
            continue
        if match["tag"]:
            closing = text.find(f"</{name}>", at)
            if closing < 0:
                failures += 1
                continue
            found.append((Call(name, _of_tag(text[at:closing], name, tools)), match.start(), closing + len(name) + 3))
        else:
            try:
                value, end = read_value(text, at)
            except NotRead as error:
                failures += 1
                if isinstance(error, CutOff) and not text[: match.start()].strip():
                    raise cut_off(name) from None
                continue
            found.append((Call(name, inputs.of_value(value, name, tools[name])), match.start(), end))
        at = found[-1][2]
    return found


def _of_tag(inner: str, name: str, tools: Tools) -> dict[str, JSON]:
    """The arguments between a tool's tags: JSON, an element for each, or the text alone."""
    properties = properties_of(tools[name])
    arguments: dict[str, JSON] = {}
    for key in properties:
        start = inner.find(f"<{key}>")
        end = inner.find(f"</{key}>", start)
        if 0 <= start < end:
            arguments[key] = inner[start + len(key) + 2 : end].strip()
    if arguments:
        return raw_typed(arguments, tools[name])
    bare = inner.strip()
    if bare[:1] in ("{", "["):
        return inputs.arguments_at(bare, 0, len(bare), name, tools[name], ends=True, cut=False)[0]
    return inputs.of_text(bare, name, tools[name])
