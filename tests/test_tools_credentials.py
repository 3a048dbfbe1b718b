"""Credentials: where they come from, where they go and nowhere else, and that nobody is shown them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.tools_http.config import Config, plain
from plugins.tools_http.engine.api_call import api_call
from plugins.tools_http.engine.credentials import CredentialSource, read_credentials
from plugins.tools_http.engine.declared import read_tools
from plugins.tools_http.engine.exchange import Credential, Request, Response
from plugins.tools_http.engine.oauth import UpstreamRefused
from plugins.tools_http.engine.redaction import Redactor
from shared.config import secret_texts, shown
from shared.errors import StartError
from shared.units import SecretMapping
from tests.servers import SECONDS
from tests.tools_apis import FakeClient, call, document, imported, operation, response, sender

SECRETS = ("s3cret-1", "s3cret-2", "s3cret-3", "s3cret-4", "s3cret-5", "s3cret-6", "s3cret-7", "s3cret-8")


def config() -> Config:
    return Config(
        credentials=SecretMapping({"https://a.test": {"bearer": "s3cret-1", "headers": {"username": "s3cret-2"}}}),
        tools=SecretMapping(
            {
                "find": {
                    "description": "Finds things.",
                    "url": "https://a.test/v1?fields=everything",
                    "parameters": {"password": {"type": "string", "enum": ["forgotten"]}},
                    "headers": {"X-Key": "s3cret-3", "Accept": "text/plain"},
                    "credential": {"basic": {"username": "marianne", "password": "s3cret-4"}},
                }
            }
        ),
        openapi=SecretMapping(
            {
                "shop": {
                    "document": "https://b.test/api.json?token=s3cret-5",
                    "include": ["listOrders"],
                    "credentials": {
                        "username": "s3cret-6",
                        "oauth": {"client_id": "client-id", "client_secret": "s3cret-7"},
                    },
                    "headers": {"X-Tenant": "s3cret-8"},
                }
            }
        ),
    )


def test_what_is_shown() -> None:
    """--check shows all of these settings but their secrets, which are masked whatever they are called."""
    text = json.dumps([shown(config())[name] for name in ("credentials", "tools", "openapi")])
    assert "s3cret" not in text
    for public in ("https://a.test", "Finds things.", "forgotten", "https://b.test/api.json", "listOrders"):
        assert public in text
    assert set(secret_texts(config())) >= set(SECRETS)


def test_what_is_read() -> None:
    """Read from the settings, secrets are themselves and no mask."""
    settings, client, redactor = config(), FakeClient(), Redactor()
    sources = read_credentials(plain(settings.credentials), client, redactor)
    fixed = asyncio.run(sources["https://a.test"].get(deadline=time.monotonic() + SECONDS))
    assert fixed.headers == {"username": "s3cret-2", "Authorization": "Bearer s3cret-1"}
    [tool] = read_tools(plain(settings.tools), sender(client), {}, None, 5)
    call(tool, {})
    assert client.requests[0].credential == Credential(
        "https://a.test", {"X-Key": "s3cret-3", "Authorization": "Basic bWFyaWFubmU6czNjcmV0LTQ="}
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"a.test": {"bearer": "k"}}, "an origin"),
        ({"https://a.test/path": {"bearer": "k"}}, "an origin"),
        ({"https://u:p@a.test": {"bearer": "k"}}, "an origin"),
        ({"https://a.test": {"bearer": "k"}, "https://A.test:443/": {"bearer": "k"}}, "twice"),
        ({"https://a.test": {}}, "is empty"),
        ({"https://a.test": "k"}, "must be a mapping"),
        ({"https://a.test": {"beerer": "k"}}, "did you mean 'bearer'"),
        ({"https://a.test": {"bearer": 5}}, "must be text"),
        ({"https://a.test": {"bearer": "s3cret-1\n"}}, "printable ASCII"),
        ({"https://a.test": {"headers": {"a b": "s3cret-1"}}}, "no name of a header"),
        ({"https://a.test": {"basic": "nobody"}}, "USERNAME:PASSWORD"),
        ({"https://a.test": {"basic": {"username": "a:b", "password": "s3cret-1"}}}, "colon"),
        ({"https://a.test": {"basic": {"username": "a"}}}, "password is missing"),
        ({"https://a.test": {"oauth2": {"client_id": "a", "client_secret": "s3cret-1"}}}, "token_url"),
        ({"https://a.test": {"oauth2": {"token_url": "x", "client_id": "a", "client_secret": "b"}}}, "token_url"),
        ({"https://a.test": {"oauth2": {"token_url": "https://t.test", "client_secret": "b"}}}, "client_id"),
    ],
)
def test_what_cannot_start(settings: dict[str, Any], words: str) -> None:
    """A mistake is told in one line, without the secret."""
    with pytest.raises(StartError) as raised:
        read_credentials(settings, FakeClient(), Redactor())
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_custom_api_call_has_them() -> None:
    """custom_api_call sends the credential of an origin to it and to no other."""
    client = FakeClient()
    about = {"https://a.test": {"query": {"key": "s3cret-1"}, "cookies": {"sid": "a b"}}}
    tool = api_call(client, credentials=read_credentials(about, client, Redactor()))
    for url in ("https://a.test/x", "https://a.test:8443/x", "http://a.test/x", "https://a.test.evil.test/"):
        call(tool, {"url": url})
    assert [request.credential for request in client.requests] == [
        Credential("https://a.test", {"Cookie": "sid=a%20b"}, {"key": "s3cret-1"}), None, None, None,
    ]  # fmt: skip


# ---------------------------------------------------------------- OAuth 2


class TokenServer(FakeClient):
    """Gives tokens token-1, token-2, … after `wait` seconds."""

    def __init__(self, **answer: Any) -> None:
        self.requests = []
        self.given = 0
        self.more = {"token_type": "bearer", "expires_in": 3600, **answer}
        self.status = 200
        self.wait = 0.0

    async def send(self, request: Request, **_: Any) -> Response:
        self.requests.append(request)
        await asyncio.sleep(self.wait)
        self.given += 1
        return response({"access_token": f"token-{self.given}", **self.more}, self.status)


OAUTH = {"token_url": "https://id.test/token", "client_id": "me", "client_secret": "s3cret-1"}


def source(client: FakeClient, redactor: Redactor | None = None, **more: Any) -> CredentialSource:
    settings = {"https://a.test": {"oauth2": {**OAUTH, **more}}}
    return read_credentials(settings, client, redactor or Redactor())["https://a.test"]


def later(seconds: float = SECONDS) -> float:
    return time.monotonic() + seconds


def tokens(credentials: list[Credential]) -> list[str]:
    return [credential.headers["Authorization"].removeprefix("Bearer ") for credential in credentials]


def test_one_request_for_many_calls() -> None:
    """Fifty calls at once make one token request; one that gives up leaves the others waiting."""
    client = TokenServer()
    client.wait = 0.05

    async def run() -> list[str]:
        oauth = source(client)
        waiting = [asyncio.create_task(oauth.get(deadline=later())) for _ in range(50)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        return tokens(await asyncio.gather(*waiting[1:]))

    assert asyncio.run(run()) == ["token-1"] * 49
    assert len(client.requests) == 1


def test_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is used until a minute before its end, or a tenth of its time; then there is a new one."""
    now = [1000.0]
    monkeypatch.setattr("plugins.tools_http.engine.oauth.time.monotonic", lambda: now[0])
    for life, before, after in ((3600, 3539, 3541), ("100", 89, 91)):
        client = TokenServer(expires_in=life)

        async def run(client: TokenServer = client, before: float = before, after: float = after) -> Iterator[str]:
            oauth = source(client)
            found = []
            for at in (0, before, after):
                now[0] = 1000.0 + at
                found.append(await oauth.get(deadline=now[0] + 5))
            return iter(tokens(found))

        assert list(asyncio.run(run())) == ["token-1", "token-1", "token-2"]


@pytest.mark.parametrize("life", [None, "soon", -5, float("nan"), 1e400, [1], 0])
def test_odd_lives(life: Any) -> None:
    """Whatever a server says of a token's life, it is used for the call that it was fetched for."""
    client = TokenServer(expires_in=life)
    assert tokens([asyncio.run(source(client).get(deadline=later()))]) == ["token-1"]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({"error": "invalid_client", "error_description": "s3cret-1"}, 401, "invalid_client"),
        ({"access_token": None}, 200, "without an access_token"),
        ({"access_token": "a\r\nX: y"}, 200, "without an access_token"),
        ({"access_token": "t" * 16_385}, 200, "too long for a header"),
        ({"token_type": "mac"}, 200, "no bearer token"),
    ],
)
def test_no_token(answer: dict[str, Any], status: int, words: str) -> None:
    """A token server that refuses is an error of the call's, and asked again by the next one."""
    client = TokenServer(**answer)
    client.status = status
    oauth = source(client)

    async def run() -> None:
        for _ in range(2):
            with pytest.raises(UpstreamRefused, match=words) as raised:
                await oauth.get(deadline=later())
            assert "s3cret" not in str(raised.value)
            assert raised.value.reason == "TOKEN_REFUSED"

    asyncio.run(run())
    assert len(client.requests) == 2


def test_a_token_server_that_hangs() -> None:
    """A call waits for a token until its own deadline."""
    client = TokenServer()
    client.wait = 30

    async def run() -> None:
        with pytest.raises(UpstreamRefused, match="in time"):
            await source(client).get(deadline=later(0.05))

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10


def test_the_secret_in_the_body() -> None:
    """Where the server wants them there, id and secret go into the form, with what else it wants."""
    client = TokenServer()
    about = source(client, auth="body", scopes="read write", parameters={"audience": "https://a.test"})
    asyncio.run(about.get(deadline=later()))
    assert client.requests[0].body == (
        b"grant_type=client_credentials&audience=https%3A%2F%2Fa.test&scope=read+write&client_id=me&client_secret=s3cret-1"
    )
    assert client.requests[0].credential is None


def test_tokens_are_not_shown() -> None:
    """The token and the one before it are kept from the model; older ones are forgotten."""
    client, redactor = TokenServer(expires_in=0), Redactor()

    async def run() -> None:
        oauth = source(client, redactor)
        for _ in range(3):
            await oauth.get(deadline=later())
            await asyncio.sleep(0)

    asyncio.run(run())
    assert redactor.clean("token-1 token-2 token-3") == "token-1 *** ***"
    assert redactor.clean("s3cret-1") == "***"


# ---------------------------------------------------------------- of OpenAPI documents

SCHEMES: dict[str, Any] = {
    "head": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "basic": {"type": "http", "scheme": "Basic"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "oauth": {
        "type": "oauth2",
        "flows": {"clientCredentials": {"tokenUrl": "https://id.test/token", "scopes": {"r": ""}}},
    },
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://id.test/"},
    "digest": {"type": "http", "scheme": "digest"},
}


def secured(security: Any, **more: Any) -> dict[str, Any]:
    return document({"/x": {"get": operation(security=security, **more)}}, components={"securitySchemes": SCHEMES})


def sent(about: dict[str, Any], credentials: dict[str, Any], **settings: Any) -> Request:
    """The one request of the one operation."""
    client = FakeClient(lambda request: response({"access_token": "token-1"}))
    [tool] = imported(about, client, credentials=credentials, **settings).tools
    call(tool, {})
    return client.requests[-1]


@pytest.mark.parametrize(
    ("scheme", "setting", "headers", "query"),
    [
        ("head", "s3cret-1", {"X-Key": "s3cret-1"}, {}),
        ("head", {"key": "s3cret-1"}, {"X-Key": "s3cret-1"}, {}),
        ("query", "s3cret-1", {}, {"key": "s3cret-1"}),
        ("cookie", "s3cret-1", {"Cookie": "sid=s3cret-1"}, {}),
        ("basic", "me:pw", {"Authorization": "Basic bWU6cHc="}, {}),
        ("basic", {"username": "me", "password": "pw"}, {"Authorization": "Basic bWU6cHc="}, {}),
        ("bearer", "s3cret-1", {"Authorization": "Bearer s3cret-1"}, {}),
        ("bearer", {"token": "s3cret-1"}, {"Authorization": "Bearer s3cret-1"}, {}),
        ("oidc", "s3cret-1", {"Authorization": "Bearer s3cret-1"}, {}),
        ("oauth", "s3cret-1", {"Authorization": "Bearer s3cret-1"}, {}),
        ("oauth", {"client_id": "me", "client_secret": "x"}, {"Authorization": "Bearer token-1"}, {}),
    ],
)
def test_schemes(scheme: str, setting: Any, headers: dict[str, str], query: dict[str, str]) -> None:
    """Each kind of security scheme goes where it says, bound to the server's origin."""
    assert sent(secured([{scheme: []}]), {scheme: setting}).credential == Credential("https://api.test", headers, query)


def test_and_or() -> None:
    """Of several alternatives the first that is configured in full is sent, all its schemes together."""
    both: list[dict[str, Any]] = [{"oauth": []}, {"head": [], "cookie": []}, {"bearer": []}]
    merged = Credential("https://api.test", {"X-Key": "k", "Cookie": "sid=c"})
    assert sent(secured(both), {"head": "k", "cookie": "c", "bearer": "b"}).credential == merged
    assert sent(secured(both), {"head": "k", "bearer": "b"}).credential == Credential(
        "https://api.test", {"Authorization": "Bearer b"}
    )
    assert sent(secured([{}, {"head": []}]), {"head": "k"}).credential is not None
    assert sent(secured([]), {"head": "k"}).credential is None
    whole = secured(None) | {"security": [{"head": []}]}
    del whole["paths"]["/x"]["get"]["security"]
    assert sent(whole, {"head": "k"}).credential == Credential("https://api.test", {"X-Key": "k"})
    assert imported(secured([{}])).report.operations[0].changes == []
    assert "it wants oauth or head and cookie or bearer" in str(imported(secured(both)).report.operations[0].changes)


def test_credentials_of_the_origin() -> None:
    """Where no scheme is configured, what the setting `credentials` has for the server's origin is sent."""
    others = read_credentials({"https://api.test": {"bearer": "k"}}, FakeClient(), Redactor())
    wanted = Credential("https://api.test", {"Authorization": "Bearer k"})
    assert sent(secured([{"head": []}]), {}, by_origin=others).credential == wanted
    assert sent(secured(None), {}, by_origin=others).credential == wanted


def test_a_document_does_not_say_where_secrets_go() -> None:
    """A credential goes to the document's own origin, the setting `server` or its own `origin`: not to a server that a
    document from elsewhere names, nor to one that an operation names."""
    foreign = secured([{"head": []}]) | {"servers": [{"url": "https://evil.test"}]}
    base = "https://docs.test/api.json"
    assert sent(foreign, {"head": "k"}, base=base).credential is None
    result = imported(foreign, base=base, credentials={"head": "k"})
    assert "those that it wants are not for https://evil.test" in result.report.operations[0].changes[0]
    own = Credential("https://evil.test", {"X-Key": "k"})
    assert sent(foreign, {"head": {"key": "k", "origin": "https://evil.test"}}, base=base).credential == own
    assert sent(foreign, {"head": "k"}).credential == own  # a file is the operator's
    moved = sent(foreign, {"head": "k"}, base=base, server="https://good.test/v2")
    assert moved.url == "https://good.test/v2/x"
    assert moved.credential == Credential("https://good.test", {"X-Key": "k"})
    by_operation = secured([{"head": []}], servers=[{"url": "https://evil.test"}])
    assert sent(by_operation, {"head": "k"}).credential is None


def test_a_document_does_not_say_where_tokens_come_from() -> None:
    """Of a document from a URL, the token's URL counts where it has the credential's origin; else the setting does."""
    about = secured([{"oauth": ["r"]}])
    base = "https://api.test/api.json"
    settings = {"oauth": {"client_id": "me", "client_secret": "x"}}
    with pytest.raises(StartError, match="token_url"):
        imported(about, base=base, credentials=settings)
    client = FakeClient(lambda request: response({"access_token": "token-1"}))
    settings["oauth"]["token_url"] = "https://own.test/token"
    [tool] = imported(about, client, base=base, credentials=settings).tools
    call(tool, {})
    assert client.requests[0].url == "https://own.test/token"
    assert client.requests[0].body == b"grant_type=client_credentials&scope=r"


def test_headers_of_a_document() -> None:
    """The setting `headers` goes with every request; what is secret of it only where credentials go."""
    headers = {"X-Tenant": "s3cret-1", "Accept-Language": "de"}
    request = sent(secured([{"head": []}]), {"head": "k"}, headers=headers)
    assert request.credential == Credential("https://api.test", {"X-Tenant": "s3cret-1", "X-Key": "k"})
    assert ("Accept-Language", "de") in request.headers
    request = sent(secured(None, servers=[{"url": "https://evil.test"}]), {}, headers=headers)
    assert request.credential is None
    assert "s3cret-1" not in str(request)


def test_a_parameter_that_is_the_credential() -> None:
    """A parameter that a credential fills is no argument; a cookie of the caller's goes along with the credential's."""
    for name, count in (("key", 0), ("KEY", 1)):
        about = secured([{"query": []}])
        about["paths"]["/x"]["parameters"] = [{"name": name, "in": "query", "schema": {}}]
        assert len(imported(about, credentials={"query": "k"}).tools[0].parameters["properties"]) == count
    about = secured([{"cookie": []}])
    about["paths"]["/x"]["parameters"] = [{"name": "lang", "in": "cookie", "schema": {}}]
    client = FakeClient()
    [tool] = imported(about, client, credentials={"cookie": "s"}).tools
    call(tool, {"lang": "de"})
    assert client.requests[0].credential == Credential("https://api.test", {"Cookie": "sid=s; lang=de"})
    assert "Cookie" not in dict(client.requests[0].headers)


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({"hed": "s3cret-1"}, "no security scheme of it; it has basic, bearer"),
        ({"digest": "s3cret-1"}, "is not known here"),
        ({"head": {"token": "s3cret-1"}}, "unknown setting"),
        ({"head": 5}, "must be text"),
        ({"head": "s3cret-1\n"}, "printable ASCII"),
        ({"head": {"key": "s3cret-1", "origin": "nowhere"}}, "origin"),
        ({"basic": "nobody"}, "USERNAME:PASSWORD"),
        ({"oauth": {"client_id": "me"}}, "client_secret is missing"),
    ],
)
def test_what_a_document_cannot_start_with(credentials: dict[str, Any], words: str) -> None:
    """A mistake in a document's credentials is told in one line, without the secret."""
    with pytest.raises(StartError, match="setting openapi: 'api': credentials") as raised:
        imported(secured(None), credentials=credentials)
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_no_origin_to_bind_to() -> None:
    """A file whose servers are relative has no origin: the credential has to name one."""
    about = secured([{"head": []}]) | {"servers": [{"url": "/v1"}]}
    with pytest.raises(StartError, match="say to which server it may go"):
        imported(about, credentials={"head": "s3cret-1"})


def test_secrets_of_documents() -> None:
    """Every credential of a document is kept from the model."""
    redactor = Redactor()
    credentials = {
        "head": "s3cret-1",
        "basic": "me:s3cret-2",
        "oauth": {"client_id": "me", "client_secret": "s3cret-3"},
    }
    imported(secured(None), redactor=redactor, credentials=credentials, headers={"X": "s3cret-4"})
    for secret in SECRETS[:4]:
        assert redactor.clean(secret) == "***"
    assert redactor.clean("bWU6czNjcmV0LTI=") == "***"
