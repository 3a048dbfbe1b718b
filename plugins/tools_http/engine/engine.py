"""Runs tools: arguments are checked before, what comes back is cleaned, cut to pages and kept after.

call → arguments read and checked → call_id known? → Tool.run → secrets out → kept → page, fence → result
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import CallerError, Code, DeadlineExceeded, InvalidArgument, NotFound, StartError
from shared.json_schema import MOST_STEPS, QUICK_STEPS, CannotCheck, Checker
from shared.nearest import nearest
from shared.off_loop import in_thread
from shared.repeats import Repeats, Run

from . import arguments
from .audit import Line
from .failures import located
from .redaction import Redactor
from .replies import READ_RESULT, Finished, Replies, Result
from .results import as_json_size
from .tool import JSON, NAME, Call, Output, Tool
from .tracebacks import release_frames, released

_LONGEST_ID = 512  # characters of a call_id
_LARGE_ARGUMENTS = 2**13  # characters: more take milliseconds to be read and checked
_MOST_HELD = 64 * 2**20  # bytes of runs that nobody waits for
_SIZE_OF_RUN = 2**14  # bytes, beside its arguments
_LONGEST_RUN = 600.0  # seconds that a call has which nothing else bounds


@dataclass(frozen=True, kw_only=True)
class Settings:
    timeout: float = 120.0  # seconds of a call, 0 for no bound
    max_result_chars: int = 20_000  # of a page where the caller does not say
    max_reply_bytes: int = 4 * 2**20
    max_argument_chars: int = 2 * 2**20  # of arguments that this process reads itself
    kept_bytes: int = 64 * 2**20
    kept_for: float = 900.0  # seconds
    kept_calls: int = 1000
    most_runs: int = 256  # under way at once, of calls with a call_id that may not be made twice
    fence: bool = False


@dataclass(kw_only=True)
class Invocation:
    """What a caller sends to have a tool run, or to read on."""

    tool: str
    arguments: str | dict[str, JSON] = ""  # JSON text that nobody has read, or an object
    call_id: str = ""
    cursor: str = ""
    max_chars: int = 0  # of the result's text; 0: the setting's
    seconds: float | None = None  # that the caller waits; None: for ever


_Given = str | dict[str, JSON]  # arguments as text or as an object


class Engine:
    def __init__(self, tools: Iterable[Tool], settings: Settings, redactor: Redactor | None = None) -> None:
        """`redactor` knows what must not come out. Raises StartError where a tool cannot be offered."""
        self._settings = settings
        self._replies = Replies(
            redactor or Redactor(),
            max_result_chars=settings.max_result_chars,
            max_reply_bytes=settings.max_reply_bytes,
            kept_bytes=settings.kept_bytes,
            kept_for=settings.kept_for,
            fence=settings.fence,
        )
        self._repeats: Repeats[Finished] = Repeats(
            settings.kept_calls,
            settings.kept_bytes // 4,
            settings.kept_for,
            most_runs=settings.most_runs,
            most_held=_MOST_HELD,
        )
        self._tools: dict[str, Tool] = {}
        self._schemas: dict[str, tuple[dict[str, Any], Checker]] = {}  # to check by
        self.add([*tools, self._replies.read_result()])

    @property
    def tools(self) -> Sequence[Tool]:
        return list(self._tools.values())

    def add(self, tools: Iterable[Tool], place: str = "setting tools") -> None:
        """`place` is the setting that they are of, for errors. Raises StartError where one cannot be offered."""
        for tool in tools:
            if not NAME.fullmatch(tool.name):
                raise StartError(f"tool {tool.name[:80]!r}: a name has 1 to 64 letters, digits, _ and -")
            if tool.name in self._tools:
                raise StartError(f"{place}: there is a tool named {tool.name} already; {_remedy(place)}")
            self._tools[tool.name] = tool
            schema = arguments.closed(tool.parameters)
            self._schemas[tool.name] = schema, Checker(schema)

    def tool(self, name: str) -> Tool:
        """Raises NotFound."""
        if (tool := self._tools.get(name)) is not None:
            return tool
        names = nearest(name, self._tools)
        raise NotFound(
            f"Unknown tool: {name}",
            reason="UNKNOWN_TOOL",
            violations=[("tool", f"did you mean {' or '.join(names)}?" if names else "ListTools has the names")],
            metadata={"nearest": ", ".join(names)} if names else {},
        )

    async def execute(self, invocation: Invocation) -> Result:
        """What the tool gave, or in `error` why it did not. Raises ServiceError."""
        line = Line(invocation.tool, self._replies.clean)
        outcome, repeated = "CANCELLED", False
        try:
            result, repeated = await self._execute(invocation, line)
            outcome = result.error.reason if result.error else "OK"
            return result
        except CallerError as error:
            outcome = error.reason
            return Result(error=self._replies.cleaned_error(released(error)))
        except Exception as error:
            outcome = getattr(error, "reason", "INTERNAL")
            release_frames(error)
            raise
        finally:
            if not line.in_run or repeated:
                line.write(outcome, repeated=repeated)

    async def close(self) -> None:
        self._repeats.close()

    # ------------------------------------------------------------ one call

    async def _execute(self, invocation: Invocation, line: Line) -> tuple[Result, bool]:
        """The result, and whether it is of an earlier call's run."""
        tool = self.tool(invocation.tool)
        room = self._replies.room(invocation.max_chars)
        if len(invocation.call_id) > _LONGEST_ID:
            raise InvalidArgument(f"call_id has more than {_LONGEST_ID} characters", field="call_id")
        if invocation.cursor:
            return self._replies.read_on(tool, invocation.cursor, room), False
        given, compared = await self._arguments(tool, invocation.arguments)
        if tool.name == READ_RESULT:
            assert isinstance(given, dict)
            return await self._replies.read(given, room), False
        if not invocation.call_id or not self._settings.kept_calls:
            finished = await self._run(tool, given, invocation.call_id, line, room, seconds=invocation.seconds)
            return self._replies.page(tool, finished, room), False
        repeatable = tool.read_only or tool.idempotent
        if not repeatable and tool.is_idempotent is not None and isinstance(given, dict):
            repeatable = tool.is_idempotent(given)
        if as_json_size(compared, _LARGE_ARGUMENTS) > _LARGE_ARGUMENTS:
            digest, held = await in_thread(_digest_and_size, tool, compared, invocation.arguments)
        else:
            digest, held = _digest_and_size(tool, compared, invocation.arguments)
        # Without the invocation, whose arguments may be the same once more.
        seconds = invocation.seconds if repeatable else None
        run = Run(
            functools.partial(
                self._run, tool, given, invocation.call_id, line, room, seconds=seconds, alone=not repeatable
            ),
            size=lambda finished: finished.size,
            keep=functools.partial(_is_final, repeatable),
            repeatable=repeatable,
            held=_SIZE_OF_RUN + held,
        )
        finished, repeated = await self._repeats.answer(invocation.call_id, digest, run)
        return self._replies.page(tool, finished, room), repeated

    async def _arguments(self, tool: Tool, given: _Given) -> tuple[_Given, _Given]:
        """As the tool wants them, an object or text, and as calls are compared by; long text nobody has read."""
        size = len(given) if isinstance(given, str) else as_json_size(given, _LARGE_ARGUMENTS)
        if tool.run_text is not None:
            text = given if isinstance(given, str) else await in_thread(arguments.written, given)
            return text or "{}", await self._check(tool, given, size) if size <= _LARGE_ARGUMENTS else text
        checked = await self._check(tool, given, size)
        return checked, checked

    async def _check(self, tool: Tool, given: _Given, size: int) -> dict[str, JSON]:
        if size <= _LARGE_ARGUMENTS and self._schemas[tool.name][1].is_known:
            try:
                return self._checked(tool, given, QUICK_STEPS)
            except CannotCheck:
                pass
        return await in_thread(self._checked, tool, given)

    def _checked(self, tool: Tool, given: _Given, steps: int = MOST_STEPS) -> dict[str, JSON]:
        schema, checker = self._schemas[tool.name]
        read = arguments.read(given, self._settings.max_argument_chars) if isinstance(given, str) else given
        value = arguments.with_whole_numbers(read, schema)
        # A worker checks what it reads, and tells the row where a schema can but say that none of its branches fits.
        left_out = ("anyOf", "oneOf") if tool.run_text is not None else ()
        arguments.check(tool, schema, value, steps, checker, left_out=left_out)
        assert isinstance(value, dict)
        return value

    async def _run(
        self,
        tool: Tool,
        given: _Given,
        call_id: str,
        line: Line,
        room: int,
        *,
        seconds: float | None,
        alone: bool = False,
    ) -> Finished:
        """Runs the tool. `alone`: whatever its caller does, so that the time it has is the server's own bound."""
        line.in_run = True
        outcome = "CANCELLED"
        bounds = [self._settings.timeout or _LONGEST_RUN]
        if seconds is not None:
            bounds.append(seconds)
        call = Call(deadline=time.monotonic() + min(bounds), id=call_id, audit=line.audit)
        try:
            try:
                if alone:  # the server would end any other
                    async with asyncio.timeout(min(bounds)):
                        output = await _output(tool, given, call)
                else:
                    output = await _output(tool, given, call)
            except TimeoutError:
                raise DeadlineExceeded(f"{tool.name} did not end in the {min(bounds):g} s that a call has") from None
            except CallerError as error:
                output = Output(text="", error=located(released(error), tool.parameters, "parameters"))
            finished = await self._replies.finish(tool, output, room)
            outcome = finished.output.error.reason if finished.output.error else "OK"
            return finished
        except Exception as error:
            outcome = getattr(error, "reason", "INTERNAL")
            raise
        finally:
            line.write(outcome)


def _digest_and_size(tool: Tool, compared: _Given, given: _Given) -> tuple[bytes, int]:
    return arguments.digest(tool.name, compared), arguments.held(given)


def _remedy(place: str) -> str:
    return "give this one another name" if place == "setting tools" else "set `prefix`, or `exclude` it"


async def _output(tool: Tool, given: _Given, call: Call) -> Output:
    if isinstance(given, str):
        assert tool.run_text is not None
        return await tool.run_text(given, call)
    assert tool.run is not None
    return await tool.run(given, call)


def _is_final(repeatable: bool, finished: Finished) -> bool:
    """Whether the answer stays the answer: not where trying again can help, nor where the time of a call that may be
    made again was too short for it."""
    error = finished.output.error
    if error is None:
        return True
    return error.retry_after is None and not (repeatable and error.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE))
