"""Calls as elements: `<function=NAME><parameter=KEY>VALUE</parameter></function>` of Qwen Coder, Seed and MiMo,
`<invoke name="NAME"><parameter name="KEY">` of Claude, MiniMax, DeepSeek (DSML) and Step, and `<action><tool_name>`."""

from __future__ import annotations

import re

from ..loose_json import CutOff
from .objects import Calls, call
from .source import NotMarkup, Problem, Source
from .types import properties_of, typed

# The name of a namespace may stand before that of an element: antml:invoke, ｜DSML｜invoke, steptml:invoke.
_SPACE = r"(?:[｜|]{0,2}[A-Za-z]{1,20}[｜|:]{1,2})?"
OPENING = re.compile(
    rf"<(?P<element>{_SPACE}(?:function|invoke))(?:\s{{0,20}}=\s{{0,20}}|\s{{1,20}}name\s{{0,20}}=\s{{0,20}})"
    r"(?P<quote>[\"']?)(?P<name>[^\s\"'<>=/]{1,200})(?P=quote)[^<>\n]{0,100}>"
)
CUT_OPENING = re.compile(rf"<{_SPACE}(?:function|invoke)(?:[\s=][^<>]{{0,200}})?\Z")
_PARAMETER = re.compile(
    rf"<(?P<element>{_SPACE}(?:parameter|param|arg))(?:\s{{0,20}}=\s{{0,20}}|\s{{1,20}}(?:name|key)\s{{0,20}}=\s{{0,20}})"
    r"(?P<quote>[\"']?)(?P<name>[^\"'<>\n]{1,200}?)(?P=quote)(?:\s[^<>\n]{0,100})?>"
)
_STRING = re.compile(r"\sstring\s*=\s*[\"']?(true|false)")
TOOL = re.compile(r"<tool:\s{0,20}[^>\s]{1,40}\s{0,20}>\s{0,100}([^\s<>{}]{1,200})\s{0,100}")
_ACTION_NAME = re.compile(r"\s{0,100}<(tool_name|tool|name)>([^<>]{1,200})</\1>\s{0,100}")


def read(source: Source, start: int) -> tuple[Calls, int]:
    """The element that begins at `start`, and where it ends. Raises CutOff, NotMarkup, Problem."""
    text = source.text
    opening = OPENING.match(text, start)
    if opening is None:
        raise NotMarkup
    written, closer = opening["name"], f"</{opening['element']}>"
    known = source.names.known(written)
    name = known or source.names.resolved(written)
    at = source.blanks(opening.end())
    if opening[0].endswith("/>"):
        return ((name, {}),), opening.end()
    if text.startswith("{", at):
        value, at = source.value(at, closer)
        at = source.behind(at)
        return (call(written, value, source),), _closed(source, at, closer, name)
    if not text.startswith("<", at) and at < len(text):
        # Nothing that can stand in a call: the text writes about markup.
        if not known or not source.starts_line(start):
            raise NotMarkup
        raise Problem(f"the call of {name} has something else than a parameter where one must stand")
    parameters = source.tools.get(name, {})
    arguments, raw, at = _parameters(source, at, closer, name, properties_of(parameters))
    return ((name, typed(arguments, parameters, raw)),), at


def read_action(source: Source, start: int, mark: str) -> tuple[Calls, int]:
    """`<action><tool_name>NAME</tool_name><arguments><arg key="KEY">VALUE</arg></arguments></action>`, from behind its
    first mark. Raises CutOff, NotMarkup, Problem."""
    text = source.text
    end_mark = mark.replace("<", "</")
    written = _ACTION_NAME.match(text, start)
    if written is None:
        raise NotMarkup
    name = source.names.resolved(written[2])
    at = written.end()
    parameters = source.tools.get(name, {})
    for element in ("arguments", "parameters", "args", "input"):
        if text.startswith(f"<{element}>", at):
            at = source.blanks(at + len(element) + 2)
            closer = f"</{element}>"
            if text.startswith("{", at):
                value, at = source.value(at, closer)
                at = _closed(source, source.behind(at), closer, name)
                return (call(name, value, source),), _closed(source, source.blanks(at), end_mark, name)
            arguments, raw, at = _parameters(source, at, closer, name, properties_of(parameters))
            at = _closed(source, source.blanks(at), end_mark, name)
            return ((name, typed(arguments, parameters, raw)),), at
    if not text.startswith(end_mark, at) and end_mark.startswith(text[at : at + len(end_mark)]):
        raise CutOff("it ends before its end mark", len(text))
    return ((name, {}),), _closed(source, at, end_mark, name)


def read_tool(source: Source, start: int) -> tuple[Calls, int]:
    """`<tool: …>NAME VALUE</tool>`, as CWM writes it. Raises CutOff, NotMarkup, Problem."""
    opening = TOOL.match(source.text, start)
    name = source.names.known(opening[1]) if opening else ""
    if opening is None or not name:
        raise NotMarkup
    end = source.find("</tool>", opening.end())
    if end < 0:
        raise CutOff("it has no </tool>", len(source.text))
    return (call(name, source.text[opening.end() : end].strip(), source),), end + len("</tool>")


def _parameters(
    source: Source, at: int, closer: str, name: str, properties: dict[str, object]
) -> tuple[dict[str, object], frozenset[str], int]:
    """Arguments, which of them are text as it stood, and where the end mark of all ends."""
    text = source.text
    arguments: dict[str, object] = {}
    raw: set[str] = set()
    while True:
        at = source.blanks(at)
        if text.startswith(closer, at):
            return arguments, frozenset(raw), at + len(closer)
        opening = _PARAMETER.match(text, at)
        if opening is None:
            if len(text) - at < 200 and ">" not in text[at:]:
                raise CutOff("it ends before its end mark", len(text))
            raise Problem(f"the call of {name} has something else than a parameter or {closer} where one must stand")
        key = opening["name"].strip()
        end_mark = f"</{opening['element']}>"
        end = source.find(end_mark, opening.end())
        if end < 0:
            if source.find(closer, opening.end()) >= 0:
                raise Problem(f"the parameter {key} of {name} has no {end_mark}")
            raise CutOff(f"it has no {end_mark}", len(text))
        value = text[opening.end() : end]
        if key in arguments:
            raise Problem(f"the parameter {key} of {name} is there twice")
        inner = _PARAMETER.search(value)
        if inner is not None and inner["name"] in properties and inner["name"] not in arguments:
            raise Problem(f"the parameter {key} of {name} has no {end_mark}")
        arguments[key] = _without_lines(value)
        stringness = _STRING.search(opening[0])
        if stringness is None or stringness[1] == "false":
            raw.add(key)
        at = end + len(end_mark)


def _without_lines(value: str) -> str:
    """The line breaks right behind the begin mark and right before the end mark belong to those."""
    if value.startswith("\n"):
        value = value[1:].removesuffix("\n")
    if value.startswith("<![CDATA[") and value.endswith("]]>"):
        return value[len("<![CDATA[") : -len("]]>")]
    return value


def _closed(source: Source, at: int, closer: str, name: str) -> int:
    at = source.blanks(at)
    for mark in (closer, closer.replace("/", "", 1)):  # some models forget the slash
        if source.text.startswith(mark, at):
            return at + len(mark)
    if len(source.text) - at < len(closer) and closer.startswith(source.text[at:]):
        return len(source.text)  # its arguments are whole
    raise Problem(f"the call of {name} has no {closer}")
