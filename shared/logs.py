"""Logs on stderr: one line an event, in logfmt (`key=value`), the same keys everywhere.

    2026-11-23T09:00:00.120Z INFO event=call method=SearchVectors code=OK ms=0.4 request_id=8c1f0a77d2b94e10

Keys: `event` says what happened, `request_id` ties the lines of one call together. No request body and no secret
is ever logged. `event=security` marks a refused credential, a limit that was hit, a policy that was enforced.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
_log = logging.getLogger("hector")
_secrets: tuple[str, ...] = ()

LEVELS = ("debug", "info", "warning", "error")


class Logfmt(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.name != _log.name:
            # A library's line is free text, of several lines perhaps.
            text = f"event=library logger={_value(record.name)} message={_value(text)}"
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {text}"
        if record.exc_info:
            # One event stays one line: a traceback is a value like any other.
            line += f" traceback={_value(self.formatException(record.exc_info))}"
        return line


def setup(level: str, secrets: Iterable[str] = ()) -> None:
    """Sends every logger's lines to stderr: ours from `level` (one of LEVELS) on, the libraries' warnings.

    `secrets` are texts that no line may show: an exception's message can quote what it was called with.
    """
    global _secrets
    # A very short one would also blot out words that have nothing to do with it.
    _secrets = tuple(secret for secret in secrets if len(secret) >= 6)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Logfmt())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    _log.setLevel(level.upper())


def event(name: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """Logs `event=name` with `fields`; the current call's request id is added."""
    if not _log.isEnabledFor(level):
        return
    current = request_id.get()
    if current:
        fields["request_id"] = current
    text = "".join(f" {key}={_value(value)}" for key, value in fields.items())
    _log.log(level, "event=%s%s", name, text, exc_info=exc_info)


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    for secret in _secrets:
        text = text.replace(secret, "***")
    if text and text.isascii() and not any(c in ' "=\\' or not c.isprintable() for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'
