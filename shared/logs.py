"""Logs on stderr: one line an event, in logfmt (`key=value`), the same keys everywhere.

    2026-11-23T09:00:00.120Z INFO event=call method=SearchVectors code=OK ms=0.4 request_id=8c1f0a77d2b94e10

Keys: `event` says what happened, `request_id` ties the lines of one call together. No request body and no secret
is ever logged. `event=security` marks a refused credential, a limit that was hit, a policy that was enforced.

Writing a line never waits. It goes to a bounded queue, which a thread empties to stderr. While nobody reads there, the
queue fills up; then new lines are dropped, and `event=log_dropped lines=N` stands where they are missing.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import io
import json
import logging
import os
import queue
import re
import stat
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, TextIO, cast

request_id: ContextVar[str] = ContextVar("request_id", default="")
_log = logging.getLogger("hector")
_secrets: tuple[str, ...] = ()

LEVELS = ("debug", "info", "warning", "error")

MOST_LINES = 10_000  # queued at once
MOST_BYTES = 2 * 2**20  # of the queued lines, UTF-8
LONGEST_VALUE = 8192  # characters; a longer one is cut and says how long it was
LONGEST_TRACEBACK = 4 * LONGEST_VALUE  # characters; of a longer one the middle is left out
LONGEST_LINE = 256 * 1024  # bytes, UTF-8
FLUSH_SECONDS = 2.0
_GATHER_SECONDS = 0.01  # lines of so long are written at once: a write for each would cost more than the lines
_AT_ONCE = 64 * 1024  # bytes in one write

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
        _writer = _Writer(_own_stderr())
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
    _never_wait_for_stderr()


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


# ---------------------------------------------------------------- to stderr


class _Writer:
    """The queue, and the thread that writes to `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # A signal's handler may log in the midst of a `put`, so the lock is one that its owner can take again.
        self._lock = threading.RLock()
        # A line, and how many lines it stands for: 1, or what the notice of dropped ones says.
        self._queue: collections.deque[tuple[bytes, int]] = collections.deque()
        self._bytes = 0  # queued, or being written
        self._accepted = self._settled = 0  # lines put into the queue, and of these written or given up, so far
        self._dropped = 0
        self._full = self._failing = False
        self._idle = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="logs", daemon=True).start()

    def put(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        if len(data) > LONGEST_LINE:
            data = data[:LONGEST_LINE].decode("utf-8", "ignore").encode() + b" cut=true"
        data += b"\n"
        with self._lock:
            if not self._full and (len(self._queue) >= MOST_LINES or self._bytes + len(data) > MOST_BYTES):
                self._full = True
            if self._full:
                self._dropped += 1
                return
            if self._dropped:
                self._append(self._notice(), self._dropped)
                self._dropped = 0
            self._append(data, 1)
            wake, self._idle = self._idle, False
        if wake:
            self._wake.put(None)

    def flush(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._lock:
            target = self._accepted
        while (self._settled < target or (self._dropped and not self._failing)) and time.monotonic() < deadline:
            time.sleep(0.002)

    def _append(self, data: bytes, stands_for: int) -> None:
        self._queue.append((data, stands_for))
        self._bytes += len(data)
        self._accepted += 1

    def _notice(self) -> bytes:
        return f"{_stamp(time.time())} WARNING event=log_dropped lines={self._dropped}\n".encode()

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._write(batch)
            else:
                self._wake.get()
            if self._bytes < _AT_ONCE:
                time.sleep(_GATHER_SECONDS)

    def _take(self) -> list[tuple[bytes, int]]:
        """What is to be written next; nothing, and then `put` wakes this thread."""
        with self._lock:
            if not self._queue and self._dropped and not self._failing:
                self._append(self._notice(), self._dropped)
                self._dropped = 0
            batch: list[tuple[bytes, int]] = []
            size = 0
            while self._queue and size < _AT_ONCE:
                batch.append(self._queue.popleft())
                size += len(batch[-1][0])
            self._idle = not batch
            return batch

    def _write(self, batch: list[tuple[bytes, int]]) -> None:
        data = b"".join([data for data, _ in batch])
        left, failed = memoryview(data), False
        while left and not failed:
            try:
                left = left[os.write(self.descriptor, left) :]
            except BlockingIOError:  # somebody else who has this pipe set it so
                time.sleep(_GATHER_SECONDS)
            except OSError:  # nobody can read any more, the disk is full
                failed = True
        with self._lock:
            self._bytes -= len(data)
            self._settled += len(batch)
            self._failing = failed
            if failed:
                self._dropped += sum(stands_for for _, stands_for in batch)
            # Not at once when a line has gone: a slow reader would get as many notices as lines.
            if self._bytes <= MOST_BYTES // 2 and len(self._queue) <= MOST_LINES // 2:
                self._full = False


_writer: _Writer | None = None


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


def _own_stderr() -> int:
    """A descriptor of stderr that is the writer's alone."""
    if sys.stderr is None:  # closed when Python started; by now 2 may be anything
        return os.open(os.devnull, os.O_WRONLY)
    return os.dup(2)


def _never_wait_for_stderr() -> None:
    """gRPC's core writes to descriptor 2 as well, for instance when a TLS handshake fails, and would wait for a reader.

    Where 2 is a pipe it is opened anew, for this process alone, so that a write which does not fit fails at once.
    Linux only; elsewhere there is no way to open it anew.
    """
    with contextlib.suppress(OSError):
        if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(2).st_mode):
            anew = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK)
            os.dup2(anew, 2)
            os.close(anew)


def _after_fork() -> None:
    """The thread has stayed behind, and so do the lines that it has yet to write."""
    global _writer
    if _writer is not None:
        _writer = _Writer(_writer.descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
