"""What the readers of the formats share: the text, searches in it that stay linear, and what they answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..loose_json import CutOff, NotRead, Unreadable, after_closers, read_value
from .names import Names

JSON = Any

_MOST_WASTED = 4  # times the text's length that may be read for values that turn out to be none
_ONE_TRY = 100  # characters that a try counts as, however short


@dataclass(frozen=True)
class Piece:
    """Markup from `start` to `end`, and the calls (name, arguments) in it or, else, what is wrong with it."""

    start: int
    end: int
    calls: tuple[tuple[str, dict[str, JSON]], ...] = ()
    problem: str = ""


class Problem(Exception):
    """Markup that is no whole call. The message is for the model."""

    def __init__(self, message: str, end: int = 0) -> None:
        """`end`: where the markup ends, if that is known."""
        super().__init__(message)
        self.end = end


class NotMarkup(Exception):
    """It is text after all, such as one that writes about markup."""


class Source:
    """A text. Readers go through it from left to right, so that a search that found nothing need not be made again."""

    def __init__(self, text: str, tools: Mapping[str, Mapping[str, Any]]) -> None:
        self.text = text
        self.tools = tools
        self.names = Names(tools)
        self._found: dict[str, tuple[int, int]] = {}  # literal → from where it was searched, where it is
        self._waste = _MOST_WASTED * len(text) + 10_000

    def find(self, literal: str, start: int) -> int:
        """As `str.find`; all searches for one literal together take time with the text, if they go from left to
        right."""
        searched, at = self._found.get(literal, (len(self.text) + 1, -1))
        if searched <= start and (at < 0 or at >= start):
            return at
        at = self.text.find(literal, start)
        self._found[literal] = start, at
        return at

    def give_up(self) -> bool:
        """Whether enough was tried by now that turned out to be nothing; each question counts as a try."""
        self._waste -= _ONE_TRY
        return self._waste <= 0

    def value(self, start: int, closer: str = "") -> tuple[JSON, int]:
        """The value at `start`. Raises CutOff, Unreadable.

        With a `closer` the value is first looked for before the next of them, which a value that is cut off there has
        behind it."""
        if self._waste > 0:
            try:
                return read_value(self.text, start)
            except NotRead as error:
                self._waste -= error.looked
                if not isinstance(error, CutOff) or not closer or self.find(closer, start) < 0:
                    raise
                raise Unreadable(f"it has no end before {closer}", error.at) from None
        end = self.find(closer, start) if closer else -1
        if end < 0:
            raise Unreadable("there is too much in this text that cannot be read", start)
        value, at = read_value(self.text[start:end])
        return value, start + at

    def blanks(self, at: int) -> int:
        return _BLANKS.match(self.text, at).end()  # type: ignore[union-attr]

    def is_end(self, at: int) -> bool:
        """Whether nothing follows but blanks."""
        return self.blanks(at) >= len(self.text)

    def starts_line(self, at: int) -> bool:
        """Whether nothing but blanks and markup stands before `at` on its line."""
        before = self.text[max(self.text.rfind("\n", max(0, at - _LONGEST_INDENT), at) + 1, at - _LONGEST_INDENT) : at]
        return not before.strip(" \t>*-`") or before.rstrip().endswith((">", "]", "▷"))

    def behind(self, at: int) -> int:
        """Where the surplus brackets end that follow a value. Raises Problem where what follows on its line looks like
        more of it: then a quote inside of the value has ended it too early."""
        end = after_closers(self.text, at)
        rest = _REST.match(self.text, end)
        if rest is not None and _MORE.search(rest[0]):
            raise Problem(f"something stands behind its arguments: {rest[0][:40].strip()!r}", end)
        return end


_BLANKS = re.compile(r"\s*")
_LONGEST_INDENT = 40
# Of a line, up to what may be a mark; and what there may be more of a value.
_REST = re.compile(r"[^\n<\[{`]{0,2000}")
_MORE = re.compile(r"^[:\"'“”]|^,\s*[\"'“\w]|[\"”]\s*[}\]),:]")


def cut_off(what: str) -> str:
    return f"the call in {what} was cut off before it was whole: write it again, whole and shorter if need be"


def not_read(what: str, why: object) -> str:
    return f"the call in {what} cannot be read: {why}"


@functools.cache
def pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
