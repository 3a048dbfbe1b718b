"""Requests read and answers sent. Every answer is JSON, or JSON a line; every error is {"error": one sentence}.

When the page goes while an answer is under way, so does the work for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from host.ui.current import Current, NotFound
from host.ui.guard import refusal
from host.ui.runs import BUSY
from host.ui.streams import Busy, Lines, gone, line
from shared.errors import StartError

LARGEST = 2**20  # bytes of a request

Body = Mapping[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]
Items = AsyncGenerator[Mapping[str, Any], None]


class BadRequest(Exception):
    """The request is not as the page sends it."""


class Work:
    """Makes endpoints."""

    def __init__(self, current: Current, ending: asyncio.Event) -> None:
        self._current, self._ending = current, ending

    def answers(self, work: Callable[[Request, Body], Awaitable[Body]]) -> Endpoint:
        """One JSON object."""

        async def endpoint(request: Request) -> Response:
            status = 200
            value: Body = {}
            try:
                working = asyncio.ensure_future(work(request, await body_of(request)))
                going = asyncio.ensure_future(gone(request.receive, self._ending))
                try:
                    await asyncio.wait([working, going], return_when=asyncio.FIRST_COMPLETED)
                    value = working.result() if working.done() else {}
                finally:
                    working.cancel()
                    going.cancel()
                    await asyncio.gather(working, going, return_exceptions=True)
            except (BadRequest, NotFound, Busy, StartError) as error:
                status, value = told(error)
            return Response(line(value, self._current.hide), status, media_type="application/json")

        return endpoint

    def streams(self, begin: Callable[[Request, Body], Items]) -> Endpoint:
        """JSON objects, one a line; what goes wrong on the way is the last."""

        async def endpoint(request: Request) -> Response:
            try:
                items = begin(request, await body_of(request))
            except BadRequest as error:
                status, value = told(error)
                return refusal(status, value["error"])

            async def all_of_them() -> Items:
                try:
                    async for item in items:
                        yield item
                except (NotFound, Busy, StartError) as error:
                    yield told(error)[1]
                finally:
                    await items.aclose()

            return Lines(all_of_them(), lambda text: self._current.hide(text), self._ending)

        return endpoint


def told(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status, and what the page is told."""
    match error:
        case BadRequest():
            return 400, {"error": str(error)}
        case NotFound():
            return 404, {"error": str(error)}
        case Busy():
            return 503, {"error": BUSY}
    return 502, {"error": str(error)}


async def body_of(request: Request) -> Body:
    """Raises BadRequest."""
    if request.method != "POST":
        return {}
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST:
            raise BadRequest(f"The request has more than {LARGEST:,} bytes, the most that the page may send.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequest("The request is no JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The request is no JSON object.")
    return body


def path(request: Request, key: str) -> str:
    return str(request.path_params[key])


def text(body: Body, key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise BadRequest(f"The request has no text {key}.")
    return value


def question(body: Body, longest: int) -> str:
    words = text(body, "question")
    if not words.strip():
        raise BadRequest("The question is empty; say what to ask.")
    if len(words) > longest:
        raise BadRequest(f"The question has more than {longest:,} characters; shorten it.")
    return words


def number(body: Body, key: str, default: float) -> float:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise BadRequest(f"The request's {key} must be a number above 0.")
    return float(value)
