"""What the page can ask for."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from host.config import Agent, ToolBlock
from host.ui import plugins, searching
from host.ui.answers import Body, Items, Work, number, path, question, text
from host.ui.current import Current, NotFound
from host.ui.guard import App, Guard
from host.ui.kept_runs import KeptRuns
from host.ui.runs import LONGEST_QUESTION, Runs
from host.ui.streams import in_daemon

STATIC = Path(__file__).with_name("static")


def app(current: Current, token: str, ending: asyncio.Event) -> App:
    """`ending` is set when the server is about to stop."""
    kept = KeptRuns(current.config.state / "runs", lambda: current.hide)
    pages = _Pages(current, Runs(current, kept))
    work = Work(current, ending)
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
        return plugins.settings(self._current, path(request, "name"))

    def log(self, request: Request, body: Body) -> Items:
        return plugins.log(self._current, path(request, "name"))

    async def rpcs(self, request: Request, body: Body) -> Body:
        return await plugins.rpcs(self._current, path(request, "name"))

    async def form(self, request: Request, body: Body) -> Body:
        return await plugins.form(self._current, path(request, "name"), path(request, "rpc"))

    def call(self, request: Request, body: Body) -> Items:
        seconds = number(body, "seconds", 60.0)
        return plugins.called(self._current, path(request, "name"), text(body, "rpc"), text(body, "request"), seconds)

    def ask(self, request: Request, body: Body) -> Items:
        return self._runs.ask(
            path(request, "name"),
            question(body, LONGEST_QUESTION),
            llm=text(body, "llm", ""),
            talk=text(body, "talk", ""),
            asks_always=body.get("approve") is True,
        )

    async def decide(self, request: Request, body: Body) -> Body:
        self._runs.decide(
            path(request, "run"),
            text(body, "action"),
            allowed=body.get("allowed") is True,
            for_all=body.get("for_all") is True,
            reason=text(body, "reason", ""),
        )
        return {}

    async def runs(self, request: Request, body: Body) -> Body:
        return {"runs": await in_daemon(self._runs.kept.summaries)}

    async def run(self, request: Request, body: Body) -> Body:
        run = await in_daemon(lambda: self._runs.kept.read(path(request, "run")))
        if run is None:
            raise NotFound("There is no such run; the oldest are removed.")
        return run

    async def remove(self, request: Request, body: Body) -> Body:
        if not await in_daemon(lambda: self._runs.kept.remove(path(request, "run"))):
            raise NotFound("There is no such run any more.")
        return {}

    async def search(self, request: Request, body: Body) -> Body:
        wanted, limit = question(body, searching.LONGEST_QUESTION), number(body, "limit", 5.0)
        return await searching.hits(self._current, text(body, "database"), wanted, int(limit))

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
