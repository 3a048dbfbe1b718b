"""The tool fetch_page: fetches a URL through the one door and has a worker process make text of what comes."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shared.errors import CallerError, InvalidArgument, Unsupported
from shared.off_loop import in_thread

from .. import outcome
from ..exchange import Client, Request, Response
from ..failures import of_argument
from ..tool import JSON, Call, Output, Tool
from . import convert
from .robots import product_token
from .robots_gate import RobotsGate
from .work import Work

_ACCEPT = (
    "text/markdown, text/html;q=0.9, application/xhtml+xml;q=0.9, text/plain;q=0.8, application/pdf;q=0.7, "
    "application/json;q=0.7, application/xml;q=0.6, */*;q=0.1"
)
_LARGE = 2**18  # bytes of text: more take milliseconds to be read
_DESCRIPTION = (
    "Fetch a web page and read it as Markdown: title, headings, text, lists, tables, code, absolute links. Reads HTML, "
    "plain text, Markdown, JSON, feeds (RSS, Atom) and PDF. Use it to read what a URL says; use custom_api_call for an "
    'API, other methods or headers. Example: {"url": "https://example.com/guide", "main_only": true}'
)
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "maxLength": 8192,
            "description": "Absolute http or https URL of the page.",
            "examples": ["https://example.com/guide"],
        },
        "format": {
            "type": "string",
            "enum": ["markdown", "text"],
            "default": "markdown",
            "description": "markdown keeps headings, lists, tables, code and links; text is without marks and links.",
        },
        "main_only": {
            "type": "boolean",
            "default": True,
            "description": "Leave out navigation, sidebars and footers where the main text can be told; false: all.",
        },
        "pages": {
            "type": "string",
            "pattern": "^[0-9]{1,5}(-[0-9]{0,5})?$",
            "description": "Of a PDF: the pages to read, such as 3, 1-10 or 11- (to the end); by default all.",
        },
    },
    "required": ["url"],
    "additionalProperties": False,
    "examples": [{"url": "https://example.com/guide", "main_only": True}],
}


def fetch_page(
    client: Client, work: Work, *, work_timeout: float = 30.0, robots: bool = False, user_agent: str = "hector-plugins"
) -> Tool:
    """`work` is Workers.run, `work_timeout` in seconds; `robots` has robots.txt asked first, for the name that
    `user_agent` begins with."""
    gate = RobotsGate(client, work, agent=product_token(user_agent) or "hector-plugins") if robots else None

    async def run(arguments: dict[str, JSON], call: Call) -> Output:
        pages = _pages(arguments.get("pages", ""))
        asked: Callable[[str], Awaitable[None]] | None = None
        if gate:
            asked = functools.partial(gate.check, call=call)
        request = Request(method="GET", url=arguments["url"], headers=(("Accept", _ACCEPT),), before_redirect=asked)
        try:
            if asked:
                await asked(request.url)
            response = await client.send(request, deadline=call.deadline, audit=call.audit)
        except CallerError as error:
            raise of_argument(error, "url") from None
        seconds = max(0.01, min(work_timeout, call.deadline - time.monotonic()))
        payload = convert.request(
            response.body,
            url=response.url,
            content_type=response.header("content-type"),
            main_only=arguments.get("main_only", True),
            markdown=arguments.get("format", "markdown") == "markdown",
            pages=pages,
            seconds=seconds / 2,
        )
        answer = await work(convert.JOB, payload, seconds=seconds)
        return await in_thread(_output, response, answer) if len(answer) > _LARGE else _output(response, answer)

    return Tool(
        name="fetch_page", description=_DESCRIPTION, parameters=_PARAMETERS, run=run, read_only=True, idempotent=True
    )


def _pages(text: str) -> tuple[int, int]:
    """First and last page, from 1; 0 for the last one there is."""
    first, dash, last = text.partition("-")
    pages = int(first or 1), int(last or 0) if dash or not text else int(first)
    if pages[0] < 1 or 0 < pages[1] < pages[0]:
        raise InvalidArgument(
            f"pages {text!r} begins at no page or ends before it begins; write it as 3-7", field="pages"
        )
    return pages


def _output(response: Response, answer: bytes) -> Output:
    page = convert.reply(answer)
    facts: dict[str, JSON] = {
        "content_type": response.header("content-type")[:200],
        "charset": page.charset,
        "title": page.title,
        "language": page.language,
        "pages": page.pages or "",
        "whole_page": page.whole_page,
        "hidden_text": page.hidden_text,
    }
    error = outcome.error_of(response)
    if error is None and page.problem:
        error = Unsupported(
            f"{response.url} cannot be read as a page: {page.problem}; use custom_api_call to get its bytes",
            reason="NOT_A_PAGE",
        )
    notes = "".join(f"[{note}]\n\n" for note in page.notes)
    return Output(
        text=notes + page.text,
        content_type=page.media_type or "text/plain",
        metadata=outcome.metadata(response) | {name: value for name, value in facts.items() if value != ""},
        error=error,
    )
