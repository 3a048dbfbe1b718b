"""What a declared tool takes from an answer: a JMESPath expression, compiled once, its work bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jmespath
from jmespath.exceptions import JMESPathError

from shared.errors import CallerError, Code
from shared.off_loop import in_thread

from .decoding import decode
from .exchange import Response
from .tool import ABSENT, JSON, Call, Output

_QUICK_BYTES = 16_384  # of a body that is read in the event loop, within a millisecond or two
_JOB = f"{__name__}:job"


class AnswerMismatch(CallerError):
    """The API answered something else than the tool was declared for."""

    code = Code.FAILED_PRECONDITION
    reason = "ANSWER_MISMATCH"


class Worker(Protocol):
    """Processes that can be killed: `workers.Workers`."""

    async def run(self, job: str, payload: bytes, *, seconds: float) -> bytes: ...


@dataclass(frozen=True)
class Answer:
    expression: str
    workers: Worker | None
    work_timeout: float  # seconds

    async def of(self, response: Response, render: Callable[[Response], Awaitable[Output]], call: Call) -> Output:
        """The expression's value as text and structured. Where it does not fit the answer: an Output with an error
        that still has the answer."""
        payload = json.dumps(self.expression).encode() + b"\n" + response.body
        try:
            if len(response.body) <= _QUICK_BYTES or self.workers is None:
                text = job(payload)
            else:
                seconds = max(0.0, min(self.work_timeout, call.deadline - time.monotonic()))
                text = await self.workers.run(_JOB, payload, seconds=seconds)
        except CallerError as failure:
            return replace(await render(response), error=failure)
        outcome, _, text = text.partition(b"\n")
        if outcome != b"ok":
            mismatch = AnswerMismatch(f"the answer is not what this tool takes apart: {text.decode()}; see the answer")
            return replace(await render(response), error=mismatch)
        shell = await render(replace(response, body=b"null", headers=[("content-type", "application/json")]))
        if len(text) <= _QUICK_BYTES:
            value = json.loads(text)
            shown = value if isinstance(value, str) else text.decode()
            kind = "text/plain" if isinstance(value, str) else "application/json"
            return replace(shell, text=shown, structured=value, content_type=kind)
        written = await in_thread(decode, text)
        is_text = written.startswith('"')
        shown = await in_thread(json.loads, written) if is_text else written
        kind = "text/plain" if is_text else "application/json"
        return replace(shell, text=shown, structured=ABSENT, structured_json=written, content_type=kind)


def check(expression: str) -> str:
    """Why `expression` is no JMESPath; empty where it is one."""
    try:
        jmespath.compile(expression)
    except JMESPathError as error:
        return _words(error)[:200]
    except RecursionError:
        return "it is nested too deep"
    return ""


def job(payload: bytes) -> bytes:
    """`ok` and the value as JSON, or `no` and a reason, of an expression (JSON, one line) and a body."""
    expression, _, body = payload.partition(b"\n")
    try:
        value: Any = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return b"no\nit is no JSON"
    try:
        found = jmespath.compile(json.loads(expression)).search(value)
        return b"ok\n" + json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except JMESPathError as error:
        # It can quote the answer: cut, half of a secret would stand there, which nobody would know.
        words = _words(error)
        return b"no\n" + (words if len(words) <= 200 else "the expression does not fit it").encode("utf-8", "replace")
    except (RecursionError, UnicodeEncodeError):
        return b"no\nit is nested too deep, or no text"
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return b"no\nthe expression fails on it"


def _words(error: JMESPathError) -> str:
    return " ".join(str(error).split())


def _no_constant(name: str) -> JSON:
    raise ValueError(name)
