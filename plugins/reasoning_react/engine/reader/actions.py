"""What stands behind `Action:`, in the many ways that models write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.call_markup import read_marked
from shared.loose_json import CutOff, NotRead, Unreadable, read_value

from ..chat import JSON
from ..reading import Call
from . import answers, blobs, inputs, names
from .inputs import CannotRead
from .names import Tools


@dataclass(frozen=True)
class Place:
    """Where an action stands. `stop`: its end, that of its input included. `ends`: the text ends there, too."""

    start: int
    name_stop: int
    input_start: int | None
    stop: int
    ends: bool
    hard_stop: int  # the next made-up Observation, or the end of the text: JSON may go on to there


@dataclass(frozen=True)
class Asked:
    """What an action asks for: calls, an answer, or (neither) nothing."""

    end: int
    calls: tuple[Call, ...] = ()
    answer: str | None = None
    thought: str = ""


_HEAD = re.compile(r"[^\[({\n]{0,200}")
_FENCE = re.compile(r"(?:`{3,}|~{3,})[\w+-]{0,20}[ \t]*")
_NAME = re.compile(r"[^\s()\[\]{}<>\"'`,;:]{1,100}")
_INLINE_INPUT = re.compile(r"[ \t,;|]{1,4}Action[ _]?Input[ \t]?[:：]", re.IGNORECASE)
_INLINE_OBSERVATION = re.compile(r"[ \t](?:Observation|Final Answer)[ \t]?[:：]")
_XML = re.compile(r"<(?:action|tool|tool_call|tool_name|name|function)>", re.IGNORECASE)
_TAG = re.compile(r"<(tool_name|tool|name|function|action)>\s*([^<\s][^<]{0,200}?)\s*</\1>", re.IGNORECASE)
_ARGUMENT = re.compile(r"<(?:arg|argument|parameter|param)\s{1,5}(?:key|name)=[\"']([^\"'<>]{1,100})[\"']\s{0,5}>", re.IGNORECASE)
_INPUT_TAG = re.compile(r"<(tool_input|action_input|input|arguments|args|parameters)>", re.IGNORECASE)


def read_action(text: str, place: Place, tools: Tools, cut: bool) -> Asked:
    """Raises CannotRead."""
    start = _blanks(text, place.start, place.name_stop)
    if fence := _FENCE.match(text, start, place.name_stop):
        start = _blanks(text, fence.end(), place.name_stop)
    json_start = blobs.starts_at(text, start)
    if json_start is not None and json_start < place.name_stop and not _is_bracketed_name(text, json_start, tools):
        return _blob(text, json_start, place, tools)
    if _XML.match(text, start, place.name_stop):
        return _tags(text, start, place, tools)
    line_stop = _line_end(text, start, place.name_stop)
    inline = _INLINE_INPUT.search(text, start, line_stop)
    name_stop = inline.start() if inline else line_stop
    input_start = inline.end() if inline else place.input_start
    head = _HEAD.match(text, start, name_stop)
    head_stop = head.end() if head else start
    written = text[start:head_stop]
    if input_start is None or head_stop < name_stop:
        called = _called(text, start, head_stop, name_stop, place, tools, cut, has_input=input_start is not None)
        if called is not None:
            return called
    written = text[start:name_stop]
    if names.is_none(written, tools):
        return Asked(line_stop if place.input_start is None else place.name_stop)
    if input_start is None:
        return _without_input(text, start, line_stop, place, tools, cut)
    return _with_input(text, written, input_start, place, tools, cut)


def _blanks(text: str, start: int, stop: int) -> int:
    while start < stop and text[start].isspace():
        start += 1
    return start


def _line_end(text: str, start: int, stop: int) -> int:
    end = text.find("\n", start, stop)
    return stop if end < 0 else end


def _is_bracketed_name(text: str, start: int, tools: Tools) -> bool:
    """Whether it is a name in brackets, such as `[fetch]`."""
    line = text[start : _line_end(text, start, start + 200)]
    return '"' not in line and "'" not in line and names.known_name(line, tools) is not None


def _listed(tools: Tools) -> str:
    listed = [name[:60] for name in list(tools)[:20]]
    return f"one of {', '.join(listed)}{' and more' if len(tools) > 20 else ''}" if listed else "a tool (there is none)"


def no_name(tools: Tools) -> CannotRead:
    return CannotRead(
        f"The Action names no tool. Write the tool's name alone after `Action:`, {_listed(tools)}, and its input after "
        "`Action Input:`; or, if no tool is needed, write `Final Answer:` and the answer."
    )


def _with_input(text: str, written: str, input_start: int, place: Place, tools: Tools, cut: bool) -> Asked:
    known = names.known_name(written, tools)
    if known is None and names.is_finish(written, tools):
        return _answer(_keyword(_unfenced(text[input_start : place.stop])), place.stop, argument=True)
    if known is None and (names.is_placeholder(written) or not names.clean(written)):
        raise no_name(tools)
    name = known or names.clean(written)
    schema = tools[known] if known is not None else None
    return _call_of_input(text, input_start, name, schema, place, cut, tools)


def _call_of_input(text: str, start: int, name: str, schema: names.Schema | None, place: Place, cut: bool, tools: Tools) -> Asked:
    stop = place.stop
    begin = _blanks(text, start, stop)
    if blobs.starts_at(text, begin) is not None:
        stop = place.hard_stop  # what looks like a label inside of JSON is data
    arguments, end = inputs.arguments_at(text, start, stop, name, schema, ends=place.ends, cut=cut)
    inner = blobs.whole_call(arguments, name, tools)
    if inner is not None:
        return Asked(end, inner)
    return Asked(end, (Call(name, arguments),))


def _without_input(text: str, start: int, line_stop: int, place: Place, tools: Tools, cut: bool) -> Asked:
    """A name and no label for its input: the input follows a colon or on the next lines, or there is none."""
    written = text[start:line_stop].strip()
    following = _blanks(text, line_stop, place.stop)
    name, colon, rest = _split(written)
    known = names.known_name(written, tools)
    if known is None and colon and (named := names.known_name(name, tools)) is not None and rest:
        return _call_of_input(text, text.index(rest, start), named, tools[named], place, cut, tools)
    if known is None and names.is_finish(name if colon else written, tools):
        return _answer(text[(text.index(rest, start) if rest else following) : place.stop], place.stop)
    if following < place.stop and (blobs.starts_at(text, following) is not None):
        named = known or (names.clean(written) if _NAME.fullmatch(names.clean(written)) else None)
        if named:
            return _call_of_input(text, following, named, tools.get(named), place, cut, tools)
    if known is None:
        bare = names.clean(written)
        if not _NAME.fullmatch(bare) or names.is_placeholder(written):
            raise no_name(tools)
        return Asked(line_stop, (Call(bare, {}),))
    if place.ends and cut and following >= place.stop:
        raise inputs.cut_off(known)
    required = tools[known].get("required")
    if isinstance(required, list) and required:
        raise CannotRead(
            f"The Action {known} has no input. Write a line `Action Input: {inputs.shape(known, tools[known])}` after it."
        )
    return Asked(line_stop, (Call(known, {}),))


def _split(written: str) -> tuple[str, str, str]:
    match = re.match(r"([^:：]{1,100})([:：])\s*", written)
    return (match[1], match[2], written[match.end() :]) if match else (written, "", "")


def _called(
    text: str, start: int, opening: int, line_stop: int, place: Place, tools: Tools, cut: bool, *, has_input: bool
) -> Asked | None:
    """`name[input]`, `name(…)`, `name{…}`; None: it is none of these."""
    written = text[start:opening]
    opener = text[opening : opening + 1] if opening < place.name_stop else ""
    known = names.known_name(written, tools)
    finish = known is None and names.is_finish(written, tools)
    if opener not in ("[", "(", "{") or (opening >= line_stop) or not (known or finish or _NAME.fullmatch(names.clean(written))):
        return None
    name = known or names.clean(written)
    closing = _closing(text, opening, place)
    if has_input and (closing is None or opener != "{"):
        inner = text[opening + 1 : closing - 1].strip() if closing else "-"
        if inner:  # a remark behind the name
            return None
        return None
    if opener == "{":
        if finish:
            return None
        return _call_of_input(text, opening, name, tools.get(known or ""), place, cut, tools)
    if closing is None:
        raise inputs.cut_off(name)
    inner = text[opening + 1 : closing - 1].strip()
    if opener == "(" and not finish:
        marked = read_marked(f"{name}({inner})", {**tools, name: tools.get(name, {})})
        if len(marked.calls) == 1 and not marked.text:
            return Asked(closing, (Call(marked.calls[0].name, marked.calls[0].arguments),))
    if finish:
        return _answer(_keyword(inner), closing, argument=True)
    schema = tools.get(known or "")
    if known is None and not re.match(r"[\"'{]|\w{1,60}\s?=|\Z", inner) and opener == "(":
        return None  # a remark in brackets behind words that are no tool
    if inner[:1] in ("{", "[") and (value := _value(inner)) is not None:
        return Asked(closing, (Call(name, inputs.of_value(value, name, schema)),))
    return Asked(closing, (Call(name, inputs.of_text(inner, name, schema)),))


def _value(inner: str) -> JSON:
    try:
        value, end = read_value(inner)
    except CutOff:
        raise inputs.cut_off("the tool") from None
    except Unreadable:
        return None
    return value if not inner[end:].strip() else None


def _keyword(inner: str) -> str:
    """The answer of `answer="…"`, `"…"`, `{"answer": "…"}` or bare text."""
    match = re.match(r"(?:answer|final_answer|text|result|output|response)\s{0,5}[=:]\s{0,5}", inner, re.IGNORECASE)
    bare = inner[match.end() :].strip() if match else inner
    if bare[:1] == "{" or (bare[:1] in "\"'" and bare[-1:] == bare[:1]):
        try:
            value, end = read_value(bare)
            if not bare[end:].strip():
                return answers.of_value(value)
        except NotRead:
            pass
    return _unquoted(bare)


def _unfenced(text: str) -> str:
    """JSON without the fence around it; an answer that is a code block stays one."""
    inner = re.sub(r"\A\s{0,50}`{3,}[\w-]{0,20}\s{1,20}(?=\{)", "", text).strip()
    return inner.rstrip("`").strip() if inner.startswith("{") else text.strip()


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def _answer(text: str, end: int, *, argument: bool = False) -> Asked:
    text = answers.cleaned(text)
    if answers.is_placeholder(text, argument=argument):
        raise placeholder()
    return Asked(end, answer=text)


def placeholder() -> CannotRead:
    return CannotRead(answers.PLACEHOLDER)


_PAIRS = {"[": "]", "(": ")"}


def _closing(text: str, opening: int, place: Place) -> int | None:
    """Behind the bracket that closes the one at `opening`: the one that fits, or else the last one at a line's end."""
    opener = text[opening]
    closer = _PAIRS.get(opener, "")
    if not closer:
        return opening + 1
    depth = 0
    quoted = ""
    marks = re.compile(rf"[\\\"'{re.escape(opener + closer)}]")
    at = opening
    stop = place.name_stop if place.input_start is not None else place.stop
    while match := marks.search(text, at, stop):
        mark, at = match[0], match.end()
        if mark == "\\":
            at += 1
        elif quoted:
            quoted = "" if mark == quoted else quoted
        elif mark in "\"'" and text[match.start() - 1] in "([{=,: " and opener == "(":
            quoted = mark
        elif mark == opener:
            depth += 1
        elif mark == closer:
            depth -= 1
            if not depth:
                return at
    for line in re.finditer(rf"{re.escape(closer)}[ \t\r`*.]{{0,5}}(?:\n|\Z)", text[opening:stop]):
        return opening + line.start() + 1
    return None


def _blob(text: str, start: int, place: Place, tools: Tools) -> Asked:
    """A JSON object behind `Action:`."""
    bounded = text[: place.hard_stop]
    try:
        value, end = read_value(bounded, start)
    except CutOff:
        raise CannotRead(
            "The JSON of the action was cut off, so it was not run. Write it again, whole, and shorter if need be."
        ) from None
    except Unreadable as error:
        raise CannotRead(
            f'The JSON of the action cannot be read: {error}. Write it again as {{"action": "NAME", "action_input": {{…}}}}.'
        ) from None
    blob = blobs.of_value(value, tools)
    if blob is None and place.input_start is not None and isinstance(value, dict):
        blob = None
    if blob is None:
        raise no_name(tools)
    if blob.answer is not None:
        if answers.is_placeholder(blob.answer, argument=True):
            raise placeholder()
        return Asked(end, answer=blob.answer, thought=blob.thought)
    return Asked(end, blob.calls, thought=blob.thought)


def _tags(text: str, start: int, place: Place, tools: Tools) -> Asked:
    """`<tool_name>fetch</tool_name><arguments><arg key="url">…</arg></arguments>`, `<tool>…</tool><tool_input>…`."""
    named = _TAG.search(text, start, place.stop)
    if named is None:
        raise no_name(tools)
    known = names.known_name(named[2], tools)
    if known is None and names.is_finish(named[2], tools):
        rest = re.sub(r"</?[\w]{1,30}[^<>]{0,100}>", "", text[named.end() : place.stop])
        return _answer(rest, place.stop)
    name = known or names.clean(named[2])
    schema = tools[known] if known is not None else None
    arguments: dict[str, JSON] = {}
    end = named.end()
    while match := _ARGUMENT.search(text, end, place.stop):
        closing = text.find("</arg", match.end(), place.stop)
        closing = closing if closing >= 0 else text.find("</param", match.end(), place.stop)
        if closing < 0:
            raise inputs.cut_off(name)
        arguments[match[1]] = text[match.end() : closing].strip()
        end = closing
    if arguments:
        tail = re.compile(r"(?:\s{0,20}</\w{1,30}>){0,4}").match(text, end, place.stop)
        return Asked(tail.end() if tail else end, (Call(name, inputs.raw_typed(arguments, schema)),))
    if opened := _INPUT_TAG.search(text, named.end(), place.stop):
        closing = text.find(f"</{opened[1]}>", opened.end(), place.stop)
        if closing < 0:
            raise inputs.cut_off(name)
        return Asked(closing, (Call(name, inputs.of_text(text[opened.end() : closing].strip(), name, schema)),))
    return Asked(named.end(), (Call(name, inputs.of_text("", name, schema)),))
