"""Halves of characters: JSON can hold one alone (`"\\\\ud83d"`), UTF-8 cannot, and gRPC would fail on it."""

from __future__ import annotations


class HalfJoiner:
    r"""Servers that escape cut an emoji in two, a half at the end of one piece and one at the start of the next.

    >>> joiner = HalfJoiner()
    >>> joiner.feed("a\\ud83d"), joiner.feed("\\ude00b"), joiner.close()
    ('a', '😀b', '')
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return sound(text[: len(text) - len(self._held)])

    def close(self) -> str:
        text, self._held = sound(self._held), ""
        return text


def sound(text: str) -> str:
    """`text` with halves that belong together joined, and U+FFFD for one that stays alone."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
