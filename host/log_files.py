"""`.hector/logs/NAME.log`: what each plugin writes, kept in a bounded number of bytes.

A file of LARGEST bytes becomes NAME.log.1, that one NAME.log.2, and so on; the oldest is removed. Beside the plugin's
own lines stand the host's, which begin with `host: `.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from shared.errors import StartError

LARGEST = 4 * 2**20  # bytes of a file
OLDER = 3  # files beside the current one
_POLL_SECONDS = 0.1
_AS_TEXT: Any = {"encoding": "utf-8", "errors": "replace", "newline": "\n"}


def file_name(name: str) -> str:
    """`name`, as any file may be called: two names never have one file name."""
    text = quote(name, safe=" ").replace(".", "%2E") if name.startswith(".") else quote(name, safe=" ")
    return text if len(text) <= 100 else text[:80] + "-" + hashlib.sha256(name.encode()).hexdigest()[:16]


def path_of(state: Path, name: str) -> Path:
    return state / "logs" / (file_name(name) + ".log")


class LogFile:
    """One plugin's. Lines may come from any thread; a disk that is full loses lines and stops nothing."""

    def __init__(self, state: Path, name: str) -> None:
        path = path_of(state, name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = _Handler(path, maxBytes=LARGEST, backupCount=OLDER, encoding="utf-8", errors="replace")
        except OSError as error:
            raise StartError(f"cannot write {path}: {error.strerror}") from None
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        with self._lock:
            self._handler.handle(logging.makeLogRecord({"msg": text.replace("\n", " ")}))

    def host_line(self, text: str) -> None:
        self.line(f"host: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the disk is full
            self._handler.close()


class _Handler(RotatingFileHandler):
    def _open(self) -> IO[str]:  # type: ignore[override]
        return open(
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def read(state: Path, name: str, newest: int, go_on: Callable[[], bool]) -> Iterator[str]:
    """The `newest` lines of all its files, oldest first, and then, as long as `go_on()`, each that is written; also
    across a change to a new file."""
    path = path_of(state, name)
    lines: deque[str] = deque(maxlen=newest)
    for number in range(OLDER, 0, -1):
        with contextlib.suppress(OSError), path.with_name(f"{path.name}.{number}").open(**_AS_TEXT) as older:
            lines.extend(older)
    file = _opened(path)
    lines.extend(file or ())
    begun = lines.pop() if lines and not lines[-1].endswith("\n") else ""
    yield from (line.rstrip("\n") for line in lines)
    while go_on():
        begun += file.readline() if file else ""
        if begun.endswith("\n"):
            yield begun[:-1]
            begun = ""
        elif newer := _newer(path, file):
            if file:
                # What was written between the last look and the change of files.
                yield from (line.rstrip("\n") for line in (begun + file.read()).splitlines())
                file.close()
            file, begun = newer, ""
        else:
            time.sleep(_POLL_SECONDS)
    if begun:
        yield begun
    if file:
        file.close()


def _opened(path: Path) -> IO[str] | None:
    try:
        return cast(IO[str], path.open(**_AS_TEXT))
    except OSError:
        return None


def _newer(path: Path, file: IO[str] | None) -> IO[str] | None:
    """The file that has taken the place of `file`, opened; None as long as none has."""
    try:
        if file and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return None
    except OSError:
        return None
    return _opened(path)
