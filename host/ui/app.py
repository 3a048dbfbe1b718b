"""What the page can ask for. Every answer is JSON, or JSON a line; every error is {"error": one sentence}.

When the page goes while an answer is under way, so does the work for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from host.config import Agent, ToolBlock
from host.ui import plugins, searching
from host.ui.current import Current, NotFound
from host.ui.guard import App, Guard, refusal
from host.ui.kept_runs import KeptRuns
from host.ui.runs import BUSY, LONGEST_QUESTION, Runs
from host.ui.streams import Busy, Lines, gone, in_daemon, line
from shared.errors import StartError

STATIC = Path(__file__).with_name("static")
LARGEST = 2**20  # bytes of a request
_REQUIRED: Any = object()

Body = Mapping[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]
Items = AsyncGenerator[Mapping[str, Any], None]


class BadRequest(Exception):
    """The request is not as the page sends it."""


def app(current: Current, token: str, ending: asyncio.Event) -> App:
    """`ending` is set when the server is about to stop."""
    kept = KeptRuns(current.config.state / "runs", lambda: current.hide)
    pages = _Pages(current, Runs(current, kept))
    work = _Work(current, ending)
    api = [
        Route("/overview", work.answers(pages.overview)),
        Route("/plugins/{name}/settings", work.answers(pages.settings)),
        Route("/plugins/{name}/log", work.streams(pages.log)),
        Route("/plugins/{name}/rpcs", work.answers(pages.rpcs)),
        Route("/plugins/{name}/form/{rpc:path}", work.answers(pages.form)),
        Route("/plugins/{name}/call", work.streams(pages.call), methods=["POST"]),
        Route("/agents/{name}/ask", work.streams(pages.ask), methods=["POST"]),
        Route("/runs", work.answers(pages.runs)),
        Route("/runs/{run}", work.answers(pages.run)),
        Route("/runs/{run}/decide", work.answers(pages.decide), methods=["POST"]),
        Route("/runs/{run}/remove", work.answers(pages.remove), methods=["POST"]),
        Route("/search", work.answers(pages.search), methods=["POST"]),
        Route("/{rest:path}", work.answers(pages.nothing), methods=["GET", "POST"]),
    ]
    files = StaticFiles(directory=STATIC, html=True)
    return Guard(Starlette(routes=[Mount("/api", routes=api), Mount("/", files)]), token)


class _Pages:
    """`body` is the request's JSON object, empty where it has none."""

    def __init__(self, current: Current, runs: Runs) -> None:
        self._current, self._runs = current, runs

    async def overview(self, request: Request, body: Body) -> Body:
        """All that is there, and how it is now. Asked for every two seconds."""
        await in_daemon(self._current.look)
        config = self._current.config
        return {
            "config": str(config.file),
            "mistakes": self._current.mistakes,
            "plugins": [asdict(status) for status in self._current.statuses()],
            "agents": [_agent(agent) for agent in config.agents.values()],
            "llms": list(config.llms),
            "databases": [{"name": one.name, "collection": one.collection} for one in config.databases.values()],
        }

    async def settings(self, request: Request, body: Body) -> Body:
        return plugins.settings(self._current, _path(request, "name"))

    def log(self, request: Request, body: Body) -> Items:
        return plugins.log(self._current, _path(request, "name"))

    async def rpcs(self, request: Request, body: Body) -> Body:
        return await plugins.rpcs(self._current, _path(request, "name"))

    async def form(self, request: Request, body: Body) -> Body:
        return await plugins.form(self._current, _path(request, "name"), _path(request, "rpc"))

    def call(self, request: Request, body: Body) -> Items:
        rpc, text, seconds = _text(body, "rpc"), _text(body, "request"), _number(body, "seconds", 60.0)
        return plugins.called(self._current, _path(request, "name"), rpc, text, seconds)

    def ask(self, request: Request, body: Body) -> Items:
        return self._runs.ask(
            _path(request, "name"),
            _question(body, LONGEST_QUESTION),
            llm=_text(body, "llm", ""),
            talk=_text(body, "talk", ""),
            asks_always=body.get("approve") is True,
        )

    async def decide(self, request: Request, body: Body) -> Body:
        self._runs.decide(
            _path(request, "run"),
            _text(body, "action"),
            allowed=body.get("allowed") is True,
            for_all=body.get("for_all") is True,
            reason=_text(body, "reason", ""),
        )
        return {}

    async def runs(self, request: Request, body: Body) -> Body:
        return {"runs": await in_daemon(self._runs.kept.summaries)}

    async def run(self, request: Request, body: Body) -> Body:
        run = await in_daemon(lambda: self._runs.kept.read(_path(request, "run")))
        if run is None:
            raise NotFound("There is no such run; the oldest are removed.")
        return run

    async def remove(self, request: Request, body: Body) -> Body:
        if not await in_daemon(lambda: self._runs.kept.remove(_path(request, "run"))):
            raise NotFound("There is no such run any more.")
        return {}

    async def search(self, request: Request, body: Body) -> Body:
        question, limit = _question(body, searching.LONGEST_QUESTION), _number(body, "limit", 5.0)
        return await searching.hits(self._current, _text(body, "database"), question, int(limit))

    async def nothing(self, request: Request, body: Body) -> Body:
        raise NotFound("There is nothing here; reload the page, which may be older than the server.")


def _agent(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "title": agent.title,
        "description": agent.description,
        "llm": agent.llm.name,
        "strategy": agent.reasoning.plugin.name if agent.reasoning else "",
        "tools": [tool.name for tool in agent.tools],
        "approval": [tool.name for tool in agent.tools if isinstance(tool, ToolBlock) and tool.enable_approval],
        "database": agent.database.name if agent.database else "",
    }


# ---------------------------------------------------------------- requests and answers


class _Work:
    """Makes endpoints."""

    def __init__(self, current: Current, ending: asyncio.Event) -> None:
        self._current, self._ending = current, ending

    def answers(self, work: Callable[[Request, Body], Awaitable[Body]]) -> Endpoint:
        """One JSON object."""

        async def endpoint(request: Request) -> Response:
            status = 200
            value: Body = {}
            try:
                working = asyncio.ensure_future(work(request, await _body(request)))
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
                items = begin(request, await _body(request))
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


async def _body(request: Request) -> Body:
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


def _path(request: Request, key: str) -> str:
    return str(request.path_params[key])


def _text(body: Body, key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise BadRequest(f"The request has no text {key}.")
    return value


def _question(body: Body, longest: int) -> str:
    question = _text(body, "question")
    if not question.strip():
        raise BadRequest("The question is empty; say what to ask.")
    if len(question) > longest:
        raise BadRequest(f"The question has more than {longest:,} characters; shorten it.")
    return question


def _number(body: Body, key: str, default: float) -> float:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise BadRequest(f"The request's {key} must be a number above 0.")
    return float(value)
