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

from plugins.llm_openai.engine.halves import HalfJoiner, sound
from plugins.llm_openai.engine.json_text import is_cut, read
from plugins.llm_openai.engine.messages import CallDelta, Tool, ToolCall
from shared.json_schema import complaint


class _Open:
    """A call that still grows."""

    __slots__ = ("arguments", "given_id", "halves", "id", "index", "name", "whole_object")

    def __init__(self, index: object, given_id: str, id: str) -> None:
        self.index, self.given_id, self.id = index, given_id, id
        self.name = self.arguments = ""
        self.halves = HalfJoiner()
        self.whole_object = False  # arguments came as an object, not as text

    @property
    def whole(self) -> bool:
        return _reading(self.arguments)[1] == ""


class CallAssembler:
    def __init__(self) -> None:
        self._calls: list[_Open] = []

    def feed(self, pieces: object, *, whole: bool = False) -> Iterator[CallDelta]:
        """`pieces` is what came as `tool_calls` of a delta or, with `whole`, of a message: there each is a call."""
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, Mapping):
                yield from self._piece(piece, whole)

    def _piece(self, piece: Mapping[str, Any], whole: bool) -> Iterator[CallDelta]:
        inner = piece.get("function")
        function = inner if isinstance(inner, Mapping) else piece
        id_, name, arguments = _text(piece.get("id")), _text(function.get("name")), function.get("arguments")
        if not (id_ or name or arguments) and not self._calls:
            return
        call = None if whole else self._find(piece.get("index"), id_, name, arguments)
        if call is None:
            call = _Open(piece.get("index"), id_, self._unique(id_))
            self._calls.append(call)
            new_id = call.id
        else:
            call.given_id, new_id = call.given_id or id_, ""
        new_name = self._name(call, name)
        added = _arguments(call, arguments)
        if new_id or new_name or added:
            yield CallDelta(self._calls.index(call), new_id, new_name, added)

    def _find(self, index: object, id_: str, name: str, arguments: object) -> _Open | None:
        known = [call for call in self._calls if index is None or call.index == index]
        if id_ and (same := [call for call in known if call.given_id == id_]):
            return same[-1]
        if not known:
            return None
        last = known[-1]
        says = arguments.strip() if isinstance(arguments, str) else arguments is not None
        renamed = index is None and bool(last.name) and not name.startswith(last.name)
        another = (id_ and last.given_id) or (name and ((says and last.arguments and last.whole) or renamed))
        return None if another else last

    def _unique(self, given: str) -> str:
        """An id that no other call has; it goes out with the first piece, so one that comes later is too late."""
        taken = {call.id for call in self._calls}
        name, number = given or f"call_{secrets.token_hex(12)}", 1
        while name in taken:
            number += 1
            name = f"{given}-{number}"
        return name

    @staticmethod
    def _name(call: _Open, name: str) -> str:
        """The part of `name` that is new: some servers repeat it with every piece, some send it in pieces."""
        if not name or call.name == name or (call.name and call.arguments):
            return ""
        new = name[len(call.name) :] if name.startswith(call.name) else name
        call.name += new
        return new

    def finish(self, tools: Sequence[Tool]) -> tuple[tuple[ToolCall, ...], bool]:
        """The calls, checked against the tools; and whether arguments were cut off."""
        schemas = {tool.name: tool.schema for tool in tools}
        calls: list[ToolCall] = []
        cut = False
        for call in self._calls:
            call.arguments += call.halves.close()
            value, problem = _reading(call.arguments)
            cut |= problem == _CUT
            if not problem and call.name not in schemas:
                problem = f"no tool {call.name!r} was offered"
            if not problem:
                problem = complaint(value, schemas[call.name])
            calls.append(ToolCall(call.id, call.name, call.arguments or "{}", problem))
        return tuple(calls), cut


_CUT = "the arguments were cut off"


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
            call.arguments += arguments
            return arguments
    elif isinstance(arguments, Mapping | list) and not call.arguments:
        call.whole_object = True
        call.arguments = sound(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))
        return call.arguments
    return ""


def _text(value: object) -> str:
    return sound(value) if isinstance(value, str) else ""
