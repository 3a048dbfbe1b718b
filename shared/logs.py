"""Logs on stderr: one line an event, in logfmt (`key=value`), the same keys everywhere.

    2026-11-23T09:00:00.120Z INFO event=call method=SearchVectors code=OK ms=0.4 request_id=8c1f0a77d2b94e10

Keys: `event` says what happened, `request_id` ties the lines of one call together. No request body and no secret
is ever logged. `event=security` marks a refused credential, a limit that was hit, a policy that was enforced.

Writing a line never waits (`shared/log_writer.py`): where nobody reads stderr the queue fills up, then lines are
dropped, and `event=log_dropped lines=N` stands where they are missing.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import re
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, TextIO, cast

from .log_writer import Writer, never_wait_for_stderr, own_stderr

request_id: ContextVar[str] = ContextVar("request_id", default="")
_log = logging.getLogger("hector")
_secrets: tuple[str, ...] = ()

LEVELS = ("debug", "info", "warning", "error")

LONGEST_VALUE = 8192  # characters; a longer one is cut and says how long it was
LONGEST_TRACEBACK = 4 * LONGEST_VALUE  # characters; of a longer one the middle is left out
FLUSH_SECONDS = 2.0

_BARE = re.compile(r"[!#-<>-\[\]-~]+")  # what a value may be without quotes: ASCII that prints, no blank, no " = \
_NOT_PLAIN = re.compile(r"[^ -~]")


class Logfmt(logging.Formatter):
    """Lines that came through Python's logging: a library's, or logged by `logging.getLogger("hector")`."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.name == _log.name:
            text = _on_one_line(_masked(text))
        else:
            # A library's line is free text, of several lines perhaps.
            text = f"event=library logger={_value(record.name)} message={_value(text)}"
        line = f"{_stamp(record.created)} {record.levelname} {text}"
        if record.exc_info:
            line += _traceback(self.formatException(record.exc_info))
        return line


def setup(level: str, secrets: Iterable[str] = ()) -> None:
    """Sends every logger's lines to stderr: ours from `level` (one of LEVELS) on, the libraries' warnings.

    `secrets` are texts that no line may show: an exception's message can quote what it was called with.
    What is printed to `sys.stderr` becomes lines of the log too, and so do exceptions that nobody caught; what
    libraries below Python write to a pipe there is lost rather than waited for.
    """
    global _secrets, _writer
    # A very short one would also blot out words that have nothing to do with it.
    clear = [secret for secret in secrets if len(secret) >= 6]
    # Also as it looks inside of a Python literal, of JSON and of a URL. The longest first: one may contain another.
    written = {
        form for secret in clear for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], _quoted(secret))
    }
    _secrets = tuple(sorted(written, key=len, reverse=True))
    if _writer is None:
        _writer = Writer(own_stderr(), _dropped)
        atexit.register(flush)
    logging.root.handlers[:] = [_Queued()]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    _log.setLevel(level.upper())
    sys.stderr = cast(TextIO, _Printed())
    sys.excepthook = lambda *error: _log.critical("event=uncaught", exc_info=error)
    threading.excepthook = lambda args: _uncaught_in_thread(args)
    sys.unraisablehook = lambda args: _log.error(
        "event=unraisable", exc_info=(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    )
    never_wait_for_stderr()


def event(name: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """Logs `event=name` with `fields`; the current call's request id is added. Neither waits nor raises."""
    if not _log.isEnabledFor(level):
        return
    current = request_id.get()
    if current:
        fields["request_id"] = current
    text = f"event={name}" + "".join([f" {key}={_value(value)}" for key, value in fields.items()])
    if _writer is None or _log.handlers:  # not set up, or somebody listens; else not worth what a LogRecord costs
        _log.log(level, "%s", text, exc_info=exc_info)
        return
    line = f"{_stamp(time.time())} {logging.getLevelName(level)} {text}"
    if exc_info:
        line += _traceback(logging.Formatter().formatException(cast(Any, sys.exc_info())))
    _writer.put(line)


def call(method: str, code: str, seconds: float) -> None:
    """Logs `event=call` as `event` does it, in half the time, since every call pays for it. The texts must be plain."""
    ms = round(seconds * 1000, 2)
    if _writer is None or _log.handlers:
        event("call", method=method, code=code, ms=ms)
    elif _log.isEnabledFor(logging.INFO):
        text = _masked(f"event=call method={method} code={code} ms={ms:.6g} request_id={request_id.get()}")
        _writer.put(f"{_stamp(time.time())} INFO {text}")


def line(text: str) -> None:
    """`text` as a line of its own, without time and level: what a person is told. Secrets are masked."""
    text = _on_one_line(_masked(text))
    if _writer is None:
        print(text, file=sys.stderr, flush=True)
    else:
        _writer.put(text)


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Returns when what was logged so far is written, or after `seconds`. Happens by itself at the interpreter's
    normal end; needed before `os._exit`."""
    if _writer is not None:
        _writer.flush(seconds)


# ---------------------------------------------------------------- the text of a line


_second = (0, "")  # the last second that was logged in, and how it is written


def _stamp(now: float) -> str:
    global _second
    whole = int(now)
    second, text = _second
    if whole != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _second = (whole, text)
    return f"{text}.{int((now - whole) * 1000):03d}Z"


def _dropped(lines: int) -> str:
    return f"{_stamp(time.time())} WARNING event=log_dropped lines={lines}"


def _value(value: object) -> str:
    text = value if type(value) is str else _text(value)
    if len(text) > LONGEST_VALUE:
        # Masked first, and for that read so far that a secret at the cut is seen whole.
        longest_secret = len(_secrets[0]) if _secrets else 0
        shown = _masked(text[: LONGEST_VALUE + longest_secret])[:LONGEST_VALUE]
        return _in_quotes(f"{shown}… ({len(text)} characters)")
    if _secrets:
        text = _masked(text)
    return text if _BARE.fullmatch(text) else _in_quotes(text)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes) and len(value) > LONGEST_VALUE:
        return f"{value[:LONGEST_VALUE]!r}… ({len(value)} bytes)"
    try:
        return str(value)
    except Exception:  # an integer of too many digits, a `__str__` with a bug: no reason to lose the event
        return f"<{type(value).__name__}>"


def _traceback(text: str) -> str:
    """One event stays one line: a traceback is a value like any other."""
    text = _masked(text)
    if len(text) > LONGEST_TRACEBACK:
        half = LONGEST_TRACEBACK // 2
        text = f"{text[:half]}… ({len(text)} characters) …{text[-half:]}"
    return f" traceback={_in_quotes(text)}"


def _masked(text: str) -> str:
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return text


def _in_quotes(text: str) -> str:
    return '"' + _on_one_line(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _on_one_line(text: str) -> str:
    """With everything that does not print escaped: line ends, a terminal's control sequences, surrogates."""
    return text if text.isprintable() else _NOT_PLAIN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="", errors="replace")


# ---------------------------------------------------------------- what else is logged


_writer: Writer | None = None


class _Queued(logging.Handler):
    """Puts what comes through Python's logging into the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Logfmt())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if _writer is not None:
                _writer.put(self.format(record))
        except Exception:  # as every handler: a record that cannot be formatted stops nothing
            self.handleError(record)


class _Printed(io.TextIOBase):
    """In the place of `sys.stderr`: each line that is printed is a line of the log."""

    def __init__(self) -> None:
        self._begun = threading.local()  # a thread's line that has no end yet

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        # A bar of progress writes over its line again and again: what counts is how it ends.
        self._begun.text = rest.rpartition("\r")[2][-LONGEST_VALUE:]
        for printed in lines:
            shown = printed.rstrip("\r").rpartition("\r")[2]
            if shown.strip() and _writer is not None:
                _writer.put(f"{_stamp(time.time())} WARNING event=library logger=stderr message={_value(shown)}")
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        value = args.exc_value or args.exc_type()
        _log.error("event=uncaught", exc_info=(args.exc_type, value, args.exc_traceback))


def _after_fork() -> None:
    """The thread has stayed behind, and so do the lines that it has yet to write."""
    global _writer
    if _writer is not None:
        _writer = Writer(_writer.descriptor, _dropped)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
