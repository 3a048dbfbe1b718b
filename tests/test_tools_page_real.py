"""fetch_page as it runs: the real client, a real server on loopback, and worker processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.tools_http.engine.page import convert
from plugins.tools_http.engine.page.tool import fetch_page
from plugins.tools_http.engine.tool import Audit, Call, Output
from plugins.tools_http.engine.workers import Workers
from shared.errors import CallerError
from tests.tools_world import Play, World

HTML = (("Content-Type", "text/html; charset=utf-8"),)
PLAIN = (("Content-Type", "text/plain"),)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def fetched(world: World, path: str, *, robots: bool = False, **arguments: Any) -> Output:
    """One call of the tool, over a worker process."""

    async def run() -> Output:
        workers = Workers(1, memory=2**30, preload=[convert.__name__])
        await workers.start()
        try:
            tool = fetch_page(world.client, workers.run, robots=robots)
            assert tool.run is not None
            return await tool.run({"url": world.url(path)} | arguments, call)
        finally:
            await workers.close()

    call = Call(deadline=time.monotonic() + 60, audit=Audit())
    return world.run(asyncio.wait_for(run(), 60))


def test_a_page(world: World) -> None:
    """A page comes over the wire and through a worker as Markdown, with links from where it came from at last."""
    world.server.redirect("/old", "/d/new")
    page = b"<title>T</title><main><h1>T</h1><p>The <b>text</b> of it, \xc3\xa9. <a href=r>l</a></p></main><nav>N</nav>"
    world.on("/d/new", Play([page], headers=HTML))
    output = fetched(world, "/old")
    assert output.error is None
    assert output.text == f"# T\n\nThe **text** of it, é. [l]({world.url('/d/r')})"
    assert output.metadata["url"] == world.url("/d/new")
    assert output.metadata["redirects"] == [world.url("/old")]
    assert world.server.seen[0].headers["accept"].startswith("text/markdown,")


def test_an_error_page(world: World) -> None:
    """A 404 and a 503 are errors, with the page that came in the text."""
    for status, reason in ((404, "UPSTREAM_NOT_FOUND"), (503, "UPSTREAM_ERROR")):
        world.on(f"/{status}", Play([b"<h1>Oh</h1><p>Look elsewhere."], status=status, headers=HTML))
        output = fetched(world, f"/{status}")
        assert output.error is not None
        assert output.error.reason == reason
        assert "Look elsewhere." in output.text
        assert output.metadata["status"] == status


def test_robots_through_the_same_door(world: World) -> None:
    """robots.txt is asked first, over redirects too, and what it forbids is never requested."""
    world.server.redirect("/robots.txt", "/r.txt")
    world.on("/r.txt", Play([b"User-agent: hector-plugins\nDisallow: /private"], headers=PLAIN))
    world.on("/public", Play([b"<p>Open."], headers=HTML))
    assert "Open." in fetched(world, "/public", robots=True).text
    with pytest.raises(CallerError, match="Disallow: /private") as caught:
        fetched(world, "/private/x", robots=True)
    assert caught.value.reason == "ROBOTS_DISALLOWED"
    assert "/private/x" not in world.server.targets


def test_a_redirect_to_what_robots_forbids(world: World) -> None:
    """Where a redirect leads is asked for as well, and its text is not shown."""
    world.on("/robots.txt", Play([b"User-agent: *\nDisallow: /private"], headers=PLAIN))
    world.server.redirect("/public", "/private")
    world.on("/private", Play([b"<p>SECRET"], headers=HTML))
    with pytest.raises(CallerError) as caught:
        fetched(world, "/public", robots=True)
    assert caught.value.reason == "ROBOTS_DISALLOWED"


def test_the_policy_holds_for_robots_too() -> None:
    """An origin that the policy blocks is not asked for its robots.txt either."""
    with World(policy={"allowed_networks": ()}) as world:
        with pytest.raises(CallerError) as caught:
            fetched(world, "/x", robots=True)
        assert caught.value.reason == "BLOCKED_ADDRESS"
        assert world.server.seen == []


def test_a_large_page(world: World) -> None:
    """A page of 3 MB comes whole."""
    world.on(
        "/", Play([b"<main>" + b"<p>Some words of a long page.</p>" * 90_000 + b"<p>The end.</main>"], headers=HTML)
    )
    output = fetched(world, "/")
    assert output.text.count("Some words") == 90_000
    assert output.text.endswith("The end.")
