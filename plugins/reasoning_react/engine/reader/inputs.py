"""What a model wrote as an action's input → the arguments of the tool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.call_markup.types import kinds, only_property, properties_of, typed
from shared.loose_json import CutOff, NotRead, Unreadable, read_value, read_whole

from ..chat import JSON
from .pairs import pairs
from .schemas import CannotRead, cut_off, only_text, refuse_schema, shape, unwrapped

_NOTHING = frozenset({"", "none", "null", "nil", "n/a", "na", "{}", "()", "[]", '""', "''", "no input", "no arguments",
                      "empty", "(none)", "no input needed", "no input required", "not applicable", "-"})  # fmt: skip
_FENCE = re.compile(r"(?:`{3,}|~{3,})[ \t]*([\w+.#-]{0,20})[ \t]*(?:\r?\n|\Z|(?=[{\[]))")
_FENCE_END = re.compile(r"^[ \t]{0,3}(?:`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)
_ADDRESS = re.compile(r"<https?://[^\s<>]{1,2000}>")
_LEAKED_STOP = re.compile(
    r"\n[ \t]{0,3}Obs(?:e(?:r(?:v(?:a(?:t(?:i(?:on?)?)?)?)?)?)?)?[ \t]*\Z"
)  # of a stop sequence that came late
_INLINE_END = re.compile(r"[ \t](?:Observation|Final Answer|Thought)[ \t]?[:：]")
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "«": "»", "「": "」", "‘": "’"}
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "r": "\r"}


def arguments_at(
    text: str, start: int, stop: int, tool: str, schema: Mapping[str, Any] | None, *, ends: bool, cut: bool
) -> tuple[dict[str, JSON], int]:
    """The arguments that stand between `start` and `stop`, and where they end. `ends`: the text ends at `stop`, no
    label follows, and so, with `cut`, they may be incomplete. Raises CannotRead."""
    place = _skip(text, start, stop)
    fence = _FENCE.match(text, place, stop)
    inside = _skip(text, fence.end(), stop) if fence else place
    inside = _after_placeholder(text, inside, stop)
    if text.startswith("{{", inside):
        inside += 1  # a template's escape
    if text[inside : inside + 1] in ("{", "["):
        json_stop = stop
        try:
            value, end = read_value(text[inside:json_stop])
        except CutOff:
            raise cut_off(tool) from None
        except Unreadable as error:
            return _not_json(text, inside, stop, tool, schema, error, fence is not None, ends and cut)
        arguments = of_value(value, tool, schema)
        return arguments, inside + end
    if fence:
        closing = _FENCE_END.search(text, fence.end(), stop)
        if closing is None and ends:
            raise cut_off(tool)
        raw = text[fence.end() : closing.start() if closing else stop]
        end = closing.end() if closing else stop
        return of_text(raw.strip("\r\n") if "\n" in raw.strip() else raw.strip(), tool, schema), end
    raw = text[place:stop]
    inline = _INLINE_END.search(raw) if "\n" not in raw.rstrip() else None
    leaked = _LEAKED_STOP.search(raw) if ends else None
    raw = raw[: inline.start() if inline else leaked.start() if leaked else len(raw)].rstrip()
    if ends and cut and not inline and not leaked and not _is_closed(raw):
        raise cut_off(tool)
    return of_text(raw.strip(), tool, schema), place + len(raw)


def _skip(text: str, place: int, stop: int) -> int:
    while place < stop and text[place] in " \t\r\n\ufeff":
        place += 1
    return place


_PLACEHOLDER = re.compile(r"(?:\$\w{1,30}|json|JSON)[ \t]*[:=]?\s{0,20}(?=[{\[])")


def _after_placeholder(text: str, place: int, stop: int) -> int:
    match = _PLACEHOLDER.match(text, place, stop)
    return match.end() if match else place


def _is_closed(raw: str) -> bool:
    """Whether a text says itself that it is whole."""
    if raw[:1] == '"':
        try:
            return read_value(raw)[1] == len(raw)
        except NotRead:
            return False
    closing = _QUOTES.get(raw[:1], "")
    return (len(raw) > 1 and raw[-1:] == closing and closing not in raw[1:-1]) or raw.casefold() in _NOTHING - {"", "-"}


def of_value(value: JSON, tool: str, schema: Mapping[str, Any] | None) -> dict[str, JSON]:
    """Arguments that came as JSON. Raises CannotRead."""
    if schema is None:
        return value if isinstance(value, dict) else {} if value in (None, "", []) else {"input": value}
    properties = properties_of(schema)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        arguments = typed(unwrapped(value, properties, schema), schema)
        refuse_schema(arguments, tool, schema)
        return arguments
    if value is None or value in ("", []) or not properties:
        return {} if value in (None, []) or not properties else _bare("", tool, schema)
    if isinstance(value, str):
        return of_text(value, tool, schema, quoted=True)
    return typed({_only(tool, schema, value): value}, schema)


def _only(tool: str, schema: Mapping[str, Any], value: JSON) -> str:
    only = only_property(schema)
    if only and (
        isinstance(value, list) <= ("array" in (allowed := kinds(properties_of(schema)[only], schema)) or not allowed)
    ):
        return only
    raise CannotRead(f"The input of {tool} must be one JSON object. Write: Action Input: {shape(tool, schema)}")


def of_text(raw: str, tool: str, schema: Mapping[str, Any] | None, *, quoted: bool = False) -> dict[str, JSON]:
    """Arguments that came as plain text. Raises CannotRead."""
    if schema is None:
        return {} if raw.casefold() in _NOTHING else {"input": raw}
    properties = properties_of(schema)
    bare = raw if quoted else raw.strip("`").strip() if raw[:1] == "`" == raw[-1:] and raw.count("\n") == 0 else raw
    if not properties:
        return {}
    if not quoted and bare.casefold() in _NOTHING:
        return _bare(bare, tool, schema)
    if bare[:1] == "{":
        try:
            value = read_whole(bare)
        except NotRead:
            value = None
        if isinstance(value, dict) and (set(value) & set(properties) or not only_text(schema)):
            return typed(unwrapped(value, properties, schema), schema)
    if not quoted:
        given = pairs(bare, properties, schema)
        if given is not None:
            return given
        unquoted = _without_quotes(bare, tool)
        if unquoted != bare and unquoted.lstrip().startswith("{"):
            return of_text(unquoted, tool, schema, quoted=True)
        bare = unquoted[1:-1] if _ADDRESS.fullmatch(unquoted) else unquoted
    only = only_text(schema)
    begin, end = f"<{only}>", f"</{only}>"
    if only and bare.startswith(begin) and bare.find(end) == len(bare) - len(end):
        bare = bare[len(begin) : -len(end)].strip()
    if not only:
        raise CannotRead(f"The input of {tool} must be one JSON object. Write: Action Input: {shape(tool, schema)}")
    return typed({only: bare}, schema, raw=frozenset([only]))


def _bare(raw: str, tool: str, schema: Mapping[str, Any]) -> dict[str, JSON]:
    """Arguments where none were written."""
    required = schema.get("required")
    if not isinstance(required, list) or not required:
        return {}
    if raw in ('""', "''"):
        only = only_text(schema)
        return {only: ""} if only else {}
    raise CannotRead(f"{tool} needs an input. Write: Action Input: {shape(tool, schema)}")


def _without_quotes(raw: str, tool: str) -> str:
    """A text without the quotes around all of it; quotes that are part of it stay."""
    closing = _QUOTES.get(raw[:1])
    if raw[:1] == "`" and raw.count("`") == 1:
        raise cut_off(tool)
    if closing is None or raw[:1] == "`":
        return raw
    if raw[:1] == '"':
        try:
            value, end = read_value(raw)
            if isinstance(value, str) and not raw[end:].strip(" \t\r\n.,;"):
                return value
            return raw
        except CutOff:
            raise cut_off(tool) from None
        except Unreadable:
            pass
    inner = raw[1:-1]
    return inner if len(raw) > 1 and raw.endswith(closing) and closing not in inner and raw[0] not in inner else raw


def _not_json(
    text: str,
    start: int,
    stop: int,
    tool: str,
    schema: Mapping[str, Any] | None,
    error: Unreadable,
    fenced: bool,
    may_go_on: bool,
) -> tuple[dict[str, JSON], int]:
    """What looks like JSON and is none: a text with quotes of its own in the only parameter, or plain text."""
    closing = _FENCE_END.search(text, start, stop) if fenced else None
    raw = text[start : closing.start() if closing else stop].rstrip()
    only = only_text(schema) if schema is not None else ""
    if only and raw.startswith("{"):
        value = _bounded(raw, only)
        if value is not None:
            return typed({only: value}, schema or {}), start + len(raw)
    elif only and raw.startswith("[") and may_go_on:
        raise cut_off(tool)
    elif only and raw.startswith("[") and not raw.startswith(("[{", '["')):
        return of_text(raw, tool, schema), start + len(raw)
    raise CannotRead(
        f"The input of {tool} is not valid JSON: {error}. Write it again as one JSON object: "
        f"Action Input: {shape(tool, schema)}"
    )


_OPENING = re.compile(r"\{\s{0,50}[\"'“”„]([^\"'“”„\n]{1,60})[\"'“”„]\s{0,50}:\s{0,50}\"")
_ANOTHER_KEY = re.compile(r"\"\s{0,50},\s{0,50}[\"'“„]?[\w-]{1,60}[\"'”“]?\s{0,50}:")
_ENDING = re.compile(r"[\"”“]\s{0,50}\}\s*\Z")


def _bounded(raw: str, only: str) -> str | None:
    """The text between `{"name": "` and `"}` where it is the only value, whatever quotes it has inside."""
    opening = _OPENING.match(raw)
    ending = _ENDING.search(raw, max(0, len(raw) - 200))
    if opening is None or ending is None or opening[1] != only or ending.start() < opening.end():
        return None
    inner = raw[opening.end() : ending.start()]
    if _ANOTHER_KEY.search(inner):
        return None
    return re.sub(r"\\([nrt\"\\/])", lambda match: _ESCAPES[match[1]], inner)
