"""Text → Reading. Total and linear; what it decides on a text that goes on behind a made-up label, it decides alike on
every longer text."""

from __future__ import annotations

from ..reading import Act, Reading
from .labels import Kind, Label, line_labels
from .names import Tools
from .whole import read_whole_text

_FREE = 20_000  # characters that may be read early, beside as many as the text has


class EarlyEnd:
    """Looks, at each label that a text goes on with, whether what stands before it is a whole action already.

    Labels come in order, and whether it looks depends on those so far alone. So a stream that ends at the first that it
    finds is read as the whole text would be."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._spent = 0  # characters that were read, which stays in proportion to the text's length

    def asks(self, label: Label, start: int) -> bool:
        """Whether to look `at` what stands before `label`, which begins at `start`."""
        if not start or label.weak or label.listed or label.kind is Kind.INPUT:
            return False
        if self._spent > _FREE + start // 2:
            return False
        self._spent += start
        return True

    def at(self, before: str) -> Act | None:
        """The whole action that a text before a label is, if it is one."""
        whole = read_whole_text(before, self._tools, cut=False)
        return whole.reading if whole.is_settled and isinstance(whole.reading, Act) else None


def read(text: str, tools: Tools, *, cut: bool = False) -> Reading:
    """What a model's text turns out to be. `tools`: name → JSON Schema of its parameters. `cut`: the model was stopped
    at a length limit, so that what ends with the text may be incomplete. Never raises."""
    early = EarlyEnd(tools)
    for label in line_labels(text):
        if early.asks(label, label.start) and (act := early.at(text[: label.start])) is not None:
            return act
    return read_whole_text(text, tools, cut=cut).reading
