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

JSON = Any  # None, bool, int, float, str, lists and dicts of these

DEEPEST = 200  # levels of lists and objects
MOST_DIGITS = 4_000  # of a number: reading one takes time with the square of them
_MOST_VALUES = 100_000  # of a value that is no strict JSON, and so is read by hand
_FIRST_WINDOW = 4_096  # characters that the strict reader is given first
_LONGEST_KEY = 256  # characters of a key that is looked for behind a comma

_BLANKS = re.compile(r"[\s\ufeff\u200b]*")
_DOUBLE, _SINGLE = '"“”„‟＂', "'‘’‚‛＇"
_QUOTES = _DOUBLE + _SINGLE
_IN_DOUBLE, _IN_SINGLE = re.compile(rf"[\\{_DOUBLE}]"), re.compile(rf"[\\{_SINGLE}„“]")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
_NUMBER_PART = re.compile(r"[0-9A-Za-z_.+-]*")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[^\W\d][\w-]*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_NO_NUMBERS = {"NaN", "nan", "Infinity", "inf", "Inf"}
_KEY = re.compile(
    rf"(?:[{_QUOTES}][^{_QUOTES}\\]{{0,{_LONGEST_KEY}}}[{_QUOTES}]|[^\W\d][\w-]{{0,{_LONGEST_KEY}}})[\s\ufeff\u200b]*(:|$)"
)
_VALUE_STARTS = frozenset(_QUOTES + "-+.0123456789{[(")
_SHORT_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\"}
_QUOTE_ESCAPES = frozenset(_QUOTES)
_HEX_ESCAPES = {"u": 4, "x": 2, "U": 8}
_HEX = re.compile(r"[0-9a-fA-F]*")
_SURROGATES = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}


class NotRead(ValueError):
    """`at`: where in the text the fault is. `looked`: characters that were looked at to find it."""

    def __init__(self, message: str, at: int, looked: int = 0) -> None:
        super().__init__(message)
        self.at, self.looked = at, looked


class CutOff(NotRead):
    """The text ends inside of the value."""


class Unreadable(NotRead):
    """It is no value, or could be more than one. The message says what is wrong, and where."""


def read_value(text: str, start: int = 0) -> tuple[JSON, int]:
    """The value that begins at `start`, blanks skipped, and where it ends; the rest is not looked at. Raises CutOff,
    Unreadable. Takes time with what it looks at, wherever in the text that is.

    >>> read_value("{'a': (1, None), \\"b\\": “c”,} and more")
    ({'a': [1, None], 'b': 'c'}, 27)
    """
    start = _BLANKS.match(text, start).end()  # type: ignore[union-attr]
    looked = 0
    try:
        if text[start : start + 1] in ("{", "[", '"'):
            strict, looked = _strict(text, start)
            if strict is not None:
                return strict
        return _Reader(text, start).read()
    except NotRead as error:
        error.looked += looked + error.at - start
        raise


def read_whole(text: str) -> JSON:
    """The value that is all of `text`, blanks and surplus closers around it aside. Raises CutOff, Unreadable."""
    value, end = read_value(text)
    end = after_closers(text, end)
    if end < len(text):
        raise Unreadable(f"there is more behind the value: {_near(text, end)}", end)
    return value


def after_closers(text: str, end: int) -> int:
    """Where the surplus brackets, and blanks, end that follow a value."""
    return _SURPLUS.match(text, end).end()  # type: ignore[union-attr]


_SURPLUS = re.compile(r"[\s\ufeff\u200b]*(?:[}\])][\s\ufeff\u200b]*)*")


def _strict(text: str, start: int) -> tuple[tuple[JSON, int] | None, int]:
    """(value, end), or None where it is no JSON, though it may be cut off; and how many characters were looked at."""
    size = _FIRST_WINDOW
    while True:
        # A window, as the decoder counts all lines of its text for its complaint.
        window = text[start : start + size]
        is_all = start + size >= len(text)
        try:
            value, end = _decoder.raw_decode(window)
        except json.JSONDecodeError as error:
            if is_all or (error.pos < size - 16 and not error.msg.startswith("Unterminated")):
                return None, len(window)
            size *= 4
            continue
        except RecursionError:
            raise Unreadable(_too_deep(), start, len(window)) from None
        except _BadValue as error:
            raise Unreadable(str(error), start, len(window)) from None
        if end == size and not is_all:
            size *= 4  # a quote at the end of a window may be followed by anything
            continue
        read = window[:end]
        if read.count("{") + read.count("[") > DEEPEST and _depth(value) > DEEPEST:
            raise Unreadable(_too_deep(), start + end)
        if "\\u" in read or _SURROGATES.search(read):
            _refuse_halves(value, start + end)
        return (value, start + end), end


class _BadValue(ValueError):
    """JSON, but a value that is refused."""


def _pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _BadValue(_twice(_first_twice([key for key, _ in pairs])))
    return value


def _int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _BadValue(_too_long())
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MOST_DIGITS:
        raise _BadValue(_too_long())
    number = float(digits)
    if math.isinf(number):
        raise _BadValue(_too_large(digits))
    return number


def _no_constant(name: str) -> NoReturn:
    raise _BadValue(f"{name} is no JSON value")


# `strict=False`: control characters may stand in strings as they are.
_decoder = json.JSONDecoder(
    strict=False, object_pairs_hook=_pairs, parse_int=_int, parse_float=_float, parse_constant=_no_constant
)


class _Reader:
    """Reads a value that is not strict JSON, with a stack of its own, each character a bounded number of times."""

    def __init__(self, text: str, start: int) -> None:
        self._text, self._at, self._start = text, start, start
        # Of each open container: its bracket, what it has, and for an object the key whose value comes next.
        self._kinds: list[str] = []
        self._containers: list[Any] = []
        self._keys: list[str | None] = []

    def read(self) -> tuple[JSON, int]:
        for _ in range(_MOST_VALUES):
            value = self._next_value()
            if value is _OPENED:
                continue
            # A value is whole; so may be the containers that it is the last of.
            while self._kinds:
                self._put(value)
                if not self._closes():
                    break
                value = self._pop()
            else:
                return value, self._at
        self._refuse(f"it is no strict JSON and has more than {_MOST_VALUES} values")

    def _next_value(self) -> JSON:
        """A scalar or an empty container, or _OPENED."""
        text = self._text
        kind = self._kinds[-1] if self._kinds else ""
        sign = self._skip()
        if kind == "{" and self._keys[-1] is None:
            if sign == "}" and not self._containers[-1]:
                self._at += 1
                return self._pop()
            self._keys[-1] = self._key(sign)
            sign = self._skip()
        elif kind and sign == _CLOSERS[kind] and not self._containers[-1]:
            self._at += 1
            return self._pop()
        if sign in ("{", "[", "("):
            if len(self._kinds) >= DEEPEST:
                raise Unreadable(_too_deep(), self._at)
            self._at += 1
            self._kinds.append(sign)
            self._containers.append({} if sign == "{" else _Tuple() if sign == "(" else [])
            self._keys.append(None)
            return _OPENED
        if sign in _QUOTES:
            return self._string("value" if kind else "top")
        if sign in "+-.0123456789":
            return self._number()
        word = _WORD.match(text, self._at)
        if word is None:
            self._refuse("a value is missing")
        return self._word(word[0], word.end())

    def _skip(self) -> str:
        """The next character that is no blank. Raises CutOff at the end."""
        text = self._text
        if self._at < len(text) and text[self._at] > " ":
            sign = text[self._at]
            if sign < "\x7f":
                return sign
        self._at = _BLANKS.match(text, self._at).end()  # type: ignore[union-attr]
        if self._at >= len(text):
            self._cut()
        return text[self._at]

    def _key(self, sign: str) -> str:
        if sign in _QUOTES:
            key = self._string("key")
        else:
            word = _WORD.match(self._text, self._at)
            if word is None:
                self._refuse("a key must be a string")
            key, self._at = word[0], word.end()
        if self._skip() != ":":
            self._refuse(f"a colon is missing behind the key {_shown(key)}")
        self._at += 1
        if key in self._containers[-1]:
            raise Unreadable(_twice(key), self._at)
        return key

    def _put(self, value: JSON) -> None:
        container = self._containers[-1]
        key = self._keys[-1]
        if key is None:
            container.append(value)
        else:
            container[key] = value
            self._keys[-1] = None

    def _pop(self) -> JSON:
        self._kinds.pop()
        self._keys.pop()
        container = self._containers.pop()
        if isinstance(container, _Tuple):
            return container[0] if len(container) == 1 and not container.has_comma else list(container)
        return container

    def _closes(self) -> bool:
        """Behind a value: whether the innermost container ends here. Else a comma was read."""
        kind = self._kinds[-1]
        while True:
            sign = self._skip()
            if sign == _CLOSERS[kind]:
                self._at += 1
                return True
            if sign == ",":
                self._at += 1
                if isinstance(self._containers[-1], _Tuple):
                    self._containers[-1].has_comma = True
                if self._skip() == _CLOSERS[kind]:
                    self._at += 1
                    return True
                return False
            if sign in ("}", "]", ")") and not self._is_open(sign):
                self._at += 1  # surplus: nothing is open that it would close
                continue
            if sign in ("}", "]", ")"):
                self._refuse(f"{_CLOSERS[kind]} is missing")
            self._refuse(f"a comma or {_CLOSERS[kind]} is missing")

    def _is_open(self, closer: str) -> bool:
        # At most DEEPEST of them.
        return any(_CLOSERS[kind] == closer for kind in self._kinds)

    def _number(self) -> int | float:
        text = self._text
        part = _NUMBER_PART.match(text, self._at).group()  # type: ignore[union-attr]
        end = self._at + len(part)
        if len(part) > MOST_DIGITS:
            raise Unreadable(_too_long(), end)
        bare = part.lstrip("+-")
        if bare in _NO_NUMBERS:
            raise Unreadable(f"{part} is no JSON value", end)
        number: int | float
        if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", part):
            number = int(part, 16)
        elif _PLAIN_NUMBER.fullmatch(part):
            number = float(part) if set(part) & set(".eE") else int(part)
        elif end >= len(text):
            self._at = end
            self._cut()
        else:
            self._refuse(f"{_shown(part)} is no number")
        if isinstance(number, float) and math.isinf(number):
            raise Unreadable(_too_large(part), end)
        self._at = end
        return number

    def _word(self, word: str, end: int) -> JSON:
        if word in _WORDS:
            self._at = end
            return _WORDS[word]
        if word in _NO_NUMBERS:
            raise Unreadable(f"{word} is no JSON value", end)
        if end >= len(self._text) and any(known.startswith(word) for known in _WORDS):
            self._at = end
            self._cut()
        self._refuse(f"{_shown(word)} is neither a value nor in quotes")

    def _string(self, place: str) -> str:
        """`place`: top, key or value. A quote inside of it that is not escaped is told from the one that ends it by
        what follows; where that may be either, because the quotes so far do not pair, the string is refused."""
        text, start = self._text, self._at
        quote = text[start]
        triple = text[start : start + 3]
        if triple in ('"""', "'''"):
            return self._triple(triple)
        family = _DOUBLE if quote in _DOUBLE else _SINGLE
        special = _IN_DOUBLE if family is _DOUBLE else _IN_SINGLE
        ascii_only = quote in "\"'"
        parts: list[str] = []
        escapes = _Escapes()
        pending = 0  # typographic quotes that were opened and not closed
        odd = False  # an inner quote was opened
        at = done = start + 1
        while True:
            sign = special.search(text, at)
            if sign is None:
                self._at = len(text)
                self._cut("inside of a string")
            at = sign.start()
            character = sign[0]
            if character == "\\":
                parts.append(text[done:at])
                value, at = self._escape(at, escapes)
                parts.append(value)
                done = at
                continue
            at += 1
            may_end = character == quote if ascii_only else character in family and character not in "„‚"
            if may_end and self._ends_string(at, place):
                if odd:
                    self._at = at
                    self._refuse('a quote inside of a string must be written \\"')
                break
            if character in "„“‟‚‛‘" and (pending == 0 or character in "„‟‚"):
                pending += 1
            elif pending:
                pending -= 1
            elif character == quote and text.startswith(quote, _BLANKS.match(text, at).end()):  # type: ignore[union-attr]
                self._at = at
                self._refuse("a string follows another without a comma between")
            elif character == quote and not (family is _SINGLE and _is_apostrophe(text, at)):
                odd = not odd
        parts.append(text[done : at - 1])
        self._at = at
        value = "".join(parts)
        if escapes.unknown and escapes.known:
            self._refuse("a backslash inside of a string must be written \\\\")
        if _SURROGATES.search(value):
            value = _joined(value, at)
        return value

    def _triple(self, quotes: str) -> str:
        end = self._text.find(quotes, self._at + 3)
        if end < 0:
            self._at = len(self._text)
            self._cut("inside of a string")
        value = self._text[self._at + 3 : end]
        if "\\" in value:
            self._at = end
            self._refuse("a string in three quotes has a backslash: write it in one quote, as JSON")
        self._at = end + 3
        return value

    def _ends_string(self, at: int, place: str) -> bool:
        """Whether what follows at `at` can follow a string."""
        if place == "top":
            return True
        text = self._text
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
        sign = text[at : at + 1]
        if not sign:
            return True
        if place == "key":
            return sign == ":"
        kind = self._kinds[-1]
        if sign in "}])":
            return True
        if sign != ",":
            return False
        at = _BLANKS.match(text, at + 1).end()  # type: ignore[union-attr]
        sign = text[at : at + 1]
        if not sign or sign == _CLOSERS[kind]:
            return True
        if kind == "{":
            return _KEY.match(text, at) is not None
        word = _WORD.match(text, at)
        return sign in _VALUE_STARTS or (word is not None and word[0] in _WORDS)

    def _escape(self, at: int, escapes: _Escapes) -> tuple[str, int]:
        """What the escape at `at` stands for, and where it ends."""
        text = self._text
        sign = text[at + 1 : at + 2]
        if not sign:
            self._at = len(text)
            self._cut("inside of a string")
        if sign in _QUOTE_ESCAPES:
            return sign, at + 2
        if sign in _SHORT_ESCAPES:
            escapes.known = True
            return _SHORT_ESCAPES[sign], at + 2
        if sign == "\n":  # Python's line that goes on
            return "", at + 2
        if size := _HEX_ESCAPES.get(sign):
            digits = _HEX.match(text, at + 2, at + 2 + size).group()  # type: ignore[union-attr]
            end = at + 2 + len(digits)
            if len(digits) == size and int(digits, 16) <= 0x10FFFF:
                escapes.known = True
                return chr(int(digits, 16)), end
            self._at = end
            if end >= len(text):
                self._cut("inside of a string")
            self._refuse(f"\\{sign} needs {size} hexadecimal digits; a backslash in a string must be written \\\\")
        escapes.unknown = True
        return "\\" + sign, at + 2

    def _cut(self, where: str = "") -> NoReturn:
        raise CutOff(f"it ends {where or 'before it is whole'}", self._at)

    def _refuse(self, why: str) -> NoReturn:
        raise Unreadable(f"{why}, at character {self._at - self._start + 1}: {_near(self._text, self._at)}", self._at)


class _Escapes:
    """Which escapes a string has. One that nobody knows, as in a regular expression, keeps its backslash; beside others
    it cannot be told whether those were meant as escapes."""

    known = unknown = False


class _Tuple(list[Any]):
    has_comma = False


_OPENED: Any = object()  # a container was opened, its values come next


def _is_apostrophe(text: str, at: int) -> bool:
    """Whether the quote before `at` stands within a word."""
    return at >= 2 and text[at - 2].isalnum() and text[at : at + 1].isalnum()


def _refuse_halves(value: JSON, at: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unreadable(_half(), at) from None


def _joined(value: str, at: int) -> str:
    """Pairs of halves of a character, joined."""
    value = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), value)
    if _SURROGATES.search(value):
        raise Unreadable(_half(), at)
    return value


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


def _twice(key: str) -> str:
    return f"the key {_shown(key)} is there twice"


def _too_long() -> str:
    return f"it has a number of more than {MOST_DIGITS} digits"


def _too_large(digits: str) -> str:
    return f"the number {_shown(digits)} is too large"


def _too_deep() -> str:
    return f"it has more than {DEEPEST} levels"


def _half() -> str:
    return "it has half of a character (a surrogate without its other half)"


def _shown(word: str) -> str:
    word = word.encode(errors="replace").decode()
    return repr(word if len(word) <= 40 else word[:40] + "…")


def _near(text: str, at: int) -> str:
    piece = text[at : at + 20].encode(errors="replace").decode()
    return repr(piece) if piece else "the end"
