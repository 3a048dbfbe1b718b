"""JSON as it is defined, from text that a model or an endpoint wrote."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_DEEPEST = 200
# Of one text: more would take gigabytes, and a second in which nothing else runs. Commas in strings are counted too.
MOST_VALUES = 250_000
_MOST_DIGITS = 400  # of an integer: reading one takes time with the square of them
_LARGE = 2**18  # characters
# What can stand at the end of JSON that was cut: the start of a word, of a number, of an escape.
_STARTED = re.compile(r'(t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?|\\?u?[0-9a-fA-F]{0,4})?"?\s*')
_SIGNS = re.compile(r'["\\{}\[\]]')


class TooManyValues(ValueError):
    """The text has more than MOST_VALUES values, or seems to."""


def read(text: str) -> Any:
    """Raises ValueError also for what `json` lets pass: NaN, numbers that are infinite or endless, half a character,
    hundreds of levels."""
    try:
        value = loads(text, parse_constant=_no_constant, parse_int=_int, parse_float=_float)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a character") from None
    if text.count("{") + text.count("[") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ValueError(f"it is deeper than {_DEEPEST} levels")
    return value


def loads(text: str, **more: Any) -> Any:
    """As `json.loads`, an integer that is endless as infinite. Raises TooManyValues before it begins."""
    if len(text) > _LARGE:
        if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
            raise TooManyValues(f"it has more than {MOST_VALUES} values")
        more.setdefault("parse_int", _int_or_infinite)
    try:
        return json.loads(text, **more)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than Python reads
        if "parse_int" in more:
            raise
        return json.loads(text, parse_int=_int_or_infinite, **more)


def loads_first(text: str) -> tuple[Any, int]:
    """The JSON text that `text` begins with, and where it ends. Raises ValueError."""
    value, end = _first.raw_decode(text)
    return value, end


def is_cut(text: str) -> bool:
    """Whether `text`, which is no JSON, is the beginning of some.

    >>> [is_cut(text) for text in ('{"a":', '{"a":tr', '{"a":1.', '{"a', "{a}")]
    [True, True, True, True, False]
    """
    try:
        loads(text)
    except json.JSONDecodeError as error:
        left = text[error.pos :]
        return error.msg.startswith("Unterminated") or not left.strip() or _STARTED.fullmatch(left) is not None
    except (RecursionError, ValueError):  # also a number of more digits than Python reads
        pass
    return False


class GrowingText:
    """JSON text that comes in pieces, and whether its brackets are closed by now. Each piece is looked at once."""

    def __init__(self) -> None:
        # Bytes, as a list of thousands of small texts takes many times as much, and a growing text would be copied.
        self._bytes = bytearray()
        self._open = 0  # brackets
        self._escaped = False
        self.in_string = self.ended = False

    def __len__(self) -> int:
        return len(self._bytes)

    def __str__(self) -> str:
        return self._bytes.decode()

    def has_at(self, start: int, text: str) -> bool:
        """Whether `text` stands at byte `start`."""
        data = text.encode()
        return self._bytes[start : start + len(data)] == data

    def add(self, text: str) -> None:
        self._bytes += text.encode()
        if self.ended:
            return
        start = 1 if self._escaped and text else 0  # a backslash takes the character behind it out of account
        self._escaped = self._escaped and not text
        while sign := _SIGNS.search(text, start):
            character, start = sign[0], sign.end()
            if self.in_string:
                if character == "\\":
                    self._escaped = start == len(text)
                    start += 1
                self.in_string = character != '"'
            elif character == '"':
                self.in_string = True
            elif character in "{[":
                self._open += 1
            elif character in "}]":
                self._open -= 1
                if self._open <= 0:
                    self.ended = True
                    return


class GrowingObject(GrowingText):
    """The same, and whether it is one whole object.

    >>> text = GrowingObject()
    >>> [(text.add(piece), text.is_whole)[1] for piece in ('{"a": "}', '"', "}", " ", "x")]
    [False, False, True, True, False]
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_blank = self.is_whole = True  # no arguments stand for {}

    def add(self, text: str) -> None:
        before = self.ended
        super().add(text)
        if before:
            self.is_whole = self.is_whole and not text.strip()
            return
        self.is_blank = self.is_blank and not text.strip()
        self.is_whole = self._reads() if self.ended else self.is_blank

    def _reads(self) -> bool:
        try:
            return isinstance(read(str(self)), dict)
        except ValueError:
            return False


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of more than {_MOST_DIGITS} digits")
    return int(digits)


def _int_or_infinite(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"its number {text[:40]} is out of range")
    return value


_first = json.JSONDecoder(parse_int=_int_or_infinite)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inner for item in items]
    return depth
