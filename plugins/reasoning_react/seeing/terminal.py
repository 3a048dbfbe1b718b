"""A run as a timeline in the terminal: thoughts as they are written, then what was called and what that brought.

The timeline goes to stderr, the answer to stdout, so that it can be piped. What others wrote is shown as text, whatever
it would have a terminal do.
"""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from shared.visible import visible

from .page import counted, outcome_of, seconds_in_words, tokens_in_words
from .trace import Call, Step, Trace

_LINES, _MARGIN = 12, 5  # of a result that are shown; columns that stand before them


class Timeline:
    """Writes to two streams, and goes on where nobody reads the first."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        """`out`: for the answer, `err`: for all else."""
        self._out, self._err = out, err
        self._colours = err.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._width = max(shutil.get_terminal_size().columns, 40)
        self._is_live = err.isatty()  # somebody reads along
        self._open = ""  # what the line under way is made of: thought, text
        self._text = ""  # of the step, which is a thought where an action follows, else the answer

    def thought(self, piece: str) -> None:
        """The next piece of it."""
        self._begin("thought")
        self._put(self._dim(visible(piece.removesuffix("\r"))))

    def text(self, piece: str) -> None:
        """The next piece of what is a thought or the answer: shown at once where somebody reads along."""
        self._text += piece
        if self._is_live:
            self._begin("text")
            self._put(visible(piece.removesuffix("\r")))

    def text_was_a_thought(self) -> None:
        if self._text and not self._is_live:
            self._begin("text")
            self._put(visible(self._text))
        self._text = ""

    def whole_answer(self, text: str) -> None:
        """The answer goes to stdout, as it is where that is no terminal, unless it stands there already."""
        self._begin("")
        if not (self._out.isatty() and self._is_live and self._text == text and _are_same(self._out, self._err)):
            self._out.write((visible(text) if self._out.isatty() else text) + "\n")
            self._out.flush()

    def step(self, number: int) -> None:
        self._begin("")
        self._text = ""
        self._put(self._bold(f"Step {number}") + "\n")

    def action(self, tool: str, arguments: str) -> None:
        self.text_was_a_thought()
        self._begin("")
        self._put("  → " + self._bold(visible(tool)) + f" {self._cut(arguments, 2)}\n")

    def result(self, call: Call) -> None:
        """What an action brought: its first lines."""
        self._begin("")
        took = f" ({seconds_in_words(call.seconds)})" if call.seconds is not None else ""
        outcome = outcome_of(call)
        head = "  ← " if outcome == "done" else f"  ✗ {outcome}: "
        self._put(f"{head}{self._bold(visible(call.tool))}{self._dim(took)}\n")
        if call.result:
            self._put("     " + self._cut(call.result, _LINES) + "\n")

    def step_ended(self, step: Step) -> None:
        self._begin("")
        if step.note:
            self._put(f"  ! {self._cut(step.note, 3)}\n")
        self._put(self._dim(f"  {tokens_in_words(step.tokens)}, {seconds_in_words(step.seconds)}") + "\n")

    def ended(self, trace: Trace) -> None:
        """One line on the whole run."""
        facts = [
            trace.stop_reason.lower().replace("_", " ") if trace.done else "not ended",
            counted(len(trace.steps), "step"),
            counted(trace.calls, "tool call"),
            tokens_in_words(trace.tokens),
            seconds_in_words(trace.seconds),
        ]
        self._begin("")
        self._put(self._dim(f"[{', '.join(facts)}]") + "\n")

    def line(self, text: str) -> None:
        """A line of our own."""
        self._begin("")
        self._put(visible(text) + "\n")

    def _cut(self, text: str, lines: int) -> str:
        """What of `text` fits into so many lines of the terminal, and how much more there is."""
        text = visible(text).strip("\n")
        wide = self._width - _MARGIN
        shown: list[str] = []
        rest = text
        while rest and len(shown) < lines:
            line, newline, _ = rest[: wide + 1].partition("\n")
            line = line[:wide]
            shown.append(line)
            rest = rest[len(line) + (1 if newline else 0) :]
        more = [self._dim(f"… {len(rest):,} more characters")] if rest else []
        return "\n     ".join([*shown, *more])

    def _begin(self, part: str) -> None:
        """Ends the line under way unless it is of this part."""
        if self._open and self._open != part:
            self._put("\n")
        self._open = part

    def _put(self, text: str) -> None:
        try:
            self._err.write(text)
            self._err.flush()
        except OSError:  # nobody reads there
            pass

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._colours and text else text

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colours else text


def _are_same(one: TextIO, other: TextIO) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())
