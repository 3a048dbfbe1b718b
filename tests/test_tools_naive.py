"""The HTTP tool that people copy, run on the same behaviours: the README's table says what it does, and ours."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from plugins.tools_http.engine.api_call import api_call
from plugins.tools_http.engine.engine import Engine, Invocation, Settings
from plugins.tools_http.engine.page.tool import fetch_page
from plugins.tools_http.engine.replies import Result
from plugins.tools_http.engine.workers import Workers
from tests.servers import ROOT
from tests.tools_world import Dialler, Play, Server, World

JSON = [("Content-Type", "application/json")]
KEY = "open-sesame-42"
PNG = base64.b64decode("iVBORw0KGgoAAf/+")
CHINESE = "苹果每斤五元"
LONG = json.dumps([{"id": number, "name": f"item {number}"} for number in range(45_000)])
PATIENCE = 30.0  # seconds that a request may take; a busy machine is slow
DRIP_PATIENCE = 1.0  # the same, where it is to be too short


class Naive:
    """A session with redirects and a timeout, `raise_for_status`, and `text`: what a search for such a tool finds."""

    def __init__(self) -> None:
        self._session = httpx2.Client(follow_redirects=True, timeout=PATIENCE)

    def call(self, url: str, method: str = "GET", **more: Any) -> str:
        try:
            response = self._session.request(method, url, **more)
            response.raise_for_status()
            return response.text
        except Exception as error:
            return f"Error: {error}"


@dataclass
class Field:
    """Where both play: `world` has the server, `engine` our tools."""

    world: World
    engine: Engine
    naive: Naive

    def ours(self, path: str, tool: str = "custom_api_call", call_id: str = "", **arguments: Any) -> Result:
        arguments = {"url": self.world.url(path)} | arguments
        invocation = Invocation(tool=tool, arguments=arguments, call_id=call_id, seconds=2 * PATIENCE)
        return self.world.run(self.engine.execute(invocation))

    def theirs(self, path: str, method: str = "GET", **more: Any) -> str:
        return self.naive.call(self.world.url(path), method, **more)

    def headers(self) -> dict[str, str]:
        """Of the last request that the server had."""
        return dict(self.world.server.seen[-1].headers)


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    dialler = Dialler()
    settings = {"request_timeout": PATIENCE, "max_response_bytes": 5 * 2**20}
    policy = {"allowed_networks": ("127.0.0.0/8",), "allowed_methods": ("GET", "POST")}
    names = {"public.test": [["8.8.8.8"]]}
    with World(settings=settings, policy=policy, names=names) as world:
        dialler.port = world.server.port
        workers = Workers(1, memory=2**30)
        world.run(workers.start())
        tools = [api_call(world.client), fetch_page(world.client, workers.run)]
        try:
            yield Field(world, Engine(tools, Settings()), Naive())
        finally:
            world.run(workers.close())


def reason(result: Result) -> str:
    return result.error.reason if result.error else ""


# Each row: what happens, and what is to be said of ours and of the other.
Row = Callable[[Field], tuple[str, str]]


def redirect_inside(field: Field) -> tuple[str, str]:
    """A public page redirects to an address inside"""
    inside = Server()
    inside.on("/", b"the inner sanctum")
    dialler = Dialler(field.world.server.port)
    try:
        field.world.server.redirect("/leads-inside", f"{inside.url}/")
        with World(names={"public.test": [["8.8.8.8"]]}, policy={"allowed_networks": ()}, dialler=dialler) as outside:
            engine = Engine([api_call(outside.client)], Settings())
            arguments = {"url": "http://public.test/leads-inside"}
            ours = outside.run(engine.execute(Invocation(tool="custom_api_call", arguments=arguments, seconds=30)))
        own = "refused" if reason(ours) == "BLOCKED_ADDRESS" and not inside.seen else "read"
        other = "read" if field.theirs("/leads-inside") == "the inner sanctum" else "refused"
    finally:
        inside.close()
    return own, other


def decimal_address(field: Field) -> tuple[str, str]:
    """The address is written as `2130706433`"""
    field.world.on("/decimal", b"hello")
    url = f"http://2130706433:{field.world.server.port}/decimal"
    return (
        "refused" if reason(field.ours(url)) == "BAD_URL" else "read",
        "read" if field.theirs(url) == "hello" else "refused",
    )


def key_elsewhere(field: Field) -> tuple[str, str]:
    """A request with `X-API-Key` is redirected to another host"""
    other_host = Server()
    other_host.on("/", b"thank you")
    try:
        field.world.server.redirect("/elsewhere", f"{other_host.url}/")

        def verdict() -> str:
            return "sends the key there" if other_host.seen[-1].headers.get("x-api-key") == KEY else "keeps the key"

        field.ours("/elsewhere", headers={"X-API-Key": KEY})
        own = verdict()
        field.theirs("/elsewhere", headers={"X-API-Key": KEY})
        return own, verdict()
    finally:
        other_host.close()


def cookies(field: Field) -> tuple[str, str]:
    """An answer sets a cookie"""
    field.world.on("/cookie", Play([b"hello"], headers=[("Set-Cookie", "session=alice")]))

    def verdict() -> str:
        return "sends it with the next call" if "cookie" in field.headers() else "forgets it"

    field.ours("/cookie"), field.ours("/cookie")
    own = verdict()
    field.theirs("/cookie"), field.theirs("/cookie")
    return own, verdict()


def host_header(field: Field) -> tuple[str, str]:
    """The model sets the header `Host`"""
    field.world.on("/host", b"hello")
    ours = field.ours("/host", headers={"Host": "internal.test"})
    own = "refused, naming it" if ours.error and "Host" in ours.error.message else "sends it"
    field.theirs("/host", headers={"Host": "internal.test"})
    return own, "sends it" if field.headers()["host"] == "internal.test" else "refused"


def error_body(field: Field) -> tuple[str, str]:
    """Status 422, and the body says which field is wrong"""
    field.world.on("/wrong", Play([b'{"error": "`from` must be a date"}'], 422, JSON))
    wrong = "`from` must be a date"
    ours = field.ours("/wrong")
    return (
        "an error, with the body" if ours.error and wrong in ours.text else "an error",
        "an error, with the body" if wrong in field.theirs("/wrong") else "an error",
    )


def too_many_requests(field: Field) -> tuple[str, str]:
    """Status 429 with `Retry-After: 7`"""
    field.world.on("/busy", Play([b"slow"], 429, [("Retry-After", "7")]))
    ours = field.ours("/busy", timeout=6)  # in which it cannot wait
    waits = ours.metadata.get("retry_after_s") == 7 and ours.metadata["retryable"]
    return (
        "an error, with the wait" if ours.error and ours.error.retry_after == 7 and waits else "an error",
        "an error, with the wait" if "etry" in field.theirs("/busy") else "an error",
    )


def bomb(field: Field) -> tuple[str, str]:
    """20 kB of gzip that are 20 MB"""
    raw = gzip.compress(b"0" * 20_000_000)
    field.world.on("/bomb", Play([raw], headers=[("Content-Encoding", "gzip")]))
    return (
        "an error" if reason(field.ours("/bomb")) == "TOO_LARGE" else "all of it",
        "all of it" if len(field.theirs("/bomb")) == 20_000_000 else "an error",
    )


def drip(field: Field) -> tuple[str, str]:
    """A byte now and then, for longer than the timeout"""
    field.world.on("/drip", Play([b"x", 0.1] * 15))
    began = time.monotonic()
    ours = field.ours("/drip", timeout=DRIP_PATIENCE)
    own = "an error in time" if reason(ours) == "UPSTREAM_TIMEOUT" else "waits"
    assert time.monotonic() - began > DRIP_PATIENCE / 2
    return own, "waits" if field.theirs("/drip", timeout=DRIP_PATIENCE) == "x" * 15 else "an error in time"


def long_answer(field: Field) -> tuple[str, str]:
    """1.5 MB of JSON"""
    field.world.on("/long", Play([LONG.encode()], headers=JSON))
    ours = field.ours("/long")
    return (
        "a page of it, and how to go on" if len(ours.text) <= 20_000 and ours.next_cursor else "all of it",
        "all of it" if field.theirs("/long") == LONG else "a page of it",
    )


def binary(field: Field) -> tuple[str, str]:
    """A picture"""
    field.world.on("/png", Play([PNG], headers=[("Content-Type", "image/png")]))
    ours = field.ours("/png")
    same = base64.b64decode(ours.text) == PNG and ours.content_type == "image/png"
    return (
        "its bytes, as base64" if same else "other bytes",
        "its bytes" if field.theirs("/png").encode() == PNG else "other bytes",
    )


def charset(field: Field) -> tuple[str, str]:
    """A page in GB 18030, which only its `<meta>` says"""
    page = f'<html><head><meta charset="gb18030"></head><body><p>{CHINESE}</p></body></html>'
    field.world.on("/page", Play([page.encode("gb18030")], headers=[("Content-Type", "text/html")]))
    return (
        "its text" if CHINESE in field.ours("/page", tool="fetch_page").text else "other characters",
        "its text" if CHINESE in field.theirs("/page") else "other characters",
    )


def repeated(field: Field) -> tuple[str, str]:
    """A POST that a host sends again, since it missed the answer"""
    field.world.on("/orders", b"ordered")

    def count(call: Callable[[], object]) -> str:
        before = len(field.world.server.seen)
        call(), call()
        return "one order" if len(field.world.server.seen) - before == 1 else "two orders"

    return (
        count(lambda: field.ours("/orders", method="POST", call_id="1")),
        count(lambda: field.theirs("/orders", method="POST")),
    )


ROWS: tuple[Row, ...] = (redirect_inside, decimal_address, key_elsewhere, cookies, host_header, error_body,
                         too_many_requests, bomb, drip, long_answer, binary, charset, repeated)  # fmt: skip
GOOD = ("refused", "refused", "keeps the key", "forgets it", "refused, naming it", "an error, with the body",
        "an error, with the wait", "an error", "an error in time", "a page of it, and how to go on",
        "its bytes, as base64", "its text", "one order")  # fmt: skip
README = (ROOT / "plugins/tools_http/README.md").read_text(encoding="utf-8")


def line(row: Row, own: str, other: str) -> str:
    return f"| {row.__doc__} | {own} | {other if own == other else f'**{other}**'} |"


@pytest.mark.parametrize(("row", "good"), list(zip(ROWS, GOOD, strict=True)), ids=[row.__name__ for row in ROWS])
def test_the_table_of_the_readme(field: Field, row: Row, good: str) -> None:
    """Ours does what a good tool does, and the README's row says of both what they did just now."""
    own, other = row(field)
    assert own == good
    assert line(row, own, other) in README.splitlines()


def test_the_table_has_no_other_rows() -> None:
    """Every row of the README's table is one of these behaviours."""
    section = README.partition("## What tools do")[2].partition("\n## ")[0]
    assert len([text for text in section.splitlines() if text.startswith("| ")]) == len(ROWS) + 1
