"""The reader's view of a text while it is being written: what may be shown, and when there is no need to go on."""

from __future__ import annotations

from .. import repetition
from ..reading import Final
from .display import Display, Piece
from .labels import MOST_LABELS, line_labels
from .names import Tools
from .read import EarlyEnd, read

_LONGEST_LABEL = 200  # characters of a line in which its label ends


class Watcher:
    """Is fed a text piece by piece.

    `enough`: a whole action was read, and what follows it is made up; the stream may be ended, since reading what there
    is gives what reading all would. `rambling`: the text repeats itself over and over.
    """

    def __init__(self, tools: Tools, *, labelled: bool = False) -> None:
        """`tools`: name → JSON Schema. `labelled`: the model was asked for labels, so that text before the first one is
        a thought until it turns out that none comes; else it is an answer until an action comes."""
        self.enough = False
        self.rambling = False
        self._tools = tools
        self._display = Display(tools, labelled=labelled)
        self._early = EarlyEnd(tools)
        self._repetition = repetition.Repetition()
        self._pieces: list[str] = []
        self._length = 0
        self._line = ""  # of the line under way, as much as a label takes
        self._line_start = 0
        self._line_is_read = False
        self._labels = 0

    def feed(self, delta: str) -> list[Piece]:
        """What may be shown now. It never holds markup of a call."""
        if not delta:
            return []
        if self.enough:
            self._append(delta)
            return []
        self._look(delta)
        self.rambling = self._repetition.feed(delta)
        return [] if self.enough else self._display.feed(delta)

    def close(self) -> list[Piece]:
        """What of an answer is not shown yet, at the end of the text, or the last sign of a thought."""
        reading = read(self._text(), self._tools)
        return self._display.close(reading.text) if isinstance(reading, Final) else self._display.close_thought()

    def _look(self, delta: str) -> None:
        """Takes the text in, and looks for the end of an action at each label."""
        for line in _lines(delta):
            self._append(line)
            if not self._line_is_read and not self.enough:
                self._line += line[: max(0, _LONGEST_LABEL - len(self._line))]
                label = next(line_labels(self._line), None)
                if label is not None:
                    self._line_is_read = True
                    self._labels += 1
                    if self._labels <= MOST_LABELS and self._early.asks(label, self._line_start):
                        self.enough = self._early.at(self._text()[: self._line_start]) is not None
                elif len(self._line) >= _LONGEST_LABEL:
                    self._line_is_read = True
            if line.endswith("\n"):
                self._line, self._line_start, self._line_is_read = "", self._length, False

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
