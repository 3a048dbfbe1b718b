"""tools_http: where redirects lead, and what goes along, through real servers that redirect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.tools_http.engine.exchange import Credential, Response
from plugins.tools_http.engine.tool import Audit
from shared.errors import CallerError
from tests.tools_world import Play, Server, World

KEY = "sesame-open-1"


@contextlib.contextmanager
def two() -> Iterator[tuple[World, Server]]:
    """A world that may do anything on loopback, and a server at another port: another origin."""
    with World(policy={"allowed_methods": ["*"]}) as world:
        other = Server()
        try:
            other.on("*", lambda seen: Play([seen.method.encode() + b" " + seen.body]))
            yield world, other
        finally:
            other.close()


def refused(world: World, path: str, method: str = "GET", **how: Any) -> CallerError:
    with pytest.raises(CallerError) as error:
        world.send(path, method, **how)
    return error.value


def test_a_query_alone() -> None:
    """net-redirect-query: `?lang=en` on /doc/page leads to /doc/page?lang=en."""
    with World() as world:
        world.on("/doc/page", Play(status=302, headers=[("Location", "?lang=en")]), b"ok")
        response = world.send("/doc/page")
        assert world.server.targets == ["/doc/page", "/doc/page?lang=en"]
        assert response.url == world.url("/doc/page?lang=en")
        assert response.redirects == (world.url("/doc/page"),)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data/", "//169.254.169.254/", "http://[::ffff:169.254.169.254]/",
                                    "http://[64:ff9b::a9fe:a9fe]/"])  # fmt: skip
def test_to_the_metadata_of_a_cloud(target: str) -> None:
    """A redirect from an allowed host to 169.254.169.254, in any form, is refused: the error says that it was one, and
    names rule and setting."""
    with World() as world:
        world.server.redirect("/", target)
        audit = Audit()
        error = refused(world, "/", audit=audit)
        assert error.reason == "BLOCKED_ADDRESS"
        assert error.message.startswith("127.0.0.1 redirects, and ")
        assert error.metadata == {"rule": "address", "setting": "allowed_networks"}
        assert audit.rule == "address"


def test_to_a_name_that_leads_inside() -> None:
    """Each hop is resolved and vetted: a redirect to a name with an inner address is refused."""
    with World(names={"inner.test": [["10.0.0.1"]]}) as world:
        world.server.redirect("/", "http://inner.test/")
        error = refused(world, "/")
        assert (error.reason, world.resolver.asked) == ("BLOCKED_ADDRESS", ["inner.test"])
        assert error.message.startswith("127.0.0.1 redirects, and 'inner.test'")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://a.test/", "BLOCKED_SCHEME"), ("file:///etc/passwd", "BLOCKED_SCHEME"), ("http://127.1/", "BAD_URL"),
        ("http://127.0.0.1:9@a.test/", "BAD_URL"), ("http://user@127.0.0.1/", "BAD_URL"), ("\\\\a.test", "BAD_URL"),
        ("http://[::1", "BAD_URL"), ("javascript:alert(1)", "BLOCKED_SCHEME"), ("http://denied.test/", "BLOCKED_HOST"),
        ("http://127.0.0.1:22/", "BLOCKED_PORT"),
    ],
)  # fmt: skip
def test_to_what_is_refused(location: str, reason: str) -> None:
    """A redirect is held to the same rules as a first URL, and refused in the same way."""
    with World(policy={"denied_hosts": ["denied.test"], "allowed_ports": ["80", "1024-65535"]}) as world:
        world.server.redirect("/", location)
        error = refused(world, "/")
        assert error.reason == reason
        assert "127.0.0.1 redirects, and " in error.message
        assert len(world.server.seen) == 1


def test_too_many() -> None:
    """30 redirects end as an error that names the setting, after as many as are allowed."""
    with World() as world:
        for number in range(30):
            world.server.redirect(f"/{number}", f"/{number + 1}")
        world.on("/30", b"end")
        error = refused(world, "/0")
        assert error.reason == "TOO_MANY_REDIRECTS"
        assert "max_redirects" in error.message
        assert len(world.server.seen) == 6


def test_in_a_circle() -> None:
    """A redirect to itself ends the same way."""
    with World() as world:
        world.server.redirect("/", "/")
        assert refused(world, "/").reason == "TOO_MANY_REDIRECTS"
        world.server.redirect("/empty", "")
        assert refused(world, "/empty").reason == "TOO_MANY_REDIRECTS"


def test_none_are_followed() -> None:
    """With max_redirects 0 the redirect itself is the response, with its body."""
    with World(settings={"max_redirects": 0}) as world:
        world.on("/", Play([b"moved"], status=302, headers=[("Location", "/x")]))
        response = world.send("/")
        assert (response.status, response.header("location"), response.body) == (302, "/x", b"moved")


@pytest.mark.parametrize("status", [300, 304, 302])
def test_what_is_no_redirect(status: int) -> None:
    """Without a Location, or with a status that is none, it is a response like any other."""
    with World() as world:
        world.on("/", Play(status=status, headers=[("Location", "/x")] if status != 302 else []))
        assert world.send("/").status == status


def test_a_connection_is_used_again_after_a_redirect() -> None:
    """The short body of a redirect is read, so that its connection stays; that of a long one is not."""
    with World() as world:
        world.on("/short", Play([b"moved"], status=302, headers=[("Location", "/end")]))
        world.on("/long", Play([b"x" * 65_536], status=302, headers=[("Location", "/end")], endless=True))
        world.on("/end", b"end")
        assert world.send("/short").body == b"end"
        assert world.server.connections == 1
        assert world.send("/long").body == b"end"


# ---------------------------------------------------------------- methods and bodies


@pytest.mark.parametrize(
    ("status", "method", "second"),
    [
        (301, "POST", "GET "), (302, "POST", "GET "), (303, "POST", "GET "), (307, "POST", "POST x"),
        (308, "POST", "POST x"),
        (303, "PUT", "GET "), (303, "DELETE", "GET "), (301, "PUT", "PUT x"), (302, "DELETE", "DELETE x"),
        (303, "GET", "GET x"),
    ],
)  # fmt: skip
def test_methods(status: int, method: str, second: str) -> None:
    """303, and 301 and 302 of a POST, become GET without body and without the headers of a body; others stay."""
    with two() as (world, _):
        world.server.redirect("/", "/next", status)
        world.on("/next", lambda seen: Play([seen.method.encode() + b" " + seen.body]))
        headers = [("Content-Type", "text/csv"), ("X-Mine", "1")]
        assert world.send("/", method, headers=headers, body=b"x").body.decode() == second
        sent = world.server.seen[1].headers
        assert ("content-type" in sent) == ("x" in second)
        assert sent["x-mine"] == "1"


def test_head_stays() -> None:
    """HEAD stays HEAD, on 303 too."""
    with World() as world:
        world.server.redirect("/", "/next", 303)
        world.on("/next", b"")
        world.send("/", "HEAD")
        assert [seen.method for seen in world.server.seen] == ["HEAD", "HEAD"]


def test_into_a_method_that_is_not_allowed() -> None:
    """A redirect that changes the method into one that is not allowed is refused, and so is one that takes a method to
    a host where it is not."""
    methods = {"127.0.0.1": ["POST"], "a.test": ["GET"]}
    with World(policy={"allowed_methods": methods}, names={"a.test": [["8.8.8.8"]]}) as world:
        world.server.redirect("/", "/next", 303)
        error = refused(world, "/", "POST")
        assert error.reason == "BLOCKED_METHOD"
        assert "allowed_methods" in error.message
        assert error.message.startswith("127.0.0.1 redirects, and 'GET'")
        world.server.redirect("/away", "http://a.test/", 307)
        assert refused(world, "/away", "POST").reason == "BLOCKED_METHOD"
        assert [seen.method for seen in world.server.seen] == ["POST", "POST"]


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_stays_with_its_origin(status: int) -> None:
    """A redirect that would take a body to another origin is refused; without a body it is followed."""
    with two() as (world, other):
        world.server.redirect("/", other.url + "/x", status)
        error = refused(world, "/", "POST", body=b"secret")
        assert (error.reason, error.metadata["rule"]) == ("BLOCKED_REDIRECT", "redirect_body")
        assert other.seen == []
        assert world.send("/", "POST").body == b"POST "


# ---------------------------------------------------------------- credentials

PERSONAL = [
    ("Authorization", f"Bearer {KEY}"), ("Cookie", f"id={KEY}"), ("X-API-Key", KEY), ("Api-Key", KEY),
    ("X-Auth-Token", KEY),
    ("PRIVATE-TOKEN", KEY), ("X-Amz-Security-Token", KEY), ("apikey", KEY), ("Ocp-Apim-Subscription-Key", KEY),
    ("X-Whatever", KEY), ("Referer", f"http://a.test/?key={KEY}"), ("Origin", "http://a.test"),
]  # fmt: skip


def credential(server: Server) -> Credential:
    return Credential(
        origin=server.url, headers={"X-API-Key": KEY, "Authorization": f"Bearer {KEY}"}, query={"key": KEY}
    )


def test_a_credential_goes_to_its_origin_only() -> None:
    """A credential is sent to its origin, redirects on it included, in place of the caller's headers of its names; at
    another origin nothing of it is sent."""
    with two() as (world, other):
        world.server.redirect("/", "/next?a=b", 307)
        world.on("/next", b"")
        world.send("/", headers=[("x-api-key", "mine")], credential=credential(world.server))
        world.send(other.url + "/", credential=credential(world.server))
        first, second = world.server.seen
        assert first.target == f"/?key={KEY}"
        assert second.target == f"/next?a=b&key={KEY}"
        for seen in (first, second):
            assert seen.headers["x-api-key"] == KEY
            assert sum(line.lower().startswith("x-api-key") for line in seen.lines) == 1
        assert KEY not in str(other.seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_origin_gets_no_credential(status: int) -> None:
    """Of the operator's credential and of the caller's headers nothing that says who asks goes to another origin, be it
    that the location carries it along; what says nothing of that goes on."""
    with two() as (world, other):
        world.server.redirect("/", f"{other.url}/x?key={KEY}&token={KEY}&a=b", status)
        harmless = [("Accept", "text/csv"), ("Accept-Language", "de"), ("Range", "bytes=0-9"), ("If-None-Match", '"1"')]
        response = world.send("/", headers=[*PERSONAL, *harmless], credential=credential(world.server))
        (seen,) = other.seen
        assert seen.target == "/x?a=b"
        assert KEY not in str(seen)
        assert set(seen.headers) == {
            "host", "accept", "accept-language", "range", "if-none-match", "accept-encoding", "user-agent",
        }  # fmt: skip
        assert KEY not in str((response.url, response.redirects))


def test_who_left_comes_back_as_a_stranger() -> None:
    """A redirect to another origin and back does not bring the credential back: else that origin chose what is called
    with it."""
    with two() as (world, other):
        world.server.redirect("/", other.url + "/x")
        other.redirect("/x", world.url("/delete-all"))
        world.server.redirect("/delete-all", "/really")
        world.on("/really", b"")
        response = world.send("/", headers=PERSONAL[:1], credential=credential(world.server))
        assert world.server.targets == [f"/?key={KEY}", "/delete-all", "/really"]
        assert KEY not in str(world.server.seen[1:])
        assert response.redirects == (world.url("/"), other.url + "/x", world.url("/delete-all"))


@pytest.mark.parametrize("other", ["http://localhost:{port}", "http://127.0.0.2:{port}", "https://127.0.0.1:{port}"])
def test_what_another_origin_is(other: str) -> None:
    """Another host, port or scheme is another origin, whatever address it leads to."""
    with World(names={"localhost": [["127.0.0.1"]]}) as world:
        world.on("*", b"")
        at = other.format(port=world.server.port)
        world.send("/", credential=Credential(origin=at, headers={"X-API-Key": KEY}))
        assert KEY not in str(world.server.seen)


def test_the_final_url_has_no_credential() -> None:
    """What is shown of URLs is without the credential's parameters, also where a server writes them into a redirect."""
    with World() as world:
        world.on(
            "/", lambda seen: Play(status=302, headers=[("Location", f"/next?{seen.target.partition('?')[2]}&b=c")])
        )
        world.on("/next", lambda seen: Play([seen.target.encode()]))
        response: Response = world.send("/?a=1", credential=credential(world.server))
        assert response.url == world.url("/next?a=1&b=c")
        assert response.redirects == (world.url("/?a=1"),)
        assert response.body.decode().count(KEY) == 1


def test_the_credentials_origin_in_any_form() -> None:
    """The origin of a credential is brought into the one form too; a caller's parameter of its name gives way."""
    with World() as world:
        world.on("*", b"")
        origin = f"HTTP://127.0.0.1.:{world.server.port}"
        world.send("/?key=mine&a=1", credential=Credential(origin=origin, query={"key": "a b&c"}))
        assert world.server.targets == ["/?a=1&key=a%20b%26c"]


def test_a_credential_that_cannot_be_sent() -> None:
    """A credential whose header has a line end is refused like any other header, without its value."""
    with World() as world:
        bad = Credential(origin=world.server.url, headers={"X-API-Key": f"{KEY}\r\nX-Evil: 1"})
        error = refused(world, "/", credential=bad)
        assert error.reason == "BAD_HEADER"
        assert KEY not in error.message
