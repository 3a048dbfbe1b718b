"""Tool calls put together from the pieces of a stream, however a server cuts and labels them.

Which call a piece belongs to, the first that holds:
1. it has an id that is known, and no other index: that call
2. it has an index that is known: that call, unless it brings another id, or a name after arguments that are whole
   (servers that send index 0 for every call)
3. it has neither: the last call, unless it brings another name, or a name after arguments that are whole
4. otherwise a new one
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plugins.llm_openai.engine.failures import Failure, Kind
from plugins.llm_openai.engine.halves import HalfJoiner, sound
from plugins.llm_openai.engine.json_text import GrowingObject, is_cut, read
from plugins.llm_openai.engine.messages import CallDelta, Tool, ToolCall
from shared.json_schema import MOST_STEPS, CannotCheck, complaint

MOST_CALLS = 1_024  # in one reply
_LEAST_STEPS = 1_000  # of checking each, when there are many
_LONGEST_NAME = 1_000  # characters after which no more pieces of one are taken


class _Open:
    """A call that still grows."""

    __slots__ = ("arguments", "given_id", "halves", "id", "index", "name", "number", "whole_object")

    def __init__(self, number: int, index: object, given_id: str, id: str) -> None:
        self.number, self.index, self.given_id, self.id = number, index, given_id, id
        self.name = ""
        self.arguments = GrowingObject()
        self.halves = HalfJoiner()
        self.whole_object = False  # arguments came as an object, not as text


class CallAssembler:
    def __init__(self) -> None:
        self._calls: list[_Open] = []
        # The last call of an index, and of an index and an id; under `_ANY` whatever the index.
        self._last: dict[object, _Open] = {}
        self._last_of_id: dict[tuple[object, str], _Open] = {}
        self._ids: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last that was put behind an id that came more than once

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, pieces: object, *, whole: bool = False) -> Iterator[CallDelta]:
        """`pieces` is what came as `tool_calls` of a delta or, with `whole`, of a message: there each is a call. Raises
        Failure past MOST_CALLS."""
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, Mapping):
                yield from self._piece(piece, whole)

    def _piece(self, piece: Mapping[str, Any], whole: bool) -> Iterator[CallDelta]:
        inner = piece.get("function")
        function = inner if isinstance(inner, Mapping) else piece
        id_, name, arguments = _text(piece.get("id")), _text(function.get("name")), function.get("arguments")
        if not (id_ or name or arguments) and not self._calls:
            return
        index = _index(piece.get("index"))
        call = None if whole else self._find(index, id_, name, arguments)
        if call is None:
            if len(self._calls) >= MOST_CALLS:
                raise Failure(Kind.MALFORMED, f"the reply has more than {MOST_CALLS} tool calls; offer fewer tools")
            call = _Open(len(self._calls), index, id_, self._unique(id_))
            self._calls.append(call)
            self._last[index] = self._last[_ANY] = call
            self._remember(call)
            new_id = call.id
        else:
            if id_ and not call.given_id:
                call.given_id = id_
                self._remember(call)
            new_id = ""
        new_name = self._name(call, name)
        added = _arguments(call, arguments)
        if new_id or new_name or added:
            yield CallDelta(call.number, new_id, new_name, added)

    def _remember(self, call: _Open) -> None:
        if call.given_id:
            for key in ((call.index, call.given_id), (_ANY, call.given_id)):
                if key not in self._last_of_id or self._last_of_id[key].number < call.number:
                    self._last_of_id[key] = call

    def _find(self, index: object, id_: str, name: str, arguments: object) -> _Open | None:
        if id_ and (same := self._last_of_id.get((index, id_))):
            return same
        last = self._last.get(index)
        if last is None:
            return None
        says = arguments.strip() if isinstance(arguments, str) else arguments is not None
        renamed = index is _ANY and bool(last.name) and not name.startswith(last.name)
        another = (id_ and last.given_id) or (
            name and ((says and last.arguments and last.arguments.is_whole) or renamed)
        )
        return None if another else last

    def _unique(self, given: str) -> str:
        """An id that no other call has; it goes out with the first piece, so one that comes later is too late."""
        name = given or f"call_{secrets.token_hex(12)}"
        while name in self._ids:
            self._numbers[given] = self._numbers.get(given, 1) + 1
            name = f"{given}-{self._numbers[given]}"
        self._ids.add(name)
        return name

    @staticmethod
    def _name(call: _Open, name: str) -> str:
        """The part of `name` that is new: some servers repeat it with every piece, some send it in pieces."""
        if not name or call.name == name or (call.name and call.arguments) or len(call.name) > _LONGEST_NAME:
            return ""
        new = name[len(call.name) :] if name.startswith(call.name) else name
        call.name += new
        return new

    def finish(self, tools: Sequence[Tool], most: int = MOST_STEPS) -> tuple[tuple[ToolCall, ...], bool]:
        """The calls, checked against the tools; and whether arguments were cut off. `most` is how much work it may be
        to check all of them. Past MOST_STEPS the call's `error` says that it cannot be checked, past less CannotCheck
        is raised."""
        schemas = {tool.name: tool.schema for tool in tools}
        steps = most // max(1, len(self._calls))
        steps = steps if most < MOST_STEPS else max(_LEAST_STEPS, steps)
        calls: list[ToolCall] = []
        cut = False
        for call in self._calls:
            call.arguments.add(call.halves.close())
            arguments = str(call.arguments)
            value, problem = _reading(arguments)
            cut |= problem == _CUT
            if not problem and call.name not in schemas:
                problem = f"no tool {call.name[:200]!r} was offered"
            if not problem:
                try:
                    problem = complaint(value, schemas[call.name], steps)
                except CannotCheck as error:
                    if most < MOST_STEPS:
                        raise
                    problem = str(error)
            calls.append(ToolCall(call.id, call.name, arguments or "{}", problem))
        return tuple(calls), cut


_ANY = None  # what a piece without an index has for one
_CUT = "the arguments were cut off"


def _index(index: object) -> object:
    return index if isinstance(index, str | int | float) else _ANY


def _reading(text: str) -> tuple[Any, str]:
    """The arguments and what is wrong with them; none at all stand for {}."""
    if not text.strip():
        return {}, ""
    try:
        value = read(text)
    except ValueError as error:
        return None, _CUT if is_cut(text) else f"the arguments are not JSON: {error}"
    return value, "" if isinstance(value, dict) else "the arguments are no JSON object"


def _arguments(call: _Open, arguments: object) -> str:
    """Adds them to the call; the text that is new."""
    if isinstance(arguments, str):
        arguments = call.halves.feed(arguments)
        if not call.whole_object:
            call.arguments.add(arguments)
            return arguments
    elif isinstance(arguments, Mapping | list) and not call.arguments:
        call.whole_object = True
        text = sound(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))
        call.arguments.add(text)
        return text
    return ""


def _text(value: object) -> str:
    return sound(value) if isinstance(value, str) else ""
