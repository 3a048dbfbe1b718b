"""robots.txt by RFC 9309: what it says, and when it is asked."""

from __future__ import annotations

import asyncio
import time

import pytest

from plugins.tools_http.engine.page import robots_gate
from plugins.tools_http.engine.page.robots import forbidding, product_token
from plugins.tools_http.engine.page.robots_gate import RobotsGate
from plugins.tools_http.engine.page.tool import fetch_page
from plugins.tools_http.engine.tool import Call
from shared.errors import CallerError, Code, LimitReached, PermissionDenied
from tests.page_tools import FakeClient, fetched, work
from tests.servers import details
from tests.tools_socket import serving
from tests.tools_world import Play, Server, World

AGENT = "hector-plugins"


def allows(text: str, path: str, agent: str = AGENT) -> bool:
    return forbidding(text.encode(), agent, f"http://a.test{path}") is None


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /", "", False),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /a", "/ab/c", False),
        ("User-agent: *\nDisallow: /a", "/b", True),
        ("User-agent: *\nDisallow: /A", "/a", True),
        ("User-agent: *\nDisallow: /a?b", "/a?b=1", False),
        ("User-agent: *\nDisallow: /a?b", "/a", True),
        ("user-AGENT:*\n  DISALLOW :/a  # why", "/a", False),
        ("\ufeffUser-agent: *\r\nDisallow: /a\r\n", "/a", False),
        ("User-agent: *\rDisallow: /a", "/a", False),
        # The longest match wins, Allow where two are equally long.
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("User-agent: *\nAllow: /a/b\nDisallow: /a", "/a/c", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a", "/a", True),
        ("User-agent: *\nAllow: /a\nDisallow: /*.gif$", "/a.gif", False),
        ("User-agent: *\nAllow: /page\nDisallow: /*.php", "/page.php5", False),
        # Wildcards and ends.
        ("User-agent: *\nDisallow: /*x", "/abcx", False),
        ("User-agent: *\nDisallow: *x", "/abcx", False),
        ("User-agent: *\nDisallow: /a*c*e", "/abcde", False),
        ("User-agent: *\nDisallow: /a*c*e", "/aec", True),
        ("User-agent: *\nDisallow: /a$", "/a", False),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /*.php$", "/a.php?x", True),
        ("User-agent: *\nDisallow: /*a$", "/aba", False),
        ("User-agent: *\nDisallow: /ab*b$", "/ab", True),
        ("User-agent: *\nDisallow: /*$", "/a", False),
        ("User-agent: *\nDisallow: /a$b", "/a$b", False),
        # Percent-encoding.
        ("User-agent: *\nDisallow: /é", "/%C3%A9", False),
        ("User-agent: *\nDisallow: /%c3%a9", "/é", False),
        ("User-agent: *\nDisallow: /%7Ea", "/~a", False),
        ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
        ("User-agent: *\nDisallow: /a%2fb", "/a%2Fb", False),
        # Groups.
        ("User-agent: *\nDisallow: /\n\nUser-agent: hector-plugins\nDisallow: /a", "/b", True),
        ("User-agent: Hector-Plugins\nDisallow: /a", "/a", False),
        ("User-agent: hector-plugins/1.0\nDisallow: /a", "/a", False),
        ("User-agent: hector\nDisallow: /", "/a", True),
        ("User-agent: hector-plugins-extra\nDisallow: /", "/a", True),
        ("User-agent: a\nUser-agent: hector-plugins\nUser-agent: b\nDisallow: /a", "/a", False),
        ("User-agent: hector-plugins\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\nUser-agent: HECTOR-PLUGINS\n"
         "Disallow: /b", "/b", False),
        ("User-agent: *\nDisallow: /a\n\nUser-agent: *\nDisallow: /b", "/b", False),
        ("User-agent: hector-plugins\n\nUser-agent: *\nDisallow: /", "/a", False),
        ("User-agent: hector-plugins\nSitemap: http://x\nCrawl-delay: 9\nnonsense\nUser-agent: b\nDisallow: /a",
         "/a", False),
        ("User-agent: *\nDisallow: /x\n\nDisallow: /a", "/a", False),
        ("Disallow: /\nUser-agent: *\nDisallow: /x", "/a", True),
        ("<html><p>Disallow: /</html>", "/a", True),
        ("User-agent: *\nDisallow: /x\n" + "#" * 512_000 + "\nDisallow: /a", "/a", True),  # behind the first 500 KiB
    ],
)  # fmt: skip
def test_what_it_says(text: str, path: str, allowed: bool) -> None:
    """Groups, the longest match, wildcards, percent-encoding and bounds are as in RFC 9309."""
    assert allows(text, path) is allowed


@pytest.mark.parametrize(
    ("user_agent", "token"), [("hector-plugins", AGENT), ("My-Bot/2.1 (+http://x)", "My-Bot"), ("123", ""), ("", "")]
)
def test_product_token(user_agent: str, token: str) -> None:
    """The name by which robots.txt knows us is what the User-Agent begins with."""
    assert product_token(user_agent) == token


PAGE = (200, {"content-type": "text/html"}, b"<p>The page.")
TEXT = {"content-type": "text/plain"}


def site(robots: tuple[int, dict[str, str], bytes] | Exception) -> FakeClient:
    return FakeClient({"http://a.test/x": PAGE, "http://a.test/robots.txt": robots})


def get(client: FakeClient) -> str:
    return fetched(client, {"url": "http://a.test/x"}, robots=True, user_agent="hector-plugins/0.1").text


@pytest.mark.parametrize(
    "robots",
    [
        (200, TEXT, b"User-agent: *\nDisallow: /y"),
        (200, TEXT, b""),
        (404, TEXT, b"User-agent: *\nDisallow: /"),
        (401, TEXT, b""),
        (403, TEXT, b""),
        (429, TEXT, b""),
        (304, TEXT, b""),
        LimitReached("too many redirects", reason="TOO_MANY_REDIRECTS"),
    ],
    ids=str,
)
def test_the_page_is_read(robots: tuple[int, dict[str, str], bytes] | Exception) -> None:
    """A robots.txt that allows it, or that is not there (4xx, endless redirects), lets the page be read."""
    client = site(robots)
    assert "The page." in get(client)
    assert [request.url for request in client.requests] == ["http://a.test/robots.txt", "http://a.test/x"]


class Unreachable(CallerError):
    code = Code.UNAVAILABLE
    reason = "UPSTREAM_UNREACHABLE"


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        ((200, TEXT, b"User-agent: *\nDisallow: /x"), "ROBOTS_DISALLOWED"),
        ((200, TEXT, b"User-agent: hector-plugins\nDisallow: /"), "ROBOTS_DISALLOWED"),
        ((200, TEXT, b"User-agent: *\nDisallow: /x\n" + b"# more\n" * 2_000), "ROBOTS_DISALLOWED"),
        ((500, TEXT, b""), "ROBOTS_UNREACHABLE"),
        ((503, TEXT, b"User-agent: *\nAllow: /"), "ROBOTS_UNREACHABLE"),
        (Unreachable("no connection"), "ROBOTS_UNREACHABLE"),
        (LimitReached("too large", reason="TOO_LARGE"), "ROBOTS_UNREACHABLE"),
        (PermissionDenied("blocked", reason="BLOCKED_HOST"), "BLOCKED_HOST"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_page_is_not_read(robots: tuple[int, dict[str, str], bytes] | Exception, reason: str) -> None:
    """What it forbids is not fetched; 5xx and no answer mean "not now"; the error names robots and its setting."""
    client = site(robots)
    with pytest.raises(CallerError) as caught:
        get(client)
    assert caught.value.reason == reason
    assert [request.url for request in client.requests] == ["http://a.test/robots.txt"]
    if reason != "BLOCKED_HOST":
        assert caught.value.metadata == {"rule": "robots", "setting": "robots"}
        assert "setting robots" in caught.value.message
    assert (caught.value.retry_after is not None) == (reason == "ROBOTS_UNREACHABLE")


def test_it_is_not_asked_by_default() -> None:
    """Without the setting robots.txt is never fetched."""
    client = site((200, TEXT, b"User-agent: *\nDisallow: /"))
    assert "The page." in fetched(client, {"url": "http://a.test/x"}).text


def test_answers_are_kept() -> None:
    """One origin is asked once, also by calls at the same time; other ports and schemes are other origins."""
    origins = ["http://a.test", "http://a.test:8080", "https://a.test"]
    client = FakeClient({f"{origin}/robots.txt": (200, TEXT, b"") for origin in origins})

    async def run() -> None:
        gate = RobotsGate(client, work, agent=AGENT)
        call = Call(deadline=time.monotonic() + 60)
        await asyncio.gather(*(gate.check(f"{origin}/{path}", call) for origin in origins for path in range(20)))
        await gate.check("HTTP://A.test:80/x", call)
        assert not gate._asking

    asyncio.run(run())
    assert sorted(request.url for request in client.requests) == sorted(f"{origin}/robots.txt" for origin in origins)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many origins are asked, no more of them and of their files' bytes are kept than the bounds say."""
    monkeypatch.setattr(robots_gate, "_MOST_KEPT", 50)
    monkeypatch.setattr(robots_gate, "_MOST_BYTES", 10_000)
    pages = {
        f"http://a{number}.test/robots.txt": (200, TEXT, b"#" * (1_000 if number < 30 else 0)) for number in range(99)
    }
    client = FakeClient(dict(pages))

    async def run() -> None:
        gate = RobotsGate(client, work, agent=AGENT)
        call = Call(deadline=time.monotonic() + 60)
        for number in range(99):
            await gate.check(f"http://a{number}.test/x", call)
            assert gate._bytes == sum(len(kept.body or b"") for kept in gate._kept.values()) <= 10_000
        assert len(gate._kept) == 50

    asyncio.run(run())


def read(world: World, path: str) -> str:
    """What fetch_page reads at a path of a real server, through the real client."""
    tool = fetch_page(world.client, work, robots=True)
    assert tool.run is not None
    return world.run(tool.run({"url": world.url(path)}, Call(deadline=time.monotonic() + 30))).text


def test_it_is_asked_before_each_redirect_is_followed() -> None:
    """A page that robots.txt forbids is not fetched where a redirect leads there, nor what it would lead on to."""
    with World() as world:
        world.on("/robots.txt", b"User-agent: *\nDisallow: /private")
        world.server.redirect("/", "/private")
        world.server.redirect("/private", "/open")
        world.on("/open", b"The page.")
        with pytest.raises(PermissionDenied) as caught:
            read(world, "/")
        assert caught.value.reason == "ROBOTS_DISALLOWED"
        assert caught.value.message.startswith("127.0.0.1 redirects, and ")
        assert world.server.targets == ["/robots.txt", "/"]
        world.server.redirect("/", "/open")
        assert read(world, "/") == "The page."


def test_each_origin_on_the_way_is_asked() -> None:
    """A redirect through another origin and back asks that origin too, before anything else is fetched from there."""
    other = Server()
    try:
        with World() as world:
            world.server.redirect("/", f"{other.url}/hop")
            world.on("/end", b"The page.")
            other.redirect("/hop", world.url("/end"))
            assert read(world, "/") == "The page."
            assert other.targets == ["/robots.txt", "/hop"]
            assert world.server.targets == ["/robots.txt", "/", "/end"]
            other.on("/robots.txt", Play(status=503))
            with pytest.raises(CallerError) as caught:
                read(world, "/")
            assert caught.value.reason == "ROBOTS_UNREACHABLE"
            assert other.targets == ["/robots.txt", "/hop", "/robots.txt"]
    finally:
        other.close()


@pytest.mark.parametrize(("status", "reason"), [(200, "ROBOTS_DISALLOWED"), (503, "ROBOTS_UNREACHABLE")])
def test_a_refusal_names_the_argument_and_is_logged(status: int, reason: str) -> None:
    """Through the socket a refusal by robots.txt has parameters.url at fault, and is an event=security."""
    client = site((status, TEXT, b"User-agent: *\nDisallow: /x"))
    with serving(fetch_page(client, work, robots=True)) as tools:
        reply = tools.call("fetch_page", {"url": "http://a.test/x"})
        told = details(reply.status)
        assert told.reason == reason
        assert [field for field, _ in told.violations] == ["parameters.url"]
        [line] = tools.log_lines("security")
        assert (line["rule"], line["host"], line["code"]) == ("robots", "a.test", reason)
