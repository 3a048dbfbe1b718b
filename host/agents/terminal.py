"""A run in the terminal: what was asked for and what it brought on stderr, the answer and its sources on stdout.

What others wrote is shown as text, whatever it would have a terminal do.
"""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from host.agents.events import (
    ActionAsked,
    AnswerDelta,
    Citation,
    Done,
    Event,
    Failed,
    Observed,
    StepBegan,
    StepEnded,
    ThoughtDelta,
    Usage,
    Waiting,
)
from shared.errors import Code
from shared.visible import visible

_LINES, _MARGIN = 8, 5  # of a result that are shown; columns that stand before them
_ARGUMENT_LINES = 3


class Terminal:
    """Shows the events of one run after the other."""

    def __init__(self, out: TextIO, err: TextIO, stream: bool) -> None:
        """`stream`: thoughts and the answer while they are written, where both are terminals."""
        self._out, self._err = out, err
        self._is_live = stream and out.isatty() and err.isatty()
        self._colours = err.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._width = max(shutil.get_terminal_size().columns, 40)
        self._text = ""  # of the step, as shown: a thought where an action follows, else the answer
        self._open = ""  # what the line under way is made of

    def show(self, event: Event) -> None:
        match event:
            case StepBegan(number):
                self._text = ""
                if number > 1:
                    self._note(self._dim(f"step {number}"))
            case ThoughtDelta(text) if self._is_live:
                self._begin("thought", self._err)
                self._put(self._err, self._dim(visible(text)))
            case AnswerDelta(text) if self._is_live:
                self._begin("answer", self._out)
                self._text += text
                self._put(self._out, visible(text))
            case ActionAsked(_, tool, arguments):
                self._note(f"→ {self._bold(visible(tool))} {self._cut(arguments, _ARGUMENT_LINES)}")
            case Observed():
                self._observed(event)
            case Waiting(reason):
                self._text = ""
                self._note(f"… {visible(reason)}; trying again")
            case StepEnded():
                if event.thought and not self._is_live:
                    self._note(self._dim(self._cut(event.thought, _LINES)))
                if event.note:
                    self._note(f"! {self._cut(event.note, 3)}")
            case Done():
                self._done(event)
            case Failed():
                self._note(complaint(event))

    def line(self, text: str) -> None:
        self._note(visible(text))

    def _observed(self, event: Observed) -> None:
        what = "denied" if event.denied else "failed" if event.is_error else ""
        head = f"✗ {what}: " if what else "← "
        self._note(f"{head}{self._bold(visible(event.tool))} {self._dim(f'({event.seconds:.1f} s)')}")
        self._note("  " + self._cut(event.content, _LINES))

    def _done(self, done: Done) -> None:
        self._end_line()
        if not (self._is_live and self._text.strip() == done.answer.strip()):
            self._put(self._out, (visible(done.answer) if self._out.isatty() else done.answer) + "\n")
        if done.citations:
            self._put(self._out, "\nSources:\n" + "".join(map(_source, done.citations)))
        for number in done.unknown_citations:
            self._note(f"! it cites [{number}], which is no passage that it was given")
        for quote in done.unfound_quotes:
            self._note(f"! not word for word in what it cites: “{self._cut(quote, 2)}”")
        facts = [
            done.stop_reason.lower().replace("_", " "),
            _counted(done.steps, "step"),
            _counted(done.tool_calls, "tool call"),
            tokens(done.usage),
            f"{done.seconds:.1f} s",
        ]
        self._note(self._dim(f"[{', '.join(facts)}]"))

    def _note(self, text: str) -> None:
        self._end_line()
        self._put(self._err, text + "\n")

    def _begin(self, part: str, stream: TextIO) -> None:
        """Ends the line under way unless it is of this part."""
        if self._open and self._open != part:
            self._put(stream, "\n")
        self._open = part

    def _end_line(self) -> None:
        if self._open:
            self._put(self._out if self._open == "answer" else self._err, "\n")
        self._open = ""

    def _put(self, stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()

    def _cut(self, text: str, lines: int) -> str:
        """What of `text` fits into so many lines of the terminal, and how much more there is."""
        rest = visible(text).strip("\n")
        wide = self._width - _MARGIN
        shown: list[str] = []
        while rest and len(shown) < lines:
            line, newline, _ = rest[: wide + 1].partition("\n")
            if len(line) > wide:
                line = line[: line.rfind(" ", wide // 2, wide) + 1 or wide]
            shown.append(line)
            rest = rest[len(line) + (1 if newline else 0) :]
        more = [self._dim(f"… {len(rest):,} more characters")] if rest else []
        return "\n  ".join([*shown, *more])

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._colours and text else text

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colours else text


def complaint(failed: Failed) -> str:
    """For stderr; to have been stopped is no error."""
    return ("" if failed.code == Code.CANCELLED.name else "error: ") + visible(failed.message)


def _source(citation: Citation) -> str:
    heading = f"  {citation.heading}" if citation.heading else ""
    lines = [f"[{citation.number}] {citation.place}{heading}  (score {citation.score:.2f})"]
    lines += [f"    “{quote}”" for quote in citation.quotes]
    return "".join(visible(line).replace("\n", " ") + "\n" for line in lines)


def tokens(usage: Usage | None) -> str:
    return f"{usage.total:,} tokens" if usage and usage.total else "tokens unknown"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
