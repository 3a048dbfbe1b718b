"""A tool call that still grows."""

from __future__ import annotations

import json
from typing import Any

from .halves import HalfJoiner, sound
from .json_text import GrowingObject, read

_LONGEST_NAME = 1_000  # characters after which no more pieces of one are taken


class OpenCall:
    __slots__ = (
        "_halves", "_more", "_whole", "arguments", "given_id", "guessed", "id", "ids_change", "index", "kept", "name",
        "number", "opaque", "original",
    )  # fmt: skip

    def __init__(self, index: object, given_id: str, id: str) -> None:
        self.index, self.given_id, self.id = index, given_id, id
        self.number = -1  # among those that went out
        self.name = ""
        self.arguments = GrowingObject()
        self.ids_change = False  # from piece to piece, and so tell nothing
        self.guessed = False  # that all of its pieces belong to it
        self.original: OpenCall | None = None  # the call that it may turn out to repeat
        self.opaque: dict[str, Any] = {}  # what the endpoint wants back with it
        self.kept = 0  # bytes
        self._halves = HalfJoiner()
        self._whole = ""  # its arguments, once they are, in one way to write them
        self._more: list[str] = []  # what came after arguments that were whole

    @property
    def is_full(self) -> bool:
        """Its arguments are there and whole."""
        return self.arguments.is_whole and not self.arguments.is_blank

    def add_name(self, name: str) -> str:
        """The part of `name` that is new: some servers repeat it with every piece, some send it in pieces."""
        if not name or self.name == name or (self.name and self.arguments) or len(self.name) > _LONGEST_NAME:
            return ""
        new = name[len(self.name) :] if name.startswith(self.name) else name
        self.name += new
        return new

    def add(self, arguments: object) -> str:
        """The text that is new. What comes after whole arguments is held until `settle`: it may say them again."""
        if isinstance(arguments, dict | list):
            if not arguments:
                return ""  # the head of a call whose arguments are to come
            text = _dumped(arguments)
        elif isinstance(arguments, str):
            text = self._halves.feed(arguments)
        else:
            return ""
        self.kept += len(text.encode())
        if self._more or (self.is_full and text.strip()) or (isinstance(arguments, dict | list) and self._began):
            self._more.append(text)
            return ""
        self.arguments.add(text)
        return text

    @property
    def _began(self) -> bool:
        return not self.arguments.is_blank

    def is_repetition(self, added: str) -> bool:
        """So far, `added` last, it says what `original` said."""
        if self.original is None or self._more or self.name != self.original.name:
            return False
        return self.original.arguments.has_at(len(self.arguments) - len(added.encode()), added)

    def repeats(self, arguments: object) -> bool:
        """Whether they are the whole ones that it has, be it as text, as an object, or as text in text."""
        if not self._whole:  # they change no more
            self._whole = _canonical(str(self.arguments))
        return _canonical(arguments if isinstance(arguments, str) else _dumped(arguments)) == self._whole

    def missing(self, arguments: object) -> str:
        """What it lacks of the whole arguments."""
        whole = sound(arguments) if isinstance(arguments, str) else _dumped(arguments) if arguments else ""
        has = str(self.arguments)
        return whole[len(has) :] if whole.startswith(has) and not self._more else ""

    def settle(self) -> str:
        """Nothing follows: the text that is new after all."""
        left = self._halves.close()
        more, self._more = "".join([*self._more, left] if self._more else [left]), []
        if not more or (self.is_full and self.repeats(more)):
            return ""
        self.arguments.add(more)
        return more


def _dumped(value: object) -> str:
    try:
        return sound(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except ValueError:  # an integer of thousands of digits
        return ""


def _canonical(text: str) -> str:
    try:
        value = read(text)
        value = read(value) if isinstance(value, str) else value
        return json.dumps(value, sort_keys=True)
    except ValueError:
        return text.strip()
