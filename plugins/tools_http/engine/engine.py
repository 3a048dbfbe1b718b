"""Runs tools: arguments are checked before, what comes back is cleaned, cut to pages and kept after.

call → arguments read and checked → call_id known? → Tool.run → secrets out → kept → page, fence → result
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared import logs
from shared.errors import CallerError, Code, InvalidArgument, NotFound, StartError
from shared.json_schema import MOST_STEPS, QUICK_STEPS, CannotCheck, Checker

from . import arguments, pages, search
from .fence import LEAST_ROOM, Fence, harmless
from .nearest import nearest
from .off_loop import in_thread
from .redaction import Redactor
from .repeats import Repeats, Run
from .results import SEARCH, Kept, Results, as_json_size
from .tool import ABSENT, JSON, Audit, Call, Output, Tool

READ_RESULT = "read_result"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_ID = 512  # characters of a call_id
_LARGE_ARGUMENTS = 2**13  # characters: more take milliseconds to be read and checked
_LARGE_TEXT = 2**18  # characters: more take milliseconds to be cleaned
_MOST_STRUCTURED = 2**20  # characters of `structured` as JSON
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
    fence: bool = False


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What a caller sends to have a tool run, or to read on."""

    tool: str
    arguments: str | dict[str, JSON] = ""  # JSON text that nobody has read, or an object
    call_id: str = ""
    cursor: str = ""
    max_chars: int = 0  # of the result's text; 0: the setting's
    seconds: float | None = None  # that the caller waits; None: for ever


@dataclass(frozen=True, kw_only=True)
class Result:
    text: str = ""
    error: CallerError | None = None
    structured: JSON = ABSENT
    structured_json: str | None = None  # in its place, where it is large
    content_type: str = "text/plain"
    truncated: bool = False
    next_cursor: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass
class _Finished:
    """What a run gave, cleaned. Of a long text only the head is here; the whole is kept for a time."""

    output: Output
    head: str
    total: int  # characters of the whole
    key: str = ""  # of the kept whole


_Given = str | dict[str, JSON]  # arguments as text or as an object


class _Line:
    """The log line of a call, written once."""

    def __init__(self, tool: str) -> None:
        self.audit = Audit()
        self.in_run = False  # the run writes it
        self._tool, self._began = tool, time.monotonic()

    def write(self, outcome: str, *, repeated: bool = False) -> None:
        audit = self.audit
        fields: dict[str, Any] = {"tool": self._tool, "host": audit.host, "status": audit.status}
        fields |= {"bytes": audit.bytes, "rule": audit.rule, "code": outcome}
        if repeated:
            fields["repeated"] = True
        fields["ms"] = round((time.monotonic() - self._began) * 1000, 2)
        refused = outcome.startswith("BLOCKED_")
        logs.event("security" if refused else "tool_call", level=logging.WARNING if refused else logging.INFO, **fields)


class Engine:
    def __init__(self, tools: Iterable[Tool], settings: Settings, redactor: Redactor | None = None) -> None:
        """`redactor` knows what must not come out. Raises StartError where a tool cannot be offered."""
        self._settings = settings
        self._redactor = redactor or Redactor()
        self._results = Results(settings.kept_bytes, settings.kept_for)
        self._repeats: Repeats[_Finished] = Repeats(settings.kept_calls, settings.kept_bytes // 4, settings.kept_for)
        self._tools: dict[str, Tool] = {}
        self._schemas: dict[str, tuple[dict[str, Any], Checker]] = {}  # to check by
        self.add([*tools, self._read_result()])

    @property
    def tools(self) -> Sequence[Tool]:
        return list(self._tools.values())

    def add(self, tools: Iterable[Tool]) -> None:
        for tool in tools:
            if not _NAME.fullmatch(tool.name):
                raise StartError(f"tool {tool.name[:80]!r}: a name has 1 to 64 letters, digits, _ and -")
            if tool.name in self._tools:
                raise StartError(f"two tools are named {tool.name}; rename or exclude one of them")
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
        line = _Line(invocation.tool)
        outcome, repeated = "CANCELLED", False
        try:
            result, repeated = await self._execute(invocation, line)
            outcome = result.error.reason if result.error else "OK"
            return result
        except CallerError as error:
            outcome = error.reason
            return Result(error=self._cleaned_error(error))
        except Exception as error:
            outcome = getattr(error, "reason", "INTERNAL")
            raise
        finally:
            if not line.in_run or repeated:
                line.write(outcome, repeated=repeated)

    async def close(self) -> None:
        self._repeats.close()

    # ------------------------------------------------------------ one call

    async def _execute(self, invocation: Invocation, line: _Line) -> tuple[Result, bool]:
        """The result, and whether it is of an earlier call's run."""
        tool = self.tool(invocation.tool)
        room = self._room(invocation.max_chars)
        if len(invocation.call_id) > _LONGEST_ID:
            raise InvalidArgument(f"call_id has more than {_LONGEST_ID} characters", field="call_id")
        if invocation.cursor:
            return self._read_on(tool, invocation.cursor, room), False
        given, compared = await self._arguments(tool, invocation.arguments)
        if tool.name == READ_RESULT:
            assert isinstance(given, dict)
            return await self._read(given, room), False
        if not invocation.call_id or not self._settings.kept_calls:
            finished = await self._run(tool, given, invocation, line, room)
            return self._page(tool, finished, room), False
        repeatable = tool.read_only or tool.idempotent
        run = Run(
            functools.partial(self._run, tool, given, invocation, line, room, alone=not repeatable),
            size=_bytes_of,
            keep=functools.partial(_is_final, repeatable),
            repeatable=repeatable,
        )
        if as_json_size(compared, _LARGE_ARGUMENTS) > _LARGE_ARGUMENTS:
            digest = await in_thread(arguments.digest, tool.name, compared)
        else:
            digest = arguments.digest(tool.name, compared)
        finished, repeated = await self._repeats.answer(invocation.call_id, digest, run)
        return self._page(tool, finished, room), repeated

    def _room(self, max_chars: int) -> int:
        least = LEAST_ROOM if self._settings.fence else 1
        if max_chars < 0 or 0 < max_chars < least:
            raise InvalidArgument(
                f"max_result_chars must be at least {least}, or 0 for the server's default, and is {max_chars}",
                field="max_result_chars",
            )
        return max_chars or self._settings.max_result_chars

    async def _arguments(self, tool: Tool, given: _Given) -> tuple[_Given, _Given]:
        """As the tool wants them, an object or text, and as calls are compared by. Text that is long nobody has read."""
        size = len(given) if isinstance(given, str) else as_json_size(given, _LARGE_ARGUMENTS)
        if tool.run is None:
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
        arguments.check(tool, schema, value, steps, checker)
        assert isinstance(value, dict)
        return value

    async def _run(
        self,
        tool: Tool,
        given: _Given,
        invocation: Invocation,
        line: _Line,
        room: int,
        *,
        alone: bool = False,
    ) -> _Finished:
        """Runs the tool. `alone`: whatever its caller does, so that the time it has is the server's own bound."""
        line.in_run = True
        outcome = "CANCELLED"
        bounds = [self._settings.timeout or _LONGEST_RUN]
        if invocation.seconds is not None and not alone:
            bounds.append(invocation.seconds)
        call = Call(deadline=time.monotonic() + min(bounds), id=invocation.call_id, audit=line.audit)
        try:
            try:
                if isinstance(given, str):
                    assert tool.run_text is not None
                    output = await tool.run_text(given, call)
                else:
                    assert tool.run is not None
                    output = await tool.run(given, call)
            except CallerError as error:
                output = Output(text="", error=_located(error, tool))
            finished = await self._finish(tool, output, room)
            outcome = finished.output.error.reason if finished.output.error else "OK"
            return finished
        except Exception as error:
            outcome = getattr(error, "reason", "INTERNAL")
            raise
        finally:
            line.write(outcome)

    # ------------------------------------------------------------ what came back

    async def _finish(self, tool: Tool, output: Output, room: int) -> _Finished:
        if len(output.text) > _LARGE_TEXT or as_json_size(output.structured, _LARGE_TEXT) > _LARGE_TEXT:
            output = await in_thread(self._cleaned, output)
        else:
            output = self._cleaned(output)
        finished = _Finished(output, output.text, len(output.text))
        page = max(room, self._settings.max_result_chars)
        if finished.total > page:
            kept = Kept(tool.name, output.text, output.content_type)
            finished.key = kept.key if self._results.keep(kept) else ""
            finished.head = output.text[:page]
            finished.output = replace(output, text="")
        return finished

    def _cleaned(self, output: Output) -> Output:
        text, structured, metadata = output.text, output.structured, dict(output.metadata)
        as_json = output.structured_json
        error = self._cleaned_error(output.error) if output.error else None
        size = as_json_size(structured, _MOST_STRUCTURED) if as_json is None else len(as_json)
        if size > self._most_structured:
            structured, as_json = ABSENT, None
            metadata["structured_left_out"] = "it is too large; the result's text has it"
        elif as_json is not None and size <= _LARGE_ARGUMENTS:
            structured, as_json = json.loads(as_json), None
        text = self._redactor.clean(text)
        structured = structured if structured is ABSENT else self._redactor.clean_value(structured)
        as_json = None if as_json is None else self._redactor.clean(as_json)
        metadata = self._redactor.clean_value(metadata)
        if self._settings.fence:
            text = harmless(text)
        return Output(
            text=text,
            structured=structured,
            structured_json=as_json,
            content_type=output.content_type,
            metadata=metadata,
            error=error,
        )

    @property
    def _most_structured(self) -> int:
        return min(_MOST_STRUCTURED, self._settings.max_reply_bytes // 8)

    def _cleaned_error(self, error: CallerError) -> CallerError:
        clean = self._redactor.clean
        other = copy.copy(error)
        other.message = clean(error.message)
        other.violations = tuple((clean(field), clean(words)) for field, words in error.violations)
        other.metadata = {name: clean(value) for name, value in error.metadata.items()}
        return other

    def _page(self, tool: Tool, finished: _Finished, room: int) -> Result:
        """The first page of what a run gave."""
        output = finished.output
        kept = self._results.find(finished.key) if finished.key else None
        text = kept.text if kept else finished.head
        if not kept and len(text) > room:
            # It fitted the page of whoever had it run, and does not fit this one.
            kept = Kept(tool.name, text, output.content_type)
            if len(text) == finished.total and self._results.keep(kept):
                finished.key = kept.key
            else:
                kept = None
        shown, end = self._shown(tool.name, text, 0, finished.total, kept, room)
        more = end < finished.total
        metadata = dict(output.metadata)
        if more:
            metadata |= {"characters": finished.total, "characters_shown": end}
        return Result(
            text=shown,
            error=output.error,
            structured=output.structured,
            structured_json=output.structured_json,
            content_type=output.content_type,
            truncated=more,
            next_cursor=kept.cursor(end) if kept and more else "",
            metadata=metadata,
        )

    def _read_on(self, tool: Tool, cursor: str, room: int) -> Result:
        """The page that a call's `cursor` asks for."""
        kept, _, place = self._results.at(cursor, "cursor")
        if tool.name not in (kept.tool, READ_RESULT):
            raise InvalidArgument(
                f"the cursor is of a result of {kept.tool}, not of {tool.name}; call {READ_RESULT} with it",
                reason="BAD_CURSOR",
                field="cursor",
            )
        return self._kept_page(kept, place, room)

    def _kept_page(self, kept: Kept, place: int, room: int) -> Result:
        total = len(kept.text)
        shown, end = self._shown(kept.tool, kept.text, place, total, kept, room)
        return Result(
            text=shown,
            content_type=kept.content_type,
            truncated=place > 0 or end < total,
            next_cursor=kept.cursor(end) if end < total else "",
            metadata={"characters": total, "characters_before": place, "characters_shown": end - place},
        )

    def _shown(self, tool: str, text: str, start: int, total: int, kept: Kept | None, room: int) -> tuple[str, int]:
        """A page of `text` as it goes out, and where it ends."""
        fence = Fence(tool, room) if self._settings.fence and text else None
        left = room - (fence.length if fence else 0)
        notice = ""
        if start > 0 or len(text) - start > left or len(text) < total:
            # Numbers only get shorter than these, so the notice fits.
            notice = pages.notice(start, total - 1, total, kept.cursor(total) if kept else "", room)
            left -= len(notice)
        end = pages.cut(text, start, left)
        piece = pages.part(text, start, end, self._settings.max_reply_bytes // 2)
        end = start + len(piece)
        if notice:
            notice = pages.notice(start, end, total, kept.cursor(end) if kept and end < total else "", room)
        return (fence.around(piece) if fence else piece) + notice, end

    # ------------------------------------------------------------ read_result

    def _read_result(self) -> Tool:
        """The tool; `execute` answers it itself, since its pages are as long as the caller wants them."""

        async def run(given: dict[str, JSON], _: Call) -> Output:
            result = await self._read(given, self._settings.max_result_chars)
            return Output(text=result.text, structured=result.structured, content_type=result.content_type)

        return Tool(
            name=READ_RESULT,
            description=search.DESCRIPTION,
            parameters=search.PARAMETERS,
            run=run,
            read_only=True,
            idempotent=True,
        )

    async def _read(self, given: dict[str, JSON], room: int) -> Result:
        kept, kind, place = self._results.at(given["cursor"], "parameters.cursor")
        if "find" not in given:
            return self._kept_page(kept, place, room)
        start = place if kind == SEARCH else 0
        if len(kept.text) > _LARGE_TEXT:
            return await in_thread(self._found, kept, given["find"], start, room)
        return self._found(kept, given["find"], start, room)

    def _found(self, kept: Kept, words: str, start: int, room: int) -> Result:
        fence = Fence(kept.tool, room) if self._settings.fence else None
        left = max(1, room - (fence.length if fence else 0) - search.NOTICE)
        hits = search.search(kept, words, start, left)
        cursor = search.next_cursor(kept, hits)
        shown = hits.text[:left]
        if fence and shown:
            shown = fence.around(shown)
        return Result(
            text=(shown + search.notice(hits, words, len(kept.text), cursor))[:room],
            structured={"hits": hits.total, "at": list(hits.places)},
            content_type=kept.content_type,
            truncated=bool(cursor),
            next_cursor=cursor,
            metadata={"characters": len(kept.text), "hits": hits.total},
        )


def _located(error: CallerError, tool: Tool) -> CallerError:
    """Where a tool names one of its arguments, the field of the request is named that way too."""
    names = tool.parameters.get("properties", {})
    error.violations = tuple(
        (f"parameters.{field}" if re.split(r"[.\[]", field, maxsplit=1)[0] in names else field, words)
        for field, words in error.violations
    )
    return error


def _bytes_of(finished: _Finished) -> int:
    structured = finished.output.structured_json
    size = 4 * as_json_size(finished.output.structured, 2**22) if structured is None else sys.getsizeof(structured)
    return sys.getsizeof(finished.head) + size + 1_000


def _is_final(repeatable: bool, finished: _Finished) -> bool:
    """Whether the answer stays the answer: not where trying again can help, nor where the time of a call that may be
    made again was too short for it."""
    error = finished.output.error
    if error is None:
        return True
    return error.retry_after is None and not (repeatable and error.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE))
