"""Inline reasoning, `<think>…</think>` at the start of the text, told from the answer while it streams."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"
_MOST_BLANKS = 1_000  # before the tag; text that begins with more has none


class ThinkSplitter:
    """Only at the start: an answer may well write about the tag.

    >>> splitter = ThinkSplitter()
    >>> splitter.feed("<thi"), splitter.feed("nk>hm</th"), splitter.feed("ink>\\n\\nFour."), splitter.close()
    (('', ''), ('hm', ''), ('', 'Four.'), ('', ''))
    """

    def __init__(self) -> None:
        self._state = "start"  # start → inside → after → answer, or start → answer
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) that is certain by now."""
        if self._state == "answer" or not text:
            return "", text
        self._held += text
        reasoning = ""
        if self._state == "start":
            bare = self._held.lstrip()
            if bare.startswith(_OPEN):
                self._state, self._held = "inside", bare[len(_OPEN) :]
            elif _OPEN.startswith(bare) and len(self._held) <= _MOST_BLANKS:
                return "", ""
            else:
                return "", self._all()
        if self._state == "inside":
            reasoning, closed, rest = self._held.partition(_CLOSE)
            if not closed:
                # The tail may be the start of the closing tag.
                kept = next(n for n in range(len(_CLOSE) - 1, -1, -1) if reasoning.endswith(_CLOSE[:n]))
                self._held = reasoning[len(reasoning) - kept :]
                return reasoning[: len(reasoning) - kept], ""
            self._state, self._held = "after", rest
        if self._held.isspace() or not self._held:
            self._held = ""
            return reasoning, ""  # the blank lines between the two belong to neither
        self._held = self._held.lstrip()
        return reasoning, self._all()

    def close(self) -> tuple[str, str]:
        """(reasoning, answer) that the end leaves over; a tag that was never closed holds reasoning."""
        if self._state == "inside":
            return self._all(), ""
        return "", "" if self._state == "after" else self._all()

    def _all(self) -> str:
        text, self._held, self._state = self._held, "", "answer"
        return text
