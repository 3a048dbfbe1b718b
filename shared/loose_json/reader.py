"""Reads by hand what is almost JSON, each character a bounded number of times."""

from __future__ import annotations

import math
import re
from typing import Any

from .errors import (
    DEEPEST,
    MOST_DIGITS,
    Unreadable,
    cut,
    no_value,
    refusal,
    shown,
    too_deep,
    too_large,
    too_long,
    twice,
)
from .strings import QUOTES, read_string

JSON = Any

_MOST_VALUES = 100_000
_MOST_SURPLUS = 100  # closing brackets too many
_LONGEST_KEY = 256  # characters of a key that is looked for behind a comma

BLANKS = re.compile(r"[\s\ufeff\u200b]*")
_NUMBER_PART = re.compile(r"[0-9A-Za-z_.+-]*")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]+")
_WORD = re.compile(r"[^\W\d][\w-]*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_NO_NUMBERS = {"NaN", "nan", "Infinity", "inf", "Inf"}
# At the end of the text anything may follow.
_KEY = re.compile(
    rf"(?:\"(?:[^\"\\]|\\.){{0,{_LONGEST_KEY}}}(?:\"|\\?\Z)|'(?:[^'\\]|\\.){{0,{_LONGEST_KEY}}}(?:'|\\?\Z)"
    rf"|[{QUOTES}][^{QUOTES}\\]{{0,{_LONGEST_KEY}}}(?:[{QUOTES}]|\Z)|[^\W\d][\w-]{{0,{_LONGEST_KEY}}})"
    r"[\s\ufeff\u200b]*(?::|\Z)",
    re.DOTALL,
)
_VALUE_STARTS = frozenset(QUOTES + "-+.0123456789{[(")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_OPENED: Any = object()  # a container was opened, its values come next


class Reader:
    """Reads one value, with a stack of its own."""

    def __init__(self, text: str, start: int) -> None:
        self._text, self._at = text, start
        # Of each open container: its bracket, what it has, and for an object the key whose value comes next.
        self._kinds: list[str] = []
        self._containers: list[Any] = []
        self._keys: list[str | None] = []
        self._surplus = 0

    def read(self) -> tuple[JSON, int]:
        """The value, and where it ends. Raises CutOff, Unreadable."""
        for _ in range(_MOST_VALUES):
            value = self._next_value()
            if value is _OPENED:
                continue
            # A value is whole; so may be the containers that it is the last of.
            while self._kinds:
                self._put(value)
                if not self._ends_container():
                    break
                value = self._pop()
            else:
                return value, self._at
        raise self._refusal(f"it is no strict JSON and has more than {_MOST_VALUES} values")

    def _next_value(self) -> JSON:
        """A scalar or an empty container, or _OPENED."""
        kind = self._kinds[-1] if self._kinds else ""
        sign = self._skip()
        if kind and sign == _CLOSERS[kind] and not self._containers[-1] and self._keys[-1] is None:
            self._at += 1
            return self._pop()
        if kind == "{":
            self._keys[-1] = self._key(sign)
            sign = self._skip()
        if sign in _CLOSERS:
            return self._open(sign)
        if sign in QUOTES:
            return self._string(self._may_follow_value if kind else _anything)
        if sign in "+-.0123456789":
            return self._number()
        return self._word()

    def _open(self, bracket: str) -> JSON:
        if len(self._kinds) >= DEEPEST:
            raise Unreadable(too_deep(), self._at)
        self._at += 1
        self._kinds.append(bracket)
        self._containers.append({} if bracket == "{" else _Tuple() if bracket == "(" else [])
        self._keys.append(None)
        return _OPENED

    def _skip(self) -> str:
        """The next character that is no blank. Raises CutOff at the end."""
        text = self._text
        if self._at < len(text) and " " < (sign := text[self._at]) < "\x7f":
            return sign
        self._at = BLANKS.match(text, self._at).end()  # type: ignore[union-attr]
        if self._at >= len(text):
            raise cut(text)
        return text[self._at]

    def _key(self, sign: str) -> str:
        if sign in QUOTES:
            key = self._string(self._may_follow_key)
        elif word := _WORD.match(self._text, self._at):
            key, self._at = word[0], word.end()
        else:
            raise self._refusal("a key must be a string")
        if self._skip() != ":":
            raise self._refusal(f"a colon is missing behind the key {shown(key)}")
        self._at += 1
        if key in self._containers[-1]:
            raise Unreadable(twice(key), self._at)
        return key

    def _put(self, value: JSON) -> None:
        key = self._keys[-1]
        if key is None:
            self._containers[-1].append(value)
        else:
            self._containers[-1][key] = value
            self._keys[-1] = None

    def _pop(self) -> JSON:
        self._kinds.pop()
        self._keys.pop()
        container = self._containers.pop()
        if isinstance(container, _Tuple):
            return container[0] if len(container) == 1 and not container.has_comma else list(container)
        return container

    def _ends_container(self) -> bool:
        """Behind a value: whether the innermost container ends here. Else a comma was read."""
        closer = _CLOSERS[self._kinds[-1]]
        while True:
            sign = self._skip()
            if sign == closer:
                self._at += 1
                return True
            if sign == ",":
                self._at += 1
                if isinstance(self._containers[-1], _Tuple):
                    self._containers[-1].has_comma = True
                if self._skip() != closer:
                    return False
                self._at += 1
                return True
            if sign not in ("}", "]", ")"):
                raise self._refusal(f"a comma or {closer} is missing")
            self._surplus += 1
            if self._surplus > _MOST_SURPLUS or any(_CLOSERS[kind] == sign for kind in self._kinds):
                raise self._refusal(f"{closer} is missing")
            self._at += 1  # nothing is open that it would close

    def _number(self) -> int | float:
        part = _NUMBER_PART.match(self._text, self._at)[0]  # type: ignore[index]
        end = self._at + len(part)
        if len(part) > MOST_DIGITS:
            raise Unreadable(too_long(), end)
        number: int | float
        if _HEXADECIMAL.fullmatch(part):
            number = int(part, 16)
        elif _NUMBER.fullmatch(part):
            number = float(part) if set(part) & set(".eE") else int(part)
        elif part.lstrip("+-") in _NO_NUMBERS:
            raise Unreadable(no_value(part), end)
        elif end >= len(self._text):
            raise cut(self._text)
        else:
            raise self._refusal(f"{shown(part)} is no number")
        if isinstance(number, float) and math.isinf(number):
            raise Unreadable(too_large(part), end)
        self._at = end
        return number

    def _word(self) -> JSON:
        match = _WORD.match(self._text, self._at)
        if match is None:
            raise self._refusal("a value is missing")
        word, end = match[0], match.end()
        if word in _WORDS:
            self._at = end
            return _WORDS[word]
        if word in _NO_NUMBERS:
            raise Unreadable(no_value(word), end)
        if self._is_started(match):
            raise cut(self._text)
        raise self._refusal(f"{shown(word)} is neither a value nor in quotes")

    def _string(self, may_follow: Any) -> str:
        value, self._at = read_string(self._text, self._at, may_follow)
        return value

    def _may_follow_key(self, at: int) -> bool:
        return self._sign(at)[0] in ("", ":")

    def _may_follow_value(self, at: int) -> bool:
        sign, at = self._sign(at)
        if sign != ",":
            return sign in ("", "}", "]", ")")
        sign, at = self._sign(at + 1)
        kind = self._kinds[-1]
        if sign in ("", _CLOSERS[kind]):
            return True
        if kind == "{":
            return _KEY.match(self._text, at) is not None
        word = _WORD.match(self._text, at)
        return sign in _VALUE_STARTS or (word is not None and (word[0] in _WORDS or self._is_started(word)))

    def _is_started(self, word: re.Match[str]) -> bool:
        """Whether it is the beginning of one that the end of the text has cut."""
        return word.end() >= len(self._text) and any(known.startswith(word[0]) for known in _WORDS)

    def _sign(self, at: int) -> tuple[str, int]:
        """The next character that is no blank, empty at the end, and where it is."""
        at = BLANKS.match(self._text, at).end()  # type: ignore[union-attr]
        return self._text[at : at + 1], at

    def _refusal(self, why: str) -> Unreadable:
        return refusal(why, self._text, self._at)


class _Tuple(list[Any]):
    has_comma = False


def _anything(_: int) -> bool:
    return True
