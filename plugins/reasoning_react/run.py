"""Runs a question in the terminal: the thoughts as they are written, what was called and what that brought.

    python -m plugins.reasoning_react.run "How warm is it in Oslo?" --llm 127.0.0.1:8081 --tools 127.0.0.1:8084
    git diff | python -m plugins.reasoning_react.run "What could break?"   # what comes in is the question's background
    python -m plugins.reasoning_react.run "…" --address 127.0.0.1:8085     # the run is that plugin's
    python -m plugins.reasoning_react.run --resume run.json --html run.html

Without --address the run is this process's own, and every setting of the plugin is an option, a variable of the
environment or a line of --config FILE. The answer is on stdout, all else on stderr.

Exit status: 0 the model answered, 1 it failed, 2 settings, 3 the run ended at a limit, with the best answer there is,
130 Ctrl-C. After 1 and 130 a run that was saved can be resumed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from shared.cli import configure
from shared.client import Address
from shared.config import Source, resolve, suggest, types
from shared.errors import PluginError, StartError
from shared.server import run
from shared.units import Secret

from .config import Config
from .engine.engine import NewRun
from .engine.run import Budget, Mode
from .page import page
from .recorder import Recorder
from .session import Session, Strategy
from .terminal import Timeline
from .trace import Trace, read, write, write_private

PLUGIN = "reasoning_react"
# Settings that a run at --address may say itself; all others are the plugin's there.
_OF_A_RUN = ("model", "temperature", "mode", "max_iterations", "max_tokens", "max_tool_calls", "max_seconds")
_MOST_PIPED = 4 * 2**20  # bytes


def main(argv: Sequence[str] | None = None) -> int:
    options, settings = _options(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal may know but ASCII
    trace = read(Path(options.resume)) if options.resume else _asked(options.question)
    opened: _Opened = _remote(options, settings) if options.address else _local(options, settings, trace)
    try:
        return asyncio.run(_run(options, trace, opened))
    except BrokenPipeError:  # nobody reads the answer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _run(options: argparse.Namespace, trace: Trace, opened: _Opened) -> int:
    timeline, recorder = Timeline(sys.stdout, sys.stderr), Recorder()
    files = _Files(options, timeline)
    status = 0
    if not trace.done:
        async with opened(recorder) as (strategy, new):
            session = Session(strategy, trace, timeline, recorder, files.keep)
            status = await _ended(session, new, timeline)
    files.keep(trace)
    if trace.done:
        timeline.whole_answer(trace.answer)
    timeline.ended(trace)
    if not trace.done and options.save:
        timeline.line(f"go on with: python -m plugins.reasoning_react.run --resume {options.save} --save {options.save}")
    if trace.done:
        status = 0 if trace.stop_reason == "ANSWERED" else 3
    return status or files.status


async def _ended(session: Session, new: NewRun, timeline: Timeline) -> int:
    """Takes the run as far as it goes; the exit status where that is not its end."""
    with _stopped_by(signal.SIGTERM):
        try:
            if not session.trace.state:
                await session.begin(new)
            await session.go_on()
        except PluginError as error:
            timeline.line(f"error: {' '.join(error.message.split())}")
            return 1
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()  # what is left to do takes no time: files and a line
            timeline.line("stopped")
            return 130
    return 0


class _Files:
    """Those that the run is written to, after each step."""

    def __init__(self, options: argparse.Namespace, timeline: Timeline) -> None:
        self.status = 0
        self._timeline = timeline
        self._files = [
            (Path(name), writer)
            for name, writer in ((options.save, write), (options.html, _write_page))
            if name is not None
        ]

    def keep(self, trace: Trace) -> None:
        """What cannot be written does not end the run; it is said once."""
        for file in list(self._files):
            try:
                file[1](file[0], trace)
            except OSError as error:
                self._timeline.line(f"error: cannot write {file[0]}: {error.strerror}")
                self._files.remove(file)
                self.status = 1


def _write_page(path: Path, trace: Trace) -> None:
    write_private(path, page(trace))
