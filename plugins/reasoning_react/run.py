"""Runs a question in the terminal: the thoughts as they are written, what was called and what that brought.

    python -m {package}.run "How warm is it in Oslo?" --llm 127.0.0.1:8081 --tools 127.0.0.1:8084
    git diff | python -m {package}.run "What could break?"   # what comes in is the question's background
    python -m {package}.run "…" --address 127.0.0.1:8085     # the run is that plugin's
    python -m {package}.run --resume run.json --html run.html

Without --address the run is this process's own, and every setting of the plugin is an option, a variable of the
environment or a line of --config FILE. The answer is on stdout, all else on stderr.

Exit status: 0 the model answered, 1 it failed, 2 settings, 3 the run ended at a limit, with the best answer there is,
130 Ctrl-C, 143 SIGTERM. Then, and after 1, a run that was saved can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from shared.cli import configure
from shared.client import Address
from shared.config import Source, resolve, variable
from shared.errors import PluginError, StartError
from shared.start import run
from shared.units import Secret

from . import PACKAGE
from .__main__ import NEEDS, build, prompts_of
from .config import Config
from .engine.engine import NewRun
from .engine.run import Budget, Mode
from .seeing.command_line import Options, asked, command_line
from .seeing.page import page
from .seeing.recorder import Recorder
from .seeing.remote import RemoteEngine
from .seeing.session import Session, Strategy
from .seeing.terminal import Timeline
from .seeing.trace import Trace, read, write, write_private

# Settings that a run at --address may say itself; all others are the plugin's there.
_OF_A_RUN = ("model", "temperature", "mode", "max_iterations", "max_tokens", "max_tool_calls", "max_seconds")


def main(argv: Sequence[str] | None = None) -> int:
    _open_streams()
    options, settings = command_line(argv, __doc__)
    trace = read(Path(options.resume)) if options.resume else asked(options.question)
    open_run = _remote(options, settings, trace) if options.address else _local(options, settings, trace)
    try:
        return asyncio.run(_run(options, trace, open_run))
    except _NotWritten as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the interpreter's end
        if not isinstance(error.__cause__, BrokenPipeError):  # somebody reads, or would later
            print(f"error: cannot write the answer: {error}", file=sys.stderr)
        return 1


def _open_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed by whoever started this
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 # until the end
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal may know but ASCII


class _NotWritten(Exception):
    """The answer, to stdout."""


async def _run(options: Options, trace: Trace, open_run: _Opened) -> int:
    timeline, recorder = Timeline(sys.stdout, sys.stderr), Recorder()
    files = _Files(options, timeline)
    files.begin(trace)
    status = 0
    if not trace.done:
        async with open_run(recorder) as (strategy, new):
            session = Session(strategy, trace, timeline, recorder, files.keep)
            status = await _ended(session, new, timeline)
    files.keep(trace)
    if trace.done:
        try:
            timeline.whole_answer(trace.answer)
        except OSError as error:
            raise _NotWritten(error.strerror) from error
    timeline.ended(trace)
    if not trace.done and options.save:
        timeline.line(f"go on with --resume {options.save} --save {options.save} in place of the question")
    if trace.done:
        status = 0 if trace.stop_reason == "ANSWERED" else 3
    return status or files.status


async def _ended(session: Session, new: NewRun, timeline: Timeline) -> int:
    """Takes the run as far as it goes; the exit status where that is not its end."""
    with _stoppable() as stopped:
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
            return 143 if stopped else 130
    return 0


@contextlib.contextmanager
def _stoppable() -> Iterator[list[signal.Signals]]:
    """SIGTERM ends the run as Ctrl-C does, and is then in the list."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    stopped: list[signal.Signals] = []

    def stop() -> None:
        stopped.append(signal.SIGTERM)
        task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield stopped
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)


class _Files:
    """Those that the run is written to, after each step."""

    def __init__(self, options: Options, timeline: Timeline) -> None:
        self.status = 0
        self._timeline = timeline
        self._files = [
            (Path(name), writer) for name, writer in ((options.save, write), (options.html, _write_page)) if name
        ]

    def begin(self, trace: Trace) -> None:
        """Raises StartError: before anything is spent."""
        for path, writer in self._files:
            try:
                writer(path, trace)
            except OSError as error:
                raise StartError(f"cannot write {path}: {error.strerror}") from None

    def keep(self, trace: Trace) -> None:
        """What cannot be written any more does not end the run; it is said once."""
        for file in list(self._files):
            try:
                file[1](file[0], trace)
            except OSError as error:
                self._timeline.line(f"error: cannot write {file[0]}: {error.strerror}")
                self._files.remove(file)
                self.status = 1


def _write_page(path: Path, trace: Trace) -> None:
    write_private(path, page(trace))


# ---------------------------------------------------------------- whose run it is


_Opened = Callable[[Recorder], contextlib.AbstractAsyncContextManager[tuple[Strategy, NewRun]]]


def _local(options: Options, settings: dict[str, str], trace: Trace) -> _Opened:
    """A run of this process. Raises StartError."""
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    config = configure(Config, package=PACKAGE, section="reasoning_strategies", argv=argv, needs=NEEDS)
    if not config.state_key.reveal() and not trace.done and (options.save or options.resume):
        raise StartError(
            f"{'--resume' if options.resume else '--save'} needs a state_key, which signs what is saved: set "
            f"{variable(PACKAGE, 'state_key')} (`openssl rand -hex 32` makes one) or give --config FILE with it"
        )
    prompts = prompts_of(config)

    @contextlib.asynccontextmanager
    async def opened(recorder: Recorder) -> AsyncIterator[tuple[Strategy, NewRun]]:
        logging.getLogger("hector").setLevel(logging.ERROR)  # what goes wrong is in the timeline
        strategy = build(config, prompts, recorder.watched)
        try:
            yield strategy.engine, NewRun(query=trace.question, context=trace.context)
        finally:
            await strategy.close()

    return opened


def _remote(options: Options, settings: dict[str, str], trace: Trace) -> _Opened:
    """A run of the plugin at --address. Raises StartError."""
    llm = settings.pop("llm", "")
    if others := [name for name in settings if name not in _OF_A_RUN]:
        raise StartError(
            f"command line: --{others[0].replace('_', '-')} is a setting of the plugin at --address: set it where that "
            "is started"
        )
    given = resolve(Config, [Source("command line", settings)])
    new = NewRun(
        query=trace.question,
        context=trace.context,
        llm=llm,
        model=given.model,
        temperature=given.temperature,
        mode=None if given.mode == "auto" else Mode(given.mode),
        max_iterations=given.max_iterations if "max_iterations" in settings else 0,
        budget=Budget(
            max_tokens=given.max_tokens if "max_tokens" in settings else 0,
            max_tool_calls=given.max_tool_calls if "max_tool_calls" in settings else 0,
            max_seconds=given.max_seconds if "max_seconds" in settings else 0,
        ),
    )
    token = Secret(os.environ.get(variable(PACKAGE, "token"), ""))
    address = Address(options.address, token=token, tls_ca=options.tls_ca)

    @contextlib.asynccontextmanager
    async def opened(recorder: Recorder) -> AsyncIterator[tuple[Strategy, NewRun]]:
        engine = RemoteEngine(address)
        try:
            yield engine, new
        finally:
            await engine.close()

    return opened


if __name__ == "__main__":
    run(main)
