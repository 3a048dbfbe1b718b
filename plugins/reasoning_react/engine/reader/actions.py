"""What stands behind `Action:`, in the many ways that models write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.call_markup import read_marked
from shared.loose_json import CutOff, Unreadable, read_value

from ..chat import JSON
from ..reading import Call
from . import answers, blobs, inputs, names
from .brackets import closing_bracket
from .named import named_calls
from .names import Tools
from .schemas import CannotRead, cut_off, shape


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
_ARGUMENTS = re.compile(r"[\"'{\[]|\w{1,60}\s?=|\S{0,400}\Z")
_NAME_AND_COLON = re.compile(r"([^:：\n]{1,100})[:：][ \t]*")


def read_action(text: str, place: Place, tools: Tools, cut: bool) -> Asked:
    """Raises CannotRead."""
    start = _blanks(text, place.start, place.name_stop)
    if fence := _FENCE.match(text, start, place.name_stop):
        start = _blanks(text, fence.end(), place.name_stop)
    json_start = blobs.starts_at(text, start)
    if json_start is not None and json_start < place.name_stop and not _is_bracketed_name(text, json_start, tools):
        return _blob(text, json_start, place, tools)
    if text.startswith("<", start):
        tagged = named_calls(text[start : place.stop], tools)
        if tagged and not tagged[0][1]:
            return Asked(start + tagged[0][2], (tagged[0][0],))
        raise no_name(tools)
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
        return _answer(answers.of_argument(text[input_start : place.stop]), place.stop, argument=True)
    if known is None and (names.is_placeholder(written) or not names.clean(written)):
        raise no_name(tools)
    name = known or names.clean(written)
    schema = tools[known] if known is not None else None
    return _call_of_input(text, input_start, name, schema, place, cut, tools)


def _call_of_input(
    text: str, start: int, name: str, schema: names.Schema | None, place: Place, cut: bool, tools: Tools
) -> Asked:
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
    known = names.known_name(written, tools)
    colon = _NAME_AND_COLON.match(text, start, line_stop)
    if known is None and colon and (named := names.known_name(colon[1], tools)) and colon.end() < line_stop:
        return _call_of_input(text, colon.end(), named, tools[named], place, cut, tools)
    if known is None and names.is_finish(colon[1] if colon else written, tools):
        return _answer(text[colon.end() if colon else following : place.stop], place.stop)
    if following < place.stop and text[blobs.starts_at(text, following) or following] == "{":
        named = known or (names.clean(written) if _NAME.fullmatch(names.clean(written)) else None)
        if named:
            return _call_of_input(text, following, named, tools.get(named), place, cut, tools)
    if place.ends and cut and _may_go_on(text[following : place.stop]):
        raise cut_off(known or names.clean(written))
    if known is None:
        bare = names.clean(written)
        if not _NAME.fullmatch(bare) or names.is_placeholder(written) or written.startswith(("<", "$")):
            raise no_name(tools)
        return Asked(line_stop, (Call(bare, {}),))
    required = tools[known].get("required")
    if isinstance(required, list) and required:
        raise CannotRead(
            f"The Action {known} has no input. Write a line `Action Input: {shape(known, tools[known])}` after it."
        )
    return Asked(line_stop, (Call(known, {}),))


def _may_go_on(rest: str) -> bool:
    """Whether the label of an input may have been about to follow."""
    return "actioninput:".startswith(re.sub(r"[\s_*#`]+", "", rest[:40]).casefold())


def _called(
    text: str, start: int, opening: int, line_stop: int, place: Place, tools: Tools, cut: bool, *, has_input: bool
) -> Asked | None:
    """`name[input]`, `name(…)`, `name{…}`; None: it is none of these."""
    written = text[start:opening]
    opener = text[opening : opening + 1] if opening < place.name_stop else ""
    known = names.known_name(written, tools)
    finish = known is None and names.is_finish(written, tools)
    if (
        opener not in ("[", "(", "{")
        or (opening >= line_stop)
        or not (known or finish or _NAME.fullmatch(names.clean(written)))
    ):
        return None
    name = known or names.clean(written)
    stop = place.name_stop if place.input_start is not None else place.stop
    closing = opening + 1 if opener == "{" else closing_bracket(text, opening, stop)
    if has_input and (closing is None or opener != "{"):
        return None  # a remark behind the name
    if opener == "{":
        if finish:
            return None
        return _call_of_input(text, opening, name, tools.get(known or ""), place, cut, tools)
    if closing is None:
        raise cut_off(name)
    inner = text[opening + 1 : closing - 1].strip()
    schema = tools.get(known or "")
    if opener == "(" and not finish:
        if not inner and schema is not None:
            return Asked(closing, (Call(name, inputs.of_text("", name, schema)),))
        if not _ARGUMENTS.match(inner) and (known is None or written.endswith((" ", "\t"))):
            return None  # a remark behind the name
        marked = read_marked(f"{name}({inner})", {**tools, name: tools.get(name, {})})
        if len(marked.calls) == 1 and not marked.text:
            return Asked(closing, (Call(marked.calls[0].name, marked.calls[0].arguments),))
    if finish:
        return _answer(answers.of_argument(inner), closing, argument=True)
    if inner[:1] in ("{", "[") and (value := _value(inner)) is not None:
        return Asked(closing, (Call(name, inputs.of_value(value, name, schema)),))
    return Asked(closing, (Call(name, inputs.of_text(inner, name, schema)),))


def _value(inner: str) -> JSON:
    try:
        value, end = read_value(inner)
    except CutOff:
        raise cut_off("the tool") from None
    except Unreadable:
        return None
    return value if not inner[end:].strip() else None


def _answer(text: str, end: int, *, argument: bool = False) -> Asked:
    text = answers.cleaned(text)
    if answers.is_placeholder(text, argument=argument):
        raise placeholder()
    return Asked(end, answer=text)


def placeholder() -> CannotRead:
    return CannotRead(answers.PLACEHOLDER)


def _blob(text: str, start: int, place: Place, tools: Tools) -> Asked:
    """A JSON object behind `Action:`."""
    bounded = text[: place.hard_stop]
    try:
        value, end = read_value(bounded, start)
    except CutOff:
        raise CannotRead(blobs.CUT_OFF) from None
    except Unreadable as error:
        raise CannotRead(f"The JSON of the action cannot be read: {error}. Write it again as {blobs.FORM}.") from None
    blob = blobs.of_value(value, tools)
    if blob is None:
        raise no_name(tools)
    if blob.answer is not None:
        if answers.is_placeholder(blob.answer, argument=True):
            raise placeholder()
        return Asked(end, answer=blob.answer, thought=blob.thought)
    return Asked(end, blob.calls, thought=blob.thought)
