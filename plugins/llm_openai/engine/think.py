"""Inline reasoning, `<think>…</think>` and its like at the start of the text, told from the answer while it streams."""

from __future__ import annotations

_MARKS = {
    "<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>", "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]", "<seed:think>": "</seed:think>",
}  # fmt: skip
_MOST_BLANKS = 1_000  # before the tag; text that begins with more has none


class ThinkSplitter:
    """Only at the start: an answer may well write about the tag.

    >>> splitter = ThinkSplitter()
    >>> splitter.feed("<thi"), splitter.feed("nk>hm</th"), splitter.feed("ink>\\n\\nFour."), splitter.close()
    (('', ''), ('hm', ''), ('', 'Four.'), ('', ''))
    """

    def __init__(self) -> None:
        self._state = "start"  # start → inside → after → answer, or start → answer
        self._held = self._close = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) that is certain by now."""
        if self._state == "answer" or not text:
            return "", text
        self._held += text
        reasoning = ""
        if self._state == "start":
            bare = self._held.lstrip()
            if opened := next((mark for mark in _MARKS if bare.startswith(mark)), ""):
                self._state, self._held, self._close = "inside", bare[len(opened) :], _MARKS[opened]
            elif len(self._held) <= _MOST_BLANKS and any(mark.startswith(bare) for mark in _MARKS):
                return "", ""
            else:
                return "", self._all()
        if self._state == "inside":
            reasoning, closed, rest = self._held.partition(self._close)
            if not closed:
                # The tail may be the start of the closing tag.
                kept = next(n for n in range(len(self._close) - 1, -1, -1) if reasoning.endswith(self._close[:n]))
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
