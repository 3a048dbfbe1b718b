"""What comes back from a tool, made ready for its caller: secrets out, kept where it is long, cut to pages, fenced."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shared.errors import CallerError, InvalidArgument
from shared.off_loop import in_thread

from . import pages, search
from .fence import LEAST_ROOM, Fence, harmless
from .redaction import Redactor
from .results import SEARCH, Kept, Results, as_json_size
from .tool import ABSENT, JSON, Output, Tool

READ_RESULT = "read_result"
_LARGE_TEXT = 2**18  # characters: more take milliseconds to be cleaned
_LARGE_VALUE = 2**14  # characters of `structured` as JSON: the same, since each value is looked at
_SHORT_JSON = 2**13  # characters of `structured_json` that are read here
_MOST_STRUCTURED = 2**20  # characters of `structured` as JSON


@dataclass(kw_only=True)
class Result:
    text: str = ""
    error: CallerError | None = None
    structured: JSON = ABSENT
    structured_json: str | None = None  # in its place, where it is large
    content_type: str = "text/plain"
    truncated: bool = False
    next_cursor: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    size: int = 0  # of structured and metadata as JSON, about


@dataclass
class Finished:
    """What a run gave, cleaned. Of a long text only the head is here; the whole is kept for a time."""

    output: Output
    head: str
    total: int  # characters of the whole
    key: str = ""  # of the kept whole
    size_as_json: int = 0  # of structured and metadata, about

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        structured = self.output.structured_json
        size = 4 * self.size_as_json if structured is None else sys.getsizeof(structured)
        return sys.getsizeof(self.head) + size + 1_000


class Replies:
    def __init__(
        self,
        redactor: Redactor,
        *,
        max_result_chars: int,
        max_reply_bytes: int,
        kept_bytes: int,
        kept_for: float,
        fence: bool,
    ) -> None:
        """`max_result_chars` of a page where the caller does not say; `kept_for` in seconds."""
        self._redactor = redactor
        self.clean = redactor.clean
        self._max_result_chars = max_result_chars
        self._max_reply_bytes = max_reply_bytes
        self._fence = fence
        self.kept = Results(kept_bytes, kept_for)

    def room(self, max_chars: int) -> int:
        """The characters that a reply's text has, of those that its caller wants. Raises InvalidArgument."""
        least = LEAST_ROOM if self._fence else 1
        if max_chars < 0 or 0 < max_chars < least:
            raise InvalidArgument(
                f"max_result_chars must be at least {least}, or 0 for the server's default, and is {max_chars}",
                field="max_result_chars",
            )
        return max_chars or self._max_result_chars

    async def finish(self, tool: Tool, output: Output, room: int) -> Finished:
        as_json = output.structured_json or ""
        is_large = len(output.text) > _LARGE_TEXT or len(as_json) > _LARGE_TEXT
        if is_large or as_json_size(output.structured, _LARGE_VALUE) > _LARGE_VALUE:
            output, size = await in_thread(self._cleaned, output)
        else:
            output, size = self._cleaned(output)
        size += as_json_size(output.metadata, _MOST_STRUCTURED)
        finished = Finished(output, output.text, len(output.text), size_as_json=size)
        page = max(room, self._max_result_chars)
        if finished.total > page:
            kept = Kept(tool.name, output.text, output.content_type)
            finished.key = kept.key if self.kept.keep(kept) else ""
            finished.head = output.text[:page]
            finished.output = replace(output, text="")
        return finished

    def _cleaned(self, output: Output) -> tuple[Output, int]:
        """And about how many characters its structured result has as JSON."""
        as_json = output.structured_json
        size = as_json_size(output.structured, _MOST_STRUCTURED) if as_json is None else len(as_json)
        if self._is_clean and output.error is None and as_json is None and size <= self._most_structured:
            return output, size
        text, structured, metadata = output.text, output.structured, dict(output.metadata)
        error = self.cleaned_error(output.error) if output.error else None
        if size > self._most_structured:
            size = 0
            structured, as_json = ABSENT, None
            metadata["structured_left_out"] = "it is too large; the result's text has it"
        elif as_json is not None and size <= _SHORT_JSON:
            with contextlib.suppress(ValueError, RecursionError):  # then it goes out as it is
                structured, as_json = json.loads(as_json), None
        text = self._redactor.clean(text)
        structured = structured if structured is ABSENT else self._redactor.clean_value(structured)
        as_json = None if as_json is None else self._redactor.clean(as_json)
        metadata = self._redactor.clean_value(metadata)
        if self._fence:
            text = harmless(text)
        cleaned = Output(
            text=text,
            structured=structured,
            structured_json=as_json,
            content_type=output.content_type,
            metadata=metadata,
            error=error,
        )
        return cleaned, size

    @property
    def _is_clean(self) -> bool:
        """Whether nothing has to be looked for in what comes back."""
        return not self._fence and self._redactor.is_empty

    @property
    def _most_structured(self) -> int:
        return min(_MOST_STRUCTURED, self._max_reply_bytes // 8)

    def cleaned_error(self, error: CallerError) -> CallerError:
        clean = self._redactor.clean
        other = copy.copy(error)
        other.message = clean(error.message)
        other.violations = tuple((clean(field), clean(words)) for field, words in error.violations)
        other.metadata = {name: clean(value) for name, value in error.metadata.items()}
        return other

    def page(self, tool: Tool, finished: Finished, room: int) -> Result:
        """The first page of what a run gave."""
        output = finished.output
        kept = self.kept.find(finished.key) if finished.key else None
        text = kept.text if kept else finished.head
        if not kept and len(text) > room:
            # It fitted the page of whoever had it run, and does not fit this one.
            kept = Kept(tool.name, text, output.content_type)
            if len(text) == finished.total and self.kept.keep(kept):
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
            size=finished.size_as_json,
        )

    def read_on(self, tool: Tool, cursor: str, room: int) -> Result:
        """The page that a call's `cursor` asks for."""
        kept, _, place = self.kept.at(cursor, "cursor")
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
        fence = Fence(tool, room) if self._fence and text else None
        left = room - (fence.length if fence else 0)
        notice = ""
        if start > 0 or len(text) - start > left or len(text) < total:
            # Numbers only get shorter than these, so the notice fits.
            notice = pages.notice(start, total - 1, total, kept.cursor(total) if kept else "", room)
            left -= len(notice)
        end = pages.cut(text, start, left)
        piece = pages.part(text, start, end, self._max_reply_bytes // 2)
        end = start + len(piece)
        if notice:
            notice = pages.notice(start, end, total, kept.cursor(end) if kept and end < total else "", room)
        return (fence.around(piece) if fence else piece) + notice, end

    def read_result(self) -> Tool:
        """The tool; it has no `run`: an engine calls `read`, since a page is as long as the caller wants it."""

        return Tool(
            name=READ_RESULT,
            description=search.DESCRIPTION,
            parameters=search.PARAMETERS,
            read_only=True,
            idempotent=True,
        )

    async def read(self, given: dict[str, JSON], room: int) -> Result:
        kept, kind, place = self.kept.at(given["cursor"], "parameters.cursor")
        if "find" not in given:
            return self._kept_page(kept, place, room)
        start = place if kind == SEARCH else 0
        if len(kept.text) > _LARGE_TEXT:
            return await in_thread(self._found, kept, given["find"], start, room)
        return self._found(kept, given["find"], start, room)

    def _found(self, kept: Kept, words: str, start: int, room: int) -> Result:
        fence = Fence(kept.tool, room) if self._fence else None
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
