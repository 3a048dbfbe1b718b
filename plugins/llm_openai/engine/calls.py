"""Tool calls put together from the pieces of a stream, however a server cuts and labels them.

Which call a piece belongs to, the first that holds:
1. it has an id that is known, and no other index: that call
2. it has an index that is known: that call, unless it begins another: with an id or a name, after arguments that are
   whole (servers that send index 0 for every call); an id that changes in mid-call begins none
3. it has an unknown index and neither id nor name: the last call, while that is not whole
4. it has none of them: the last call, unless it begins another as above, or has another name
5. otherwise a new one
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.json_schema import MOST_STEPS, CannotCheck, complaint

from .failures import Failure, Kind
from .halves import sound
from .json_text import is_cut, read
from .messages import CallDelta, Tool, ToolCall
from .opaque import of_call, pack
from .open_call import OpenCall
from .patterns import UNCHECKED, checkable

MOST_CALLS = 1_024  # in one reply
_LEAST_STEPS = 1_000  # of checking each, when there are many


class CallAssembler:
    def __init__(self, count: Callable[[int], None] = lambda size: None, tag: str = "") -> None:
        """`count` is told of every byte that is kept; `tag` is the endpoint's."""
        self._count, self._tag = count, tag
        self._calls: list[OpenCall] = []
        self._shown = 0  # of them, whose deltas went out
        # The last call of an index, and of an index and an id; under `_ANY` whatever the index.
        self._last: dict[object, OpenCall] = {}
        self._last_of_id: dict[tuple[object, str], OpenCall] = {}
        self._shown_of_id: dict[str, OpenCall] = {}
        self._tail: tuple[object, OpenCall] | None = None  # a call that goes on under another index
        self._ids: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last that was put behind an id that came more than once

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, pieces: object, *, whole: bool = False) -> Iterator[CallDelta]:
        """`pieces` is what came as `tool_calls` of a delta or, with `whole`, of a message: there each is a call. Raises
        Failure past MOST_CALLS."""
        listed = pieces if isinstance(pieces, list) else [pieces]
        for place, piece in enumerate(listed):
            if isinstance(piece, dict):
                index = _index(piece.get("index"))
                if index is _ANY and len(listed) > 1:
                    index = f"place {place}"  # of several in one delta each is another call
                yield from self._piece(_Piece(piece, index), whole)
            elif piece:
                raise Failure(Kind.MALFORMED, "a tool call of the reply is no object")

    def complete(self, pieces: object) -> Iterator[CallDelta]:
        """`pieces` is of a message that comes after deltas: what they lack is added, nothing is said twice."""
        calls = list(self._calls)
        for place, given in enumerate(pieces if isinstance(pieces, list) else [pieces]):
            if not isinstance(given, dict):
                continue
            piece = _Piece(given, _index(given.get("index")))
            same = self._last_of_id.get((_ANY, piece.id)) if piece.id else None
            if same is None and place < len(calls) and calls[place].name == piece.name:
                same = calls[place]
            if same is not None:
                self._keep(same, piece)
            if same is None:
                yield from self._piece(piece, whole=True)
            elif rest := same.missing(piece.arguments):
                yield from self._shown_delta(same, same.add(rest))

    def _piece(self, piece: _Piece, whole: bool) -> Iterator[CallDelta]:
        if not (piece.id or piece.name or piece.arguments) and not self._calls:
            return
        call = None if whole else self._find(piece)
        if call is None:
            if len(self._calls) >= MOST_CALLS:
                raise Failure(Kind.MALFORMED, f"the reply has more than {MOST_CALLS} tool calls; offer fewer tools")
            call = OpenCall(piece.index, piece.id, self._unique(piece.id))
            call.original = None if whole else self._shown_of_id.get(piece.id)
            self._calls.append(call)
            self._last[piece.index] = self._last[_ANY] = call
            self._remember(call)
        elif piece.id and not call.given_id:
            call.given_id = piece.id
            self._remember(call)
        self._keep(call, piece)
        name = call.add_name(piece.name)
        before = call.kept
        added = call.add(piece.arguments)
        self._count(len(name) + call.kept - before)
        if not call.is_repetition(added):
            yield from self._shown_delta(call, added, name)

    def _shown_delta(self, call: OpenCall, added: str, name: str = "") -> Iterator[CallDelta]:
        if call.number < 0:
            call.number, call.original = self._shown, None
            self._shown += 1
            if call.given_id:
                self._shown_of_id[call.given_id] = call
            self._count(len(call.id))
            yield CallDelta(call.number, call.id, call.name, str(call.arguments))
        elif name or added:
            yield CallDelta(call.number, "", name, added)

    def _keep(self, call: OpenCall, piece: _Piece) -> None:
        if piece.opaque:
            call.opaque |= piece.opaque
            self._count(len(pack(self._tag, piece.opaque)))

    def _remember(self, call: OpenCall) -> None:
        if call.given_id:
            for key in ((call.index, call.given_id), (_ANY, call.given_id)):
                self._last_of_id[key] = call

    def _find(self, piece: _Piece) -> OpenCall | None:
        if piece.id and (same := self._last_of_id.get((piece.index, piece.id))):
            return same
        last = self._last.get(piece.index)
        if last is None:
            return None if piece.id or piece.name else self._tail_of(piece)
        if _begins(piece, last):
            return None
        last.ids_change = last.ids_change or bool(piece.id and last.given_id)
        return last

    def _tail_of(self, piece: _Piece) -> OpenCall | None:
        """The call that a piece with an index of its own and no other label goes on with."""
        if self._tail is not None and self._tail[0] == piece.index:
            return self._tail[1]
        if not self._calls or self._calls[-1].is_full:
            return None
        call = self._calls[-1]
        if len(self._calls) > 1 and not self._calls[-2].is_full:
            call.guessed = True
        self._tail = piece.index, call
        return call

    def _unique(self, given: str) -> str:
        """An id that no other call has; it goes out with the first piece, so one that comes later is too late."""
        name = given or f"call_{secrets.token_hex(12)}"
        while name in self._ids:
            self._numbers[given] = self._numbers.get(given, 1) + 1
            name = f"{given}-{self._numbers[given]}"
        self._ids.add(name)
        return name

    def close(self) -> Iterator[CallDelta]:
        """What was held back until it was certain that it is no repetition."""
        said = set[tuple[str, str, str]]()
        for call in self._calls:
            added = call.settle()
            same = call.given_id, call.name, str(call.arguments)
            if call.number >= 0 or same not in said:
                yield from self._shown_delta(call, added)
                said.add(same)

    def finish(self, tools: Sequence[Tool], most: int = MOST_STEPS) -> tuple[tuple[ToolCall, ...], bool]:
        """The calls, checked against the tools; and whether arguments were cut off. `most` is how much work it may be
        to check all of them. Past MOST_STEPS the call's `error` says that it cannot be checked, past less CannotCheck
        is raised."""
        schemas = {tool.name: tool.schema for tool in tools}
        shown = sorted((call for call in self._calls if call.number >= 0), key=lambda call: call.number)
        steps = most // max(1, len(shown))
        steps = steps if most < MOST_STEPS else max(_LEAST_STEPS, steps)
        calls: list[ToolCall] = []
        cut = False
        for call in shown:
            arguments = str(call.arguments)
            value, problem = _reading(arguments)
            cut |= problem == _CUT
            if not problem and call.guessed:
                problem = "the endpoint did not say to which call these arguments belong"
            if not problem and call.name not in schemas:
                problem = f"no tool {call.name[:200]!r} was offered"
            if not problem:
                try:
                    schema = checkable(schemas[call.name]) or {}
                    problem = complaint(value, schema, steps)
                    if not problem and schema is not schemas[call.name]:
                        problem = UNCHECKED
                except CannotCheck as error:
                    if most < MOST_STEPS:
                        raise
                    problem = str(error)
            calls.append(ToolCall(call.id, call.name, arguments or "{}", problem, pack(self._tag, call.opaque)))
        return tuple(calls), cut


_ANY = None  # what a piece without an index has for one
_CUT = "the arguments were cut off"


class _Piece:
    __slots__ = ("arguments", "id", "index", "name", "opaque")

    def __init__(self, piece: Mapping[str, Any], index: object) -> None:
        inner = piece.get("function")
        function = inner if isinstance(inner, dict) else piece
        self.index = index
        self.id, self.name = _text(piece.get("id")), _text(function.get("name"))
        self.arguments = function.get("arguments")
        if self.arguments is None:  # by their names in other interfaces
            self.arguments = function.get("input", function.get("parameters"))
        self.opaque = of_call(piece)

    @property
    def says(self) -> bool:
        """It has arguments that are more than blanks."""
        return bool(self.arguments.strip()) if isinstance(self.arguments, str) else bool(self.arguments)

    @property
    def may_be_first(self) -> bool:
        """Arguments begin with a bracket."""
        return not isinstance(self.arguments, str) or self.arguments.lstrip()[:1] in ("", "{", "[")


def _begins(piece: _Piece, last: OpenCall) -> bool:
    """Whether `piece`, which has the index of `last`, begins another call."""
    same_name = not piece.name or piece.name == last.name
    if piece.id and last.given_id:  # another one, or it would have been found
        if last.is_full:
            return (bool(piece.name) and not last.ids_change) or (piece.says and not last.repeats(piece.arguments))
        if piece.index is _ANY or not last.arguments:
            return (
                bool(piece.name)
                and (not same_name or piece.may_be_first)
                and not (same_name and piece.index is not _ANY and piece.says)
            )
        return False
    if piece.name and piece.says and last.is_full:
        return piece.index is _ANY or not same_name or not last.repeats(piece.arguments)
    return piece.index is _ANY and bool(last.name) and bool(piece.name) and not piece.name.startswith(last.name)


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


def _text(value: object) -> str:
    return sound(value) if isinstance(value, str) else ""
