"""Strings that are not JSON's: other quotes, quotes inside that nobody escaped, escapes of Python."""

from __future__ import annotations

import re
from collections.abc import Callable

from .errors import Unreadable, cut, half, refusal

_DOUBLE, _SINGLE = '"“”„‟＂', "'‘’‚‛＇"
QUOTES = _DOUBLE + _SINGLE
_OPENING, _LOW = "„“‟‚‛‘", "„‟‚"  # of them: those that open a quotation in some language, those that never end one
_IN_DOUBLE, _IN_SINGLE = re.compile(rf"[\\{_DOUBLE}]"), re.compile(rf"[\\{_SINGLE}„“]")
_BEFORE_QUOTATION, _BEHIND_QUOTATION = frozenset(" \t\n([{=>-/" + QUOTES), frozenset(" \t\n.,;!?)]}<>/-")
_SHORT_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\"}
_HEX_ESCAPES = {"u": 4, "x": 2, "U": 8}
_HEX = re.compile(r"[0-9a-fA-F]*")
SURROGATES = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_IN_STRING = "inside of a string"


def read_string(text: str, start: int, may_follow: Callable[[int], bool]) -> tuple[str, int]:
    """The string whose quote stands at `start`, and where it ends. Raises CutOff, Unreadable.

    `may_follow(at)`: whether what stands at `at` can follow a string. A quote inside of it that is not escaped is told
    by that from the one that ends it. Where a quote may be either, as those before it do not pair, or where one neither
    opens nor closes a quotation, the string is refused.
    """
    quote = text[start]
    if text.startswith(quote * 3, start) and quote in "\"'":
        return _triple(text, start)
    family, special = (_DOUBLE, _IN_DOUBLE) if quote in _DOUBLE else (_SINGLE, _IN_SINGLE)
    is_ascii = quote in "\"'"
    parts: list[str] = []
    escapes = _Escapes()
    pending = 0  # typographic quotes that were opened and not closed
    is_odd = False  # a quotation in the string's own quotes was opened
    at = done = start + 1
    while True:
        sign = special.search(text, at)
        if sign is None:
            raise cut(text, _IN_STRING)
        at = sign.end()
        character = sign[0]
        if character == "\\":
            parts.append(text[done : at - 1])
            value, at = escapes.read(text, at - 1)
            parts.append(value)
            done = at
            continue
        may_end = character == quote if is_ascii else character in family and character not in _LOW
        if may_end and may_follow(at):
            if is_odd:
                raise refusal('a quote inside of a string must be written \\"', text, at)
            break
        if character in _OPENING and (pending == 0 or character in _LOW):
            pending += 1
        elif pending:
            pending -= 1
        elif character == quote and not (family is _SINGLE and _is_apostrophe(text, at)):
            is_odd = not is_odd
            if not (_opens_quotation if is_odd else _closes_quotation)(text, at):
                raise refusal('a quote inside of a string must be written \\"', text, at)
    parts.append(text[done : at - 1])
    value = "".join(parts)
    if escapes.unknown and escapes.known:
        raise refusal("a backslash inside of a string must be written \\\\", text, at)
    return (_joined(value, at) if SURROGATES.search(value) else value), at


def _triple(text: str, start: int) -> tuple[str, int]:
    end = text.find(text[start] * 3, start + 3)
    if end < 0:
        raise cut(text, _IN_STRING)
    value = text[start + 3 : end]
    if "\\" in value:
        raise refusal("a string in three quotes has a backslash: write it in one quote, as JSON", text, end)
    return value, end + 3


class _Escapes:
    """Which escapes a string has. One that nobody knows, as in a regular expression, keeps its backslash; beside others
    it cannot be told whether those were meant as escapes."""

    known = unknown = False

    def read(self, text: str, at: int) -> tuple[str, int]:
        """What the escape at `at` stands for, and where it ends."""
        sign = text[at + 1 : at + 2]
        if not sign:
            raise cut(text, _IN_STRING)
        if sign in QUOTES:
            return sign, at + 2
        if sign in _SHORT_ESCAPES:
            self.known = True
            return _SHORT_ESCAPES[sign], at + 2
        if sign == "\n":
            raise refusal("a backslash at the end of a line in a string must be written \\\\", text, at)
        if sign not in _HEX_ESCAPES:
            self.unknown = True
            return "\\" + sign, at + 2
        size = _HEX_ESCAPES[sign]
        digits = _HEX.match(text, at + 2, at + 2 + size)[0]  # type: ignore[index]
        end = at + 2 + len(digits)
        if len(digits) == size and int(digits, 16) <= 0x10FFFF:
            self.known = True
            return chr(int(digits, 16)), end
        if end >= len(text):
            raise cut(text, _IN_STRING)
        raise refusal(f"\\{sign} needs {size} hexadecimal digits; a backslash must be written \\\\", text, end)


def _opens_quotation(text: str, at: int) -> bool:
    """Whether the quote before `at` stands where one opens a quotation inside of a text."""
    return text[at - 2] in _BEFORE_QUOTATION and bool(text[at : at + 1].strip())


def _closes_quotation(text: str, at: int) -> bool:
    return bool(text[at - 2].strip()) and text[at : at + 1] in _BEHIND_QUOTATION


def _is_apostrophe(text: str, at: int) -> bool:
    """Whether the quote before `at` stands within a word."""
    return text[at - 2].isalnum() and text[at : at + 1].isalnum()


def _joined(value: str, at: int) -> str:
    """Pairs of halves of a character, joined."""
    value = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), value)
    if SURROGATES.search(value):
        raise Unreadable(half(), at)
    return value
