"""JSON as models write it, read in linear time and never completed.

Strict JSON first, then Python's literals, then a small repair: trailing commas, raw line breaks in strings, typographic
quotes at structural places, names without quotes as keys, surplus closers, and quotes inside of strings where it is
plain which ones they are.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from .errors import (
    DEEPEST,
    MOST_DIGITS,
    CutOff,
    NotRead,
    Unreadable,
    cut,
    half,
    near,
    no_value,
    too_deep,
    too_large,
    too_long,
    twice,
)
from .reader import BLANKS, Reader
from .strings import SURROGATES

__all__ = ["CutOff", "NotRead", "Unreadable", "after_closers", "read_value", "read_whole"]

JSON = Any  # None, bool, int, float, str, lists and dicts of these

# What can stand at the end of JSON that was cut: the start of a word, of a number, of an escape.
_STARTED = re.compile(r'\s*(t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?|\\?u?[0-9a-fA-F]{0,4})?"?\s*')
_FIRST_WINDOW = 4_096  # characters that the strict reader is given first


def read_value(text: str, start: int = 0) -> tuple[JSON, int]:
    """The value that begins at `start`, blanks skipped, and where it ends; the rest is not looked at. Raises CutOff,
    Unreadable. Takes time with what it looks at, wherever in the text that is.

    >>> read_value("{'a': (1, None), \\"b\\": “c”,} and more")
    ({'a': [1, None], 'b': 'c'}, 27)
    """
    start = BLANKS.match(text, start).end()  # type: ignore[union-attr]
    looked = 0
    try:
        if text[start : start + 1] in ("{", "[", '"'):
            strict, looked = _strict(text, start)
            if strict is not None:
                return strict
        return Reader(text, start).read()
    except NotRead as error:
        error.looked += looked + error.at - start
        raise


def read_whole(text: str) -> JSON:
    """The value that is all of `text`, blanks and surplus closers around it aside. Raises CutOff, Unreadable."""
    value, end = read_value(text)
    end = after_closers(text, end)
    if end < len(text):
        raise Unreadable(f"there is more behind the value: {near(text, end)}", end)
    return value


def after_closers(text: str, end: int) -> int:
    """Where the surplus brackets, and blanks, end that follow a value."""
    return _SURPLUS.match(text, end).end()  # type: ignore[union-attr]


_SURPLUS = re.compile(r"[\s\ufeff\u200b]*(?:[}\])][\s\ufeff\u200b]*)*")


def _strict(text: str, start: int) -> tuple[tuple[JSON, int] | None, int]:
    """(value, end), or None where it is no JSON; and how many characters were looked at. Raises CutOff, Unreadable."""
    size = _FIRST_WINDOW
    while True:
        # A window, as the decoder counts all lines of its text for its complaint.
        window = text[start : start + size]
        is_all = start + size >= len(text)
        try:
            value, end = _decoder.raw_decode(window)
        except json.JSONDecodeError as error:
            if is_all or (error.pos < size - 16 and not error.msg.startswith("Unterminated")):
                if is_all and (error.msg.startswith("Unterminated") or _STARTED.fullmatch(window, error.pos)):
                    raise cut(text) from None
                return None, len(window)
            size *= 4
            continue
        except RecursionError:
            raise Unreadable(too_deep(), start, len(window)) from None
        except _BadValue as error:
            raise Unreadable(str(error), start, len(window)) from None
        if end == size and not is_all:
            size *= 4  # a quote at the end of a window may be followed by anything
            continue
        read = window[:end]
        if read.count("{") + read.count("[") > DEEPEST and _depth(value) > DEEPEST:
            raise Unreadable(too_deep(), start + end)
        if "\\u" in read or SURROGATES.search(read):
            _refuse_halves(value, start + end)
        return (value, start + end), end


class _BadValue(ValueError):
    """JSON, but a value that is refused."""


def _pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _BadValue(twice(_first_twice([key for key, _ in pairs])))
    return value


def _int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _BadValue(too_long())
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MOST_DIGITS:
        raise _BadValue(too_long())
    number = float(digits)
    if math.isinf(number):
        raise _BadValue(too_large(digits))
    return number


def _no_constant(name: str) -> NoReturn:
    raise _BadValue(no_value(name))


# `strict=False`: control characters may stand in strings as they are.
_decoder = json.JSONDecoder(
    strict=False, object_pairs_hook=_pairs, parse_int=_int, parse_float=_float, parse_constant=_no_constant
)


def _refuse_halves(value: JSON, at: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unreadable(half(), at) from None


def _depth(value: JSON) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
    return depth


def _first_twice(keys: list[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
